//! What the coordinator asks an agent to do: stages in order, each with its parameters and its time limit.

use serde::{Deserialize, Serialize};

use crate::ids::{RunId, StageName};
use crate::inventory::Inventory;
use crate::memtest::MemtestObservation;
use crate::profile::ProfileName;
use crate::run::BootTarget;

/// The work of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The run.
    pub run_id: RunId,
    /// Name of the host, for the console.
    pub host_name: String,
    /// The profile, for the console.
    pub profile: ProfileName,
    /// Interval of the sensor sidecar, milliseconds.
    pub sampling_interval_ms: u64,
    /// The expected spec, YAML, as the host has it. The SpecValidate stage gives it to the judge.
    pub expected_spec_yaml: String,
    /// What the run may do to disks.
    pub consent: DiskConsent,
    /// Stages in the order they run. A stage already finished in an earlier boot of the run is not among them.
    pub stages: Vec<PlannedStage>,
    /// The stage that goes on after the reboots it planned.
    pub resumed: Option<Resumed>,
    /// Whether the coordinator holds this machine's serial line, so that it can watch memtest86+ and end it.
    pub serial_console: bool,
    /// Whether the coordinator controls this machine's power, so that it can switch it off and on.
    pub power_control: bool,
}

/// A stage that goes on after its reboots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Resumed {
    /// Which.
    pub stage: StageName,
    /// Every reboot it planned so far, in order.
    pub reboots: Vec<RebootMade>,
    /// What the machine was made of when the run began; absent where the run has no inventory.
    pub first_inventory: Option<Box<Inventory>>,
}

/// A reboot that a stage planned, and that the machine came back from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RebootMade {
    /// What the machine was to boot.
    pub target: BootTarget,
    /// From the announcement to the claim, ms, by the coordinator's clock.
    pub away_ms: u64,
    /// What was seen of memtest86+, where that was the target.
    pub memtest: Option<MemtestObservation>,
    /// What became of its power meanwhile; absent where the coordinator did not touch it.
    pub power: Option<PowerCut>,
}

/// What became of the power of a machine that was away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "power", rename_all = "snake_case", deny_unknown_fields)]
pub enum PowerCut {
    /// It was seen to be off, and was switched on again.
    Off,
    /// It was restarted without being seen to be off.
    Restarted,
    /// It could not be switched.
    Failed {
        /// Why.
        why: String,
    },
}

/// What a run may do to the data on a machine's disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DiskConsent {
    /// `runs.non_destructive`: read only, and no wipe probe.
    NonDestructive,
    /// A disk on which the wipe probe finds nothing may be written; one with content is skipped.
    EmptyDisksOnly,
    /// The operator gave `{"wipe": true}`: every disk that is not in use may be written.
    WipeAllowed,
    /// The operator gave `{"wipe": true, "erase": true}`: likewise, and at the end of Storage every disk is erased.
    EraseDisks,
}

/// One stage to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlannedStage {
    /// Time after which the stage is ended as an error, milliseconds.
    pub limit_ms: u64,
    /// It draws much power: the agent asks for its turn ([`crate::agent_api::Record::TurnAwaited`]) before it begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_turn: bool,
    /// Which stage, and how.
    pub work: StageWork,
}

