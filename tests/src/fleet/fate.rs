//! What becomes of a machine of a fleet.

use vetting_protocol::ids::StageName;
use vetting_protocol::operator_api::RunSummary;
use vetting_protocol::run::RunResult;

/// What is wrong with a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Sound,
    /// A memory module that was ordered is not there.
    ComesShort,
    /// A CPU beyond its limit under load.
    RunsHot,
    /// A disk with sectors that cannot be read.
    LosesSectors,
    /// It starts anew under load, by itself.
    Restarts,
}

impl Fate {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Sound, Self::ComesShort, Self::RunsHot, Self::LosesSectors, Self::Restarts];

    /// Whether this is the verdict that the machine deserves, and the stage in which it should fail.
    pub fn deserves(self, run: &RunSummary) -> bool {
        let (result, stage) = match self {
            Self::Sound => (RunResult::Pass, None),
            Self::ComesShort => (RunResult::Fail, Some(StageName::SpecValidate)),
            Self::RunsHot | Self::Restarts => (RunResult::Fail, Some(StageName::CpuStress)),
            Self::LosesSectors => (RunResult::Fail, Some(StageName::Storage)),
        };
        run.result == Some(result) && run.failed_stage.as_deref() == stage.map(StageName::as_str)
    }
}
