//! Stage SMART: what each disk says of its own health, after a self-test where the plan asks for one. Every number
//! becomes a measurement for the judge; what the disk itself calls a failure fails at once. A disk without SMART is
//! skipped by name, never left out silently. Drives behind a RAID controller are asked one by one.

mod behind;
mod counters;
mod hidden;
mod limits;
mod self_test;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::{Disk, DiskBus, DiskKind, Inventory};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::{DiskBudget, SelfTest, StageWork};

use super::disks::{self, Target};
use super::side_by_side::side_by_side;
use super::sub_steps::{Found, SubSteps};
use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};
use crate::tools::runner::ToolError;
use crate::tools::smartctl::{
    self, Answer, AtaAttribute, Drive, Health, Medium, NvmeHealth, ScsiHealth, SmartReport, farm,
};

pub use behind::DriveBehind;
use behind::{Behind, Turn};
pub use counters::Counters;
pub(super) use counters::{after_load, drives_after_load};

pub(super) struct SmartStage;

impl Stage for SmartStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Smart,
            effect: Effect::ReadOnly,
            applies_to: "every disk but the boot medium: ATA, NVMe, SAS, also behind RAID controllers and USB bridges",
            finds: "disks that call themselves failing or fail their self-test, hide a part of themselves, or are not new",
        }
    }

    fn estimate(&self, work: &StageWork, _inventory: Option<&Inventory>) -> Duration {
        let StageWork::Smart { self_test } = work else { return Duration::ZERO };
        Duration::from_secs(5) + self_test::usual_time(*self_test)
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::Smart { self_test } = work else {
            return Err(StageError::WrongWork { stage: StageName::Smart });
        };
        let (report, counters, drives) = ask_all(context, *self_test)?;
        context.facts.smart_counters = counters;
        context.facts.drives_behind = drives;
        Ok(report)
    }
}

/// The counters of each disk and drive, by its name.
type Known = BTreeMap<String, Counters>;

fn ask_all(
    context: &StageContext<'_>,
    self_test: SelfTest,
) -> Result<(StageReport, Known, Vec<DriveBehind>), StageError> {
    let targets = disks::targets_of(context)?;
    let (behind, look_error) = match behind::look(context) {
        Ok(behind) => (behind, None),
        Err(error) => (Behind::default(), Some(error)),
    };
    let drives = &behind.drives[..];
    let drive_count = u32::try_from(drives.len()).unwrap_or(u32::MAX);
    let sub_steps = SubSteps::new(context, targets.count().saturating_add(drive_count));
    let known = Mutex::new(Known::new());
    let one = |ordinal: u32, subject: &Subject<'_>, is_volume: bool| {
        sub_steps.run(ordinal, &format!("{} SMART", subject.name), || {
            let advance = |done, left| sub_steps.advance(ordinal, done, left);
            let (found, counters) = ask(context, subject, self_test, is_volume, advance);
            if let Some(counters) = counters {
                known.lock().unwrap_or_else(PoisonError::into_inner).insert(subject.name.clone(), counters);
            }
            found
        })
    };
    let outcomes = std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            behind::each(drives, targets.count(), |ordinal, drive| {
                one(ordinal, &Subject::behind_controller(drive), false)
            })
        });
        let mut outcomes = side_by_side(&targets.chosen, DiskBudget::UNLIMITED, |target| {
            let is_volume = behind.made(context, &target.disk.name);
            let turn = behind.turn_of(&target.device);
            vec![one(target.index, &Subject::of(context, target, turn), is_volume)]
        });
        let crashed = || vec![Outcome::error("the test of drives behind controllers crashed")];
        outcomes.extend(others.join().unwrap_or_else(|_| crashed()));
        if let Some(error) = &look_error {
            let reason = format!("drives behind RAID controllers cannot be found: {}", error.reason());
            outcomes.push(Outcome::error(reason));
        }
        outcomes
    });
    let details = json!({
        "disks": targets.names(),
        "left_out": targets.left_out,
        "other_paths": targets.other_paths(),
        "drives_behind_controllers": drives.iter().map(|drive| &drive.name).collect::<Vec<_>>(),
        "self_test": self_test,
    });
    let report =
        StageReport { outcome: Outcome::worst_of(outcomes, "this machine has no disk to ask"), details };
    let known = known.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((report, known, behind.drives))
}

