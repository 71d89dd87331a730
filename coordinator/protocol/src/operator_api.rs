//! What operators' tools and the coordinator say to each other: `/api/v1/…`, JSON, bearer token.
//!
//! `hosts` GET POST · `hosts/{name}` GET PATCH DELETE · `hosts/{name}/agent-token` POST DELETE · `runs` GET POST ·
//! `runs/{id}` GET · `runs/{id}/abort` POST · `runs/{id}/release` POST · `runs/{id}/retry` POST · `runs/{id}/resume` POST ·
//! `runs/{id}/verdict` GET · `runs/{id}/waivers` POST · `runs/{id}/waivers/{id}/withdraw` POST ·
//! `runs/{id}/artifacts/{kind}` GET · `events` GET · `tokens` GET POST · `tokens/{id}` DELETE ·
//! `netboot` GET; what enrolment adds is in [`crate::enrolment`], people are in [`crate::users`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::agent_api::{AfterRun, EventLevel};
use crate::diff::{Severity, SpecDiff};
use crate::enrolment::HostIdentityView;
use crate::ids::{FindingId, HostId, MacAddress, RunId, Sha256Hex, StageName};
use crate::outcome::StepState;
use crate::profile::{ProfileName, StageChange};
use crate::queue::TurnView;
use crate::run::{RunPlace, RunResult, RunState};
use crate::secret::Secret;
use crate::users::Role;

/// A registered machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostView {
    /// Key.
    pub id: HostId,
    /// Unique name.
    pub name: String,
    /// MAC address of the card it boots from.
    pub mac: MacAddress,
    /// Its further cards.
    #[serde(default)]
    pub further_macs: Vec<MacAddress>,
    /// By what it is recognised besides its cards; absent until it first showed a UUID that tells it from others.
    #[serde(default)]
    pub identity: Option<HostIdentityView>,
    /// Where magic packets go.
    pub wol_broadcast_ip: Ipv4Addr,
    /// UDP port for them.
    pub wol_port: u16,
    /// The expected spec, YAML, as it was saved; empty for a machine that enrolled and was not described yet.
    pub expected_spec_yaml: String,
    /// Operator's notes.
    pub notes: String,
    /// The machine's serial line: `tcp://HOST:PORT`, `device:PATH` or `ipmi://HOST`.
    #[serde(default)]
    pub serial_console: Option<String>,
    /// What it draws in its hardest stage, watts, as an operator said; absent: as measured, or assumed.
    #[serde(default)]
    pub burn_watts: Option<u32>,
    /// UTC, `YYYY-MM-DD HH:MM:SS`.
    pub created_at: String,
    /// UTC.
    pub updated_at: String,
    /// When the agent on its installed system was last heard, UTC; absent if there is none, or never was.
    pub last_seen_at: Option<String>,
    /// The newest run, if there is one.
    pub latest_run: Option<RunSummary>,
}

/// A new machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostCreate {
    /// Unique; letters, digits, `.`, `_`, `-`; at most 63.
    pub name: String,
    /// Any common notation.
    pub mac: String,
    /// Default `255.255.255.255`.
    #[serde(default)]
    pub wol_broadcast_ip: Option<Ipv4Addr>,
    /// Default 9.
    #[serde(default)]
    pub wol_port: Option<u16>,
    /// YAML; checked before it is saved.
    pub expected_spec_yaml: String,
    /// Operator's notes.
    #[serde(default)]
    pub notes: String,
    /// The machine's serial line: `tcp://HOST:PORT`, `device:PATH` or `ipmi://HOST`.
    #[serde(default)]
    pub serial_console: Option<String>,
}

/// Changes to a machine: what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostEdit {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// New broadcast address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wol_broadcast_ip: Option<Ipv4Addr>,
    /// New port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wol_port: Option<u16>,
    /// New spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_spec_yaml: Option<String>,
    /// New notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// Another serial line; `none` takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_console: Option<String>,
    /// What it draws in its hardest stage, watts; 0 takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burn_watts: Option<u32>,
}

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

/// The token of a host's agent, told this one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostAgentToken {
    /// Name of the host.
    pub host: String,
    /// What the agent shows.
    pub token: Secret,
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

/// A line of the event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EventView {
    /// Key; ask for what came after it.
    pub id: i64,
    /// The run it belongs to.
    pub run_id: Option<RunId>,
    /// The host it belongs to.
    pub host_id: Option<HostId>,
    /// UTC with milliseconds.
    pub ts: String,
    /// How grave.
    pub level: EventLevel,
    /// A stable word.
    pub kind: String,
    /// In words.
    pub message: String,
    /// More of it.
    pub data: Option<serde_json::Value>,
}

/// What the coordinator's netboot server does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetbootView {
    /// Where it serves; none: it is switched off.
    pub interfaces: Vec<NetbootInterface>,
    /// Which machines are told where to boot from over IPv4: `registered`, `all` or `none`. Over IPv6 none: that is the
    /// word of the lab's own DHCPv6 server.
    pub answer: String,
    /// Packets since the start, by what became of them.
    pub packets: BTreeMap<String, u64>,
    /// Port of the boot endpoints.
    pub http_port: u16,
    /// `HOST` or `HOST:PORT` that machines are told to call, where the configuration names one.
    pub public_address: Option<String>,
}

/// An interface that the netboot server serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetbootInterface {
    /// Its name.
    pub name: String,
    /// The coordinator's address on it.
    pub address: IpAddr,
    /// `http://ADDRESS:PORT` of the boot endpoints as machines there are told.
    pub boot_url: String,
}

/// Asks for a new operator token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// What it is for; unique.
    pub name: String,
    /// What it may do; absent: everything.
    #[serde(default = "Role::operator")]
    pub role: Role,
    /// How long it is good, ms; absent: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_ms: Option<u64>,
}

/// The one time a token's text is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenCreated {
    /// Its entry in the list.
    pub view: TokenView,
    /// The text.
    pub token: Secret,
}

/// A token in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenView {
    /// Key.
    pub id: i64,
    /// What it is for.
    pub name: String,
    /// UTC.
    pub created_at: String,
    /// What it may do.
    #[serde(default = "Role::operator")]
    pub role: Role,
    /// UTC; absent while never used.
    pub last_used_at: Option<String>,
    /// When it ends by itself, UTC; absent: never.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// UTC; absent while it was not revoked.
    pub revoked_at: Option<String>,
}
