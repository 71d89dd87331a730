//! The stages: data and one function each. A new stage is one new file and one line in [`ALL`].

mod burn;
mod cpu_list;
mod cpu_stress;
mod disks;
mod firmware;
mod gpu;
mod inventory;
mod kernel_watch;
mod load_watch;
mod memory;
mod memtest;
mod network;
mod psu;
mod reboot;
mod restarts;
mod side_by_side;
mod smart;
mod spec_validate;
mod storage;
mod sub_steps;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vetting_protocol::agent_api::Record;
use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::limit::HardwareLimit;
use vetting_protocol::measurement::Measurement;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::{DiskConsent, Resumed, StageWork};
use vetting_protocol::run::BootTarget;

use crate::cancel::Cancel;
use crate::clock;
use crate::counterpart::Counterpart;
use crate::host::Host;
use crate::reporter::Reporter;
use crate::tools::runner::{ToolError, ToolRunner};

pub use disks::Sighting;
pub use smart::{Counters as SmartCounters, DriveBehind};

/// How often one that waits looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(100);

/// What a stage does to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Looks only.
    ReadOnly,
    /// Makes the machine work hard; leaves data alone.
    Load,
    /// May write to disks where consent allows.
    Destructive,
}

/// What there is to know of a stage without running it.
#[derive(Debug, Clone, Copy)]
pub struct StageDescription {
    /// Its name.
    pub name: StageName,
    /// What it does to the machine.
    pub effect: Effect,
    /// The hardware it applies to, in words.
    pub applies_to: &'static str,
    /// What it finds, in one line.
    pub finds: &'static str,
}

/// One step of a run.
pub trait Stage: Sync {
    /// What there is to know of it.
    fn description(&self) -> StageDescription;

    /// How long it will take on this machine, for progress and ETA.
    fn estimate(&self, work: &StageWork, inventory: Option<&Inventory>) -> Duration;

    /// Does it. A hardware fault is an `Ok(Outcome::Fail)`; an `Err` becomes an error outcome of the stage.
    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError>;

    /// Does its part in this boot of the machine. Stages that never restart it leave this as it is.
    fn run_in_this_boot(
        &self,
        context: &mut StageContext<'_>,
        work: &StageWork,
    ) -> Result<BootEnd, StageError> {
        self.run(context, work).map(BootEnd::Finished)
    }
}

/// How a stage's part in one boot of the machine ended.
#[derive(Debug, Clone, PartialEq)]
pub enum BootEnd {
    /// The stage is over.
    Finished(StageReport),
    /// It goes on after a restart of the machine.
    Reboot(PlannedReboot),
}

impl BootEnd {
    /// For a stage that was asked to be over in one boot.
    pub(crate) fn in_one_boot(self) -> Result<StageReport, StageError> {
        match self {
            Self::Finished(report) => Ok(report),
            Self::Reboot(reboot) => Err(StageError::Other { message: reboot.reason }),
        }
    }
}

/// A restart that a stage needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedReboot {
    /// What the machine is to boot.
    pub target: BootTarget,
    /// What that does before the machine comes back may take so long, beyond an ordinary restart.
    pub budget: Duration,
    /// Why.
    pub reason: String,
}

/// What there is to know of planned reboots.
#[derive(Debug, Clone, Default)]
pub struct Reboots {
    /// Whether a coordinator gives the machine its run back after one.
    pub possible: bool,
    /// Whether the coordinator holds the machine's serial line.
    pub serial_console: bool,
    /// Whether the coordinator can switch the machine off and on.
    pub power_control: bool,
    /// The stage that goes on after the reboots it planned.
    pub resumed: Option<Resumed>,
}

/// How a stage ended and what there is to know beyond its measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct StageReport {
    /// How.
    pub outcome: Outcome,
    /// For `stages.summary_json`.
    pub details: serde_json::Value,
}

/// A stage that could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A tool gave no usable answer.
    #[error("a tool gave no usable answer")]
    Tool(#[from] ToolError),
    /// A stage that must run before did not leave its facts.
    #[error("{missing} is not known: the {stage} stage has to run before")]
    Prerequisite {
        /// What is missing.
        missing: &'static str,
        /// Who would have told.
        stage: StageName,
    },
    /// The plan gave another stage's parameters.
    #[error("the plan has no parameters of stage {stage}")]
    WrongWork {
        /// The stage asked.
        stage: StageName,
    },
    /// Anything else, in words.
    #[error("{message}")]
    Other {
        /// What went wrong.
        message: String,
    },
}

