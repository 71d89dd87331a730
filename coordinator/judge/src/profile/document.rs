//! The YAML form of a profile, and its way into [`Profile`]. Refuses what would only fail on the machine.

use serde::Deserialize;
use serde::de::Error as _;
use vetting_protocol::ids::StageName;
use vetting_protocol::plan::{DiskBudget, ExpectedLinks, SelfTest, StageWork, SurfaceScan};
use vetting_protocol::profile::ProfileName;

use super::{Profile, ProfileError, ProfileStage, ProfileThreshold};
use crate::duration::HumanDuration;
use crate::glob::TextGlob;
use crate::threshold::{Op, Rule, RuleSeverity, RuleSource, Sustain};
use crate::yaml;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: ProfileName,
    description: String,
    #[serde(deserialize_with = "sampling_interval")]
    sampling_interval: HumanDuration,
    #[serde(deserialize_with = "stages")]
    stages: Vec<ProfileStage>,
    thresholds: Vec<ThresholdEntry>,
}

/// Flat, so that an unknown key is reported where it stands; which keys a stage takes is checked after.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatStage {
    stage: StageName,
    limit: HumanDuration,
    #[serde(default = "yes")]
    required: bool,
    self_test: Option<SelfTest>,
    cpu: Option<HumanDuration>,
    per_core: Option<HumanDuration>,
    memory: Option<HumanDuration>,
    memory_percent: Option<u8>,
    duration: Option<HumanDuration>,
    fade: Option<HumanDuration>,
    fio_read: Option<HumanDuration>,
    fio_random: Option<HumanDuration>,
    links: Option<ExpectedLinks>,
    dcgm_level: Option<u8>,
    load: Option<HumanDuration>,
    surface: Option<SurfaceScan>,
    disks_at_once: Option<u32>,
    disks_per_controller: Option<u32>,
    restarts: Option<u32>,
    cold: Option<u32>,
    unwatched: Option<bool>,
    kernel_patterns: Option<u8>,
    passes: Option<u32>,
    budget: Option<HumanDuration>,
}

#[derive(Deserialize)]
#[serde(try_from = "FlatStage")]
struct StageEntry(ProfileStage);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatThreshold {
    stage: String,
    kind: String,
    key: TextGlob,
    op: Op,
    threshold: f64,
    #[serde(default)]
    nominal: f64,
    unit: String,
    severity: RuleSeverity,
    #[serde(default)]
    fallback: bool,
    samples: Option<u32>,
    #[serde(rename = "for")]
    lasting: Option<HumanDuration>,
    #[serde(default)]
    ends_stage: bool,
    #[serde(default)]
    required: bool,
    note: String,
}

#[derive(Deserialize)]
#[serde(try_from = "FlatThreshold")]
struct ThresholdEntry(ProfileThreshold);

fn yes() -> bool {
    true
}

/// Reads a profile; `file` is for the errors.
pub(super) fn parse(text: &str, file: &str) -> Result<Profile, ProfileError> {
    let document: Document =
        yaml::parse(text, "a profile needs name, description, sampling_interval, stages and thresholds")
            .map_err(|mistake| ProfileError::Malformed { file: file.to_owned(), mistake })?;
    let thresholds: Vec<ProfileThreshold> = document.thresholds.into_iter().map(|entry| entry.0).collect();
    Ok(Profile {
        rules: thresholds.iter().map(|threshold| threshold.rule.clone()).collect(),
        name: document.name,
        description: document.description,
        sampling_interval_ms: document.sampling_interval.as_ms(),
        stages: document.stages,
        thresholds,
        own: false,
    })
}

fn sampling_interval<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<HumanDuration, D::Error> {
    let interval = HumanDuration::deserialize(deserializer)?;
    if (500..=3_600_000).contains(&interval.as_ms()) {
        Ok(interval)
    } else {
        Err(D::Error::custom(format!("{interval} is no useful interval; write 500ms to 1h")))
    }
}

fn stages<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<ProfileStage>, D::Error> {
    let stages: Vec<ProfileStage> =
        Vec::<StageEntry>::deserialize(deserializer)?.into_iter().map(|entry| entry.0).collect();
    if !stages.iter().any(|stage| stage.required) {
        return Err(D::Error::custom("no stage is required, so every machine would pass; add one"));
    }
    for (position, stage) in stages.iter().enumerate() {
        let name = stage.work.name();
        if stages[..position].iter().any(|earlier| earlier.work.name() == name) {
            return Err(D::Error::custom(format!("the stage {name} stands there twice; remove one")));
        }
    }
    Ok(stages)
}

