//! How a stage or sub-step ended: status and result, two axes, as in the OCP diagnostics specification.
//!
//! Only the valid pairs can be expressed. Skip and error are never a pass.

use serde::{Deserialize, Serialize};

use crate::ids::named_enum;

named_enum! {
    /// OCP `status`: did the step run to its end?
    Status, "a status" {
        /// It ran to its end.
        Complete = "complete",
        /// It could not be judged.
        Error = "error",
        /// It does not apply here.
        Skip = "skip",
    }
}

named_enum! {
    /// OCP `result`: what did it find?
    TestResult, "a result" {
        /// Nothing wrong.
        Pass = "pass",
        /// The hardware is at fault.
        Fail = "fail",
        /// Nothing was judged.
        NotApplicable = "not-applicable",
    }
}

/// How a stage or a sub-step ended. Each that is not a pass says why in one line a person can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// Complete and good.
    Pass,
    /// Complete, and the hardware is at fault.
    Fail {
        /// What is wrong, with the part named.
        reason: String,
    },
    /// Could not be judged: a tool missing, killed, timed out or not understood.
    Error {
        /// What went wrong.
        reason: String,
    },
    /// Does not apply to this machine or is not allowed in this run.
    Skip {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// A failure of the hardware.
    pub fn fail(reason: impl Into<String>) -> Self {
        Self::Fail { reason: reason.into() }
    }

    /// A step that could not be judged.
    pub fn error(reason: impl Into<String>) -> Self {
        Self::Error { reason: reason.into() }
    }

    /// A step that does not apply.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self::Skip { reason: reason.into() }
    }

    /// The OCP status.
    pub fn status(&self) -> Status {
        match self {
            Self::Pass | Self::Fail { .. } => Status::Complete,
            Self::Error { .. } => Status::Error,
            Self::Skip { .. } => Status::Skip,
        }
    }

    /// The OCP result.
    pub fn result(&self) -> TestResult {
        match self {
            Self::Pass => TestResult::Pass,
            Self::Fail { .. } => TestResult::Fail,
            Self::Error { .. } | Self::Skip { .. } => TestResult::NotApplicable,
        }
    }

    /// Why it is not a pass; `None` for a pass.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Pass => None,
            Self::Fail { reason } | Self::Error { reason } | Self::Skip { reason } => Some(reason),
        }
    }

    /// The database's word for it: `passed`, `failed` (also for an error) or `skipped`.
    pub fn step_state(&self) -> StepState {
        match self {
            Self::Pass => StepState::Passed,
            Self::Fail { .. } | Self::Error { .. } => StepState::Failed,
            Self::Skip { .. } => StepState::Skipped,
        }
    }

    /// The outcome of a whole from its parts: fail over error over skip over pass, so that a whole passes only
    /// when every part passed. The reasons of the worst kind are joined. Without any part the whole is a skip
    /// with `nothing_reason`.
    pub fn worst_of(parts: impl IntoIterator<Item = Self>, nothing_reason: &str) -> Self {
        let parts: Vec<Self> = parts.into_iter().collect();
        let reasons = |severity: u8| -> String {
            let mut of_this: Vec<&str> =
                parts.iter().filter(|part| part.severity() == severity).filter_map(Self::reason).collect();
            // a disk that is gone says so in each of its sub-steps
            of_this.dedup();
            of_this.join("; ")
        };
        match parts.iter().map(Self::severity).max() {
            None => Self::skip(nothing_reason),
            Some(0) => Self::Pass,
            Some(1) => Self::Skip { reason: reasons(1) },
            Some(2) => Self::Error { reason: reasons(2) },
            Some(worst) => Self::Fail { reason: reasons(worst) },
        }
    }

    fn severity(&self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Skip { .. } => 1,
            Self::Error { .. } => 2,
            Self::Fail { .. } => 3,
        }
    }
}

named_enum! {
    /// `stages.state` and `sub_steps.state`.
    StepState, "a step state" {
        /// Not begun.
        Pending = "pending",
        /// Under way.
        Running = "running",
        /// Outcome pass.
        Passed = "passed",
        /// Outcome fail or error; `summary_json` tells which.
        Failed = "failed",
        /// Outcome skip, or never reached because the pipeline halted.
        Skipped = "skipped",
    }
}

impl StepState {
    /// No further report may change it.
    pub fn is_finished(self) -> bool {
        match self {
            Self::Pending | Self::Running => false,
            Self::Passed | Self::Failed | Self::Skipped => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_passes_only_if_every_part_does() {
        let skip = || Outcome::skip("no SMART");
        assert_eq!(Outcome::worst_of([Outcome::Pass, Outcome::Pass], "none"), Outcome::Pass);
        assert_eq!(Outcome::worst_of([Outcome::Pass, skip()], "none"), skip());
        assert_eq!(Outcome::worst_of([skip(), Outcome::error("hung")], "none"), Outcome::error("hung"));
        assert_eq!(
            Outcome::worst_of(
                [Outcome::fail("sda bad"), Outcome::error("hung"), Outcome::fail("sdb bad")],
                "none"
            ),
            Outcome::fail("sda bad; sdb bad")
        );
        let gone = || Outcome::fail("sda is gone");
        assert_eq!(Outcome::worst_of([gone(), gone()], "none"), gone());
        assert_eq!(Outcome::worst_of([], "no disks"), Outcome::skip("no disks"));
    }
}
