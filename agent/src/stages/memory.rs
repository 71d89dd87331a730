//! Stage Memory: patterns over all the memory that Linux can give, on all NUMA nodes side by side. A word that is not as
//! written is named by its physical address and by the slot that the firmware says it lies in. Measures how much was
//! tested, how fast, and what memory controllers and kernel saw meanwhile.

mod nodes;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::StageWork;

use super::kernel_watch::KernelWatch;
use super::sub_steps::{Found, SubSteps};
use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};
use crate::inventory::dimm_map::DimmMap;
use crate::sensors::edac;
use crate::tools::memory_worker::{self, MemoryReport};
use crate::workers::memory::{MemoryDone, MemoryFault, MemoryWork};
use nodes::{NodeShare, Shares};

/// Slowest that a thread is expected to write and check, bytes a second.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024 * 1024;
/// Reads and writes of a word in the first pattern, and once to take it.
const FIRST_PATTERN_MOVES: u64 = 5;
/// The worker's own limit lies far beyond the stage's, which ends it first.
const WORKER_LIMIT: Duration = Duration::from_hours(24 * 30);
/// The same contents in every run, so that what failed once can be asked for again.
const SEED: u64 = 0x5eed_0f7e_57ed_b175;
/// Most faults that a sub-step's details hold.
const SHOWN_FAULTS: usize = 100;

pub(super) struct MemoryStage;

impl Stage for MemoryStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Memory,
            effect: Effect::Load,
            applies_to: "every machine",
            finds: "memory that does not keep what is written, by physical address and slot; ECC errors",
        }
    }

    fn estimate(&self, work: &StageWork, inventory: Option<&Inventory>) -> Duration {
        let StageWork::Memory { duration_ms, .. } = work else { return Duration::ZERO };
        let bytes = inventory.map_or(0, |inventory| inventory.memory.visible_bytes);
        let threads = inventory.map_or(1, |inventory| inventory.cpu.logical_cores);
        first_pattern(bytes, threads.into()).max(Duration::from_millis(*duration_ms))
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::Memory { duration_ms, fade_ms } = work else {
            return Err(StageError::WrongWork { stage: StageName::Memory });
        };
        let context: &StageContext<'_> = context;
        let shares =
            Shares::of(context.host).map_err(|error| StageError::Other { message: error.reason() })?;
        let watch = KernelWatch::from_now(context.host);
        let errors_before = edac::Counters::read(context.host);
        let test = Test {
            context,
            dimms: DimmMap::read(context.host),
            sub_steps: SubSteps::new(context, u32::try_from(shares.nodes.len()).unwrap_or(u32::MAX)),
            duration: Duration::from_millis(*duration_ms),
            fade_ms: *fade_ms,
            leave_bytes: shares.leave_bytes,
            done: Mutex::new(Vec::new()),
        };
        let mut outcomes = test.nodes(&shares.nodes);
        let Test { dimms, done, .. } = test;
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        measure(context, &shares, &done);
        outcomes.push(controllers(context, &errors_before));
        let (kernel, machine_checks) = KernelWatch::conclude(watch, context, &dimms);
        outcomes.push(kernel);
        Ok(StageReport {
            outcome: Outcome::worst_of(outcomes, ""),
            details: json!({
                "nodes": shares.nodes.len(),
                "available_bytes": shares.available_bytes,
                "verified_bytes": verified_bytes(&done),
                "machine_checks": machine_checks,
            }),
        })
    }
}

/// Least time that the first pattern is expected to take.
fn first_pattern(bytes: u64, threads: u64) -> Duration {
    Duration::from_secs(bytes / threads.max(1) * FIRST_PATTERN_MOVES / SLOWEST_BYTES_PER_SECOND)
}

/// The test while it runs.
struct Test<'s, 'a> {
    context: &'s StageContext<'a>,
    dimms: DimmMap,
    sub_steps: SubSteps<'s, 'a>,
    duration: Duration,
    fade_ms: u64,
    leave_bytes: u64,
    /// What the nodes' workers did.
    done: Mutex<Vec<(u32, MemoryDone)>>,
}

