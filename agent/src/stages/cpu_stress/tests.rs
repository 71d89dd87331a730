//! The CPUStress stage over recorded answers.

use std::sync::atomic::{AtomicU32, Ordering};

use super::super::tests::{Machine, Told, garbage, hung, log_to, missing, outcome, recorded, told};
use super::*;
use crate::tools::runner::Finished;
use crate::workers::cpu::workloads::{SEEDS, WORKLOADS};
use crate::workers::cpu::{CpuAnswers, CpuEvent};

const WORK: StageWork =
    StageWork::CpuStress { cpu_ms: 1000, per_core_ms: 1000, memory_ms: 1000, memory_percent: 50 };

fn is_memory(invocation: &Invocation) -> bool {
    invocation.args.iter().any(|arg| arg == "--vm")
}

#[test]
fn both_passes_verified_is_a_pass() {
    let machine = Machine::new();
    let tools = Told::new(good);
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(
        kept.sub_steps().into_keys().collect::<Vec<_>>(),
        ["CPU pass", "memory pass", "per-core pass"]
    );
    let measured = kept.measurements();
    assert_eq!(measured["stress cpu/verify_failures"], Some(0.0));
    assert_eq!(measured["stress memory/verify_failures"], Some(0.0));
    assert_eq!(measured["stress mce/new"], Some(0.0));
    // half of the available 800 kB, of 1000 kB: what is counted is never more than what was asked for
    assert!((measured["stress memory/coverage"].unwrap() - 40.0).abs() < 0.2);
    let calls = tools.calls_of("stress-ng");
    assert!(calls[0].starts_with("--cpu 2 "), "{calls:?}");
    assert!(calls[1].starts_with("--vm 2 --vm-bytes 409600b "), "{calls:?}");
}

