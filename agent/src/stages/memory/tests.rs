//! The Memory stage over what its worker tells.

use super::super::tests::{Machine, Told, garbage, hung, log_to, missing, outcome, told};
use super::*;
use crate::tools::runner::{Exit, Finished, Invocation};

const WORK: StageWork = StageWork::Memory { duration_ms: 1000, fade_ms: 0 };
const FAULT: &str = r#"{"event":"fault","pattern":"march_c_minus","virtual_address":140000000004096,"physical_address":305419896,"expected":0,"actual":16,"reread":16}"#;

/// What a worker tells that held `bytes` and found `faults`.
fn done(bytes: u64, faults: u64) -> String {
    format!(
        r#"{{"event":"done","verified_bytes":{bytes},"rounds":2,"patterns":11,"moved_bytes":8000000,"moving_ms":2000,"faults":{faults}}}"#
    )
}

/// 96 % of the 800 kB that are available.
const NEARLY_ALL: u64 = 786_432;

#[test]
fn all_memory_kept_is_a_pass_with_coverage_and_bandwidth() {
    let tools = Told::new(|_: &Invocation| told(&done(NEARLY_ALL, 0)));
    let (report, kept, _) = Machine::new().run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(kept.sub_steps().into_keys().collect::<Vec<_>>(), ["node 0"]);
    let measured = kept.measurements();
    assert_eq!(measured["memory faults"], Some(0.0));
    assert_eq!(measured["memory rounds"], Some(2.0));
    assert_eq!(measured["memory bandwidth"], Some(4e6));
    assert_eq!(measured["memory coverage"], Some(96.0));
    assert!((measured["memory coverage_total"].unwrap() - 76.8).abs() < 0.01);
    let calls = tools.calls_of("/proc/self/exe");
    assert!(calls[0].starts_with("memory-worker --cpus=0,1 --bytes=786432 --leave=16384 "), "{calls:?}");
}

#[test]
fn a_word_that_was_lost_is_named_by_address_contents_and_persistence() {
    let tools = Told::new(|_: &Invocation| told(&format!("{FAULT}\n{}", done(NEARLY_ALL, 7))));
    let (report, kept, _) = Machine::new().run(&WORK, &tools);
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    for part in
        ["7 times", "physical address 0x12345678", "read 0x0000000000000010", "wrong again", "march_c_minus"]
    {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert_eq!(kept.measurements()["memory faults"], Some(7.0));
}

#[test]
fn a_worker_that_ran_into_poisoned_memory_fails_with_the_page_of_the_kernel_log() {
    let machine = Machine::new();
    let log = machine.path("dev/kmsg");
    let tools = Told::new(|_: &Invocation| {
        log_to(
            &log,
            "Memory failure: 0x12345: Sending SIGBUS to memory-worker:9 due to hardware memory corruption",
        );
        Ok(Finished { exit: Exit::Signal(7), ..told("").unwrap() })
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("SIGBUS") && reason.contains("0x12345000"), "{reason}");
    assert_eq!(kept.measurements()["memory faults"], None);
    assert_eq!(kept.measurements()["memory coverage"], Some(0.0));
}

#[test]
fn uncorrected_errors_of_the_controller_fail_and_name_the_module() {
    let machine = Machine::new();
    let mc = "sys/devices/system/edac/mc/mc0";
    machine.file(&format!("{mc}/dimm0/dimm_label"), "DIMM_A1\n");
    for (file, count) in
        [("ce_count", 0), ("ue_count", 0), ("dimm0/dimm_ce_count", 0), ("dimm0/dimm_ue_count", 0)]
    {
        machine.file(&format!("{mc}/{file}"), &format!("{count}\n"));
    }
    let tools = Told::new(|_: &Invocation| {
        machine.file(&format!("{mc}/ue_count"), "2\n");
        machine.file(&format!("{mc}/dimm0/dimm_ue_count"), "2\n");
        machine.file(&format!("{mc}/ce_count"), "5\n");
        machine.file(&format!("{mc}/dimm0/dimm_ce_count"), "5\n");
        told(&done(NEARLY_ALL, 0))
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::fail("uncorrected memory errors: 2 of mc0/DIMM_A1"));
    assert_eq!(kept.measurements()["edac mc0/DIMM_A1/ce"], Some(5.0));
}

#[test]
fn a_worker_that_is_missing_hangs_is_killed_or_speaks_nonsense_is_an_error() {
    let killed =
        |_: &Invocation| Ok(Finished { exit: Exit::Signal(9), ..told(&done(NEARLY_ALL, 0)).unwrap() });
    for answer in
        [missing, hung, garbage, |_: &Invocation| told(""), |_: &Invocation| told(&done(0, 0)), killed]
    {
        let (report, kept, _) = Machine::new().run(&WORK, &Told::new(answer));
        assert!(matches!(outcome(report), Outcome::Error { .. }));
        // no value: no rule takes it for a good one
        assert_eq!(kept.measurements()["memory faults"], None);
        assert_eq!(kept.measurements()["memory rounds"], None);
    }
}

#[test]
fn every_node_has_a_worker_of_its_own_bound_to_it() {
    let machine = Machine::new();
    for node in 0..2 {
        let folder = format!("sys/devices/system/node/node{node}");
        machine.file(&format!("{folder}/cpulist"), &format!("{node}\n"));
        let lines = ["MemTotal: 500 kB", "MemFree: 400 kB", "Active(file): 0 kB", "Inactive(file): 0 kB"];
        let text: Vec<String> = lines.iter().map(|line| format!("Node {node} {line}\n")).collect();
        machine.file(&format!("{folder}/meminfo"), &text.concat());
    }
    let tools = Told::new(|_: &Invocation| told(&done(NEARLY_ALL / 2, 0)));
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(kept.sub_steps().into_keys().collect::<Vec<_>>(), ["node 0", "node 1"]);
    let mut calls = tools.calls_of("/proc/self/exe");
    calls.sort();
    assert!(calls[0].contains("--cpus=0 --node=0 ") && calls[1].contains("--cpus=1 --node=1 "), "{calls:?}");
    assert_eq!(kept.measurements()["memory bandwidth"], Some(8e6));
}