/// A stage with its parameters. Profiles hold these as YAML: `stage: Storage`, then the parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "stage", deny_unknown_fields)]
pub enum StageWork {
    /// No parameters.
    Inventory {},
    /// No parameters.
    Firmware {},
    /// No parameters.
    SpecValidate {},
    /// Drive health.
    #[serde(rename = "SMART")]
    Smart {
        /// The test that each disk is told to do first.
        self_test: SelfTest,
    },
    /// Load with checked answers, over the CPUs together, then each alone, then over the memory.
    #[serde(rename = "CPUStress")]
    CpuStress {
        /// Length of the CPU pass, milliseconds.
        cpu_ms: u64,
        /// Length of the per-core pass, milliseconds. Each logical CPU gets its part of it, and 2 s at least.
        per_core_ms: u64,
        /// Length of the memory pass, milliseconds.
        memory_ms: u64,
        /// Part of the available memory that the memory pass uses, percent, 1 to 95.
        memory_percent: u8,
    },
    /// Patterns over all memory that can be had, on all NUMA nodes side by side.
    Memory {
        /// Time after which no further pattern begins, milliseconds. The first pattern goes to its end.
        duration_ms: u64,
        /// How long bits are left alone to fade, milliseconds; 0 leaves that out.
        fade_ms: u64,
    },
    /// Disks.
    Storage {
        /// Length of the fio sequential read on each disk, milliseconds.
        fio_read_ms: u64,
        /// Length of the random reads on each disk, milliseconds.
        fio_random_ms: u64,
        /// Surface scan.
        surface: SurfaceScan,
        /// How many disks are worked on at a time.
        budget: DiskBudget,
    },
    /// Network interfaces.
    Network {
        /// Length of each test, milliseconds: one in each direction on each interface, and one on all in both directions.
        duration_ms: u64,
        /// Which interfaces must have a link.
        links: ExpectedLinks,
    },
    /// Graphics processors and accelerators.
    #[serde(rename = "GPU")]
    Gpu {
        /// Level of DCGM's diagnostics that works them, 2 (minutes) to 4 (hours).
        dcgm_level: u8,
    },
    /// Power supplies.
    #[serde(rename = "PSU")]
    Psu {
        /// Length of the load under which they are looked at, milliseconds.
        load_ms: u64,
    },
    /// CPUs, memory, disks and links, all at once.
    Burn {
        /// For so long, milliseconds.
        duration_ms: u64,
        /// Part of the available memory that is used, percent, 1 to 95.
        memory_percent: u8,
    },
    /// Restarts.
    Reboot {
        /// How many warm ones.
        restarts: u32,
        /// How many cold ones after them.
        #[serde(default)]
        cold: u32,
    },
    /// The kernel's early memory test, and memtest86+; at least one of them.
    Memtest {
        /// Patterns of the kernel's test (`memtest=N`); 0: not run.
        kernel_patterns: u8,
        /// Passes of memtest86+; 0: not run.
        passes: u32,
        /// Time for these passes, milliseconds.
        budget_ms: u64,
        /// memtest86+ is also run where no serial line shows it, if the machine's power can be cut after its time: it has
        /// worked, and nobody knows what it found.
        #[serde(default)]
        unwatched: bool,
    },
}

impl StageWork {
    /// The stage's name.
    pub fn name(&self) -> StageName {
        match self {
            Self::Inventory {} => StageName::Inventory,
            Self::Firmware {} => StageName::Firmware,
            Self::SpecValidate {} => StageName::SpecValidate,
            Self::Smart { .. } => StageName::Smart,
            Self::CpuStress { .. } => StageName::CpuStress,
            Self::Memory { .. } => StageName::Memory,
            Self::Storage { .. } => StageName::Storage,
            Self::Network { .. } => StageName::Network,
            Self::Gpu { .. } => StageName::Gpu,
            Self::Psu { .. } => StageName::Psu,
            Self::Burn { .. } => StageName::Burn,
            Self::Reboot { .. } => StageName::Reboot,
            Self::Memtest { .. } => StageName::Memtest,
        }
    }
}

/// The self-test of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SelfTest {
    /// None.
    None,
    /// About two minutes.
    Short,
    /// Reads the whole disk: hours on rotating disks.
    Extended,
}

/// Which network interfaces must have a link, and a way to the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExpectedLinks {
    /// Those that are connected: the others are left out by name.
    Connected,
    /// All of them.
    All,
}

/// How many disks are worked on at a time; the others wait for their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DiskBudget {
    /// In all, for the power they take; `None` for no limit.
    pub at_once: Option<u32>,
    /// On one controller, for its bus; `None` for no limit.
    pub per_controller: Option<u32>,
}

impl DiskBudget {
    /// All at once.
    pub const UNLIMITED: Self = Self { at_once: None, per_controller: None };
}

/// How the surface of a disk is gone over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum SurfaceScan {
    /// Reads `zones` zones of `zone_mib` MiB each: the first and the last of the disk, and others at random, spread over
    /// it; a disk no larger than their sum is read whole.
    ReadZones {
        /// How many, at least 2.
        zones: u32,
        /// Size of each, MiB.
        zone_mib: u64,
    },
    /// Reads the whole disk.
    ReadWhole,
    /// Writes and reads back the whole disk: four patterns on rotating disks (`badblocks -w`), once with checksums on flash
    /// (`fio --verify`). A non-destructive run reads it whole instead; a disk that
    /// is in use, or holds something and may not be wiped, is skipped.
    WriteWhole,
}