/// Who is asked.
struct Subject<'t> {
    /// As measurements and reasons call it: `sda`, `megaraid,8`.
    name: String,
    drive: Drive,
    turn: Turn,
    /// The kernel's disk; `None` for a drive that only its controller knows.
    target: Option<&'t Target<'t>>,
}

impl<'t> Subject<'t> {
    fn of(context: &StageContext<'_>, target: &'t Target<'t>, turn: Turn) -> Self {
        let drive = way_to(context, target.disk, Drive::of(&*target.device), &turn);
        Self { name: target.disk.name.clone(), drive, turn, target: Some(target) }
    }

    fn behind_controller(drive: &DriveBehind) -> Self {
        let DriveBehind { name, drive, turn } = drive.clone();
        Self { name, drive, turn, target: None }
    }

    fn disk(&self) -> Option<&'t Disk> {
        self.target.map(|target| target.disk)
    }

    /// The kernel says so.
    fn is_solid_state(&self) -> bool {
        self.disk()
            .and_then(|disk| disk.kind)
            .is_some_and(|kind| matches!(kind, DiskKind::Ssd | DiskKind::Nvme))
    }
}

/// Self-test, report, and what else tells a disk from a new one. `is_volume`: a RAID controller made it of drives, which
/// are asked by themselves.
fn ask(
    context: &StageContext<'_>,
    subject: &Subject<'_>,
    self_test: SelfTest,
    is_volume: bool,
    advance: impl Fn(f64, Option<Duration>),
) -> (Found, Option<Counters>) {
    let name = &subject.name;
    let test = if is_volume { SelfTest::None } else { self_test };
    let tested = self_test::run(context, &subject.drive, &subject.turn, test, self_test::POLL, &advance);
    let answer = report_of(context, subject);
    if let Some(vanished) = subject.target.and_then(|target| disks::vanished(context, target)) {
        return (Found::new(vanished, json!({})), None);
    }
    let report = match answer {
        Ok(Answer::Report(report)) => report,
        Ok(Answer::NotSupported { reason } | Answer::NotOpened { reason }) if is_volume => {
            return (volume(&reason), None);
        }
        // Avago's and Broadcom's volumes are opened, and tell no health
        Err(error @ ToolError::Garbage { .. }) if is_volume => return (volume(&error.reason()), None),
        Ok(Answer::NotSupported { reason }) => {
            measure_no_past(context, subject);
            return (Found::new(Outcome::skip(format!("{name}: no SMART ({reason})")), json!({})), None);
        }
        Ok(Answer::NotOpened { reason }) => {
            let why = format!("{name}: smartctl cannot open it: {reason}");
            return (Found::new(Outcome::error(why), json!({})), None);
        }
        Err(error) => {
            return (Found::new(Outcome::error(format!("{name}: {}", error.reason())), json!({})), None);
        }
    };
    limits::tell(context, subject, &report);
    measure(context, subject, &report);
    let mut details = details(&report);
    let mut outcomes = vec![health_outcome(subject, &report)];
    outcomes.push(tested.outcome(name));
    note(&mut details, "self_test", tested.words());
    match not_new(context, subject, &report) {
        Ok(Some(mismatch)) => note(&mut details, "farm", mismatch),
        Ok(None) => {}
        Err(error) => outcomes.push(Outcome::error(format!("{name}: {}", error.reason()))),
    }
    if subject.disk().and_then(|disk| disk.bus) == Some(DiskBus::Ata) {
        note(&mut details, "hidden", hidden::measure(context, name, &subject.drive.device));
    }
    (Found::new(Outcome::worst_of(outcomes, ""), details), Some(Counters::of(&report)))
}

