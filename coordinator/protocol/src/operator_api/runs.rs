//! Runs: what is ordered, and how they stand.

use serde::{Deserialize, Serialize};

use super::verdicts::WaiverView;
use crate::agent_api::AfterRun;
use crate::diff::{Severity, SpecDiff};
use crate::ids::{RunId, Sha256Hex, StageName};
use crate::outcome::StepState;
use crate::profile::{ProfileName, StageChange};
use crate::queue::TurnView;
use crate::run::{RunPlace, RunResult, RunState};

/// Starts a vetting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RunCreate {
    /// Name of the host.
    pub host: String,
    /// The profile.
    pub profile: ProfileName,
    /// No write to any disk.
    #[serde(default)]
    pub non_destructive: bool,
    /// Disks with content may be overwritten. Refused together with `non_destructive`.
    #[serde(default)]
    pub wipe: bool,
    /// Every disk is erased by its own means at the end of Storage, with a certificate. Refused without `wipe`.
    #[serde(default)]
    pub erase: bool,
    /// On which system. The installed one is never written to, so it is refused together with `wipe`.
    #[serde(default = "RunPlace::live_image")]
    pub place: RunPlace,
    /// What becomes of the machine if it passes; absent: as the config says.
    #[serde(default)]
    pub after_pass: Option<AfterRun>,
    /// What becomes of the machine if it fails; absent: as the config says.
    #[serde(default)]
    pub after_fail: Option<AfterRun>,
}

/// Lets a held machine go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RunRelease {
    /// What becomes of it: `power_off` (if absent) or `reboot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<AfterRun>,
}

/// Runs one stage of a held machine again, and none of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RunRetry {
    /// Which.
    pub stage: StageName,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RunSummary {
    /// Key.
    pub id: RunId,
    /// Name of the host.
    pub host: String,
    /// Where it stands.
    pub state: RunState,
    /// Its result, once it has one.
    pub result: Option<RunResult>,
    /// The profile.
    pub profile: ProfileName,
    /// The stage that halted the pipeline.
    pub failed_stage: Option<String>,
    /// UTC, `YYYY-MM-DD HH:MM:SS`.
    pub started_at: String,
    /// UTC.
    pub completed_at: Option<String>,
    /// What it waits for in the queue, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnView>,
}

/// A run with all that hangs from it but the samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RunDetail {
    /// The line in the list.
    pub summary: RunSummary,
    /// Why the result is what it is, in sentences; empty while there is none.
    pub reasons: Vec<String>,
    /// The machine's address while it is held.
    pub hold_ip: Option<String>,
    /// How to get in while it is held.
    #[serde(default)]
    pub hold: Option<HoldView>,
    /// No write to any disk.
    pub non_destructive: bool,
    /// Disks with content may be overwritten.
    pub wipe: bool,
    /// Every disk is erased at the end of Storage.
    pub erase: bool,
    /// On which system.
    pub place: RunPlace,
    /// In order.
    pub stages: Vec<StageView>,
    /// Stages that the machine's spec has otherwise than the profile.
    #[serde(default)]
    pub stage_changes: Vec<StageChange>,
    /// What was run before and then run again, oldest first.
    #[serde(default)]
    pub attempts: Vec<AttemptView>,
    /// What differs from the spec.
    pub diffs: Vec<SpecDiff>,
    /// Rules that were breached, one entry a rule and key.
    pub breaches: Vec<BreachView>,
    /// Samples taken so far.
    pub measurement_count: u64,
    /// Files.
    pub artifacts: Vec<ArtifactView>,
    /// Where the time before the stages went.
    pub boot: BootView,
    /// What operators decided not to count, the oldest first; those taken back are among them.
    pub waivers: Vec<WaiverView>,
}

/// A machine that is kept up for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HoldView {
    /// When it is let go by itself; UTC.
    pub until: String,
    /// Its SSH server, once it told of it.
    pub ssh: Option<SshView>,
    /// Why there is none.
    pub problem: Option<String>,
}

/// The SSH server of a held machine. The key that it lets in is the artifact `hold_key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SshView {
    /// Where.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// The line of `known_hosts` by which it is known.
    pub known_hosts_line: String,
    /// What to type on the coordinator's box, as a user that may read its files.
    pub command: String,
}

/// An earlier attempt at a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AttemptView {
    /// The stage.
    pub stage: String,
    /// 1 for the first.
    pub attempt: u32,
    /// How it ended.
    pub state: StepState,
    /// UTC with milliseconds.
    pub started_at: Option<String>,
    /// UTC with milliseconds.
    pub completed_at: Option<String>,
    /// Why it did not pass.
    pub reason: Option<String>,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StageView {
    /// Name.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// UTC with milliseconds.
    pub started_at: Option<String>,
    /// UTC with milliseconds.
    pub completed_at: Option<String>,
    /// 0 to 100, while it runs.
    pub percent: Option<f64>,
    /// Time left, ms, while it runs and as far as it can be told.
    pub eta_ms: Option<u64>,
    /// Why it did not pass.
    pub reason: Option<String>,
    /// What the agent and the judge said of it.
    pub summary: serde_json::Value,
    /// Its sub-steps, in order.
    pub sub_steps: Vec<SubStepView>,
}

/// A sub-step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SubStepView {
    /// `sda badblocks`.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// UTC with milliseconds.
    pub started_at: Option<String>,
    /// UTC with milliseconds.
    pub completed_at: Option<String>,
    /// Why it did not pass.
    pub reason: Option<String>,
    /// What the agent said of it.
    pub summary: serde_json::Value,
}

/// A rule that was breached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BreachView {
    /// The stage it happened in.
    pub stage: String,
    /// The quantity.
    pub kind: String,
    /// Which one.
    pub key: String,
    /// The rule in words: `must be < 95 celsius`.
    pub rule: String,
    /// How much it weighs.
    pub severity: Severity,
    /// The worst sample.
    pub worst: f64,
    /// How many samples were out.
    pub samples: u64,
    /// When the first was; UTC with milliseconds.
    pub first_at: String,
}

/// A file of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ArtifactView {
    /// `report`, `report_html`, `inventory`, ….
    pub kind: String,
    /// Absolute path on the coordinator's box.
    pub path: String,
    /// Digest.
    pub sha256: Sha256Hex,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// Where the time before the first stage went; each absent until it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BootView {
    /// Magic packet sent; ms since the epoch.
    pub woken_ms: Option<i64>,
    /// Boot script served; ms since the epoch.
    pub script_served_ms: Option<i64>,
    /// Kernel and initramfs sent whole; ms since the epoch.
    pub image_served_ms: Option<i64>,
    /// Run claimed; ms since the epoch.
    pub claimed_ms: Option<i64>,
    /// From the kernel's start to PID 1, ms.
    pub kernel_to_init_ms: Option<u64>,
    /// From the kernel's start to the claim, ms.
    pub kernel_to_claim_ms: Option<u64>,
    /// From the kernel's start to the first address, ms.
    #[serde(default)]
    pub kernel_to_network_ms: Option<u64>,
}
