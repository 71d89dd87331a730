//! Stage Memtest: the kernel's early memory test, then memtest86+, each after a planned restart. The first reports in
//! the kernel's log and /proc/meminfo, and is read here. Of the second only the coordinator knows, which holds the
//! machine's serial line: it tells what it saw when it gives the run back.

mod early;

use std::time::Duration;

use serde_json::json;
use vetting_judge::memtest;
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::{RebootMade, StageWork};
use vetting_protocol::run::BootTarget;

use super::restarts::{made, not_here, over};
use super::{BootEnd, Effect, PlannedReboot, Stage, StageContext, StageDescription, StageError, StageReport};
use crate::inventory::dimm_map::DimmMap;

/// The kernel writes and reads each pattern once; servers do several GiB a second.
const KERNEL_MS_PER_GIB_AND_PATTERN: u64 = 1_000;
/// What a restart takes besides.
const ONE_RESTART: Duration = Duration::from_mins(4);
const BYTES_PER_GIB: u64 = 1 << 30;

pub(super) struct MemtestStage;

/// One of its restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Kernel { patterns: u8 },
    Memtest86Plus { passes: u32, budget_ms: u64, unwatched: bool },
}

/// The restarts of the stage, in order.
fn parts(work: &StageWork) -> Result<Vec<Part>, StageError> {
    let StageWork::Memtest { kernel_patterns, passes, budget_ms, unwatched } = *work else {
        return Err(StageError::WrongWork { stage: StageName::Memtest });
    };
    let mut parts = Vec::new();
    if kernel_patterns > 0 {
        parts.push(Part::Kernel { patterns: kernel_patterns });
    }
    if passes > 0 {
        parts.push(Part::Memtest86Plus { passes, budget_ms, unwatched });
    }
    Ok(parts)
}

impl Stage for MemtestStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Memtest,
            effect: Effect::Load,
            applies_to: "every machine whose run a coordinator leads; memtest86+ where it holds the serial line",
            finds: "bad memory that Linux keeps for itself, by address",
        }
    }

    fn estimate(&self, work: &StageWork, inventory: Option<&Inventory>) -> Duration {
        let bytes = inventory.map_or(0, |inventory| inventory.memory.visible_bytes);
        let of_part = |part: &Part| ONE_RESTART + budget(*part, bytes);
        parts(work).map_or(Duration::ZERO, |parts| parts.iter().map(of_part).sum())
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        self.run_in_this_boot(context, work)?.in_one_boot()
    }

    fn run_in_this_boot(
        &self,
        context: &mut StageContext<'_>,
        work: &StageWork,
    ) -> Result<BootEnd, StageError> {
        let parts = parts(work)?;
        let Some(made) = made(context) else { return Ok(not_here()) };
        if let Some(last) = made.last() {
            let part = parts.get(made.len() - 1).copied().ok_or_else(|| StageError::Other {
                message: format!("{} restarts were made, {} were planned", made.len(), parts.len()),
            })?;
            let ordinal = u32::try_from(made.len() - 1).unwrap_or(u32::MAX);
            let outcome = result(context, part, last);
            context.sub_step_finished(
                ordinal,
                outcome.clone(),
                json!({"away_ms": last.away_ms, "memtest": last.memtest}),
            );
            // those before it passed, or the stage would have been over
            if outcome != Outcome::Pass {
                return Ok(over(outcome));
            }
        }
        match parts.get(made.len()) {
            None if parts.is_empty() => Ok(over(Outcome::error("the plan names no test of the memory"))),
            None => Ok(over(Outcome::Pass)),
            Some(part) => Ok(next(context, made.len(), *part)),
        }
    }
}

/// Begins a part: a restart, if the part can be done here.
fn next(context: &StageContext<'_>, before: usize, part: Part) -> BootEnd {
    let ordinal = u32::try_from(before).unwrap_or(u32::MAX);
    let (name, target) = match part {
        Part::Kernel { patterns } => (format!("kernel memtest={patterns}"), BootTarget::MemtestKernel),
        Part::Memtest86Plus { .. } => ("memtest86+".to_owned(), BootTarget::Memtest),
    };
    context.sub_step_started(ordinal, &name);
    // its time over, a machine that nobody watches is brought back by its power
    let unwatched =
        matches!(part, Part::Memtest86Plus { unwatched: true, .. }) && context.reboots.power_control;
    if target == BootTarget::Memtest && !context.reboots.serial_console && !unwatched {
        let reason = "memtest86+ can only be watched over the machine's serial line, and the coordinator has none to it; \
                      `host edit NAME --serial …` names one";
        let skipped = Outcome::skip(reason);
        context.sub_step_finished(ordinal, skipped.clone(), json!({}));
        return over(skipped);
    }
    let bytes = context.inventory().map_or(0, |inventory| inventory.memory.visible_bytes);
    BootEnd::Reboot(PlannedReboot { target, budget: budget(part, bytes), reason: name })
}

/// What a part takes beyond an ordinary restart.
fn budget(part: Part, visible_bytes: u64) -> Duration {
    match part {
        Part::Kernel { patterns } => {
            let gib = visible_bytes.div_ceil(BYTES_PER_GIB);
            Duration::from_millis(
                gib.saturating_mul(u64::from(patterns)).saturating_mul(KERNEL_MS_PER_GIB_AND_PATTERN),
            )
        }
        Part::Memtest86Plus { budget_ms, .. } => Duration::from_millis(budget_ms),
    }
}

/// What came of a part.
fn result(context: &StageContext<'_>, part: Part, made: &RebootMade) -> Outcome {
    match (part, made.target) {
        (Part::Kernel { patterns }, BootTarget::MemtestKernel) => match early::read(context.host) {
            Ok(found) => {
                context.measure("memtest", "kernel/bad_ranges", Some(found.bad_ranges.len() as f64), "count");
                context.measure(
                    "memtest",
                    "kernel/bad",
                    found.bad_kib.map(|kib| kib as f64 * 1024.0),
                    "bytes",
                );
                // the kernel names the first byte after a range
                let ends = |(from, to): &(u64, u64)| [*from, to.saturating_sub(1).max(*from)];
                let addresses = found.bad_ranges.iter().flat_map(ends);
                with_slots(found.outcome(patterns), addresses, &DimmMap::read(context.host))
            }
            Err(error) => Outcome::error(crate::console::chain(&error)),
        },
        (Part::Memtest86Plus { passes, .. }, BootTarget::Memtest) => match &made.memtest {
            Some(seen) => {
                context.measure("memtest", "memtest86+/passes", Some(f64::from(seen.passes)), "count");
                context.measure("memtest", "memtest86+/errors", Some(seen.errors as f64), "count");
                let addresses = seen.addresses.iter().copied();
                with_slots(memtest::outcome(seen, passes), addresses, &DimmMap::read(context.host))
            }
            None => Outcome::error("the coordinator told nothing of memtest86+"),
        },
        (_, target) => Outcome::error(format!("the machine was sent to {target} instead")),
    }
}

/// A failure with the slots that its addresses may lie in.
fn with_slots(outcome: Outcome, addresses: impl Iterator<Item = u64>, dimms: &DimmMap) -> Outcome {
    let mut slots: Vec<String> = Vec::new();
    for of_address in addresses.map(|address| dimms.slots_of(address).to_string()) {
        if !slots.contains(&of_address) {
            slots.push(of_address);
        }
    }
    match outcome {
        Outcome::Fail { reason } if !slots.is_empty() => {
            Outcome::fail(format!("{reason} ({})", slots.join("; ")))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