/// A volume stands back for its drives.
fn volume(reason: &str) -> Found {
    let note = format!("a volume of a RAID controller, whose drives are asked one by one ({reason})");
    Found::new(Outcome::Pass, json!({ "notes": [note] }))
}

fn note(details: &mut Value, name: &str, words: impl Into<Value>) {
    if let Value::Object(details) = details {
        details.insert(name.to_owned(), words.into());
    }
}

fn report_of(context: &StageContext<'_>, subject: &Subject<'_>) -> Result<Answer, ToolError> {
    answer_of(context, &subject.drive, &subject.turn)
}

fn answer_of(context: &StageContext<'_>, drive: &Drive, turn: &Turn) -> Result<Answer, ToolError> {
    smartctl::parse(&turn.run(context, &smartctl::invocation(drive))?)
}

/// How a disk is asked: one behind a USB bridge that smartctl does not know in the way that most of these bridges understand
/// (SAT), if that is answered. A bridge that does not understand that either has no SMART.
fn way_to(context: &StageContext<'_>, disk: &Disk, drive: Drive, turn: &Turn) -> Drive {
    let is_unknown = disk.bus == Some(DiskBus::Usb)
        && matches!(answer_of(context, &drive, turn), Ok(Answer::NotSupported { .. }));
    if !is_unknown {
        return drive;
    }
    let through_sat = Drive { device_type: Some("sat".to_owned()), ..drive.clone() };
    match answer_of(context, &through_sat, turn) {
        Ok(Answer::Report(_)) => through_sat,
        Ok(Answer::NotSupported { .. } | Answer::NotOpened { .. }) | Err(_) => drive,
    }
}

fn health_outcome(subject: &Subject<'_>, report: &SmartReport) -> Outcome {
    let faults = faults(report);
    if faults.is_empty() && !report.tells_of_failure {
        return Outcome::error(format!("{}: {}", subject.name, smartctl::SWITCHED_OFF));
    }
    if faults.is_empty() {
        return Outcome::Pass;
    }
    let model = subject.disk().map(model).unwrap_or_default();
    Outcome::fail(format!("{}{model}: {}", subject.name, faults.join(", ")))
}

/// Measures by how much the FARM log's hours differ from the attribute's; some words if that could be told. A reset of
/// the attributes does not reset the log: the case of used drives sold as new in 2025.
fn not_new(
    context: &StageContext<'_>,
    subject: &Subject<'_>,
    report: &SmartReport,
) -> Result<Option<String>, ToolError> {
    if !report.has_farm || !matches!(report.health, Health::Ata(_)) {
        return Ok(None);
    }
    let farm_hours = farm::parse(&subject.turn.run(context, &farm::ask(&subject.drive))?)?;
    let name = &subject.name;
    context.measure("smart_attr", format!("{name}/farm_power_on_hours"), Some(farm_hours), "hours");
    let Some(hours) = report.power_on_hours else { return Ok(None) };
    context.measure("smart_attr", format!("{name}/farm_excess_hours"), Some(farm_hours - hours), "hours");
    Ok(Some(format!("{farm_hours} h by the FARM log, {hours} h by the SMART attribute")))
}

fn model(disk: &Disk) -> String {
    let words: Vec<&str> = [disk.model.as_deref(), disk.serial.as_deref()].into_iter().flatten().collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(" ")) }
}

