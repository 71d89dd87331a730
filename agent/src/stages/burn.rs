//! Stage Burn: CPUs, memory, disks, network links and GPUs all at work at once, each with checked answers, for as long as the
//! plan says: what only fails when power and cooling carry everything.
//!
//! Owns only that they work together: each load is that of its own stage. Disks are only read. A load that died is an
//! error, whatever the others say; a link without another end is left out by name, since Network tells of it,
//! and so are GPUs that nothing here works.

use std::time::Duration;

use serde_json::{Value, json};
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::{Inventory, PciDevice};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::{ExpectedLinks, StageWork};

use super::cpu_stress::{MemoryPass, cpu_pass, memory_pass};
use super::disks::{self, Target};
use super::gpu;
use super::load_watch::LoadWatch;
use super::network::{self, Look, Ready};
use super::sub_steps::{Found, SubSteps};
use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport, smart, storage};

/// What comes after the load: its tools end, and each disk is asked.
const AFTERWARDS: Duration = Duration::from_secs(15);

pub(super) struct BurnStage;

impl Stage for BurnStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Burn,
            effect: Effect::Load,
            applies_to: "every machine",
            finds: "what only fails when CPUs, memory, disks and links work at once: power, cooling, buses",
        }
    }

    fn estimate(&self, work: &StageWork, _inventory: Option<&Inventory>) -> Duration {
        let StageWork::Burn { duration_ms, .. } = work else { return Duration::ZERO };
        Duration::from_millis(*duration_ms) + AFTERWARDS
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::Burn { duration_ms, memory_percent } = work else {
            return Err(StageError::WrongWork { stage: StageName::Burn });
        };
        let context: &StageContext<'_> = context;
        let workers = context.inventory()?.cpu.logical_cores.max(1);
        let targets = disks::targets_of(context)?;
        let server = context.counterpart.addresses();
        let looks = network::look_at_all(context, server.as_deref().ok(), ExpectedLinks::Connected)?;
        let mut loads = vec![Load::Cpus { workers }, Load::Memory { workers, percent: *memory_percent }];
        loads.extend(targets.chosen.iter().map(Load::Disk));
        let functions = &context.inventory()?.pci;
        if gpu::load::can_work_any(functions) {
            loads.push(Load::Gpus { functions });
        }
        loads.extend(looks.iter().filter_map(|(nic, look)| Load::of_link(&nic.name, look)));

        let part = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let of_drives = part(loads.len()).saturating_add(targets.count());
        let count = of_drives.saturating_add(part(context.facts.drives_behind.len()));
        let sub_steps = SubSteps::new(context, count);
        let burn = Burn { context, sub_steps: &sub_steps, duration: Duration::from_millis(*duration_ms) };
        let watch = LoadWatch::from_now(context.host);
        let mut outcomes = burn.all(&loads);
        let (kernel, machine_checks) = watch.conclude(context);
        outcomes.push(kernel);
        for (ordinal, target) in (part(loads.len())..).zip(&targets.chosen) {
            outcomes.push(sub_steps.run(ordinal, &format!("{} SMART after", target.disk.name), || {
                smart::after_load(context, target)
            }));
        }
        outcomes.extend(smart::drives_after_load(context, &sub_steps, of_drives));
        let links_left_out = |(nic, look): &(&vetting_protocol::inventory::Nic, Look)| match look {
            Look::LeftOut(reason) | Look::Untested(reason) => {
                Some(json!({"nic": nic.name, "reason": reason}))
            }
            Look::Fault(_) | Look::Ready(_) => None,
        };
        Ok(StageReport {
            outcome: Outcome::worst_of(outcomes, ""),
            details: json!({
                "loads": loads.iter().map(Load::name).collect::<Vec<_>>(),
                "disks_left_out": targets.left_out,
                "links_left_out": looks.iter().filter_map(links_left_out).collect::<Vec<Value>>(),
                "machine_checks": machine_checks,
            }),
        })
    }
}

/// One part at work.
enum Load<'l> {
    Cpus {
        workers: u32,
    },
    Memory {
        workers: u32,
        percent: u8,
    },
    Disk(&'l Target<'l>),
    Link(&'l Ready),
    Gpus {
        functions: &'l [PciDevice],
    },
    /// A link that is not as it should be.
    BadLink {
        nic: &'l str,
        reason: &'l str,
    },
}

impl<'l> Load<'l> {
    fn of_link(nic: &'l str, look: &'l Look) -> Option<Self> {
        match look {
            Look::Fault(reason) => Some(Self::BadLink { nic, reason }),
            Look::Ready(ready) => Some(Self::Link(ready)),
            Look::LeftOut(_) | Look::Untested(_) => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Cpus { .. } => "CPUs".to_owned(),
            Self::Memory { .. } => "memory".to_owned(),
            Self::Disk(target) => format!("{} read", target.disk.name),
            Self::Link(ready) => format!("{} iperf", ready.nic),
            Self::Gpus { .. } => "GPUs".to_owned(),
            Self::BadLink { nic, .. } => format!("{nic} iperf"),
        }
    }

    /// Its sub-step may be skipped without the stage being so.
    fn may_be_skipped(&self) -> bool {
        match self {
            Self::Link(_) | Self::Gpus { .. } => true,
            Self::Cpus { .. } | Self::Memory { .. } | Self::Disk(_) | Self::BadLink { .. } => false,
        }
    }
}

struct Burn<'s, 'a> {
    context: &'s StageContext<'a>,
    sub_steps: &'s SubSteps<'s, 'a>,
    duration: Duration,
}

impl Burn<'_, '_> {
    /// All loads at once; gives the outcomes that count.
    fn all(&self, loads: &[Load<'_>]) -> Vec<Outcome> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..)
                .zip(loads)
                .map(|(ordinal, load)| (load, scope.spawn(move || self.one(ordinal, load))))
                .collect();
            let mut outcomes = Vec::new();
            for (load, thread) in threads {
                let crashed = |_| Outcome::error(format!("{}: its load crashed", load.name()));
                let outcome = thread.join().unwrap_or_else(crashed);
                if !(load.may_be_skipped() && matches!(outcome, Outcome::Skip { .. })) {
                    outcomes.push(outcome);
                }
            }
            outcomes
        })
    }

    fn one(&self, ordinal: u32, load: &Load<'_>) -> Outcome {
        self.sub_steps
            .run(ordinal, &load.name(), || self.sub_steps.by_time(ordinal, self.duration, || self.work(load)))
    }

    fn work(&self, load: &Load<'_>) -> Found {
        let (context, duration) = (self.context, self.duration);
        match load {
            Load::Cpus { workers } => cpu_pass(context, *workers, duration),
            Load::Memory { workers, percent } => {
                match MemoryPass::plan(context.host, *workers, duration, *percent) {
                    Ok(pass) => memory_pass(context, &pass),
                    Err(reason) => Found::new(Outcome::error(format!("memory: {reason}")), json!({})),
                }
            }
            Load::Disk(target) => storage::read_under_load(context, self.sub_steps, target, duration),
            Load::Link(ready) => network::work(context, ready, duration),
            Load::Gpus { functions } => gpu::load::beside(context, functions, duration),
            Load::BadLink { reason, .. } => Found::new(Outcome::fail(*reason), json!({})),
        }
    }
}

#[cfg(test)]
mod tests;
