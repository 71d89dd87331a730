//! An entry of `stages`, in a profile and in a host's spec: which stage, its limit, its parameters.
//!
//! Refuses keys of another stage, values out of their range, and a limit shorter than the work.

use serde::{Deserialize, Serialize};
use vetting_protocol::ids::StageName;
use vetting_protocol::plan::{DiskBudget, ExpectedLinks, SelfTest, StageWork, SurfaceScan};
use vetting_protocol::profile::ProfileName;

use super::ProfileStage;
use crate::duration::HumanDuration;

/// Flat, so that an unknown key is reported where it stands; which keys a stage takes is checked after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlatStage {
    pub stage: StageName,
    /// Only in a host's spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<ProfileName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<HumanDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_test: Option<SelfTest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<HumanDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_core: Option<HumanDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<HumanDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<HumanDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fade: Option<HumanDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fio_read: Option<HumanDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fio_random: Option<HumanDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<ExpectedLinks>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dcgm_level: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<HumanDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    surface: Option<SurfaceScan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disks_at_once: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disks_per_controller: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restarts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cold: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unwatched: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_patterns: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<HumanDuration>,
    /// Only in a host's spec.
    // not `off`, which other readers of YAML take for a truth value
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Only in a host's spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A stage of a profile, as it was written and as it is run.
#[derive(Debug, Deserialize)]
#[serde(try_from = "FlatStage")]
pub(super) struct StageEntry {
    pub flat: FlatStage,
    pub stage: ProfileStage,
}

impl TryFrom<FlatStage> for StageEntry {
    type Error = String;

    fn try_from(flat: FlatStage) -> Result<Self, String> {
        if flat.profiles.is_some() || flat.disabled || flat.note.is_some() {
            return Err(
                "`profiles`, `disabled` and `note` are for the stages of a host; remove them".to_owned()
            );
        }
        flat.check()?;
        let stage = flat.complete()?;
        Ok(Self { flat, stage })
    }
}

/// The parameters that a stage takes.
fn taken_by(stage: StageName) -> &'static [&'static str] {
    match stage {
        StageName::Inventory | StageName::Firmware | StageName::SpecValidate => &[],
        StageName::Smart => &["self_test"],
        StageName::CpuStress => &["cpu", "per_core", "memory", "memory_percent"],
        StageName::Memory => &["duration", "fade"],
        StageName::Storage => &["fio_read", "fio_random", "surface", "disks_at_once", "disks_per_controller"],
        StageName::Network => &["duration", "links"],
        StageName::Gpu => &["dcgm_level"],
        StageName::Psu => &["load"],
        StageName::Burn => &["duration", "memory_percent"],
        StageName::Reboot => &["restarts", "cold"],
        StageName::Memtest => &["kernel_patterns", "passes", "budget", "unwatched"],
    }
}

/// The kernel has 17 patterns and begins anew after them.
const MOST_KERNEL_PATTERNS: u32 = 17;