impl FlatStage {
    /// Refuses keys that the stage does not take, and those left out that it needs.
    fn check_keys(&self) -> Result<(), String> {
        let stage = self.stage;
        let is_cpu = stage == StageName::CpuStress;
        let is_memory = stage == StageName::Memory;
        let is_storage = stage == StageName::Storage;
        let is_network = stage == StageName::Network;
        let is_reboot = stage == StageName::Reboot;
        let is_memtest = stage == StageName::Memtest;
        let is_burn = stage == StageName::Burn;
        // name, whether it is there, whether it belongs there, whether it may be left out
        for (key, present, belongs, optional) in [
            ("self_test", self.self_test.is_some(), stage == StageName::Smart, false),
            ("cpu", self.cpu.is_some(), is_cpu, false),
            ("per_core", self.per_core.is_some(), is_cpu, false),
            ("memory", self.memory.is_some(), is_cpu, false),
            ("memory_percent", self.memory_percent.is_some(), is_cpu || is_burn, false),
            ("duration", self.duration.is_some(), is_memory || is_network || is_burn, false),
            ("links", self.links.is_some(), is_network, false),
            ("fade", self.fade.is_some(), is_memory, false),
            ("fio_read", self.fio_read.is_some(), is_storage, false),
            ("fio_random", self.fio_random.is_some(), is_storage, false),
            ("surface", self.surface.is_some(), is_storage, false),
            ("disks_at_once", self.disks_at_once.is_some(), is_storage, true),
            ("disks_per_controller", self.disks_per_controller.is_some(), is_storage, true),
            ("dcgm_level", self.dcgm_level.is_some(), stage == StageName::Gpu, false),
            ("load", self.load.is_some(), stage == StageName::Psu, false),
            ("restarts", self.restarts.is_some(), is_reboot, false),
            ("cold", self.cold.is_some(), is_reboot, true),
            ("kernel_patterns", self.kernel_patterns.is_some(), is_memtest, false),
            ("passes", self.passes.is_some(), is_memtest, false),
            ("budget", self.budget.is_some(), is_memtest, false),
            ("unwatched", self.unwatched.is_some(), is_memtest, true),
        ] {
            if present && !belongs {
                return Err(format!("the stage {stage} takes no `{key}`; remove it"));
            }
            if belongs && !present && !optional {
                return Err(format!("the stage {stage} needs `{key}`; add it"));
            }
        }
        for (key, limit) in
            [("disks_at_once", self.disks_at_once), ("disks_per_controller", self.disks_per_controller)]
        {
            if limit == Some(0) {
                return Err(format!("`{key}` must be at least 1; leave it out for no limit"));
            }
        }
        Ok(())
    }
}

impl TryFrom<FlatStage> for StageEntry {
    type Error = String;

    fn try_from(flat: FlatStage) -> Result<Self, String> {
        flat.check_keys()?;
        let FlatStage { stage, limit, required, self_test, duration, fade, .. } = flat;
        let FlatStage { cpu, per_core, memory, memory_percent, .. } = flat;
        let FlatStage { links, dcgm_level, .. } = flat;
        let FlatStage { fio_read, fio_random, load, surface, disks_at_once, disks_per_controller, .. } = flat;
        let FlatStage { restarts, cold, kernel_patterns, passes, budget, unwatched, .. } = flat;
        let percent = memory_percent
            .filter(|percent| (1..=95).contains(percent))
            .ok_or("memory_percent must be 1 to 95: the kernel and the agent need the rest");
        let ms = |duration: Option<HumanDuration>| duration.map_or(0, HumanDuration::as_ms);
        let work = match stage {
            StageName::Inventory => StageWork::Inventory {},
            StageName::Firmware => StageWork::Firmware {},
            StageName::SpecValidate => StageWork::SpecValidate {},
            StageName::Smart => {
                StageWork::Smart { self_test: self_test.ok_or("SMART needs `self_test`; add it")? }
            }
            StageName::CpuStress => StageWork::CpuStress {
                cpu_ms: ms(cpu),
                per_core_ms: ms(per_core),
                memory_ms: ms(memory),
                memory_percent: percent?,
            },
            StageName::Memory => StageWork::Memory { duration_ms: ms(duration), fade_ms: ms(fade) },
            StageName::Storage => StageWork::Storage {
                fio_read_ms: ms(fio_read),
                fio_random_ms: ms(fio_random),
                surface: surface.ok_or("Storage needs `surface`; add it")?,
                budget: DiskBudget { at_once: disks_at_once, per_controller: disks_per_controller },
            },
            StageName::Network => StageWork::Network {
                duration_ms: ms(duration),
                links: links.ok_or("Network needs `links`; add it")?,
            },
            StageName::Gpu => gpu(dcgm_level, limit)?,
            StageName::Psu => StageWork::Psu { load_ms: ms(load) },
            StageName::Burn => StageWork::Burn { duration_ms: ms(duration), memory_percent: percent? },
            StageName::Reboot => reboot(restarts, cold)?,
            StageName::Memtest => memtest(
                kernel_patterns.unwrap_or(0),
                passes.unwrap_or(0),
                ms(budget),
                unwatched.unwrap_or(false),
            )?,
        };
        if let Some(SurfaceScan::ReadZones { zones, zone_mib }) = surface
            && (zones < 2 || zone_mib == 0)
        {
            return Err("surface needs at least 2 zones of at least 1 MiB".to_owned());
        }
        // each direction, then both
        let times = if stage == StageName::Network { 3 } else { 1 };
        let least = [cpu, per_core, memory, duration, fio_read, fio_random, load]
            .into_iter()
            .fold(0_u64, |sum, length| sum.saturating_add(ms(length)))
            .saturating_mul(times);
        if limit.as_ms() <= least {
            return Err(format!(
                "limit: {limit} is over before the work of {}; raise it",
                HumanDuration::from_ms(least)
            ));
        }
        Ok(Self(ProfileStage { work, limit_ms: limit.as_ms(), required }))
    }
}

