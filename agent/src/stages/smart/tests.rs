//! The SMART stage over recorded answers.

use super::super::tests::{Machine, Told, garbage, hung, missing, outcome, recorded};
use super::*;
use crate::tools::runner::Invocation;

const WORK: StageWork = StageWork::Smart {};

fn device(invocation: &Invocation) -> String {
    invocation.args.last().unwrap().to_string_lossy().into_owned()
}

#[test]
fn ata_nvme_and_sas_side_by_side_pass_and_are_measured() {
    let machine = Machine::new().with_disk("nvme0n1").with_disk("sda").with_disk("sdb");
    let tools = Told::new(|invocation: &Invocation| {
        recorded(
            "smartctl",
            match device(invocation).as_str() {
                "/dev/nvme0n1" => "7.4-nvme-good",
                "/dev/sda" => "7.3-ata-good",
                _ => "7.4-ata-command-failed",
            },
        )
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(kept.sub_steps().into_keys().collect::<Vec<_>>(), ["nvme0n1 SMART", "sda SMART", "sdb SMART"]);
    let measured = kept.measurements();
    for (key, value) in [
        ("smart_attr sda/5_reallocated_sector_ct", 0.0),
        ("smart_attr sda/199_udma_crc_error_count", 3.0),
        ("smart_attr sda/power_on_hours", 423.0),
        ("temp disk/sda", 34.0),
        ("nvme nvme0n1/critical_warning", 0.0),
        ("nvme nvme0n1/available_spare_margin", 92.0),
        ("nvme nvme0n1/percentage_used", 3.0),
        ("nvme nvme0n1/media_errors", 0.0),
        ("temp disk/nvme0n1", 41.0),
    ] {
        assert_eq!(measured.get(key), Some(&Some(value)), "{key}");
    }
}

#[test]
fn sas_counters_are_measured_and_a_failed_self_test_fails() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(|_: &Invocation| recorded("smartctl", "7.3-sas-good"));
    let (report, kept, _) = machine.run(&WORK, &tools);
    let reason = outcome(report).reason().unwrap().to_owned();
    assert!(reason.contains("sda") && reason.contains("self-test"), "{reason}");
    let measured = kept.measurements();
    assert_eq!(measured["sas sda/grown_defects"], Some(4.0));
    assert_eq!(measured["sas sda/read_uncorrected"], Some(2.0));
    assert_eq!(measured["sas sda/self_test_failures".replace("sas", "smart_attr").as_str()], Some(1.0));
}

#[test]
fn a_failing_disk_fails_the_stage_by_name() {
    let machine = Machine::new().with_disk("nvme0n1").with_disk("sda").with_disk("sdb");
    let tools = Told::new(|invocation: &Invocation| {
        recorded(
            "smartctl",
            match device(invocation).as_str() {
                "/dev/nvme0n1" => "7.4-nvme-failing",
                "/dev/sda" => "7.3-ata-failing",
                _ => "7.3-ata-history",
            },
        )
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("sda (EXAMPLE HD TEST1): SMART health: FAILED"), "{reason}");
    assert!(reason.contains("attribute 5 reallocated_sector_ct is failing now"), "{reason}");
    assert!(reason.contains("NVMe critical warning 0x05"), "{reason}");
    // history is for thresholds to judge
    assert_eq!(kept.sub_steps()["sdb SMART"], Outcome::Pass);
}

#[test]
fn a_disk_without_smart_is_a_skip_that_names_it() {
    let machine = Machine::new().with_disk("sda").with_disk("vda");
    let tools = Told::new(|invocation: &Invocation| {
        recorded(
            "smartctl",
            if device(invocation) == "/dev/sda" { "7.3-ata-good" } else { "7.4-type-unknown" },
        )
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    let Outcome::Skip { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("vda: no SMART"), "{reason}");
    assert_eq!(kept.sub_steps()["sda SMART"], Outcome::Pass);
}

#[test]
fn the_boot_medium_is_left_out_and_told() {
    let mut machine = Machine::new().with_disk("sda");
    machine.inventory.disks[0].boot_medium = true;
    let tools = Told::new(missing);
    let (report, kept, _) = machine.run(&WORK, &tools);
    let report = report.unwrap();
    assert!(matches!(report.outcome, Outcome::Skip { .. }));
    assert_eq!(report.details["left_out"][0]["disk"], "sda");
    assert!(kept.sub_steps().is_empty() && tools.calls.lock().unwrap().is_empty());
}

#[test]
fn a_disk_that_vanishes_fails_whatever_smartctl_said() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(|_: &Invocation| {
        machine.pull("sda");
        recorded("smartctl", "7.4-open-failed")
    });
    let (report, _, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::fail("sda: vanished during the test"));
}

#[test]
fn smartctl_missing_hung_or_speaking_nonsense_is_an_error() {
    for answer in [missing, hung, garbage] {
        let machine = Machine::new().with_disk("sda");
        let (report, _, _) = machine.run(&WORK, &Told::new(answer));
        let Outcome::Error { reason } = outcome(report) else { panic!() };
        assert!(reason.starts_with("sda: smartctl"), "{reason}");
    }
}
