//! The Burn stage over recorded answers.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::*;
use crate::stages::tests::{Machine, Told, arguments, hung, log_to, missing, outcome, recorded, told};
use crate::tools::runner::{Finished, Invocation, ToolError};

const WORK: StageWork = StageWork::Burn { duration_ms: 1_000, memory_percent: 50 };

fn good(call: &Invocation) -> Result<Finished, ToolError> {
    let words = arguments(call);
    match call.tool {
        "ip" => told("[]"),
        "stress-ng" if words.contains("--vm ") => recorded("stress-ng", "0.19-memory-good"),
        "stress-ng" => recorded("stress-ng", "0.19-cpu-good"),
        "fio" => recorded("fio", "3.39-good"),
        _ => missing(call),
    }
}

#[test]
fn everything_is_worked_and_checked() {
    let machine = Machine::new().with_disk("sda").with_disk("sdb");
    let tools = Told::new(good);
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    let names: Vec<_> = kept.sub_steps().into_keys().collect();
    assert_eq!(names, ["CPUs", "memory", "sda SMART after", "sda read", "sdb SMART after", "sdb read"]);
    let measured = kept.measurements();
    assert_eq!(measured["stress mce/new"], Some(0.0));
    assert_eq!(measured["fio sda/read_errors"], Some(0.0));
    assert!(tools.calls_of("fio").iter().all(|call| call.contains("--readonly")));
}

