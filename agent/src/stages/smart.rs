//! Stage SMART: what each disk says of its own health. Every number becomes a measurement for the judge; what the
//! disk itself calls a failure fails at once. A disk without SMART is skipped by name, never left out silently.

use std::time::Duration;

use serde_json::{Value, json};
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::{Disk, Inventory};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::StageWork;

use super::disks::{self, Target};
use super::sub_steps::{Found, SubSteps};
use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};
use crate::tools::smartctl::{self, Answer, AtaAttribute, Health, NvmeHealth, ScsiHealth, SmartReport};

pub(super) struct SmartStage;

impl Stage for SmartStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Smart,
            effect: Effect::ReadOnly,
            applies_to: "every disk but the boot medium: ATA, NVMe, SAS",
            finds: "disks that call themselves failing, and their error and wear counters",
        }
    }

    fn estimate(&self, _work: &StageWork, _inventory: Option<&Inventory>) -> Duration {
        Duration::from_secs(5)
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::Smart {} = work else {
            return Err(StageError::WrongWork { stage: StageName::Smart });
        };
        let context: &StageContext<'_> = context;
        let targets = disks::targets_of(context)?;
        let sub_steps = SubSteps::new(context, targets.count());
        let outcomes = disks::side_by_side(&targets.chosen, |target| {
            let name = format!("{} SMART", target.disk.name);
            vec![sub_steps.run(target.index, &name, || ask(context, target))]
        });
        Ok(StageReport {
            outcome: Outcome::worst_of(outcomes, "this machine has no disk to ask"),
            details: json!({ "disks": targets.names(), "left_out": targets.left_out, "other_paths": targets.other_paths() }),
        })
    }
}

fn ask(context: &StageContext<'_>, target: &Target<'_>) -> Found {
    let disk = &target.disk.name;
    let finished = context.tools.run(&smartctl::invocation(&target.device), &context.cancel, &mut |_, _| {});
    if let Some(vanished) = disks::vanished(context, target) {
        return Found::new(vanished, json!({}));
    }
    let answer = match finished.and_then(|finished| smartctl::parse(&finished)) {
        Ok(answer) => answer,
        Err(error) => return Found::new(Outcome::error(format!("{disk}: {}", error.reason())), json!({})),
    };
    match answer {
        Answer::NotSupported { reason } => {
            Found::new(Outcome::skip(format!("{disk}: no SMART ({reason})")), json!({}))
        }
        Answer::Report(report) => {
            measure(context, disk, &report);
            let faults = faults(&report);
            let outcome = if faults.is_empty() {
                Outcome::Pass
            } else {
                Outcome::fail(format!("{disk}{}: {}", model(target.disk), faults.join(", ")))
            };
            Found::new(outcome, details(&report))
        }
    }
}

fn model(disk: &Disk) -> String {
    let words: Vec<&str> = [disk.model.as_deref(), disk.serial.as_deref()].into_iter().flatten().collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(" ")) }
}

/// What the disk itself calls a failure; counters are the judge's business.
fn faults(report: &SmartReport) -> Vec<String> {
    let mut faults = Vec::new();
    if !report.passed || report.exit.failing() {
        faults.push("SMART health: FAILED".to_owned());
    }
    match &report.health {
        Health::Nvme(health) => {
            if health.critical_warning != 0 {
                faults.push(format!("NVMe critical warning {:#04x}", health.critical_warning));
            }
            if health.available_spare_percent < health.available_spare_threshold_percent {
                faults.push(format!(
                    "available spare {} % is below its threshold of {} %",
                    health.available_spare_percent, health.available_spare_threshold_percent
                ));
            }
        }
        Health::Ata(attributes) => faults.extend(failed_now(attributes)),
        Health::Scsi(_) => {}
    }
    if report.exit.prefail_now() && !faults.iter().any(|fault| fault.contains("attribute")) {
        faults.push("a pre-fail attribute is at or below its threshold".to_owned());
    }
    if report.exit.self_test_failures() || report.self_test_failures.is_some_and(|count| count > 0.0) {
        faults.push("the self-test log has failures".to_owned());
    }
    faults
}

