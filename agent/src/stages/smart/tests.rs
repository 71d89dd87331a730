//! The SMART stage over recorded answers.

mod behind;

use vetting_protocol::plan::SurfaceScan;

use super::super::Facts;
use super::super::tests::{Kept, Machine, Told, arguments, garbage, hung, missing, outcome, recorded, told};
use super::*;
use crate::tools::runner::{Exit, Finished, Invocation};

const WORK: StageWork = StageWork::Smart { self_test: SelfTest::None };
const STORAGE: StageWork = StageWork::Storage {
    fio_read_ms: 1,
    fio_random_ms: 1,
    surface: SurfaceScan::ReadWhole,
    budget: DiskBudget::UNLIMITED,
};

/// What a disk that hides nothing says; the other tools are not there.
fn hdparm(invocation: &Invocation) -> Result<Finished, ToolError> {
    if invocation.tool != "hdparm" || invocation.args[0] != "-N" {
        return missing(invocation);
    }
    let text = " max sectors   = 131072/131072, HPA is disabled\n";
    Ok(Finished { stdout: text.into(), exit: Exit::Code(0), ..garbage(invocation)? })
}

fn device(invocation: &Invocation) -> String {
    invocation.args.last().unwrap().to_string_lossy().into_owned()
}

#[test]
fn ata_nvme_and_sas_side_by_side_pass_and_are_measured() {
    let machine = Machine::new().with_disk("nvme0n1").with_disk("sda").with_disk("sdb");
    let tools = Told::new(|invocation: &Invocation| {
        if invocation.tool == "hdparm" {
            return hdparm(invocation);
        }
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
fn a_failed_self_test_of_a_sas_disk_that_a_later_one_outdates_is_no_fault() {
    let machine = Machine::new().with_disk("sda");
    let answer = |code: u8| {
        let tools = Told::new(move |_: &Invocation| {
            let good = recorded("smartctl", "7.3-sas-good")?;
            let mut json: Value = serde_json::from_slice(&good.stdout).unwrap();
            json["scsi_self_test_0"]["code"]["value"] = json!(code);
            json["scsi_self_test_0"]["power_on_time"] = json!({ "hours": 8123 });
            json["scsi_self_test_1"]["power_on_time"] = json!({ "hours": 8100 });
            // smartctl says so of any failure that the log holds
            Ok(Finished { stdout: json.to_string().into(), exit: Exit::Code(128), ..good })
        });
        outcome(machine.run(&WORK, &tools).0)
    };
    assert_eq!(answer(2), Outcome::Pass);
    assert!(matches!(answer(1), Outcome::Fail { .. }), "a short one does not");
}

/// The words of a Seagate ST8000NM0075.
#[test]
fn a_failing_sas_disk_gives_its_reason() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(|_: &Invocation| {
        let good = recorded("smartctl", "7.3-sas-good")?;
        let why = "DATA CHANNEL IMPENDING FAILURE DATA ERROR RATE TOO HIGH";
        let failing =
            format!("\"passed\": false, \"scsi\": {{\"asc\": 93, \"ascq\": 50, \"ie_string\": \"{why}\"}}");
        let text = String::from_utf8(good.stdout.clone()).unwrap().replacen("\"passed\": true", &failing, 1);
        Ok(Finished { stdout: text.into(), exit: Exit::Code(8), ..good })
    });
    let reason = outcome(machine.run(&WORK, &tools).0).reason().unwrap().to_owned();
    assert!(
        reason.contains("SMART health: FAILED (DATA CHANNEL IMPENDING FAILURE DATA ERROR RATE"),
        "{reason}"
    );
}

/// As a WD4001FYYG comes: it counts its errors, but would not say that it fails.
#[test]
fn a_sas_disk_whose_smart_is_switched_off_is_measured_and_no_pass() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(|_: &Invocation| {
        let good = recorded("smartctl", "7.3-sas-good")?;
        let off = String::from_utf8(good.stdout.clone())
            .unwrap()
            .replace(
                "\"available\": true,\n  \"enabled\": true",
                "\"available\": true,\n  \"enabled\": false",
            )
            .replace(
                "\"value\": 6,\n   \"string\": \"Failed in segment\"",
                "\"value\": 0,\n   \"string\": \"Completed\"",
            );
        Ok(Finished { stdout: off.into(), ..good })
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    let Outcome::Error { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("sda: its SMART is switched off"), "{reason}");
    let measured = kept.measurements();
    assert_eq!(measured["sas sda/read_uncorrected"], Some(2.0));
    assert_eq!(measured["smart_attr sda/power_on_hours"], Some(8123.0));
}

#[test]
fn a_failing_disk_fails_the_stage_by_name() {
    let machine = Machine::new().with_disk("nvme0n1").with_disk("sda").with_disk("sdb");
    let tools = Told::new(|invocation: &Invocation| {
        if invocation.tool == "hdparm" {
            return hdparm(invocation);
        }
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
    let warning = "NVMe critical warning 0x05 (spare below its threshold, reliability degraded)";
    assert!(reason.contains(warning), "{reason}");
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
    // unknown, which is no silence: a rule on hours sees it
    assert_eq!(kept.measurements()["smart_attr vda/power_on_hours"], None);
    assert_eq!(kept.sub_steps()["sda SMART"], Outcome::Pass);
}

#[test]
fn a_disk_that_tells_no_hours_is_measured_as_unknown() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(|invocation: &Invocation| {
        if invocation.tool == "hdparm" {
            return hdparm(invocation);
        }
        let good = recorded("smartctl", "7.3-ata-good")?;
        let silent = String::from_utf8(good.stdout.clone()).unwrap().replace("power_on_time", "other_time");
        Ok(Finished { stdout: silent.into(), ..good })
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(kept.measurements()["smart_attr sda/power_on_hours"], None);
}

/// A spec asks for it whatever the command set is.
#[test]
fn wear_is_measured_of_every_solid_state_disk() {
    let mut machine = Machine::new().with_disk("nvme0n1").with_disk("sda").with_disk("sdb").with_disk("sdc");
    let ssd = Some(DiskKind::Ssd);
    for (disk, kind) in [("sda", Some(DiskKind::Hdd)), ("sdb", ssd), ("sdc", ssd)] {
        machine.inventory.disks.iter_mut().find(|known| known.name == disk).unwrap().kind = kind;
    }
    let measured = |sdb: &'static str| {
        let tools = Told::new(move |invocation: &Invocation| {
            let case = match device(invocation).as_str() {
                "/dev/nvme0n1" => "7.4-nvme-good",
                "/dev/sda" => "7.3-ata-good",
                "/dev/sdb" => "7.3-sas-good",
                _ => "7.4-scsi-no-smart",
            };
            let good = recorded("smartctl", case)?;
            let text = String::from_utf8(good.stdout.clone()).unwrap();
            let text =
                text.replace("\"scsi_grown_defect_list\"", &format!("{sdb}\"scsi_grown_defect_list\""));
            Ok(Finished { stdout: text.into(), ..good })
        });
        machine.run(&WORK, &tools).1.measurements()
    };
    let told = measured("\"scsi_percentage_used_endurance_indicator\": 7,");
    let wear: Vec<_> = told.iter().filter(|(key, _)| key.ends_with("/wear_percent")).collect();
    let of = |disk: &str| format!("smart_attr {disk}/wear_percent");
    assert_eq!(
        wear,
        [(&of("nvme0n1"), &Some(3.0)), (&of("sdb"), &Some(7.0)), (&of("sdc"), &None)],
        "the hard disk has none"
    );
    assert_eq!(measured("")[&of("sdb")], None, "not told");
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

#[test]
fn a_hidden_part_of_a_disk_and_hours_that_were_reset_are_measured() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(|invocation: &Invocation| {
        let words = arguments(invocation);
        if words.starts_with("-N") {
            return told(" max sectors   = 131000/131072, HPA is enabled\n");
        }
        if words.starts_with("--dco-identify") {
            return told("\tReal max sectors: 131172\n");
        }
        if words.contains("-l farm") {
            return told(r#"{"seagate_farm_log":{"page_1_drive_information":{"poh":26714}}}"#);
        }
        let mut report = recorded("smartctl", "7.3-ata-good").unwrap();
        let text = String::from_utf8(report.stdout).unwrap();
        report.stdout = format!("{{\"seagate_farm_log\":{{\"supported\":true}},{}", &text[1..]).into_bytes();
        Ok(report)
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass, "the numbers are for the judge");
    let measured = kept.measurements();
    assert_eq!(measured["smart_attr sda/hidden_sectors"], Some(172.0));
    assert_eq!(measured["smart_attr sda/farm_excess_hours"], Some(26714.0 - 423.0));
}

#[test]
fn a_disk_that_does_not_say_what_it_hides_has_no_such_measurement() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(|invocation: &Invocation| match invocation.tool {
        "smartctl" => recorded("smartctl", "7.3-ata-good"),
        _ => missing(invocation),
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert!(!kept.measurements().contains_key("smart_attr sda/hidden_sectors"));
    let plain = Told::new(|invocation: &Invocation| match invocation.tool {
        "smartctl" => recorded("smartctl", "7.3-ata-good"),
        _ => hdparm(invocation),
    });
    assert_eq!(machine.run(&WORK, &plain).1.measurements()["smart_attr sda/hidden_sectors"], Some(0.0));
}

#[test]
fn a_disk_that_is_away_when_its_self_test_is_due_is_no_pass() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(|invocation: &Invocation| {
        let is_due = arguments(invocation).contains("-l selftest");
        recorded("smartctl", if is_due { "7.4-open-failed" } else { "7.3-ata-good" })
    });
    let short = StageWork::Smart { self_test: SelfTest::Short };
    assert!(matches!(outcome(machine.run(&short, &tools).0), Outcome::Error { .. }));
    assert_eq!(outcome(machine.run(&WORK, &tools).0), Outcome::Pass);
}

#[test]
fn a_usb_bridge_that_smartctl_does_not_know_is_asked_through_sat() {
    let mut machine = Machine::new().with_disk("sda");
    machine.inventory.disks[0].bus = Some(DiskBus::Usb);
    let answers = |with_sat: &'static str| {
        Told::new(move |invocation: &Invocation| {
            let through_sat = arguments(invocation).contains("-d sat");
            recorded("smartctl", if through_sat { with_sat } else { "7.4-type-unknown" })
        })
    };
    assert_eq!(outcome(machine.run(&WORK, &answers("7.3-ata-good")).0), Outcome::Pass);
    assert!(matches!(outcome(machine.run(&WORK, &answers("7.4-open-failed")).0), Outcome::Skip { .. }));
}

#[test]
fn what_a_disk_counted_under_load_is_measured_after_it() {
    let machine = Machine::new().with_disk("sda");
    let good = Told::new(|invocation: &Invocation| match invocation.tool {
        "smartctl" => recorded("smartctl", "7.3-ata-good"),
        _ => missing(invocation),
    });
    let mut facts = machine.run(&WORK, &good).2;
    let after = |case: &'static str, facts: &mut Facts| {
        let tools = Told::new(move |invocation: &Invocation| match invocation.tool {
            "smartctl" if case.is_empty() => missing(invocation),
            "smartctl" => recorded("smartctl", case),
            "fio" => recorded("fio", "3.39-good"),
            "badblocks" => recorded("badblocks", "1.47.2-read-good"),
            _ => missing(invocation),
        });
        machine.run_with(facts, &STORAGE, &tools)
    };
    let (report, kept) = after("7.3-ata-good", &mut facts);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(kept.measurements()["smart_growth sda/5_reallocated_sector_ct"], Some(0.0));
    let (report, kept) = after("7.3-ata-failing", &mut facts);
    assert!(matches!(outcome(report), Outcome::Fail { .. }));
    assert!(kept.measurements()["smart_growth sda/5_reallocated_sector_ct"].unwrap() > 0.0);
    for silent in ["", "7.4-scsi-no-smart", "bad-timed-out"] {
        let (report, kept) = after(silent, &mut facts);
        assert!(matches!(outcome(report), Outcome::Error { .. }), "{silent}");
        assert!(!kept.measurements().keys().any(|key| key.starts_with("smart_growth")));
    }
}
