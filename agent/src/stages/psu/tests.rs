//! The stage on machines whose BMC answers as ipmi_sim's did, and on supplies that speak PMBus.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::tests::{Kept, Machine, Told, hung, outcome, recorded};
use super::*;
use crate::tools::runner::{Finished, Invocation};

const WORK: StageWork = StageWork::Psu { load_ms: 1_000 };

fn with_bmc() -> Machine {
    let machine = Machine::new();
    machine.file("dev/ipmi0", "");
    machine
}

/// A BMC that answers of its supplies by the case that `case` chooses by the number of the look, 0-based, and has an empty
/// event log.
fn answers(
    case: fn(u32) -> &'static str,
) -> Told<impl Fn(&Invocation) -> Result<Finished, ToolError> + Send + Sync> {
    with_log(case, |what| recorded("ipmitool", &format!("1.8.19-good-sel-{what}")))
}

/// Likewise, with what `log` answers to `sel info` and `sel elist`.
fn with_log(
    case: fn(u32) -> &'static str,
    log: fn(&str) -> Result<Finished, ToolError>,
) -> Told<impl Fn(&Invocation) -> Result<Finished, ToolError> + Send + Sync> {
    let looks = AtomicU32::new(0);
    Told::new(move |invocation: &Invocation| match invocation.tool {
        "stress-ng" => recorded("stress-ng", "0.19-cpu-good"),
        _ if invocation.args.first().is_some_and(|arg| arg == "dcmi") => {
            recorded("ipmitool", "1.8.19-no-dcmi")
        }
        _ if invocation.args.first().is_some_and(|arg| arg == "sel") => {
            log(&invocation.args[1].to_string_lossy())
        }
        _ => recorded("ipmitool", case(looks.fetch_add(1, Ordering::SeqCst))),
    })
}

fn pmbus(machine: &Machine, files: &[(&str, &str)]) {
    let supply = [
        ("name", "pmbus"),
        ("in1_label", "vin"),
        ("in1_input", "230000"),
        ("in2_label", "vout1"),
        ("in2_input", "12090"),
        ("power1_label", "pin"),
        ("power1_input", "140000000"),
        ("in1_lcrit_alarm", "0"),
    ];
    for (file, text) in supply.iter().chain(files) {
        machine.file(&format!("sys/class/hwmon/hwmon0/{file}"), text);
    }
}

#[test]
fn two_good_supplies_pass() {
    let tools = answers(|_| "1.8.19-good-power-supply");
    let (report, kept, _) = with_bmc().run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    let steps: Vec<String> = kept.sub_steps().into_keys().collect();
    assert_eq!(steps, ["PS Redundancy", "PS1 Status", "PS2 Status", "load"]);
    let measured = kept.measurements();
    assert_eq!((measured["psu present"], measured["psu PS1 Status/faults"]), (Some(2.0), Some(0.0)));
}

#[test]
fn a_supply_that_loses_its_mains_under_load_fails_by_name() {
    let tools =
        answers(|look| if look == 1 { "1.8.19-psu-lost-power-supply" } else { "1.8.19-good-power-supply" });
    let (report, kept, _) = with_bmc().run(&WORK, &tools);
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("power supply PS2 Status: Power Supply AC lost"), "{reason}");
    assert!(reason.contains("PS Redundancy: Redundancy Lost"), "{reason}");
    assert_eq!(kept.sub_steps()["PS1 Status"], Outcome::Pass);
    assert_eq!(kept.measurements()["psu PS2 Status/faults"], Some(1.0));
}

#[test]
fn what_the_event_log_has_from_before_is_counted_and_told_and_fails_nothing_here() {
    let run = |log: fn(&str) -> Result<Finished, ToolError>| {
        let (report, kept, _) = with_bmc().run(&WORK, &with_log(|_| "1.8.19-good-power-supply", log));
        let report = report.unwrap();
        assert_eq!(report.outcome, Outcome::Pass);
        (kept.measurements()["psu logged_faults"], report.details["event_log"].clone())
    };
    let (count, told) = run(|what| recorded("ipmitool", &format!("1.8.19-psu-lost-sel-{what}")));
    assert_eq!(count, Some(2.0));
    let newest = told["newest"].to_string();
    assert!(
        newest.contains("PS2 Status | Power Supply AC lost") && newest.contains("Redundancy Lost"),
        "{told}"
    );
    // what was too hot once is no matter of supplies
    assert_eq!(run(|what| recorded("ipmitool", &format!("1.8.19-hot-sel-{what}"))).0, Some(0.0));
    assert_eq!(run(|what| recorded("ipmitool", &format!("1.8.19-good-sel-{what}"))).0, Some(0.0));
    // a log that is not told whole is unknown, not empty
    let (count, told) = run(|what| match what {
        "info" => recorded("ipmitool", "1.8.19-psu-lost-sel-info"),
        _ => recorded("ipmitool", "1.8.19-good-sel-elist"),
    });
    assert_eq!(count, None);
    assert!(told["not_read"].to_string().contains("0 of the 2"), "{told}");
}

