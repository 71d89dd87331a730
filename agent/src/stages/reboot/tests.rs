//! Restarts, with recorded inventories before and after them.

use vetting_protocol::agent_api::Record;
use vetting_protocol::plan::{PowerCut, RebootMade, Resumed};

use super::super::tests::{Kept, Machine, Told, missing};
use super::*;
use crate::stages::Reboots;

const WORK: StageWork = StageWork::Reboot { restarts: 2, cold: 0 };

fn after(machine: &Machine, restarts: usize) -> Reboots {
    let made = RebootMade { target: BootTarget::Linux, away_ms: 95_000, memtest: None, power: None };
    Reboots {
        possible: true,
        serial_console: false,
        power_control: false,
        resumed: Some(Resumed {
            stage: StageName::Reboot,
            reboots: vec![made; restarts],
            first_inventory: Some(Box::new(machine.inventory.clone())),
        }),
    }
}

fn run(machine: &Machine) -> (BootEnd, Kept) {
    let (end, kept) = machine.run_in_this_boot(&WORK, &Told::new(missing));
    (end.unwrap(), kept)
}

#[test]
fn it_restarts_as_often_as_planned_and_passes_when_nothing_is_gone() {
    let mut machine = Machine::new().with_disk("sda");
    machine.reboots = Reboots { possible: true, ..Reboots::default() };
    assert!(matches!(run(&machine).0, BootEnd::Reboot(reboot) if reboot.reason == "restart 1 of 2"));
    machine.reboots = after(&machine, 1);
    let (end, kept) = run(&machine);
    assert!(matches!(end, BootEnd::Reboot(reboot) if reboot.reason == "restart 2 of 2"));
    assert_eq!(kept.measurements()["reboot 1/time_to_claim"], Some(95.0));
    machine.reboots = after(&machine, 2);
    let (end, kept) = run(&machine);
    assert_eq!(end, over(Outcome::Pass));
    assert_eq!(kept.measurements()["reboot restarts"], Some(2.0));
    assert!(matches!(kept.records().last(), Some(Record::SubStepFinished { ordinal: 1, .. })));
}

#[test]
fn a_disk_that_is_gone_after_a_restart_fails_by_its_serial() {
    let mut machine = Machine::new().with_disk("sda");
    machine.reboots = after(&machine, 1);
    machine.inventory.disks.clear();
    let BootEnd::Finished(report) = run(&machine).0 else { panic!("it ends at once") };
    assert!(
        matches!(&report.outcome, Outcome::Fail { reason } if reason.contains("TEST1 is gone")),
        "{report:?}"
    );
}

#[test]
fn without_a_first_inventory_or_a_coordinator_nothing_passes() {
    let mut machine = Machine::new();
    machine.reboots = after(&machine, 2);
    machine.reboots.resumed.as_mut().unwrap().first_inventory = None;
    let (end, _) = machine.run_in_this_boot(&WORK, &Told::new(missing));
    assert!(matches!(end, Err(StageError::Prerequisite { .. })));
    machine.reboots = Reboots::default();
    let BootEnd::Finished(report) = run(&machine).0 else { panic!("it does not restart this machine") };
    assert!(matches!(report.outcome, Outcome::Skip { .. }));
}

/// A machine that made one warm restart, and after it this cold one.
fn after_cold(target: BootTarget, power: Option<PowerCut>) -> Outcome {
    let mut machine = Machine::new();
    machine.reboots = Reboots { power_control: true, ..after(&machine, 1) };
    let made = RebootMade { target, away_ms: 95_000, memtest: None, power };
    machine.reboots.resumed.as_mut().unwrap().reboots.push(made);
    let work = StageWork::Reboot { restarts: 1, cold: 1 };
    match machine.run_in_this_boot(&work, &Told::new(missing)).0.unwrap() {
        BootEnd::Finished(report) => report.outcome,
        BootEnd::Reboot(reboot) => panic!("it restarts for {}", reboot.reason),
    }
}

#[test]
fn a_cold_start_comes_after_the_warm_ones_and_counts_only_when_the_power_was_seen_off() {
    let work = StageWork::Reboot { restarts: 1, cold: 1 };
    let mut machine = Machine::new();
    machine.reboots = Reboots { power_control: true, ..after(&machine, 1) };
    let (end, _) = machine.run_in_this_boot(&work, &Told::new(missing));
    let BootEnd::Reboot(reboot) = end.unwrap() else { panic!("it restarts") };
    assert_eq!((reboot.target, reboot.reason.as_str()), (BootTarget::LinuxCold, "cold start 1 of 1"));
    assert_eq!(after_cold(BootTarget::LinuxCold, Some(PowerCut::Off)), Outcome::Pass);
    for (target, power) in [
        (BootTarget::LinuxCold, None),
        (BootTarget::LinuxCold, Some(PowerCut::Restarted)),
        (BootTarget::LinuxCold, Some(PowerCut::Failed { why: "the BMC refuses".to_owned() })),
        (BootTarget::Linux, Some(PowerCut::Off)),
    ] {
        let outcome = after_cold(target, power.clone());
        assert!(matches!(outcome, Outcome::Error { .. }), "{target} {power:?}: {outcome:?}");
    }
}

#[test]
fn without_power_control_cold_starts_are_left_out_by_name() {
    let mut machine = Machine::new();
    machine.reboots = after(&machine, 1);
    let work = StageWork::Reboot { restarts: 1, cold: 2 };
    let (end, kept) = machine.run_in_this_boot(&work, &Told::new(missing));
    let BootEnd::Finished(report) = end.unwrap() else { panic!("it does not restart") };
    assert_eq!(report.outcome, Outcome::Pass);
    assert!(report.details["cold_starts_left_out"].as_str().unwrap().contains("host bmc"));
    let last = kept.records().into_iter().next_back();
    assert!(matches!(last, Some(Record::SubStepFinished { ordinal: 1, outcome: Outcome::Skip { .. }, .. })));
}
