//! Stage CPUStress: every logical CPU works and checks its answers, all together and then each alone, then the memory is
//! filled and checked. Counts wrong answers, machine checks, throttling and memory errors, and measures how fast the CPUs
//! ran and how much of the memory was really touched.

mod answers;
mod cores;
mod frequency;
pub(super) mod throttle;

use std::time::Duration;

use serde_json::{Value, json};
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::StageWork;

use super::load_watch::LoadWatch;
use super::sub_steps::{Found, SubSteps};
use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};
use crate::host::Host;
use crate::tools::runner::{Invocation, ToolError};
use crate::tools::stress_ng::{self, StressReport};
use frequency::UnderLoad;

/// Slowest that a worker is expected to fill and check its memory, bytes a second: a pass that is too short for one
/// round over the memory verifies nothing, so it is made longer.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 * 1024 * 1024;

pub(super) struct CpuStressStage;

impl Stage for CpuStressStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::CpuStress,
            effect: Effect::Load,
            applies_to: "every machine",
            finds: "CPUs that compute wrong answers, memory that loses bits, machine checks under load",
        }
    }

    fn estimate(&self, work: &StageWork, _inventory: Option<&Inventory>) -> Duration {
        let StageWork::CpuStress { cpu_ms, per_core_ms, memory_ms, .. } = work else { return Duration::ZERO };
        Duration::from_millis(cpu_ms.saturating_add(*per_core_ms).saturating_add(*memory_ms))
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::CpuStress { cpu_ms, per_core_ms, memory_ms, memory_percent } = work else {
            return Err(StageError::WrongWork { stage: StageName::CpuStress });
        };
        let context: &StageContext<'_> = context;
        let workers = context.inventory()?.cpu.logical_cores.max(1);
        let watch = LoadWatch::from_now(context.host);
        let sub_steps = SubSteps::new(context, 3);
        let cpu = sub_steps.run(0, "CPU pass", || {
            let duration = Duration::from_millis(*cpu_ms);
            sub_steps.by_time(0, duration, || cpu_pass(context, workers, duration))
        });
        let per_core = sub_steps.run(1, "per-core pass", || {
            cores::pass(context, &sub_steps, 1, Duration::from_millis(*per_core_ms))
        });
        let memory = sub_steps.run(2, "memory pass", || {
            match MemoryPass::plan(context.host, workers, Duration::from_millis(*memory_ms), *memory_percent)
            {
                Ok(pass) => sub_steps.by_time(2, pass.duration, || memory_pass(context, &pass)),
                Err(reason) => Found::new(Outcome::error(format!("memory pass: {reason}")), json!({})),
            }
        });
        let (kernel, count) = watch.conclude(context);
        Ok(StageReport {
            outcome: Outcome::worst_of([cpu, per_core, memory, kernel], ""),
            details: json!({ "workers": workers, "machine_checks": count }),
        })
    }
}

pub(super) fn cpu_pass(context: &StageContext<'_>, workers: u32, duration: Duration) -> Found {
    let (report, frequency) = UnderLoad::watch(context.host, || {
        stress(context, &stress_ng::cpu_invocation(workers, duration), "cpu", duration)
    });
    frequency.measure(context);
    let report = match report {
        Ok(report) => report,
        Err(error) => return unjudged("CPU pass", &error),
    };
    context.measure("stress", "cpu/verify_failures", Some(report.verify_failures as f64), "count");
    context.measure("stress", "cpu/bogo_ops_per_second", Some(report.bogo_ops_per_second), "per_second");
    verified("CPU pass", &report, json!({ "workers": workers, "bogo_ops": report.bogo_ops }))
}

/// How much longer the memory pass gets when a slow machine finished no round in its time, try by try, within the
/// stage's own limit.
const MORE_TIME: [u32; 2] = [4, 16];

/// What the memory pass sets out to do.
pub(super) struct MemoryPass {
    workers: u32,
    /// Over all workers together.
    bytes: u64,
    total_bytes: u64,
    duration: Duration,
}

impl MemoryPass {
    pub(super) fn plan(host: &Host, workers: u32, asked: Duration, percent: u8) -> Result<Self, String> {
        let memory = host.meminfo().map_err(|error| error.reason())?;
        let bytes = memory.available_bytes / 100 * u64::from(percent.clamp(1, 95));
        let one_round = Duration::from_secs(bytes / u64::from(workers) / SLOWEST_BYTES_PER_SECOND);
        Ok(Self { workers, bytes, total_bytes: memory.total_bytes, duration: asked.max(one_round) })
    }
}

pub(super) fn memory_pass(context: &StageContext<'_>, pass: &MemoryPass) -> Found {
    let attempt = |factor: u32| {
        let duration = pass.duration * factor;
        let invocation = stress_ng::memory_invocation(pass.workers, pass.bytes, duration);
        stress(context, &invocation, "vm", duration)
    };
    let mut report = attempt(1);
    for factor in MORE_TIME {
        if !matches!(report, Err(ToolError::NothingDone { .. })) {
            break;
        }
        report = attempt(factor);
    }
    let report = match report {
        Ok(report) => report,
        Err(error) => return unjudged("memory pass", &error),
    };
    context.measure("stress", "memory/verify_failures", Some(report.verify_failures as f64), "count");
    // what a worker really had in memory, not what was asked for
    let touched = report.max_rss_bytes.map(|rss| rss.saturating_mul(u64::from(pass.workers)).min(pass.bytes));
    let coverage = touched.map(|touched| touched as f64 * 100.0 / pass.total_bytes as f64);
    context.measure("stress", "memory/coverage", coverage, "percent");
    let details = json!({
        "workers": pass.workers,
        "duration_ms": u64::try_from(pass.duration.as_millis()).unwrap_or(u64::MAX),
        "asked_bytes": pass.bytes,
        "touched_bytes": touched,
        "coverage_percent": coverage,
        "bogo_ops": report.bogo_ops,
    });
    verified("memory pass", &report, details)
}

fn stress(
    context: &StageContext<'_>,
    invocation: &Invocation,
    stressor: &str,
    asked: Duration,
) -> Result<StressReport, ToolError> {
    let finished = context.tools.run(invocation, &context.cancel, &mut |_, _| {})?;
    stress_ng::parse(&finished, stressor, asked)
}

fn unjudged(pass: &str, error: &ToolError) -> Found {
    Found::new(Outcome::error(format!("{pass}: {}", error.reason())), json!({}))
}

fn verified(pass: &str, report: &StressReport, mut details: Value) -> Found {
    if report.verify_failures == 0 {
        return Found::new(Outcome::Pass, details);
    }
    if let Value::Object(details) = &mut details {
        let shown: Vec<&String> = report.failures.iter().take(100).collect();
        details.insert("failures".to_owned(), json!(shown));
    }
    let first = report.failures.first().map_or("", String::as_str);
    let count = report.verify_failures;
    Found::new(Outcome::fail(format!("{pass}: {count} verification failures, first: {first}")), details)
}

#[cfg(test)]
mod tests;