/// What a stage works with.
pub struct StageContext<'a> {
    /// The stage.
    pub stage: StageName,
    /// The machine.
    pub host: &'a Host,
    /// Its tools.
    pub tools: &'a dyn ToolRunner,
    /// Where facts go.
    pub reporter: &'a dyn Reporter,
    /// Raised when the run is aborted or the stage's time is over.
    pub cancel: Cancel,
    /// When it began.
    pub begun: Instant,
    /// How long it may take since then.
    pub limit: Duration,
    /// What may be done to disks.
    pub consent: DiskConsent,
    /// The expected spec, YAML; `None` when run by hand without one.
    pub expected_spec_yaml: Option<&'a str>,
    /// The other end of network tests.
    pub counterpart: &'a dyn Counterpart,
    /// Planned reboots.
    pub reboots: &'a Reboots,
    /// Facts that stages leave for later ones.
    pub facts: &'a mut Facts,
}

/// Facts that stages leave for later ones.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Left by Inventory.
    pub inventory: Option<Inventory>,
    /// Left by Firmware.
    pub firmware: Option<FirmwareReport>,
    /// Left by Inventory: what tells whether a disk went away and came back, by the disk's name.
    pub disks_first_seen: BTreeMap<String, Sighting>,
    /// Left by SMART: what each disk and drive had counted before the load, by its name.
    pub smart_counters: BTreeMap<String, SmartCounters>,
    /// Left by SMART: drives that only their RAID controllers know.
    pub drives_behind: Vec<DriveBehind>,
}

impl StageContext<'_> {
    /// What the Inventory stage left.
    pub fn inventory(&self) -> Result<&Inventory, StageError> {
        self.facts
            .inventory
            .as_ref()
            .ok_or(StageError::Prerequisite { missing: "the inventory", stage: StageName::Inventory })
    }

    /// What is left of the stage's time.
    fn time_left(&self) -> Duration {
        self.limit.saturating_sub(self.begun.elapsed())
    }

    /// Waits, false if the work was cancelled meanwhile.
    fn wait(&self, time: Duration) -> bool {
        let begin = clock::monotonic();
        while begin.elapsed() < time {
            if self.cancel.is_raised() {
                return false;
            }
            std::thread::sleep(LOOK.min(time));
        }
        !self.cancel.is_raised()
    }

    /// Reports one sample, now.
    pub fn measure(&self, kind: &str, key: impl Into<String>, value: Option<f64>, unit: &str) {
        self.reporter.record(Record::Measurement(Measurement {
            ts_ms: clock::now_ms(),
            stage: Some(self.stage),
            kind: kind.to_owned(),
            key: key.into(),
            value,
            unit: unit.to_owned(),
        }));
    }

    /// Reports limits that parts have for their own sensors, before what these measure.
    fn hardware_limits(&self, limits: Vec<HardwareLimit>) {
        if !limits.is_empty() {
            self.reporter.record(Record::HardwareLimits { limits });
        }
    }

    /// Reports how far the stage or one of its sub-steps is.
    pub fn progress(&self, sub_step: Option<u32>, percent: f64, eta: Option<Duration>) {
        self.reporter.record(Record::Progress {
            stage: self.stage,
            sub_step,
            percent: percent.clamp(0.0, 100.0),
            eta_ms: eta.map(|eta| u64::try_from(eta.as_millis()).unwrap_or(u64::MAX)),
            ts_ms: clock::now_ms(),
        });
    }

    /// Reports that a sub-step begins.
    pub fn sub_step_started(&self, ordinal: u32, name: impl Into<String>) {
        self.reporter.record(Record::SubStepStarted {
            stage: self.stage,
            ordinal,
            name: name.into(),
            ts_ms: clock::now_ms(),
        });
    }

    /// Reports how a sub-step ended.
    pub fn sub_step_finished(&self, ordinal: u32, outcome: Outcome, details: serde_json::Value) {
        self.reporter.record(Record::SubStepFinished {
            stage: self.stage,
            ordinal,
            outcome,
            details,
            ts_ms: clock::now_ms(),
        });
    }
}

/// Every stage this agent can run, in the default order.
pub static ALL: &[&dyn Stage] = &[
    &inventory::InventoryStage,
    &firmware::FirmwareStage,
    &spec_validate::SpecValidateStage,
    &smart::SmartStage,
    &cpu_stress::CpuStressStage,
    &memory::MemoryStage,
    &storage::StorageStage,
    &network::NetworkStage,
    &gpu::GpuStage,
    &psu::PsuStage,
    &burn::BurnStage,
    &reboot::RebootStage,
    &memtest::MemtestStage,
];

/// The outcome of work that was told to end early; the pipeline knows why.
fn cancelled() -> Outcome {
    Outcome::error("it was cancelled")
}

#[cfg(test)]
mod tests;