fn reboot(restarts: Option<u32>, cold: Option<u32>) -> Result<StageWork, String> {
    let restarts =
        restarts.filter(|restarts| (1..=1_000).contains(restarts)).ok_or("restarts must be 1 to 1000")?;
    let cold = Some(cold.unwrap_or(0)).filter(|cold| *cold <= 1_000).ok_or("cold must be 0 to 1000")?;
    Ok(StageWork::Reboot { restarts, cold })
}

/// How long the levels of DCGM's diagnostics take (its documentation): about 2 minutes, about 15, hours.
fn gpu(dcgm_level: Option<u8>, limit: HumanDuration) -> Result<StageWork, String> {
    let (dcgm_level, least_ms) = match dcgm_level {
        Some(level @ 2) => (level, 2 * 60_000),
        Some(level @ 3) => (level, 15 * 60_000),
        Some(level @ 4) => (level, 2 * 3_600_000),
        Some(_) | None => return Err("dcgm_level must be 2 to 4: 1 works no GPU".to_owned()),
    };
    if limit.as_ms() <= least_ms {
        let least = HumanDuration::from_ms(least_ms);
        return Err(format!(
            "limit: {limit} is over before level {dcgm_level}, which takes {least}; raise it"
        ));
    }
    Ok(StageWork::Gpu { dcgm_level })
}

/// The kernel has 17 patterns and begins anew after them.
const MOST_KERNEL_PATTERNS: u8 = 17;

fn memtest(kernel_patterns: u8, passes: u32, budget_ms: u64, unwatched: bool) -> Result<StageWork, String> {
    if kernel_patterns > MOST_KERNEL_PATTERNS {
        return Err(format!("kernel_patterns must be 0 to {MOST_KERNEL_PATTERNS}"));
    }
    if kernel_patterns == 0 && passes == 0 {
        return Err("Memtest needs kernel_patterns, passes or both above 0, or it tests nothing".to_owned());
    }
    if (passes == 0) != (budget_ms == 0) {
        return Err(
            "passes of memtest86+ need a budget of time, and the other way round; 0 and 0s leave it out"
                .to_owned(),
        );
    }
    Ok(StageWork::Memtest { kernel_patterns, passes, budget_ms, unwatched })
}

impl TryFrom<FlatThreshold> for ThresholdEntry {
    type Error = String;

    fn try_from(flat: FlatThreshold) -> Result<Self, String> {
        let stage = match flat.stage.as_str() {
            "*" => None,
            name => Some(name.parse::<StageName>().map_err(|error| format!("stage: {error} or `*`"))?),
        };
        if flat.op != Op::WithinPct && flat.nominal != 0.0 {
            return Err(format!("`nominal` means nothing with `{}`; remove it", flat.op));
        }
        if flat.fallback && flat.op == Op::WithinPct {
            return Err("`fallback` means nothing with `within_pct`; use two rules, lt and gt".to_owned());
        }
        if flat.ends_stage && flat.severity != RuleSeverity::Critical {
            return Err("`ends_stage` is for critical rules; a warning ends nothing".to_owned());
        }
        if flat.note.trim().is_empty() {
            return Err("`note` is empty; say where the number comes from".to_owned());
        }
        let rule = Rule {
            stage,
            kind: flat.kind,
            key: flat.key,
            op: flat.op,
            threshold: flat.threshold,
            nominal: flat.nominal,
            unit: flat.unit,
            severity: flat.severity,
            source: RuleSource::Profile,
            fallback: flat.fallback,
            sustain: Sustain::of(flat.samples, flat.lasting)?,
            ends_stage: flat.ends_stage,
            required: flat.required,
            change: None,
        };
        rule.check().map_err(|error| error.to_string())?;
        Ok(Self(ProfileThreshold { rule, note: flat.note }))
    }
}
