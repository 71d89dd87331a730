//! The SpecValidate stage: what it does with the judge's answer. The comparison itself is tested there.

use super::super::tests::{Machine, Told, missing, outcome};
use super::*;

const WORK: StageWork = StageWork::SpecValidate {};

fn machine(spec: Option<&str>) -> Machine {
    let mut machine = Machine::new().with_disk("sda").with_firmware();
    machine.spec = spec.map(ToOwned::to_owned);
    machine
}

fn diffs(records: &[Record]) -> Vec<SpecDiff> {
    match records {
        [Record::SpecDiffs { diffs }] => diffs.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_machine_as_expected_passes_and_reports_no_diffs() {
    let (report, kept, _) = machine(Some("cpu: {logical_cores: 2}")).run(&WORK, &Told::new(missing));
    assert_eq!(outcome(report), Outcome::Pass);
    assert!(!diffs(&kept.records()).iter().any(|diff| diff.severity == Severity::Critical));
}

#[test]
fn critical_diffs_fail_and_are_named() {
    let (report, kept, _) = machine(Some("cpu: {logical_cores: 64}")).run(&WORK, &Told::new(missing));
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("cpu.logical_cores: expected 64, found 2"), "{reason}");
    assert_eq!(diffs(&kept.records()).iter().filter(|diff| diff.severity == Severity::Critical).count(), 1);
}

#[test]
fn what_inventory_could_not_read_is_never_as_expected() {
    // a machine that tells nothing of its CPUs and memory: what is counted there is 0, and noted as absent
    let mut machine = machine(Some(
        "cpu: {sockets: {min: 0}, physical_cores: {min: 0}, logical_cores: {max: 8}}\nmemory: {total_gib: {max: 64}}",
    ));
    for file in ["proc/meminfo", "proc/interrupts", "sys/devices/system/cpu/online"] {
        std::fs::remove_file(machine.path(file)).unwrap();
    }
    let (report, _, facts) = machine.run(&StageWork::Inventory {}, &Told::new(missing));
    assert_eq!(outcome(report), Outcome::Pass);
    machine.inventory = facts.inventory.unwrap();
    let absent: Vec<&str> = machine.inventory.absent.iter().map(|absence| absence.what.as_str()).collect();
    assert!(absent.contains(&"memory.visible_bytes") && absent.contains(&"cpu.topology"), "{absent:?}");
    let (report, _, _) = machine.run(&WORK, &Told::new(missing));
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    for field in ["cpu.sockets", "cpu.physical_cores", "cpu.logical_cores", "memory.total_gib"] {
        assert!(reason.contains(&format!("{field}: expected ")), "{field} is in {reason}");
    }
    assert_eq!(reason.matches("found nothing").count(), 4, "{reason}");
}

#[test]
fn a_spec_that_cannot_be_read_is_an_error_and_none_is_a_skip() {
    for bad in ["", "cpu: [", "cpu: {logical_coers: 2}"] {
        let (report, kept, _) = machine(Some(bad)).run(&WORK, &Told::new(missing));
        assert!(matches!(outcome(report), Outcome::Error { .. }), "{bad}");
        assert!(kept.records().is_empty());
    }
    let (report, _, _) = machine(None).run(&WORK, &Told::new(missing));
    assert!(matches!(outcome(report), Outcome::Skip { .. }));
}

#[test]
fn without_the_firmware_facts_nothing_is_compared() {
    let mut machine = Machine::new();
    machine.spec = Some("cpu: {logical_cores: 2}".to_owned());
    let (report, _, _) = machine.run(&WORK, &Told::new(missing));
    assert!(matches!(report, Err(StageError::Prerequisite { stage: StageName::Firmware, .. })));
}

#[test]
fn only_critical_diffs_fail() {
    let diff = |severity, field: &str| SpecDiff {
        field: field.to_owned(),
        expected: Some("1".to_owned()),
        actual: None,
        severity,
    };
    assert_eq!(outcome_of(&[diff(Severity::Warning, "a"), diff(Severity::Info, "b")]), Outcome::Pass);
    let many: Vec<SpecDiff> = (0..12).map(|index| diff(Severity::Critical, &format!("f{index}"))).collect();
    let Outcome::Fail { reason } = outcome_of(&many) else { panic!() };
    assert!(
        reason.starts_with("f0: expected 1, found nothing; ") && reason.ends_with("and 2 more"),
        "{reason}"
    );
}

fn outcome_of(diffs: &[SpecDiff]) -> Outcome {
    super::outcome(diffs)
}