/// What the disk itself calls a failure; counters are the judge's business.
fn faults(report: &SmartReport) -> Vec<String> {
    let mut faults = Vec::new();
    if !report.passed || report.exit.failing() {
        let why = report.failure.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        faults.push(format!("SMART health: FAILED{why}"));
    }
    match &report.health {
        Health::Nvme(health) => {
            if health.critical_warning != 0 {
                faults.push(format!(
                    "NVMe critical warning {:#04x} ({})",
                    health.critical_warning,
                    critical_warning_words(health.critical_warning)
                ));
            }
            if health.available_spare_percent < health.available_spare_threshold_percent {
                faults.push(format!(
                    "available spare {} % is below its threshold of {} %",
                    health.available_spare_percent, health.available_spare_threshold_percent
                ));
            }
        }
        Health::Ata(health) => faults.extend(failed_now(&health.attributes)),
        Health::Scsi(_) => {}
    }
    if report.exit.prefail_now() && !faults.iter().any(|fault| fault.contains("attribute")) {
        faults.push("a pre-fail attribute is at or below its threshold".to_owned());
    }
    // smartctl counts what later tests outdated, of SAS disks alone
    let is_sas = matches!(report.health, Health::Scsi(_));
    let by_exit = report.exit.self_test_failures() && !(is_sas && report.self_test_failures.is_some());
    if by_exit || report.self_test_failures.is_some_and(|count| count > 0.0) {
        faults.push("the self-test log has failures".to_owned());
    }
    faults
}

/// The bits of Critical Warning (NVM Express base specification, log page 02h).
fn critical_warning_words(bits: u8) -> String {
    const WORDS: [&str; 6] = [
        "spare below its threshold",
        "temperature beyond a threshold",
        "reliability degraded",
        "read-only",
        "volatile memory backup failed",
        "persistent memory region read-only or unreliable",
    ];
    let set = |bit: usize| bits & (1 << bit) != 0;
    let words = (0..8).filter(|bit| set(*bit)).map(|bit| WORDS.get(bit).copied().unwrap_or("reserved bit"));
    words.collect::<Vec<_>>().join(", ")
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

/// The hours that a disk was switched on.
const HOURS: &str = "power_on_hours";
/// How much of its life a solid state disk has used, as its command set tells it.
const USED: &str = "percentage_used";
/// The same of all solid state disks, without a value where one does not tell it: what a spec asks for.
const WEAR: &str = "wear_percent";

/// Of a disk that tells nothing: what a spec may ask for of its past is not known, which a rule must see.
fn measure_no_past(context: &StageContext<'_>, subject: &Subject<'_>) {
    let disk = &subject.name;
    context.measure("smart_attr", format!("{disk}/{HOURS}"), None, "hours");
    if subject.is_solid_state() {
        context.measure("smart_attr", format!("{disk}/{WEAR}"), None, "percent");
    }
    if disk.starts_with("nvme") {
        context.measure("nvme", format!("{disk}/{USED}"), None, "percent");
    }
}

fn measure(context: &StageContext<'_>, subject: &Subject<'_>, report: &SmartReport) {
    let disk = &subject.name;
    let tell = |kind: &str, name: &str, value: Option<f64>, unit: &str| {
        if value.is_some() {
            context.measure(kind, format!("{disk}/{name}"), value, unit);
        }
    };
    context.measure("smart_attr", format!("{disk}/{HOURS}"), report.power_on_hours, "hours");
    if report.medium == Some(Medium::SolidState) || subject.is_solid_state() {
        context.measure("smart_attr", format!("{disk}/{WEAR}"), report.wear_percent(), "percent");
    }
    tell("smart_attr", "self_test_failures", report.self_test_failures, "count");
    if report.temperature_celsius.is_some() {
        context.measure("temp", format!("disk/{disk}"), report.temperature_celsius, "celsius");
    }
    match &report.health {
        Health::Ata(health) => {
            for attribute in &health.attributes {
                tell("smart_attr", &attribute.key(), Some(attribute.raw), "count");
            }
            tell("smart_attr", USED, health.percentage_used, "percent");
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
    tell(USED, Some(health.percentage_used), "percent");
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
    tell("pending_defects", health.pending_defects, "count");
    tell(USED, health.percentage_used, "percent");
    for (page, errors) in [("read", health.read), ("write", health.write), ("verify", health.verify)] {
        tell(&format!("{page}_uncorrected"), errors.map(|errors| errors.uncorrected), "count");
        tell(&format!("{page}_corrected"), errors.and_then(|errors| errors.corrected), "count");
    }
}

#[cfg(test)]
mod tests;
