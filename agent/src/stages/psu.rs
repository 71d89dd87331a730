//! Stage PSU: what the power supplies say of themselves, idle and while all CPUs work: present, failing, without mains,
//! redundant; and the power that goes in.
//!
//! One sub-step for the load, whose answers are checked, then one a supply and one a group of redundancy. Rails are not its
//! business: the sidecar samples them all the time, and the limits of the hardware judge them. What the BMC's event log has
//! of supplies from before is counted for the judge.

mod event_log;
mod pmbus;
mod supplies;

use std::time::Duration;

use crossbeam_channel::bounded;
use serde_json::json;
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::StageWork;

use super::sub_steps::{Found, SubSteps};
use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};
use crate::clock;
use crate::tools::ipmitool::{self, dcmi, sdr};
use crate::tools::runner::ToolError;
use crate::tools::stress_ng;
use supplies::Supplies;

/// What comes after the load: the last looks.
const AFTERWARDS: Duration = Duration::from_secs(15);
/// How much longer than the load the event log may take: the last looks need the BMC, and their time within the limit.
const LOG_AFTERWARDS: Duration = Duration::from_secs(5);

pub(super) struct PsuStage;

impl Stage for PsuStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Psu,
            effect: Effect::Load,
            applies_to: "power supplies that a BMC or PMBus tells of",
            finds: "supplies that failed, are about to, or have no mains; redundancy that is lost",
        }
    }

    fn estimate(&self, work: &StageWork, _inventory: Option<&Inventory>) -> Duration {
        let StageWork::Psu { load_ms } = work else { return Duration::ZERO };
        Duration::from_millis(*load_ms) + AFTERWARDS
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::Psu { load_ms } = work else {
            return Err(StageError::WrongWork { stage: StageName::Psu });
        };
        let context: &StageContext<'_> = context;
        let workers = context.inventory()?.cpu.logical_cores.max(1);
        let mut seen = look(context)?;
        if seen.is_empty() {
            let reason = "no power supply of this machine can be read: neither a BMC nor PMBus tells of one";
            return Ok(StageReport { outcome: Outcome::skip(reason), details: json!({}) });
        }
        if let Some(watts) = input_power(context) {
            context.measure("psu", "input_power_idle", Some(watts), "watts");
        }
        let count = u32::try_from(seen.parts().len()).unwrap_or(u32::MAX).saturating_add(1);
        let sub_steps = SubSteps::new(context, count);
        let duration = Duration::from_millis(*load_ms);
        let mut under_load = None;
        let log_until = clock::monotonic() + duration + LOG_AFTERWARDS;
        let (load, logged) = std::thread::scope(|scope| {
            let log = has_bmc(context).then(|| scope.spawn(|| event_log::measure(context, log_until)));
            let load = sub_steps.run(0, "load", || {
                sub_steps.by_time(0, duration, || {
                    let (found, looked) = loaded(context, workers, duration);
                    under_load = Some(looked);
                    found
                })
            });
            (load, log.map(std::thread::ScopedJoinHandle::join))
        });
        for looked in [under_load.unwrap_or_else(|| look(context)), look(context)] {
            seen.add(looked?);
        }
        let mut outcomes = vec![load];
        let event_log = logged.map(|logged| {
            logged.unwrap_or_else(|_panic| {
                let reason = "its reading crashed";
                outcomes.push(Outcome::error(format!("the BMC's event log: {reason}")));
                event_log::not_read(context, reason)
            })
        });
        for (ordinal, part) in (1..).zip(seen.parts()) {
            outcomes.push(
                sub_steps.run(ordinal, &part, || {
                    Found::new(seen.judge(&part), json!({ "told": seen.told(&part) }))
                }),
            );
        }
        for part in seen.supply_names() {
            context.measure("psu", format!("{part}/faults"), Some(seen.faults(&part).len() as f64), "count");
        }
        context.measure("psu", "present", Some(seen.supply_names().len() as f64), "count");
        Ok(StageReport {
            outcome: Outcome::worst_of(outcomes, "no supply"),
            details: json!({
                "supplies": seen.supply_names(),
                "left_out": seen.not_read(),
                "event_log": event_log,
            }),
        })
    }
}

/// Works all CPUs, and looks at the supplies in the middle of it.
fn loaded(
    context: &StageContext<'_>,
    workers: u32,
    duration: Duration,
) -> (Found, Result<Supplies, StageError>) {
    std::thread::scope(|scope| {
        let (over, wait) = bounded::<()>(0);
        let work = scope.spawn(move || {
            let _over = over;
            let invocation = stress_ng::cpu_invocation(workers, duration);
            let finished = context.tools.run(&invocation, &context.cancel, &mut |_, _| {})?;
            stress_ng::parse(&finished, "cpu", duration)
        });
        // by then a supply that cannot bear the load has said so; it ends early when the load does
        let _ = wait.recv_timeout(duration / 2);
        if let Some(watts) = input_power(context) {
            context.measure("psu", "input_power_load", Some(watts), "watts");
        }
        let looked = look(context);
        let found = match work.join() {
            Ok(Ok(report)) if report.verify_failures == 0 => Found::new(Outcome::Pass, json!({})),
            Ok(Ok(report)) => {
                let first = report.failures.first().map_or("", String::as_str);
                let count = report.verify_failures;
                Found::new(Outcome::fail(format!("load: {count} wrong answers, first: {first}")), json!({}))
            }
            Ok(Err(error)) => Found::new(Outcome::error(format!("load: {}", error.reason())), json!({})),
            Err(_panic) => Found::new(Outcome::error("load: its thread died"), json!({})),
        };
        (found, looked)
    })
}

fn has_bmc(context: &StageContext<'_>) -> bool {
    ipmitool::DEVICES.iter().any(|device| context.host.exists(device))
}

/// What all supplies say now.
fn look(context: &StageContext<'_>) -> Result<Supplies, StageError> {
    let mut supplies = Supplies::default();
    if has_bmc(context) {
        let finished =
            context.tools.run(&sdr::power_supplies_invocation(), &context.cancel, &mut |_, _| {})?;
        supplies = Supplies::of_bmc(&sdr::parse(&finished)?);
    }
    for supply in pmbus::supplies(context.host) {
        supplies.add_pmbus(supply);
    }
    Ok(supplies)
}

/// What the machine draws: as the BMC measures it, else as the supplies do; none where nobody measures.
fn input_power(context: &StageContext<'_>) -> Option<f64> {
    let of_bmc = || -> Result<Option<f64>, ToolError> {
        dcmi::parse_power(&context.tools.run(&dcmi::power_invocation(), &context.cancel, &mut |_, _| {})?)
    };
    let measured = has_bmc(context).then(|| of_bmc().ok().flatten()).flatten();
    measured.or_else(|| {
        let drawn: Option<Vec<f64>> =
            pmbus::supplies(context.host).iter().map(|supply| supply.input_watts).collect();
        drawn.filter(|drawn| !drawn.is_empty()).map(|drawn| drawn.iter().sum())
    })
}

#[cfg(test)]
mod tests;
