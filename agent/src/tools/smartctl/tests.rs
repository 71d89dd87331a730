//! smartctl's JSON: recorded where a disk of ours gave it, else in the shape of real drives with values of our own.

use insta::assert_debug_snapshot;

use super::*;
use crate::tools::fixture;

fn parsed(case: &str) -> Result<Answer, ToolError> {
    parse(&fixture(TOOL, case))
}

fn report(case: &str) -> SmartReport {
    match parsed(case).unwrap() {
        Answer::Report(report) => *report,
        Answer::NotSupported { reason } | Answer::NotOpened { reason } => panic!("{case}: {reason}"),
    }
}

#[test]
fn ata_nvme_and_sas_are_read_completely() {
    for case in ["7.3-ata-good", "7.4-nvme-good", "7.3-sas-good", "7.4-qemu-ide", "7.4-qemu-nvme"] {
        assert_debug_snapshot!(case, report(case));
    }
}

#[test]
fn a_failing_disk_says_so() {
    let ata = report("7.3-ata-failing");
    assert!(!ata.passed && ata.exit.failing() && ata.exit.prefail_now() && ata.exit.self_test_failures());
    assert_eq!(ata.self_test_failures, Some(2.0));
    let nvme = report("7.4-nvme-failing");
    let Health::Nvme(health) = &nvme.health else { panic!("{nvme:?}") };
    assert!(!nvme.passed);
    assert_eq!(health.critical_warning, 5);
    assert_eq!(nvme.self_test_failures, Some(1.0));
}

#[test]
fn history_is_told_apart_from_failure() {
    let bits = report("7.3-ata-history").exit;
    assert!(bits.below_threshold_once() && bits.error_log_entries());
    assert!(!bits.failing() && !bits.prefail_now() && !bits.self_test_failures());
}

#[test]
fn a_missing_log_page_does_not_hide_the_health() {
    let report = report("7.4-ata-command-failed");
    assert!(report.exit.command_failed() && report.passed);
}

#[test]
fn a_disk_whose_smart_data_could_not_be_read_is_an_error() {
    for case in ["bad-ata-no-attributes", "bad-ata-empty-table", "bad-sas-no-counters", "bad-nvme-no-log"] {
        assert!(matches!(parsed(case), Err(ToolError::Garbage { .. })), "{case}: {:?}", parsed(case));
    }
    let reason = parsed("bad-ata-no-attributes").unwrap_err().reason();
    assert!(reason.contains("attribute table is not in it (Read SMART Data failed"), "{reason}");
    // a virtual disk lacks other pages, but has the table
    let virtual_disk = report("7.4-qemu-ide");
    assert!(virtual_disk.exit.command_failed() && virtual_disk.passed);
}

#[test]
fn a_disk_without_smart_is_not_supported() {
    for case in ["7.3-type-unknown", "7.4-type-unknown", "7.4-scsi-no-smart"] {
        assert!(matches!(parsed(case), Ok(Answer::NotSupported { .. })), "{case}");
    }
}

#[test]
fn smartctls_own_failures_are_errors() {
    for case in ["7.3-bad-option", "7.4-smart-disabled"] {
        assert!(matches!(parsed(case), Err(ToolError::Failed { .. })), "{case}: {:?}", parsed(case));
    }
    for case in ["7.4-open-failed", "7.3-megaraid-volume"] {
        assert!(matches!(parsed(case), Ok(Answer::NotOpened { .. })), "{case}: {:?}", parsed(case));
    }
    for case in
        ["bad-no-output", "bad-garbage", "bad-cut-short", "bad-no-health", "bad-nvme-no-log", "bad-protocol"]
    {
        assert!(matches!(parsed(case), Err(ToolError::Garbage { .. })), "{case}: {:?}", parsed(case));
    }
    assert!(matches!(parsed("bad-killed"), Err(ToolError::Signalled { .. })));
    assert!(matches!(parsed("bad-timed-out"), Err(ToolError::TimedOut { .. })));
}

#[test]
fn a_temperature_of_zero_of_a_sas_disk_is_none() {
    let told = |reports: &str| {
        let good = fixture(TOOL, "7.3-sas-good");
        let text = String::from_utf8(good.stdout.clone()).unwrap();
        let text = text.replace(
            "\"current\": 29,\n  \"drive_trip\": 65\n }",
            "\"current\": 0,\n  \"drive_trip\": 0\n }",
        );
        let text = text.replacen("{\n", &format!("{{\n{reports}"), 1);
        match parse(&Finished { stdout: text.into(), ..good }).unwrap() {
            Answer::Report(report) => report.temperature_celsius,
            other => panic!("{other:?}"),
        }
    };
    // so a WUH721818AL5204 answers, which keeps it in the page of environmental reports
    let reports =
        "\"scsi_environmental_reports\": {\"temperature_1\": {\"parameter_code\": 0, \"current\": 38}},\n";
    assert_eq!((told(reports), told("")), (Some(38.0), None));
    assert_eq!(report("7.3-sas-good").temperature_celsius, Some(29.0));
}

#[test]
fn limits_of_temperature_are_those_that_the_drive_tells() {
    let told = |case: &str, before: &str, after: &str| {
        let good = fixture(TOOL, case);
        let text = String::from_utf8(good.stdout.clone()).unwrap();
        assert!(text.contains(before));
        match parse(&Finished { stdout: text.replace(before, after).into(), ..good }).unwrap() {
            Answer::Report(report) => {
                let TemperatureLimits { recommended, highest } = report.temperature_limits;
                (recommended, highest)
            }
            other => panic!("{other:?}"),
        }
    };
    let sas = |trip: u32| told("7.3-sas-good", "\"drive_trip\": 65", &format!("\"drive_trip\": {trip}"));
    assert_eq!(sas(70), (None, Some(70.0)));
    for none in [0, 255, 65_535] {
        assert_eq!(sas(none), (None, None), "{none}");
    }
    let ata = |limits: &str| {
        let range = "\"power_cycle_min\": 22, \"power_cycle_max\": 28";
        let current = "\"current\": 34\n }";
        told("7.3-ata-good", current, &format!("\"current\": 34, {range}{limits} }}"))
    };
    let all = ", \"op_limit_max\": 80, \"op_limit_min\": -5, \"limit_min\": -10, \"limit_max\": 85";
    assert_eq!(ata(all), (Some(80.0), Some(85.0)));
    // SCT without a table of its history
    assert_eq!(ata(", \"op_limit_max\": 39"), (Some(39.0), None));
    assert_eq!(ata(""), (None, None));
}

/// For trying the parser by hand: `SMARTCTL_SAMPLES=folder cargo test -- --ignored --nocapture samples`.
#[test]
#[ignore = "needs a folder of smartctl outputs"]
fn samples_of_a_folder() {
    let folder = std::env::var_os("SMARTCTL_SAMPLES").unwrap();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let stdout = std::fs::read(entry.path()).unwrap();
        let json: Value = serde_json::from_slice(&stdout).unwrap();
        let code = json.pointer("/smartctl/exit_status").and_then(Value::as_i64).unwrap();
        let finished = Finished {
            exit: crate::tools::runner::Exit::Code(i32::try_from(code).unwrap()),
            stdout,
            stderr: Vec::new(),
            truncated: false,
            elapsed: Duration::ZERO,
        };
        println!("{:?}: {:#?}", entry.file_name(), parse(&finished));
    }
}
