//! The per-core pass: each logical CPU by itself computes answers that are known, so that a bad core has a name. Where
//! there are more CPUs than time, several compute side by side; each is judged by its own answers all the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use vetting_protocol::outcome::Outcome;

use super::super::StageContext;
use super::super::cpu_list;
use super::super::sub_steps::{Found, SubSteps};
use super::answers::{verdict, wrong_answers};
use crate::host::{Host, HostError};
use crate::tools::cpu_worker::{self, CpuReport};
use crate::tools::runner::ToolError;
use crate::workers::cpu::CpuWork;

const ONLINE: &str = "/sys/devices/system/cpu/online";
/// Least time that a CPU gets.
const LEAST: Duration = Duration::from_secs(2);
/// The worker's own limit beyond the time that it was given: a slow CPU needs long for its one round.
const PATIENCE: Duration = Duration::from_mins(5);
/// Most wrong answers that the details hold.
const SHOWN: usize = 100;

/// CPUs that compute side by side, and how long.
#[derive(Debug, PartialEq, Eq)]
struct Turns {
    side_by_side: usize,
    each: Duration,
}

impl Turns {
    /// For so many CPUs in `length` all told.
    fn plan(cpus: usize, length: Duration) -> Self {
        let turns = usize::try_from(length.as_millis() / LEAST.as_millis())
            .unwrap_or(usize::MAX)
            .clamp(1, cpus.max(1));
        let side_by_side = cpus.div_ceil(turns).max(1);
        let turns = u32::try_from(cpus.div_ceil(side_by_side)).unwrap_or(u32::MAX).max(1);
        Self { side_by_side, each: (length / turns).max(LEAST.min(length)) }
    }
}

pub(super) fn pass(
    context: &StageContext<'_>,
    sub_steps: &SubSteps<'_, '_>,
    ordinal: u32,
    length: Duration,
) -> Found {
    let cpus = match online(context.host) {
        Ok(cpus) => cpus,
        Err(error) => {
            return Found::new(Outcome::error(format!("per-core pass: {}", error.reason())), json!({}));
        }
    };
    let turns = Turns::plan(cpus.len(), length);
    let mut reports = BTreeMap::new();
    let mut unjudged = Vec::new();
    for (number, together) in cpus.chunks(turns.side_by_side).enumerate() {
        let done = (number * turns.side_by_side) as f64 / cpus.len() as f64;
        sub_steps.advance(ordinal, done, Some(length.mul_f64(1.0 - done)));
        for (cpu, report) in compute(context, together, turns.each) {
            match report {
                Ok(report) => drop(reports.insert(cpu, report)),
                Err(error) => unjudged.push(format!("{}: {}", place(context.host, cpu), error.reason())),
            }
        }
    }
    let wrong = wrong_answers(&reports);
    let tested = reports.len() as f64 * 100.0 / cpus.len().max(1) as f64;
    context.measure("stress", "cores/wrong_answers", Some(wrong.len() as f64), "count");
    context.measure("stress", "cores/tested", Some(tested), "percent");
    let mut outcomes = vec![verdict(&reports, |cpu| place(context.host, cpu))];
    if !unjudged.is_empty() {
        outcomes.push(Outcome::error(format!("per-core pass: {}", unjudged.join("; "))));
    }
    let shown: Vec<Value> =
        wrong.iter().take(SHOWN).map(|one| json!({ "cpu": one.cpu, "what": one.to_string() })).collect();
    let details = json!({
        "cpus": cpus.len(),
        "side_by_side": turns.side_by_side,
        "each_ms": u64::try_from(turns.each.as_millis()).unwrap_or(u64::MAX),
        "least_rounds": reports.values().map(|report| report.rounds).min(),
        "wrong_answers": shown,
    });
    Found::new(Outcome::worst_of(outcomes, ""), details)
}

fn compute(
    context: &StageContext<'_>,
    cpus: &[u32],
    each: Duration,
) -> Vec<(u32, Result<CpuReport, ToolError>)> {
    let on = |cpu: u32| {
        let work = CpuWork { cpu, duration_ms: u64::try_from(each.as_millis()).unwrap_or(u64::MAX) };
        let invocation = cpu_worker::invocation(&work, each + PATIENCE);
        let finished = context.tools.run(&invocation, &context.cancel, &mut |_, _| {})?;
        cpu_worker::parse(&finished)
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = cpus.iter().map(|cpu| (*cpu, scope.spawn(move || on(*cpu)))).collect();
        running
            .into_iter()
            .map(|(cpu, thread)| {
                (cpu, thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
            .collect()
    })
}

fn online(host: &Host) -> Result<Vec<u32>, HostError> {
    let text = host.text(ONLINE)?;
    cpu_list::parse(&text).filter(|cpus| !cpus.is_empty()).ok_or_else(|| HostError::Unparsable {
        path: PathBuf::from(ONLINE),
        found: text.chars().take(80).collect(),
        expected: "a list of CPUs such as 0-3,8",
    })
}

/// `CPU 5 (package 0, core 2)`, the place where the kernel tells it.
fn place(host: &Host, cpu: u32) -> String {
    let number =
        |file: &str| host.number::<u32>(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/{file}")).ok();
    match (number("physical_package_id"), number("core_id")) {
        (Some(package), Some(core)) => format!("CPU {cpu} (package {package}, core {core})"),
        _ => format!("CPU {cpu}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_cpus_take_turns_alone_and_many_share_them() {
        let turns = |cpus, seconds| {
            let turns = Turns::plan(cpus, Duration::from_secs(seconds));
            (turns.side_by_side, turns.each.as_secs_f64())
        };
        assert_eq!(turns(8, 40), (1, 5.0));
        assert_eq!(turns(20, 40), (1, 2.0));
        assert_eq!(turns(256, 40), (13, 2.0));
        assert_eq!(turns(2, 1), (2, 1.0));
        assert_eq!(turns(1, 0), (1, 0.0));
    }
}