#[test]
fn a_crash_while_the_event_log_is_read_is_an_error_and_no_empty_log() {
    let tools = with_log(|_| "1.8.19-good-power-supply", |_| panic!("the parser has a fault"));
    let (report, kept, _) = with_bmc().run(&WORK, &tools);
    let report = report.unwrap();
    let Outcome::Error { reason } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(reason, "the BMC's event log: its reading crashed");
    assert_eq!(kept.measurements()["psu logged_faults"], None);
    assert_eq!(report.details["event_log"]["not_read"], "its reading crashed");
    // the supplies themselves were looked at
    assert_eq!(kept.sub_steps()["PS1 Status"], Outcome::Pass);
}

#[test]
fn both_questions_of_the_event_log_end_together_soon_after_the_load() {
    let timeouts = Mutex::new(Vec::new());
    let tools = Told::new(|invocation: &Invocation| match invocation.tool {
        "stress-ng" => recorded("stress-ng", "0.19-cpu-good"),
        _ if invocation.args[0] == "dcmi" => recorded("ipmitool", "1.8.19-no-dcmi"),
        _ if invocation.args[0] == "sel" => {
            timeouts.lock().unwrap().push(invocation.timeout);
            std::thread::sleep(Duration::from_millis(20));
            let what = invocation.args[1].to_string_lossy();
            recorded("ipmitool", &format!("1.8.19-good-sel-{what}"))
        }
        _ => recorded("ipmitool", "1.8.19-good-power-supply"),
    });
    assert_eq!(outcome(with_bmc().run(&WORK, &tools).0), Outcome::Pass);
    let timeouts = timeouts.lock().unwrap();
    let [info, list] = timeouts[..] else { panic!("{timeouts:?}") };
    assert!(info <= Duration::from_secs(1) + LOG_AFTERWARDS, "{info:?}");
    assert!(list + Duration::from_millis(20) <= info, "{list:?} after {info:?}");
}

#[test]
fn a_bmc_that_hangs_or_is_cut_short_is_an_error() {
    let cut = answers(|_| "bad-power-supply-cut-short");
    assert!(with_bmc().run(&WORK, &cut).0.is_err());
    assert!(with_bmc().run(&WORK, &Told::new(hung)).0.is_err());
    let later =
        answers(|look| if look == 0 { "1.8.19-good-power-supply" } else { "bad-power-supply-cut-short" });
    assert!(with_bmc().run(&WORK, &later).0.is_err());
}

#[test]
fn load_without_an_answer_is_an_error() {
    let tools = Told::new(|invocation: &Invocation| match invocation.tool {
        "stress-ng" => recorded("stress-ng", "bad-killed"),
        _ => recorded("ipmitool", "1.8.19-good-power-supply"),
    });
    assert!(matches!(outcome(with_bmc().run(&WORK, &tools).0), Outcome::Error { .. }));
}

#[test]
fn a_machine_without_a_readable_supply_is_skipped() {
    let (report, kept, _): (_, Kept, _) = Machine::new().run(&WORK, &answers(|_| "1.8.19-good-power-supply"));
    let Outcome::Skip { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("no power supply of this machine can be read"), "{reason}");
    assert!(kept.sub_steps().is_empty());
}

#[test]
fn supplies_that_speak_pmbus() {
    let machine = Machine::new();
    pmbus(&machine, &[]);
    let (report, kept, _) = machine.run(&WORK, &answers(|_| ""));
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(kept.measurements()["psu input_power_load"], Some(140.0));
    pmbus(&machine, &[("in1_lcrit_alarm", "1"), ("fan1_fault", "1")]);
    let Outcome::Fail { reason } = outcome(machine.run(&WORK, &answers(|_| "")).0) else { panic!() };
    assert_eq!(reason, "power supply pmbus-hwmon0: fan1_fault, in1_lcrit_alarm");
    // a regulator of the board is none
    pmbus(&machine, &[("in1_input", "12000"), ("in2_input", "1800")]);
    assert!(matches!(outcome(machine.run(&WORK, &answers(|_| "")).0), Outcome::Skip { .. }));
}