#[test]
fn all_loads_are_at_work_at_once() {
    let machine = Machine::new().with_disk("sda");
    let (at_work, everyone) = (Mutex::new(BTreeSet::new()), std::sync::Barrier::new(3));
    let tools = Told::new(|call: &Invocation| {
        if matches!(call.tool, "stress-ng" | "fio") {
            at_work.lock().unwrap().insert(arguments(call));
            // goes on only when the others have come, too
            everyone.wait();
        }
        good(call)
    });
    let (report, _, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(at_work.lock().unwrap().len(), 3);
}

#[test]
fn a_load_that_died_is_an_error_whatever_the_others_say() {
    for dead in ["--cpu ", "--vm ", "--rw=read"] {
        let machine = Machine::new().with_disk("sda");
        let tools = Told::new(|call: &Invocation| {
            if !arguments(call).contains(dead) {
                return good(call);
            }
            recorded(call.tool, "bad-killed")
        });
        let (report, kept, _) = machine.run(&WORK, &tools);
        assert!(matches!(outcome(report), Outcome::Error { .. }), "{dead}");
        let passed = kept.sub_steps().into_values().filter(|outcome| *outcome == Outcome::Pass).count();
        assert_eq!(passed, 3, "{dead}");
    }
}

#[test]
fn a_wrong_answer_under_load_fails() {
    let machine = Machine::new();
    let tools = Told::new(|call: &Invocation| {
        if arguments(call).contains("--vm ") {
            recorded("stress-ng", "0.19-memory-bit-errors")
        } else {
            good(call)
        }
    });
    let (report, _, _) = machine.run(&WORK, &tools);
    assert!(matches!(outcome(report), Outcome::Fail { .. }));
}

#[test]
fn a_machine_check_and_an_io_error_meanwhile_are_counted() {
    let machine = Machine::new().with_disk("sda");
    let log = machine.path("dev/kmsg");
    let interrupts = machine.path("proc/interrupts");
    let tools = Told::new(|call: &Invocation| {
        if call.tool == "fio" {
            log_to(&log, "I/O error, dev sda, sector 130048 op 0x0:(READ) flags 0x800");
            std::fs::write(&interrupts, "    CPU0 CPU1\nMCE:  0  1  Machine check exceptions\n").unwrap();
        }
        good(call)
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert!(matches!(outcome(report), Outcome::Fail { reason } if reason.contains("machine check")));
    assert_eq!(kept.measurements()["kernel sda/io_errors"], Some(1.0));
}

#[test]
fn a_link_that_was_lost_fails_and_one_without_another_end_is_left_out() {
    let mut machine = Machine::new();
    let nic = |name: &str| vetting_protocol::inventory::Nic {
        name: name.to_owned(),
        mac: None,
        driver: None,
        pci_address: None,
        model: None,
        speed_mbps: None,
        full_duplex: None,
        link: Some(true),
        firmware: None,
    };
    machine.inventory.nics.extend([nic("eth0"), nic("eth1")]);
    machine.file("sys/class/net/eth0/carrier", "1\n");
    machine.file("sys/class/net/eth1/carrier", "1\n");
    let (report, kept, _) = machine.run(&WORK, &Told::new(good));
    assert_eq!(outcome(report), Outcome::Pass);
    assert!(!kept.sub_steps().contains_key("eth0 iperf"));
    machine.file("sys/class/net/eth1/carrier", "0\n");
    let (report, _, _) = machine.run(&WORK, &Told::new(good));
    assert!(matches!(outcome(report), Outcome::Fail { reason } if reason.contains("eth1 lost its link")));
}

#[test]
fn tools_that_hang_are_errors() {
    let machine = Machine::new();
    let tools = Told::new(|call: &Invocation| if call.tool == "ip" { good(call) } else { hung(call) });
    let (report, _, _) = machine.run(&WORK, &tools);
    assert!(matches!(outcome(report), Outcome::Error { .. }));
}

#[test]
fn gpus_are_worked_beside_the_rest_as_often_as_the_time_allows() {
    const DIAG: &str = r#"{"DCGM GPU Diagnostic": {"test_categories": [
        {"category": "Hardware", "tests": [{"name": "GPU Memory", "results": [{"gpu_id": "0", "status": "Pass"}]}]}]}}"#;
    let mut machine = Machine::new();
    let gpu = gpu::tests::function("0000:3b:00.0", "030200", "10de", Some("nvidia"));
    machine.inventory.pci.push(gpu);
    let with = |duration_ms, diag: fn(&Invocation) -> Result<Finished, ToolError>| {
        let tools =
            Told::new(move |call: &Invocation| if call.tool == "dcgmi" { diag(call) } else { good(call) });
        let (report, kept, _) = machine.run(&StageWork::Burn { duration_ms, memory_percent: 50 }, &tools);
        (
            outcome(report),
            kept.sub_steps()["GPUs"].clone(),
            tools.calls_of("dcgmi").iter().filter(|call| call.starts_with("diag")).count(),
        )
    };
    // too short for it and no gpu-load, or nothing that works them: left out by name, as links without another end are
    assert!(matches!(with(1_000, |_| told(DIAG)), (Outcome::Pass, Outcome::Skip { .. }, 0)));
    assert!(matches!(with(400_000, missing), (_, Outcome::Skip { .. }, 0)));
    assert!(matches!(with(400_000, |_| told(DIAG)), (_, Outcome::Pass, 3)));
    assert!(matches!(with(400_000, hung), (Outcome::Error { .. }, Outcome::Error { .. }, 0)));
    let (whole, ..) = with(400_000, |_| told(&DIAG.replace("Pass", "Fail")));
    assert!(matches!(whole, Outcome::Fail { reason } if reason.contains("GPU Memory")));

    // one that DCGM leaves out gets what is left of the time
    let tools = Told::new(|call: &Invocation| match call.tool {
        "dcgmi" => told(&DIAG.replace("Pass", "Skip")),
        "gpu-load" => told(r#"{"format": 1, "load": {"failed": {"message": "no memory"}}}"#),
        _ => good(call),
    });
    let work = StageWork::Burn { duration_ms: 400_000, memory_percent: 50 };
    let (report, ..) = machine.run(&work, &tools);
    assert!(matches!(outcome(report), Outcome::Error { reason } if reason.contains("no memory")));
    assert_eq!(tools.calls_of("dcgmi").iter().filter(|call| call.starts_with("diag")).count(), 1);
    let calls = tools.calls_of("gpu-load");
    let [call] = calls.as_slice() else { panic!("{calls:?}") };
    let seconds: u64 = call.strip_prefix("0000:3b:00.0 --seconds ").unwrap().parse().unwrap();
    assert!(seconds <= 400, "{seconds}");

    let tools = Told::new(|call: &Invocation| match call.tool {
        "dcgmi" => missing(call),
        "gpu-load" => told(r#"{"format": 1, "load": {"failed": {"message": "no memory"}}}"#),
        _ => good(call),
    });
    let (report, kept, _) = machine.run(&StageWork::Burn { duration_ms: 20_000, memory_percent: 50 }, &tools);
    assert!(matches!(kept.sub_steps()["GPUs"], Outcome::Error { .. }));
    assert!(matches!(outcome(report), Outcome::Error { reason } if reason.contains("no memory")));
    assert_eq!(tools.calls_of("gpu-load"), ["0000:3b:00.0 --seconds 20"]);
}
