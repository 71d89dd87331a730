//! What agent and coordinator say to each other.
//!
//! `POST /agent/v1/claim`, `POST /agent/v1/runs/{run}/batches`, `POST /agent/v1/runs/{run}/heartbeat`,
//! `PUT /agent/v1/runs/{run}/artifacts/{kind}/{name}`, `POST /agent/v1/runs/{run}/crash`,
//! `POST /agent/v1/runs/{run}/hold`, `POST /agent/v1/runs/{run}/plan`. All but the claim carry
//! `Authorization: Bearer …` with the token that the claim gave. Everything the agent learns travels as
//! [`Record`]s in numbered batches: a batch is applied whole or not at all, a resend is a no-op, and the answer leaves
//! the coordinator only after the batch is durable.

use serde::{Deserialize, Serialize};

use crate::crash::LeftBehind;
use crate::diff::SpecDiff;
use crate::firmware::FirmwareReport;
use crate::ids::{MacAddress, RunId, Sha256Hex, StageName, named_enum};
use crate::inventory::Inventory;
use crate::limit::HardwareLimit;
use crate::measurement::Measurement;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::run::{BootTarget, RunResult};
use crate::secret::Secret;

/// The TLS server name that the coordinator's certificate bears, whatever its address: trust comes from the CA's
/// fingerprint, which only this coordinator's certificate chains to.
pub const TLS_SERVER_NAME: &str = "vetting-coordinator";

/// Most records in one batch.
pub const MAX_BATCH_RECORDS: usize = 2_000;

/// Largest request body of the agent API but for artifacts, bytes.
pub const MAX_BODY_BYTES: u64 = 4 * 1024 * 1024;

/// Largest artifact, bytes.
pub const MAX_ARTIFACT_BYTES: u64 = 64 * 1024 * 1024;

/// Asks for a run with the one-time secret of the boot script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// [`crate::PROTOCOL_VERSION`] of the agent.
    pub protocol_version: u32,
    /// The agent's package version, for the events.
    pub agent_version: String,
    /// The run named in the boot script.
    pub run_id: RunId,
    /// The one-time secret.
    pub claim_secret: Secret,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// SMBIOS system UUID, where the machine has one.
    pub system_uuid: Option<String>,
    /// MAC addresses of every NIC.
    pub macs: Vec<MacAddress>,
    /// Where the time since the kernel's start went.
    pub timeline: BootTimeline,
    /// What an earlier boot left behind of its end; absent where nobody looked.
    #[serde(default)]
    pub left_behind: Option<LeftBehind>,
}

/// Times since the kernel started, milliseconds (`/proc/uptime`'s clock).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BootTimeline {
    /// PID 1 began; absent when the agent is not PID 1's child.
    pub init_ms: Option<u64>,
    /// The first interface had an address; absent likewise.
    pub network_ms: Option<u64>,
    /// This claim was sent.
    pub claim_ms: u64,
}

/// Answer to a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClaimResponse {
    /// Bearer token of this run.
    pub token: Secret,
    /// The coordinator's clock, milliseconds since the Unix epoch.
    pub server_time_ms: i64,
    /// What to do.
    pub plan: Plan,
}

/// A numbered batch of records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// 1 for the first after a claim, then one more each.
    pub sequence: u64,
    /// The boot it comes from. Another than the claim's is a crash.
    pub boot_id: String,
    /// In the order they happened; at most [`MAX_BATCH_RECORDS`].
    pub records: Vec<Record>,
}

/// One thing the agent has to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// A sample.
    Measurement(Measurement),
    /// Limits that the hardware gives for its sensors; before the first sample of a sensor that has some.
    HardwareLimits {
        /// Those of the sensors that were found.
        limits: Vec<HardwareLimit>,
    },
    /// A stage begins.
    StageStarted {
        /// Which.
        stage: StageName,
        /// When, ms since the epoch.
        ts_ms: i64,
    },
    /// A sub-step begins.
    SubStepStarted {
        /// Its stage.
        stage: StageName,
        /// 0-based in the stage.
        ordinal: u32,
        /// `sda badblocks`.
        name: String,
        /// When, ms since the epoch.
        ts_ms: i64,
    },
    /// How far a stage or one of its sub-steps is.
    Progress {
        /// The stage.
        stage: StageName,
        /// The sub-step, if it is one's.
        sub_step: Option<u32>,
        /// 0 to 100.
        percent: f64,
        /// Time left as far as it can be told, ms.
        eta_ms: Option<u64>,
        /// When, ms since the epoch.
        ts_ms: i64,
    },
    /// A sub-step is over.
    SubStepFinished {
        /// Its stage.
        stage: StageName,
        /// 0-based in the stage.
        ordinal: u32,
        /// How.
        outcome: Outcome,
        /// What there is to know of it beyond the measurements.
        details: serde_json::Value,
        /// When, ms since the epoch.
        ts_ms: i64,
    },
    /// What the machine is made of.
    Inventory(Box<Inventory>),
    /// Its firmware.
    Firmware(FirmwareReport),
    /// What differs from the spec; sent once, also when empty.
    SpecDiffs {
        /// All of them.
        diffs: Vec<SpecDiff>,
    },
    /// A stage is over. No record of that stage may follow.
    StageFinished {
        /// Which.
        stage: StageName,
        /// How.
        outcome: Outcome,
        /// What there is to know of it beyond the measurements.
        details: serde_json::Value,
        /// When, ms since the epoch.
        ts_ms: i64,
    },
    /// A line for the event log.
    Event {
        /// How grave.
        level: EventLevel,
        /// A stable word: `sensor_lost`, `disk_vanished`, `kernel_log`.
        kind: String,
        /// In words.
        message: String,
        /// When, ms since the epoch.
        ts_ms: i64,
    },
    /// The agent is ready to begin a stage that has to wait for its turn. It begins once the answer is
    /// [`Directive::Continue`].
    TurnAwaited {
        /// Which.
        stage: StageName,
        /// When, ms since the epoch.
        ts_ms: i64,
    },
    /// The agent is about to reboot on purpose; the next claim may bear another boot_id, and then the stage goes on.
    RebootPlanned {
        /// The stage that needs it.
        stage: StageName,
        /// What the machine is to boot.
        target: BootTarget,
        /// What it does before it comes back may take so long, beyond an ordinary restart; ms.
        budget_ms: u64,
        /// Why.
        reason: String,
    },
    /// Every planned stage is over, or the pipeline halted. The last record of a session.
    PipelineFinished {
        /// When, ms since the epoch.
        ts_ms: i64,
    },
}