impl Test<'_, '_> {
    /// All nodes side by side.
    fn nodes(&self, nodes: &[NodeShare]) -> Vec<Outcome> {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0_u32..)
                .zip(nodes)
                .map(|(ordinal, node)| {
                    scope.spawn(move || {
                        let name = format!("node {}", node.node);
                        self.sub_steps.run(ordinal, &name, || self.node(ordinal, node))
                    })
                })
                .collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }

    fn node(&self, ordinal: u32, node: &NodeShare) -> Found {
        let work = MemoryWork {
            node: node.binds.then_some(node.node),
            cpus: node.cpus.clone(),
            bytes: node.bytes,
            leave: self.leave_bytes,
            duration_ms: u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            fade_ms: self.fade_ms,
            seed: SEED,
        };
        let expected = first_pattern(node.bytes, node.cpus.len() as u64).max(self.duration);
        let invocation = memory_worker::invocation(&work, WORKER_LIMIT);
        let report = self.sub_steps.by_time(ordinal, expected, || {
            let finished = self.context.tools.run(&invocation, &self.context.cancel, &mut |_, _| {})?;
            memory_worker::parse(&finished)
        });
        match report {
            Ok(report) => self.judged(node, report),
            Err(error) => {
                Found::new(Outcome::error(format!("node {}: {}", node.node, error.reason())), json!({}))
            }
        }
    }

    fn judged(&self, node: &NodeShare, report: MemoryReport) -> Found {
        let MemoryReport { faults, done } = report;
        let poisoned = done.is_none() && faults.is_empty();
        let outcome = match faults.first() {
            None if poisoned => Outcome::fail(format!(
                "node {}: the memory test ran into memory that the machine itself gave up (SIGBUS)",
                node.node
            )),
            None => Outcome::Pass,
            Some(first) => {
                let count = done.as_ref().map_or(faults.len() as u64, |done| done.faults);
                let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
                Outcome::fail(format!("memory lost bits {times}, first: {}", self.words(first)))
            }
        };
        let shown: Vec<Value> =
            faults.iter().take(SHOWN_FAULTS).map(|fault| self.details_of(fault)).collect();
        let details = json!({
            "cpus": node.cpus.len(),
            "asked_bytes": node.bytes,
            "done": done,
            "faults": shown,
        });
        if let Some(done) = done {
            self.done.lock().unwrap_or_else(PoisonError::into_inner).push((node.node, done));
        }
        Found::new(outcome, details)
    }

    fn details_of(&self, fault: &MemoryFault) -> Value {
        let slots = fault.physical_address.map(|address| self.dimms.slots_of(address).0);
        json!({
            "pattern": fault.pattern,
            "physical_address": fault.physical_address.map(|address| format!("{address:#x}")),
            "virtual_address": format!("{:#x}", fault.virtual_address),
            "slots": slots,
            "expected": format!("{:#018x}", fault.expected),
            "actual": format!("{:#018x}", fault.actual),
            "reread": format!("{:#018x}", fault.reread),
        })
    }

    fn words(&self, fault: &MemoryFault) -> String {
        let place = match fault.physical_address {
            Some(address) => format!("physical address {address:#x} ({})", self.dimms.slots_of(address)),
            None => format!(
                "virtual address {:#x} (the kernel tells only root where that is)",
                fault.virtual_address
            ),
        };
        let again = if fault.reread == fault.expected {
            "right when read again"
        } else {
            "wrong again when read again"
        };
        format!(
            "{place}: wrote {:#018x}, read {:#018x}, {again}, pattern {}",
            fault.expected, fault.actual, fault.pattern
        )
    }
}

fn verified_bytes(done: &[(u32, MemoryDone)]) -> u64 {
    done.iter().map(|(_, done)| done.verified_bytes).sum()
}

fn measure(context: &StageContext<'_>, shares: &Shares, done: &[(u32, MemoryDone)]) {
    let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole as f64;
    let verified = verified_bytes(done);
    // a worker that did not come to its end tells nothing, and what it did is not counted
    context.measure("memory", "coverage", Some(percent(verified, shares.available_bytes)), "percent");
    context.measure("memory", "coverage_total", Some(percent(verified, shares.total_bytes)), "percent");
    let everybody = done.len() == shares.nodes.len();
    let faults = everybody.then(|| done.iter().map(|(_, done)| done.faults as f64).sum());
    context.measure("memory", "faults", faults, "count");
    let rounds = done.iter().map(|(_, done)| done.rounds).min().filter(|_| everybody);
    context.measure("memory", "rounds", rounds.map(|rounds| rounds as f64), "count");
    let mut total = 0.0;
    for (node, done) in done {
        let bandwidth = done.moved_bytes as f64 * 1000.0 / done.moving_ms.max(1) as f64;
        total += bandwidth;
        context.measure("memory", format!("node{node}/bandwidth"), Some(bandwidth), "bytes_per_second");
    }
    context.measure("memory", "bandwidth", everybody.then_some(total), "bytes_per_second");
}

/// What the memory controllers counted. Corrected errors are for a threshold; what could not be corrected leaves no doubt.
fn controllers(context: &StageContext<'_>, before: &edac::Counters) -> Outcome {
    let mut uncorrected = Vec::new();
    for new in edac::Counters::read(context.host).since(before) {
        context.measure("edac", new.key.as_str(), new.count.map(|count| count as f64), "count");
        if let (Some(module), Some(count @ 1..)) = (new.key.strip_suffix("/ue"), new.count) {
            uncorrected.push(format!("{count} of {module}"));
        }
    }
    if uncorrected.is_empty() {
        return Outcome::Pass;
    }
    Outcome::fail(format!("uncorrected memory errors: {}", uncorrected.join(", ")))
}

#[cfg(test)]
mod tests;