fn failed_now(attributes: &[AtaAttribute]) -> impl Iterator<Item = String> {
    attributes
        .iter()
        .filter(|attribute| attribute.when_failed.as_deref() == Some("now"))
        .map(|attribute| format!("attribute {} {} is failing now", attribute.id, attribute.name))
}

fn details(report: &SmartReport) -> Value {
    let mut notes: Vec<&str> = Vec::new();
    for (set, note) in [
        (report.exit.command_failed(), "a command failed or a log page is missing"),
        (report.exit.below_threshold_once(), "an attribute was at or below its threshold in the past"),
        (report.exit.error_log_entries(), "the error log has entries"),
    ] {
        if set {
            notes.push(note);
        }
    }
    let protocol = match &report.health {
        Health::Ata(_) => "ATA",
        Health::Nvme(_) => "NVMe",
        Health::Scsi(_) => "SCSI",
    };
    json!({ "protocol": protocol, "health_passed": report.passed, "notes": notes, "messages": report.messages })
}

fn measure(context: &StageContext<'_>, disk: &str, report: &SmartReport) {
    let tell = |kind: &str, name: &str, value: Option<f64>, unit: &str| {
        if value.is_some() {
            context.measure(kind, format!("{disk}/{name}"), value, unit);
        }
    };
    tell("smart_attr", "power_on_hours", report.power_on_hours, "hours");
    tell("smart_attr", "self_test_failures", report.self_test_failures, "count");
    if report.temperature_celsius.is_some() {
        context.measure("temp", format!("disk/{disk}"), report.temperature_celsius, "celsius");
    }
    match &report.health {
        Health::Ata(attributes) => {
            for attribute in attributes {
                let name = format!("{}_{}", attribute.id, attribute.name);
                tell("smart_attr", &name, Some(attribute.raw), "count");
            }
        }
        Health::Nvme(health) => measure_nvme(health, |name, value, unit| tell("nvme", name, value, unit)),
        Health::Scsi(health) => measure_scsi(health, |name, value, unit| tell("sas", name, value, unit)),
    }
}

fn measure_nvme(health: &NvmeHealth, tell: impl Fn(&str, Option<f64>, &str)) {
    let margin = health.available_spare_percent - health.available_spare_threshold_percent;
    tell("critical_warning", Some(f64::from(health.critical_warning)), "count");
    tell("available_spare", Some(health.available_spare_percent), "percent");
    tell("available_spare_margin", Some(margin), "percent");
    tell("percentage_used", Some(health.percentage_used), "percent");
    tell("media_errors", Some(health.media_errors), "count");
    tell("error_log_entries", health.error_log_entries, "count");
    tell("unsafe_shutdowns", health.unsafe_shutdowns, "count");
    tell("power_cycles", health.power_cycles, "count");
    tell("data_units_read", health.data_units_read, "count");
    tell("data_units_written", health.data_units_written, "count");
    tell("warning_temperature_time", health.warning_temperature_minutes, "minutes");
    tell("critical_temperature_time", health.critical_temperature_minutes, "minutes");
}

fn measure_scsi(health: &ScsiHealth, tell: impl Fn(&str, Option<f64>, &str)) {
    tell("grown_defects", health.grown_defects, "count");
    tell("non_medium_errors", health.non_medium_errors, "count");
    tell("pending_defects", health.pending_defects, "count");
    tell("percentage_used", health.percentage_used, "percent");
    for (page, errors) in [("read", health.read), ("write", health.write), ("verify", health.verify)] {
        tell(&format!("{page}_uncorrected"), errors.map(|errors| errors.uncorrected), "count");
        tell(&format!("{page}_corrected"), errors.and_then(|errors| errors.corrected), "count");
    }
}

#[cfg(test)]
mod tests;
