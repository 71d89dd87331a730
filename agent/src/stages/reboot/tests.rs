//! Restarts, with recorded inventories before and after them.

use vetting_protocol::agent_api::Record;
use vetting_protocol::plan::{RebootMade, Resumed};

use super::super::tests::{Kept, Machine, Told, missing};
use super::*;
use crate::stages::Reboots;

const WORK: StageWork = StageWork::Reboot { restarts: 2 };

fn after(machine: &Machine, restarts: usize) -> Reboots {
    let made = RebootMade { target: BootTarget::Linux, away_ms: 95_000, memtest: None };
    Reboots {
        possible: true,
        serial_console: false,
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
