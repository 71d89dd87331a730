//! Verdicts, explained, and the waivers of what they found.

use serde::{Deserialize, Serialize};

use super::runs::RunSummary;
use crate::ids::FindingId;

/// The verdict of a run, explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VerdictView {
    /// The line in the list.
    pub summary: RunSummary,
    /// Which report of the run this is, the first is 1; 0 while there is none.
    pub report_version: u32,
    /// Why the result is what it is; empty while there is none.
    pub reasons: Vec<ReasonView>,
    /// What did not decide but should be read: warnings, and what was waived.
    pub remarks: Vec<ReasonView>,
    /// Every waiver there ever was, the oldest first.
    pub waivers: Vec<WaiverView>,
}

/// A reason of a verdict, or a remark beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReasonView {
    /// A stable word: `stage_failed`, `spec_diff`, `breach`, ….
    pub cause: String,
    /// The stage, where it is one's.
    pub stage: Option<String>,
    /// What was found.
    pub text: String,
    /// What to do next; may be empty.
    pub next: String,
    /// What to waive it by; absent where it cannot be waived.
    pub finding: Option<FindingId>,
    /// The waiver that stands for it.
    pub waiver: Option<i64>,
}

/// An operator's decision that a finding does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WaiverView {
    /// Key.
    pub id: i64,
    /// The finding.
    pub finding: FindingId,
    /// The finding in words, as it was shown.
    pub found: String,
    /// Why it does not count.
    pub reason: String,
    /// Who said so, as it was typed.
    pub by: String,
    /// The token or user that sent it; absent where that was not kept.
    #[serde(default)]
    pub caller: Option<String>,
    /// UTC.
    pub given_at: String,
    /// Taken back; absent while it stands.
    pub withdrawn: Option<WithdrawnView>,
}

/// How a waiver was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WithdrawnView {
    /// Why.
    pub reason: String,
    /// Who said so, as it was typed.
    pub by: String,
    /// The token or user that sent it; absent where that was not kept.
    #[serde(default)]
    pub caller: Option<String>,
    /// UTC.
    pub at: String,
}

/// Waives a finding of a run that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WaiverCreate {
    /// Which.
    pub finding: FindingId,
    /// Why it does not count.
    pub reason: String,
    /// Who says so.
    pub by: String,
}

/// Takes a waiver back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WaiverWithdraw {
    /// Why.
    pub reason: String,
    /// Who says so.
    pub by: String,
}
