//! The stage over its restarts.

use vetting_protocol::memtest::{MemtestEnd, MemtestObservation};
use vetting_protocol::plan::Resumed;

use super::super::tests::{Kept, Machine, Told, log_to, missing};
use super::*;
use crate::inventory::dimm_map::tests::two_modules;
use crate::stages::Reboots;

const WORK: StageWork =
    StageWork::Memtest { kernel_patterns: 1, passes: 2, budget_ms: 60_000, unwatched: false };

fn machine(serial_console: bool, reboots: Vec<RebootMade>) -> Machine {
    let mut machine = Machine::new();
    let resumed = Resumed { stage: StageName::Memtest, reboots, first_inventory: None };
    machine.reboots =
        Reboots { possible: true, serial_console, power_control: false, resumed: Some(resumed) };
    machine
}

fn run(machine: &Machine) -> (BootEnd, Kept) {
    let (end, kept) = machine.run_in_this_boot(&WORK, &Told::new(missing));
    (end.unwrap(), kept)
}

fn outcome(machine: &Machine) -> Outcome {
    match run(machine).0 {
        BootEnd::Finished(report) => report.outcome,
        BootEnd::Reboot(reboot) => panic!("it restarts for {}", reboot.reason),
    }
}

fn kernel() -> RebootMade {
    RebootMade { target: BootTarget::MemtestKernel, away_ms: 1, memtest: None, power: None }
}

fn memtest86plus(memtest: Option<MemtestObservation>) -> RebootMade {
    RebootMade { target: BootTarget::Memtest, away_ms: 1, memtest, power: None }
}

fn tested_by_the_kernel(machine: &Machine, bad: &str) {
    log_to(&machine.path("dev/kmsg"), "early_memtest: # of tests: 1");
    log_to(&machine.path("dev/kmsg"), "  0x0000000000100000 - 0x0000000001000000 pattern 0000000000000000");
    machine.file("proc/meminfo", &format!("MemTotal: 1000 kB\nEarlyMemtestBad:       {bad} kB\n"));
}

#[test]
fn the_kernels_test_comes_first_and_memtest86plus_after_it_passed() {
    let fresh = machine(true, Vec::new());
    assert!(matches!(run(&fresh).0, BootEnd::Reboot(reboot) if reboot.target == BootTarget::MemtestKernel));
    let back = machine(true, vec![kernel()]);
    tested_by_the_kernel(&back, "0");
    let (end, kept) = run(&back);
    let BootEnd::Reboot(reboot) = end else { panic!("{end:?}") };
    assert_eq!((reboot.target, reboot.budget), (BootTarget::Memtest, Duration::from_mins(1)));
    assert_eq!(kept.measurements()["memtest kernel/bad_ranges"], Some(0.0));
}

#[test]
fn bad_memory_that_the_kernel_found_ends_the_stage() {
    let back = machine(true, vec![kernel()]);
    tested_by_the_kernel(&back, "4");
    assert!(matches!(outcome(&back), Outcome::Fail { .. }));
    // not booted with memtest=1 at all
    assert!(matches!(outcome(&machine(true, vec![kernel()])), Outcome::Error { .. }));
}

#[test]
fn without_a_serial_line_memtest86plus_is_skipped_and_the_stage_is_no_pass() {
    let back = machine(false, vec![kernel()]);
    tested_by_the_kernel(&back, "0");
    let outcome = outcome(&back);
    assert!(matches!(&outcome, Outcome::Skip { reason } if reason.contains("--serial")), "{outcome:?}");
}

#[test]
fn unwatched_it_is_begun_only_where_the_power_brings_it_back() {
    for (power_control, unwatched) in [(true, true), (true, false), (false, true)] {
        let mut back = machine(false, vec![kernel()]);
        back.reboots.power_control = power_control;
        tested_by_the_kernel(&back, "0");
        let StageWork::Memtest { kernel_patterns, passes, budget_ms, .. } = WORK else {
            panic!("it is Memtest")
        };
        let work = StageWork::Memtest { kernel_patterns, passes, budget_ms, unwatched };
        let (end, _) = back.run_in_this_boot(&work, &Told::new(missing));
        let begun = matches!(end.unwrap(), BootEnd::Reboot(reboot) if reboot.target == BootTarget::Memtest);
        assert_eq!(begun, power_control && unwatched);
    }
}

#[test]
fn what_the_coordinator_saw_decides() {
    let seen = |passes, errors, end| {
        let seen = MemtestObservation { passes, errors, end: Some(end), ..MemtestObservation::nothing() };
        outcome(&machine(true, vec![kernel(), memtest86plus(Some(seen))]))
    };
    assert_eq!(seen(2, 0, MemtestEnd::Stopped), Outcome::Pass);
    assert!(matches!(seen(2, 1, MemtestEnd::Stopped), Outcome::Fail { .. }));
    assert!(matches!(seen(1, 0, MemtestEnd::Stopped), Outcome::Error { .. }));
    assert!(matches!(seen(2, 0, MemtestEnd::Left), Outcome::Error { .. }));
    assert!(matches!(outcome(&machine(true, vec![kernel(), memtest86plus(None)])), Outcome::Error { .. }));
}

#[test]
fn failing_addresses_are_named_with_their_slots() {
    let reason = |machine: &Machine| {
        two_modules(&machine.path(""));
        outcome(machine).reason().unwrap_or_default().to_owned()
    };
    let seen = MemtestObservation {
        errors: 3,
        addresses: vec![0x1800_0123, 0x1800_0124, 0x5000_0000],
        end: Some(MemtestEnd::Stopped),
        ..MemtestObservation::nothing()
    };
    let seen = reason(&machine(true, vec![kernel(), memtest86plus(Some(seen))]));
    assert!(seen.contains("0x18000123") && seen.ends_with("(DIMM_A1; DIMM_B1)"), "{seen}");
    let back = machine(true, vec![kernel()]);
    tested_by_the_kernel(&back, "4");
    log_to(
        &back.path("dev/kmsg"),
        "  0000000000000000 bad mem addr 0x000000003ffffff8 - 0x0000000040000000 reserved",
    );
    let found = reason(&back);
    assert!(found.ends_with("(DIMM_A1)"), "{found}");
}

#[test]
fn a_restart_into_something_else_is_no_result() {
    let other = machine(true, vec![memtest86plus(None)]);
    assert!(matches!(outcome(&other), Outcome::Error { .. }));
}