impl FlatStage {
    /// Parameters, and whether they are there.
    fn parameters(&self) -> [(&'static str, bool); 21] {
        [
            ("self_test", self.self_test.is_some()),
            ("cpu", self.cpu.is_some()),
            ("per_core", self.per_core.is_some()),
            ("memory", self.memory.is_some()),
            ("memory_percent", self.memory_percent.is_some()),
            ("duration", self.duration.is_some()),
            ("fade", self.fade.is_some()),
            ("fio_read", self.fio_read.is_some()),
            ("fio_random", self.fio_random.is_some()),
            ("links", self.links.is_some()),
            ("dcgm_level", self.dcgm_level.is_some()),
            ("load", self.load.is_some()),
            ("surface", self.surface.is_some()),
            ("disks_at_once", self.disks_at_once.is_some()),
            ("disks_per_controller", self.disks_per_controller.is_some()),
            ("restarts", self.restarts.is_some()),
            ("cold", self.cold.is_some()),
            ("unwatched", self.unwatched.is_some()),
            ("kernel_patterns", self.kernel_patterns.is_some()),
            ("passes", self.passes.is_some()),
            ("budget", self.budget.is_some()),
        ]
    }

    /// Whether it says nothing of how the stage is run.
    pub fn is_empty(&self) -> bool {
        self.limit.is_none()
            && self.required.is_none()
            && !self.parameters().iter().any(|(_, present)| *present)
    }

    /// Whether a run passes only if the stage does.
    pub fn is_required(&self) -> bool {
        self.required.unwrap_or(true)
    }

    /// Refuses parameters that the stage does not take, and values that are none. What is left out is no mistake yet.
    pub fn check(&self) -> Result<(), String> {
        let stage = self.stage;
        let foreign = |(key, present): &(&str, bool)| *present && !taken_by(stage).contains(key);
        if let Some((key, _)) = self.parameters().into_iter().find(foreign) {
            return Err(format!("the stage {stage} takes no `{key}`; remove it"));
        }
        for (key, value, range, why) in [
            (
                "memory_percent",
                self.memory_percent.map(u32::from),
                1..=95,
                ": the kernel and the agent need the rest",
            ),
            ("dcgm_level", self.dcgm_level.map(u32::from), 2..=4, ": 1 works no GPU"),
            ("restarts", self.restarts, 1..=1_000, ""),
            ("cold", self.cold, 0..=1_000, ""),
            ("kernel_patterns", self.kernel_patterns.map(u32::from), 0..=MOST_KERNEL_PATTERNS, ""),
        ] {
            if value.is_some_and(|value| !range.contains(&value)) {
                return Err(format!("{key} must be {} to {}{why}", range.start(), range.end()));
            }
        }
        for (key, limit) in
            [("disks_at_once", self.disks_at_once), ("disks_per_controller", self.disks_per_controller)]
        {
            if limit == Some(0) {
                return Err(format!("`{key}` must be at least 1; leave it out for no limit"));
            }
        }
        if let Some(SurfaceScan::ReadZones { zones, zone_mib }) = self.surface
            && (zones < 2 || zone_mib == 0)
        {
            return Err("surface needs at least 2 zones of at least 1 MiB".to_owned());
        }
        Ok(())
    }

    /// The stage as it is run; refuses one that lacks what it needs, or cannot be done within its limit. To be checked
    /// before.
    pub fn complete(&self) -> Result<ProfileStage, String> {
        let limit = self.need("limit", self.limit)?;
        let work = self.work()?;
        let least_ms = self.least_ms();
        let works_by_time = matches!(
            self.stage,
            StageName::CpuStress | StageName::Network | StageName::Psu | StageName::Burn
        );
        if works_by_time && least_ms == 0 {
            return Err(format!("the stage {} would do nothing; give it some time", self.stage));
        }
        if limit.as_ms() <= least_ms {
            return Err(format!(
                "limit: {limit} is over before the work of {}; raise it",
                HumanDuration::from_ms(least_ms)
            ));
        }
        Ok(ProfileStage { work, limit_ms: limit.as_ms(), required: self.is_required() })
    }

    fn need<T>(&self, key: &str, value: Option<T>) -> Result<T, String> {
        value.ok_or_else(|| format!("the stage {} needs `{key}`; add it", self.stage))
    }

    fn need_ms(&self, key: &str, value: Option<HumanDuration>) -> Result<u64, String> {
        self.need(key, value).map(HumanDuration::as_ms)
    }

    fn work(&self) -> Result<StageWork, String> {
        Ok(match self.stage {
            StageName::Inventory => StageWork::Inventory {},
            StageName::Firmware => StageWork::Firmware {},
            StageName::SpecValidate => StageWork::SpecValidate {},
            StageName::Smart => StageWork::Smart { self_test: self.need("self_test", self.self_test)? },
            StageName::CpuStress => StageWork::CpuStress {
                cpu_ms: self.need_ms("cpu", self.cpu)?,
                per_core_ms: self.need_ms("per_core", self.per_core)?,
                memory_ms: self.need_ms("memory", self.memory)?,
                memory_percent: self.need("memory_percent", self.memory_percent)?,
            },
            StageName::Memory => StageWork::Memory {
                duration_ms: self.need_ms("duration", self.duration)?,
                fade_ms: self.need_ms("fade", self.fade)?,
            },
            StageName::Storage => StageWork::Storage {
                fio_read_ms: self.need_ms("fio_read", self.fio_read)?,
                fio_random_ms: self.need_ms("fio_random", self.fio_random)?,
                surface: self.need("surface", self.surface)?,
                budget: DiskBudget { at_once: self.disks_at_once, per_controller: self.disks_per_controller },
            },
            StageName::Network => StageWork::Network {
                duration_ms: self.need_ms("duration", self.duration)?,
                links: self.need("links", self.links)?,
            },
            StageName::Gpu => StageWork::Gpu { dcgm_level: self.need("dcgm_level", self.dcgm_level)? },
            StageName::Psu => StageWork::Psu { load_ms: self.need_ms("load", self.load)? },
            StageName::Burn => StageWork::Burn {
                duration_ms: self.need_ms("duration", self.duration)?,
                memory_percent: self.need("memory_percent", self.memory_percent)?,
            },
            StageName::Reboot => StageWork::Reboot {
                restarts: self.need("restarts", self.restarts)?,
                cold: self.cold.unwrap_or(0),
            },
            StageName::Memtest => self.memtest()?,
        })
    }

    fn memtest(&self) -> Result<StageWork, String> {
        let kernel_patterns = self.need("kernel_patterns", self.kernel_patterns)?;
        let passes = self.need("passes", self.passes)?;
        let budget_ms = self.need_ms("budget", self.budget)?;
        if kernel_patterns == 0 && passes == 0 {
            return Err(
                "Memtest needs kernel_patterns, passes or both above 0, or it tests nothing".to_owned()
            );
        }
        if (passes == 0) != (budget_ms == 0) {
            return Err(
                "passes of memtest86+ need a budget of time, and the other way round; 0 and 0s leave it out"
                    .to_owned(),
            );
        }
        let unwatched = self.unwatched.unwrap_or(false);
        Ok(StageWork::Memtest { kernel_patterns, passes, budget_ms, unwatched })
    }

    /// What the work takes at least, ms; the restarts have limits of their own.
    fn least_ms(&self) -> u64 {
        let ms = |duration: Option<HumanDuration>| duration.map_or(0, HumanDuration::as_ms);
        let lengths =
            [self.cpu, self.per_core, self.memory, self.duration, self.fio_read, self.fio_random, self.load];
        let sum = lengths.into_iter().fold(0_u64, |sum, length| sum.saturating_add(ms(length)));
        match (self.stage, self.dcgm_level) {
            // each direction, then both
            (StageName::Network, _) => sum.saturating_mul(3),
            // DCGM's documentation: about 2 minutes, about 15, hours
            (StageName::Gpu, Some(4..)) => 2 * 3_600_000,
            (StageName::Gpu, Some(3)) => 15 * 60_000,
            (StageName::Gpu, _) => 2 * 60_000,
            _ => sum,
        }
    }

    /// What it says, and where it says nothing, what a profile's entry for the same stage does.
    pub fn over(&self, profile: &Self) -> Self {
        Self {
            stage: self.stage,
            profiles: None,
            limit: self.limit.or(profile.limit),
            required: Some(self.required.unwrap_or(profile.is_required())),
            self_test: self.self_test.or(profile.self_test),
            cpu: self.cpu.or(profile.cpu),
            per_core: self.per_core.or(profile.per_core),
            memory: self.memory.or(profile.memory),
            memory_percent: self.memory_percent.or(profile.memory_percent),
            duration: self.duration.or(profile.duration),
            fade: self.fade.or(profile.fade),
            fio_read: self.fio_read.or(profile.fio_read),
            fio_random: self.fio_random.or(profile.fio_random),
            links: self.links.or(profile.links),
            dcgm_level: self.dcgm_level.or(profile.dcgm_level),
            load: self.load.or(profile.load),
            surface: self.surface.or(profile.surface),
            disks_at_once: self.disks_at_once.or(profile.disks_at_once),
            disks_per_controller: self.disks_per_controller.or(profile.disks_per_controller),
            restarts: self.restarts.or(profile.restarts),
            cold: self.cold.or(profile.cold),
            unwatched: self.unwatched.or(profile.unwatched),
            kernel_patterns: self.kernel_patterns.or(profile.kernel_patterns),
            passes: self.passes.or(profile.passes),
            budget: self.budget.or(profile.budget),
            disabled: false,
            note: None,
        }
    }

    /// What is run and how, as it is written: the key and its value.
    pub fn in_words(&self) -> Vec<(String, String)> {
        let how = Self { profiles: None, note: None, required: Some(self.is_required()), ..self.clone() };
        let Ok(serde_yaml::Value::Mapping(keys)) = serde_yaml::to_value(&how) else { return Vec::new() };
        keys.into_iter()
            .filter_map(|(key, value)| {
                let key = key.as_str().filter(|key| *key != "stage")?.to_owned();
                let value = match value {
                    serde_yaml::Value::String(text) => text,
                    // as a flow mapping of YAML
                    other => {
                        let json = serde_json::to_string(&other).ok()?;
                        json.replace('"', "").replace(':', ": ").replace(',', ", ")
                    }
                };
                Some((key, value))
            })
            .collect()
    }
}
