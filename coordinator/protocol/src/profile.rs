//! The profiles a run can have, and what operators' tools are told of them: `/api/v1/profiles`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::diff::Severity;
use crate::ids::{StageName, named_enum};
use crate::plan::StageWork;

named_enum! {
    /// How long and how deep a run goes. `runs.profile`.
    ProfileName, "a profile (quick, deep or soak)" {
        /// Half an hour at most.
        Quick = "quick",
        /// About a day.
        Deep = "deep",
        /// Three days and more.
        Soak = "soak",
    }
}

named_enum! {
    /// What a machine's spec makes of a stage of its profile.
    StageChangeKind, "a change of a stage" {
        /// The profile has no such stage.
        Added = "added",
        /// Other parameters, another limit, or it must pass.
        Changed = "changed",
        /// It is not run.
        Off = "off",
    }
}

/// A stage that a machine's spec has run otherwise than the profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StageChange {
    /// The stage.
    pub stage: StageName,
    /// What becomes of it.
    pub kind: StageChangeKind,
    /// What is otherwise, as the run has it; absent if the stage is not run.
    pub now: Option<String>,
    /// The same, as the profile has it; absent if it has no such stage.
    pub was: Option<String>,
    /// Why, as the spec says.
    pub note: String,
}

/// `Storage: fio_read 60s, instead of: fio_read 15s (slow disks)`.
impl fmt::Display for StageChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, kind, now, was, note } = self;
        let (now, was) = (now.as_deref().unwrap_or("none"), was.as_deref().unwrap_or("none"));
        match kind {
            StageChangeKind::Added => write!(f, "{stage} is added: {now} ({note})"),
            StageChangeKind::Changed => write!(f, "{stage}: {now}, instead of: {was} ({note})"),
            StageChangeKind::Off => write!(f, "{stage} is switched off, instead of: {was} ({note})"),
        }
    }
}

/// A profile as the coordinator loaded it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProfileView {
    /// Which of the three.
    pub name: ProfileName,
    /// Whether a file of the configuration stands in for the one that comes with the program.
    pub own: bool,
    /// What it is for.
    pub description: String,
    /// Interval of the sensor samples, milliseconds.
    pub sampling_interval_ms: u64,
    /// What its stages may take together, milliseconds.
    pub longest_ms: u64,
    /// In the order they run.
    pub stages: Vec<ProfileStageView>,
    /// What every run of it is judged by, before the host's own rules.
    pub rules: Vec<ProfileRuleView>,
    /// The file, or what would be one.
    pub yaml: String,
}

/// A stage of a profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProfileStageView {
    /// Which, and how.
    pub work: StageWork,
    /// Time after which it is ended as an error, milliseconds.
    pub limit_ms: u64,
    /// Whether the run can pass only if it does.
    pub required: bool,
}

/// A rule of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProfileRuleView {
    /// The stage it holds in; absent: in any, and between them.
    pub stage: Option<StageName>,
    /// Kind of the measurement.
    pub kind: String,
    /// Which keys of that kind; `*` stands for anything.
    pub key: String,
    /// What is good, in words: `less than 95 celsius`.
    pub good: String,
    /// What a breach weighs: critical or warning.
    pub severity: Severity,
    /// Whether the stage is ended as soon as a breach counts.
    pub ends_stage: bool,
    /// Where its numbers come from.
    pub note: String,
}