named_enum! {
    /// `events.level`.
    EventLevel, "an event level" {
        /// For the record.
        Info = "info",
        /// Someone should look.
        Warning = "warning",
        /// Something is wrong.
        Error = "error",
    }
}

/// Answer to a batch or a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// Every batch up to this one is durable.
    pub acknowledged_sequence: u64,
    /// What the agent does now.
    pub directive: Directive,
}

/// Sent when there was nothing else to send for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The boot it comes from.
    pub boot_id: String,
}

/// What the agent does next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "directive", rename_all = "snake_case", deny_unknown_fields)]
pub enum Directive {
    /// Go on with the plan.
    Continue,
    /// Do not begin this stage yet: other machines draw the power that there is. Ask again by heartbeat.
    AwaitTurn {
        /// Which.
        stage: StageName,
        /// Why, and the place in the queue; for the console.
        reason: String,
    },
    /// Start no further stage: the judge found the last one failed. Then send `PipelineFinished`.
    HaltPipeline {
        /// Why, for the console.
        reason: String,
    },
    /// End this stage now: going on with it would harm the machine. It fails, and no further one starts.
    EndStage {
        /// Which; one that is over by now stays as it is.
        stage: StageName,
        /// Why: the rule and what was measured.
        reason: String,
    },
    /// An operator aborted the run: kill what runs, then do `then`.
    Abort {
        /// Why, for the console.
        reason: String,
        /// What to do with the machine.
        then: AfterRun,
    },
    /// Verdict and report are not ready yet: ask again by heartbeat.
    AwaitVerdict,
    /// The run is over.
    Finished {
        /// The verdict.
        result: RunResult,
        /// Its reasons, for the console.
        reasons: Vec<String>,
        /// What to do with the machine.
        then: AfterRun,
        /// How a person gets in; only while the machine is held. Any other directive after this one means that the run
        /// goes on: ask for its plan.
        #[serde(default)]
        hold: Option<HoldOrder>,
    },
}

/// Lets a person in to a held machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HoldOrder {
    /// The only key that is let in: a line of `authorized_keys`.
    pub authorized_key: String,
}

/// How a held machine can be entered: told once for each [`HoldOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HoldReport {
    /// The boot it comes from.
    pub boot_id: String,
    /// What became of the door.
    pub access: SshAccess,
}

/// Whether an SSH server lets the run's key in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "ssh", rename_all = "snake_case", deny_unknown_fields)]
pub enum SshAccess {
    /// It listens.
    Open {
        /// TCP port.
        port: u16,
        /// Its public key, as a line of `known_hosts` has it after the address: `ssh-ed25519 AAAA…`.
        host_key: String,
    },
    /// It does not.
    Closed {
        /// Why.
        reason: String,
    },
}

/// Answer to an agent whose run goes on after a hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanAnswer {
    /// Every batch up to this one is durable: the next one has the number after it.
    pub acknowledged_sequence: u64,
    /// What is left to do.
    pub plan: Plan,
}

named_enum! {
    /// What becomes of the machine.
    AfterRun, "what to do after a run" {
        /// Switch it off.
        PowerOff = "power_off",
        /// Restart it; it will find its local disk.
        Reboot = "reboot",
        /// Keep it up, showing the verdict, and go on with heartbeats until told otherwise.
        Stay = "stay",
    }
}

/// Reported by PID 1 when the agent process died, with the agent's own token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AgentCrash {
    /// The boot it happened in.
    pub boot_id: String,
    /// `exit code 101`, `signal SIGSEGV`.
    pub how: String,
    /// The last lines it wrote.
    pub last_lines: Vec<String>,
}

/// Answer to an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ArtifactReceipt {
    /// Digest of what was stored; it equals the `X-Content-SHA256` of the request or the request was refused.
    pub sha256: Sha256Hex,
    /// Its size in bytes.
    pub size_bytes: u64,
}
