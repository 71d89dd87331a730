//! A difference between the expected spec and what the machine is. A row of `spec_diffs`.

use serde::{Deserialize, Serialize};

use crate::ids::named_enum;

named_enum! {
    /// How much a diff or a breach weighs.
    Severity, "a severity" {
        /// Fails the run.
        Critical = "critical",
        /// Shown, does not fail.
        Warning = "warning",
        /// Told for the record.
        Info = "info",
    }
}

/// One field that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SpecDiff {
    /// Dotted path: `memory.total_gib`, `cpu.logical_cores`, `disks[0].model`.
    pub field: String,
    /// What the spec asks, in words: `32`, `>= 64`, `model matching INTEL*`. Absent if the spec asks for nothing there.
    pub expected: Option<String>,
    /// What was found; absent when nothing was.
    pub actual: Option<String>,
    /// How much it weighs.
    pub severity: Severity,
}