#[test]
fn bits_that_flipped_fail_the_memory_pass() {
    let machine = Machine::new();
    let tools = Told::new(|invocation: &Invocation| {
        if is_memory(invocation) { recorded("stress-ng", "0.19-memory-bit-errors") } else { good(invocation) }
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("memory pass:") && reason.contains("moving inversion"), "{reason}");
    assert_eq!(kept.sub_steps()["CPU pass"], Outcome::Pass);
    assert!(kept.measurements()["stress memory/verify_failures"].unwrap() >= 1.0);
}

#[test]
fn memory_is_worked_also_when_the_cpu_pass_could_not_be_judged() {
    let machine = Machine::new();
    let tools =
        Told::new(
            |invocation: &Invocation| {
                if is_memory(invocation) { good(invocation) } else { recorded("stress-ng", "bad-killed") }
            },
        );
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert!(matches!(outcome(report), Outcome::Error { .. }));
    assert_eq!(kept.sub_steps()["memory pass"], Outcome::Pass);
}

#[test]
fn stress_ng_missing_hung_speaking_nonsense_or_idle_is_an_error() {
    for answer in [missing, hung, garbage, |_: &Invocation| recorded("stress-ng", "0.19-memory-did-nothing")]
    {
        let (report, kept, _) = Machine::new().run(&WORK, &Told::new(answer));
        assert!(matches!(outcome(report), Outcome::Error { .. }));
        for (name, outcome) in kept.sub_steps() {
            assert!(matches!(outcome, Outcome::Error { .. }), "{name}");
        }
    }
}

#[test]
fn a_slow_machine_gets_more_time_for_its_first_round() {
    let work = StageWork::CpuStress { cpu_ms: 1000, per_core_ms: 1000, memory_ms: 200, memory_percent: 50 };
    let tries = AtomicU32::new(0);
    let tools = Told::new(|invocation: &Invocation| {
        let nothing = is_memory(invocation) && tries.fetch_add(1, Ordering::SeqCst) == 0;
        if nothing { recorded("stress-ng", "0.19-memory-did-nothing") } else { good(invocation) }
    });
    let (report, kept, _) = Machine::new().run(&work, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(kept.sub_steps()["memory pass"], Outcome::Pass);
    assert_eq!(tools.calls_of("stress-ng").iter().filter(|call| call.contains("--vm ")).count(), 2);
}

fn good(invocation: &Invocation) -> Result<Finished, ToolError> {
    if invocation.tool != "stress-ng" {
        return told(&answers(0));
    }
    recorded("stress-ng", if is_memory(invocation) { "0.19-memory-good" } else { "0.19-cpu-good" })
}

/// What a CPU tells, each of its answers to the hash wrong by `error`.
fn answers(error: u64) -> String {
    let mut lines = String::new();
    let mut tell = |event| lines.extend([serde_json::to_string(&event).unwrap(), "\n".to_owned()]);
    for workload in WORKLOADS {
        for (seed, known) in SEEDS.into_iter().zip(workload.known) {
            let given = if workload.name == "sha256" { known ^ error } else { known };
            let workload = workload.name.to_owned();
            tell(CpuEvent::Answers(CpuAnswers { workload, seed, answers: vec![(given, 3)] }));
        }
    }
    tell(CpuEvent::Done { rounds: 3 });
    lines
}

fn is_cpu(invocation: &Invocation, cpu: u32) -> bool {
    invocation.args.iter().any(|arg| *arg == *format!("--cpu={cpu}"))
}

#[test]
fn a_core_that_computes_wrongly_is_named() {
    let machine = Machine::new();
    machine.file("sys/devices/system/cpu/cpu1/topology/physical_package_id", "0\n");
    machine.file("sys/devices/system/cpu/cpu1/topology/core_id", "4\n");
    let tools = Told::new(
        |invocation: &Invocation| if is_cpu(invocation, 1) { told(&answers(2)) } else { good(invocation) },
    );
    let (report, kept, _) = machine.run(&WORK, &tools);
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.starts_with("CPU 1 (package 0, core 4) computes wrongly: sha256 of seed "), "{reason}");
    assert_eq!(kept.sub_steps()["CPU pass"], Outcome::Pass);
    assert_eq!(kept.measurements()["stress cores/wrong_answers"], Some(SEEDS.len() as f64));
    assert_eq!(kept.measurements()["stress cores/tested"], Some(100.0));
}

#[test]
fn a_core_that_does_not_answer_is_an_error_and_counts_as_not_tested() {
    let whole = answers(0);
    let without_end = whole.rsplit_once("\n{").unwrap().0;
    let without_an_answer = whole.split_once('\n').unwrap().1;
    for silence in [without_end, without_an_answer, "", "{\"event\":\"done\",\"rounds\":0}"] {
        let tools = Told::new(
            |invocation: &Invocation| if is_cpu(invocation, 0) { told(silence) } else { good(invocation) },
        );
        let (report, kept, _) = Machine::new().run(&WORK, &tools);
        let Outcome::Error { reason } = outcome(report) else { panic!() };
        assert!(reason.contains("CPU 0"), "{reason}");
        assert_eq!(kept.measurements()["stress cores/tested"], Some(50.0));
    }
}

#[test]
fn cpus_that_throttled_are_measured() {
    let machine = Machine::new();
    let counter = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count";
    machine.file(counter, "3\n");
    let tools = Told::new(|invocation: &Invocation| {
        machine.file(counter, "5\n");
        good(invocation)
    });
    let (_, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(kept.measurements()["throttle core"], Some(2.0));
}

#[test]
fn a_machine_check_exception_fails_and_a_logged_one_is_measured() {
    let machine = Machine::new();
    let tools = Told::new(|invocation: &Invocation| {
        machine.file("proc/interrupts", "MCE:  1  2  Machine check exceptions\n");
        good(invocation)
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::fail("3 machine check exceptions under load"));
    assert_eq!(kept.measurements()["stress mce/new"], Some(3.0));

    let machine = Machine::new();
    let log = machine.path("dev/kmsg");
    let tools = Told::new(|invocation: &Invocation| {
        if is_memory(invocation) {
            log_to(&log, "mce: [Hardware Error]: Machine check events logged");
            log_to(&log, "[Hardware Error]: Corrected error, no action required.");
        }
        good(invocation)
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(kept.measurements()["stress mce/new"], Some(1.0));
}

#[test]
fn machine_checks_that_cannot_be_counted_are_no_pass_and_no_zero() {
    let machine = Machine::new();
    std::fs::remove_file(machine.path("dev/kmsg")).unwrap();
    let (report, kept, _) = machine.run(&WORK, &Told::new(good));
    assert!(matches!(outcome(report), Outcome::Error { .. }));
    assert_eq!(kept.measurements()["stress mce/new"], None);
}

#[test]
fn unreadable_memory_sizes_are_an_error() {
    let machine = Machine::new();
    machine.file("proc/meminfo", "MemTotal: lots\n");
    let (report, _, _) = machine.run(&WORK, &Told::new(good));
    let Outcome::Error { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("/proc/meminfo: `lots`"), "{reason}");
}

#[test]
fn a_pass_too_short_for_its_memory_is_made_longer() {
    let machine = Machine::new();
    machine.file("proc/meminfo", "MemTotal: 67108864 kB\nMemAvailable: 67108864 kB\n");
    let tools = Told::new(good);
    machine.run(&WORK, &tools).0.unwrap();
    // half of 64 GiB over 2 workers at 64 MiB/s
    let calls = tools.calls_of("stress-ng");
    assert!(calls[0].ends_with("--timeout 1s") && calls[1].ends_with("--timeout 255s"), "{calls:?}");
}

fn while_working(line: &'static str) -> Outcome {
    let machine = Machine::new();
    let log = machine.path("dev/kmsg");
    let tools = Told::new(|invocation: &Invocation| {
        log_to(&log, line);
        good(invocation)
    });
    outcome(machine.run(&WORK, &tools).0)
}

#[test]
fn memory_that_the_kernel_gave_up_is_a_fail() {
    for line in [
        "Memory failure: 0x1f2e3: recovery action for dirty LRU page: Recovered",
        "MCE 0x1f2e3: Sending SIGBUS to stress-ng-vm:412 due to hardware memory corruption",
    ] {
        let Outcome::Fail { reason } = while_working(line) else { panic!("{line}") };
        assert!(reason.contains(line), "{reason}");
    }
}

#[test]
fn a_worker_that_the_kernel_killed_for_memory_is_an_error() {
    let outcome = while_working("Out of memory: Killed process 412 (stress-ng-vm) total-vm:1024kB");
    assert!(matches!(outcome, Outcome::Error { .. }), "{outcome:?}");
    let outcome =
        while_working("Memory cgroup out of memory: Killed process 412 (stress-ng-vm) total-vm:1kB");
    assert!(matches!(outcome, Outcome::Error { .. }), "{outcome:?}");
    assert_eq!(while_working("Out of memory: Killed process 9 (other) total-vm:1024kB"), Outcome::Pass);
}

#[test]
fn a_worker_that_died_is_an_error_of_its_pass() {
    for case in ["0.19-memory-worker-sigbus", "0.15-memory-worker-sigsegv", "0.15-memory-worker-killed"] {
        let tools = Told::new(|invocation: &Invocation| {
            recorded("stress-ng", if is_memory(invocation) { case } else { "0.19-cpu-good" })
        });
        let (report, kept, _) = Machine::new().run(&WORK, &tools);
        assert!(matches!(outcome(report), Outcome::Error { .. }), "{case}");
        assert_eq!(kept.sub_steps()["CPU pass"], Outcome::Pass);
    }
}

#[test]
fn new_memory_errors_are_measured_and_old_ones_are_not() {
    const EDAC: &str = "sys/devices/system/edac/mc/mc0";
    let machine = Machine::new();
    for (file, count) in [("ce_count", "40"), ("ue_count", "2"), ("dimm1/dimm_ce_count", "40")] {
        machine.file(&format!("{EDAC}/{file}"), count);
    }
    machine.file(&format!("{EDAC}/dimm1/dimm_ue_count"), "2");
    machine.file(&format!("{EDAC}/dimm1/dimm_label"), "DIMM_A1\n");
    let tools = Told::new(|invocation: &Invocation| {
        machine.file(&format!("{EDAC}/ce_count"), "43");
        machine.file(&format!("{EDAC}/dimm1/dimm_ce_count"), "43");
        good(invocation)
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    let measured = kept.measurements();
    assert_eq!(measured["edac mc0/DIMM_A1/ce"], Some(3.0));
    assert_eq!(measured["edac mc0/DIMM_A1/ue"], Some(0.0));
    assert_eq!(measured["edac mc0/ce"], Some(0.0));
}
