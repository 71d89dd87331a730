//! The SMART stage over recorded answers.

use vetting_protocol::agent_api::Record;
use vetting_protocol::limit::LimitGrade;
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

/// `sda` is a volume of a MegaRAID controller with two drives.
fn behind_megaraid() -> Machine {
    let machine = Machine::new().with_disk("sda");
    on_scsi_host(&machine, "sda", 0, "megaraid_sas");
    machine
}

/// The disk is one of a SCSI host with this driver.
fn on_scsi_host(machine: &Machine, disk: &str, number: u32, driver: &str) {
    machine.file(&format!("sys/class/scsi_host/host{number}/proc_name"), &format!("{driver}\n"));
    let device = format!("devices/pci0000:00/host{number}/{number}:2:0:0");
    machine.file(&format!("sys/{device}/type"), "0\n");
    let link = machine.path(&format!("sys/block/{disk}/device"));
    std::os::unix::fs::symlink(format!("../../{device}"), link).unwrap();
}

#[test]
fn a_disk_beside_a_raid_controller_that_tells_nothing_is_no_volume() {
    let machine = behind_megaraid().with_disk("sdb").with_disk("sdc");
    on_scsi_host(&machine, "sdb", 6, "usb-storage");
    let (_, kept, _) = machine.run(&WORK, &megaraid("7.3-ata-good", "7.3-ata-good"));
    let (sub_steps, measured) = (kept.sub_steps(), kept.measurements());
    assert_eq!(sub_steps["sda SMART"], Outcome::Pass);
    assert!(!measured.contains_key("smart_attr sda/power_on_hours"));
    for disk in ["sdb", "sdc"] {
        assert!(matches!(sub_steps[&format!("{disk} SMART")], Outcome::Skip { .. }), "{disk}");
        assert_eq!(measured[&format!("smart_attr {disk}/power_on_hours")], None, "{disk}");
    }
}

#[test]
fn a_drive_that_its_controller_shows_as_it_is_is_no_volume() {
    let machine = behind_megaraid().with_disk("sdb").with_disk("sdc");
    for (disk, number, level) in [("sdb", 1, "N/A\n"), ("sdc", 2, "RAID-1\n")] {
        on_scsi_host(&machine, disk, number, "smartpqi");
        machine.file(&format!("sys/devices/pci0000:00/host{number}/{number}:2:0:0/raid_level"), level);
    }
    let tools = Told::new(|invocation: &Invocation| match arguments(invocation) {
        words if words.contains("--scan-open") => recorded("smartctl", "7.4-scan-megaraid"),
        words if words.contains("megaraid,") => recorded("smartctl", "7.3-ata-good"),
        words if words.contains("cciss,") => recorded("smartctl", "7.3-cciss-open-failed"),
        _ => good_load(invocation),
    });
    let sub_steps = machine.run(&WORK, &tools).1.sub_steps();
    assert!(matches!(sub_steps["sdb SMART"], Outcome::Skip { .. }));
    assert_eq!(sub_steps["sdc SMART"], Outcome::Pass);
}

#[test]
fn drives_behind_a_raid_controller_are_asked_one_by_one() {
    let machine = behind_megaraid();
    let tools = Told::new(|invocation: &Invocation| {
        let words = arguments(invocation);
        recorded(
            "smartctl",
            if words.contains("--scan-open") {
                "7.4-scan-megaraid"
            } else if words.contains("-d megaraid,8 /dev/bus/0") {
                "7.3-sas-good"
            } else if words.contains("-d sat+megaraid,9 /dev/bus/0") {
                "7.3-ata-failing"
            } else {
                "7.4-scsi-no-smart"
            },
        )
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("sat+megaraid,9: SMART health: FAILED"), "{reason}");
    let sub_steps = kept.sub_steps();
    assert_eq!(sub_steps["sda SMART"], Outcome::Pass, "a volume has no health of its own");
    assert!(matches!(sub_steps["megaraid,8 SMART"], Outcome::Fail { .. }), "its self-test log has failures");
    let measured = kept.measurements();
    assert_eq!(measured["sas megaraid,8/grown_defects"], Some(4.0));
    let hours: Vec<&String> = measured.keys().filter(|key| key.ends_with("/power_on_hours")).collect();
    assert_eq!(hours, ["smart_attr megaraid,8/power_on_hours", "smart_attr sat+megaraid,9/power_on_hours"]);
}

/// Of Dell's and LSI's volumes smartctl only says that they are some.
#[test]
fn a_volume_that_smartctl_does_not_open_stands_back_for_its_drives() {
    let answers = |scan: &'static str| {
        Told::new(move |invocation: &Invocation| match arguments(invocation) {
            words if words.contains("--scan-open") => recorded("smartctl", scan),
            words if words.contains("megaraid,10") => recorded("smartctl", "7.4-open-failed"),
            words if words.contains("megaraid,") => recorded("smartctl", "7.3-ata-good"),
            words if invocation.tool == "smartctl" && words.ends_with("/dev/sda") => {
                recorded("smartctl", "7.3-megaraid-volume")
            }
            _ => missing(invocation),
        })
    };
    let machine = behind_megaraid();
    let (report, kept, _) = machine.run(&WORK, &answers("7.4-scan-megaraid"));
    assert_eq!((outcome(report), kept.sub_steps().len()), (Outcome::Pass, 3));
    let (report, kept, _) = machine.run(&WORK, &answers("7.4-scan-megaraid-dead-drive"));
    assert!(matches!(outcome(report), Outcome::Error { reason } if reason.contains("megaraid,10")));
    assert_eq!(kept.sub_steps()["sda SMART"], Outcome::Pass);
    // without drives nothing was asked
    let (report, _, _) = machine.run(&WORK, &answers("7.4-scan-qemu"));
    assert!(matches!(outcome(report), Outcome::Error { .. }));
}

/// JBOD: the kernel shows the drive, and so does the scan.
#[test]
fn a_drive_that_a_megaraid_controller_shows_as_a_disk_is_asked_once_and_is_no_volume() {
    let answers = |disk: &'static str| {
        Told::new(move |invocation: &Invocation| match arguments(invocation) {
            words if words.contains("--scan-open") => recorded("smartctl", "7.4-scan-megaraid"),
            words if words.contains("megaraid,8") => recorded("smartctl", "7.3-ata-good"),
            words if words.contains("megaraid,9") => {
                let good = recorded("smartctl", "7.3-ata-good")?;
                let other = String::from_utf8(good.stdout.clone()).unwrap().replace("TEST0001", "TEST0009");
                Ok(Finished { stdout: other.into(), ..good })
            }
            _ if invocation.tool == "smartctl" => recorded("smartctl", disk),
            _ => missing(invocation),
        })
    };
    let mut machine = behind_megaraid();
    machine.inventory.disks[0].serial = Some("TEST0001".to_owned());
    let (report, kept, _) = machine.run(&WORK, &answers("7.3-ata-good"));
    assert_eq!(outcome(report), Outcome::Pass);
    let names: Vec<String> = kept.sub_steps().into_keys().collect();
    assert_eq!(names, ["sat+megaraid,9 SMART", "sda SMART"]);
    let silent = machine.run(&WORK, &answers("7.4-scsi-no-smart")).1;
    assert!(matches!(silent.sub_steps()["sda SMART"], Outcome::Skip { .. }));
    let closed = machine.run(&WORK, &answers("7.3-megaraid-volume")).1;
    assert!(matches!(closed.sub_steps()["sda SMART"], Outcome::Error { .. }));
}

#[test]
fn drives_behind_an_hpe_controller_are_found_by_their_numbers() {
    let mut machine = Machine::new().with_disk("sda").with_disk("sdb");
    machine.inventory.disks[1].serial = Some("TEST0001".to_owned());
    machine.file("sys/class/scsi_host/host2/proc_name", "smartpqi\n");
    for (disk, address, level) in [("sda", "2:1:0:0", "RAID-1\n"), ("sdb", "2:0:0:0", "N/A\n")] {
        let device = format!("devices/pci0000:00/host2/{address}");
        machine.file(&format!("sys/{device}/raid_level"), level);
        std::os::unix::fs::symlink(
            format!("../../{device}"),
            machine.path(&format!("sys/block/{disk}/device")),
        )
        .unwrap();
    }
    let tools = Told::new(|invocation: &Invocation| {
        let words = arguments(invocation);
        let case = match words.as_str() {
            _ if words.contains("--scan-open") => "7.4-scan-qemu",
            // the drive that is shown as sdb
            _ if words.contains("cciss,0 ") || words.ends_with("/dev/sdb") => "7.3-ata-good",
            _ if words.contains("cciss,1 ") => "7.3-ata-good",
            _ if words.contains("cciss,3 ") => "7.3-sas-good",
            _ if words.contains("cciss,") => "7.3-cciss-open-failed",
            _ => "7.4-scsi-no-smart",
        };
        let answer = recorded("smartctl", case)?;
        let other = String::from_utf8_lossy(&answer.stdout).replace("TEST0001", "TEST0009").into_bytes();
        Ok(if words.contains("cciss,1 ") { Finished { stdout: other, ..answer } } else { answer })
    });
    let (report, kept, _) = machine.run(&WORK, &tools);
    let sub_steps = kept.sub_steps();
    let names: Vec<&str> = sub_steps.keys().map(String::as_str).collect();
    assert_eq!(names, ["cciss,1 SMART", "cciss,3 SMART", "sda SMART", "sdb SMART"]);
    assert_eq!(sub_steps["sda SMART"], Outcome::Pass, "a volume has no health of its own");
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("cciss,3: the self-test log has failures"), "{reason}");
    let asked = tools.calls_of("smartctl").iter().filter(|call| call.contains(" -i ")).count();
    assert_eq!(asked, 12, "up to eight numbers behind the last drive");
}

#[test]
fn a_controller_whose_drives_cannot_be_found_is_an_error_or_a_skip() {
    let machine = behind_megaraid();
    let failed = Told::new(|invocation: &Invocation| {
        if arguments(invocation).contains("--scan-open") {
            return garbage(invocation);
        }
        recorded("smartctl", "7.3-ata-good")
    });
    let Outcome::Error { reason } = outcome(machine.run(&WORK, &failed).0) else { panic!() };
    assert!(reason.contains("drives behind RAID controllers cannot be found"), "{reason}");
    let none = Told::new(|invocation: &Invocation| {
        let scan = arguments(invocation).contains("--scan-open");
        recorded("smartctl", if scan { "7.4-scan-qemu" } else { "7.4-scsi-no-smart" })
    });
    assert!(matches!(outcome(machine.run(&WORK, &none).0), Outcome::Skip { .. }));
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

/// Tools that read a volume well, and that work the rest.
fn good_load(invocation: &Invocation) -> Result<Finished, ToolError> {
    match invocation.tool {
        "smartctl" => recorded("smartctl", "7.4-scsi-no-smart"),
        "fio" => recorded("fio", "3.39-good"),
        "badblocks" => recorded("badblocks", "1.47.2-read-good"),
        "stress-ng" if arguments(invocation).contains("--vm ") => recorded("stress-ng", "0.19-memory-good"),
        "stress-ng" => recorded("stress-ng", "0.19-cpu-good"),
        "ip" => told("[]"),
        _ => missing(invocation),
    }
}

/// Answers of a MegaRAID controller with a drive 8 and a SATA drive 9.
fn megaraid(
    drive_8: &'static str,
    drive_9: &'static str,
) -> Told<impl Fn(&Invocation) -> Result<Finished, ToolError> + Send + Sync> {
    Told::new(move |invocation: &Invocation| match arguments(invocation) {
        words if words.contains("--scan-open") => recorded("smartctl", "7.4-scan-megaraid"),
        words if words.contains("-d megaraid,8 /dev/bus/0") => recorded("smartctl", drive_8),
        words if words.contains("-d sat+megaraid,9 /dev/bus/0") => recorded("smartctl", drive_9),
        _ => good_load(invocation),
    })
}

#[test]
fn drives_behind_a_raid_controller_are_asked_again_after_the_load() {
    let machine = behind_megaraid();
    let before = machine.run(&WORK, &megaraid("7.3-ata-good", "7.3-ata-good")).2;
    let burn = StageWork::Burn { duration_ms: 1, memory_percent: 50 };
    for work in [&STORAGE, &burn] {
        let (report, kept) =
            machine.run_with(&mut before.clone(), work, &megaraid("7.3-ata-good", "7.3-ata-failing"));
        let Outcome::Fail { reason } = outcome(report) else { panic!("{work:?}") };
        assert!(reason.contains("sat+megaraid,9: SMART health: FAILED"), "{reason}");
        let measured = kept.measurements();
        assert_eq!(measured["smart_growth megaraid,8/5_reallocated_sector_ct"], Some(0.0));
        assert!(measured["smart_growth sat+megaraid,9/5_reallocated_sector_ct"].unwrap() > 0.0);
        assert_eq!(kept.sub_steps()["megaraid,8 SMART after"], Outcome::Pass);
        // one that answers no more under load is no pass
        let (report, kept) =
            machine.run_with(&mut before.clone(), work, &megaraid("7.4-open-failed", "7.3-ata-good"));
        assert!(matches!(outcome(report), Outcome::Error { .. }), "{work:?}");
        assert!(matches!(kept.sub_steps()["megaraid,8 SMART after"], Outcome::Error { .. }));
        assert_eq!(kept.sub_steps()["sat+megaraid,9 SMART after"], Outcome::Pass);
    }
}

#[test]
fn a_controller_without_volumes_is_no_disk_that_was_tested() {
    let machine = Machine::new();
    machine.file("sys/class/scsi_host/host0/proc_name", "megaraid_sas\n");
    let tools = megaraid("7.3-ata-good", "7.3-ata-good");
    let (report, kept, mut facts) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(kept.sub_steps().len(), 2);
    let (report, kept) = machine.run_with(&mut facts, &STORAGE, &tools);
    assert!(matches!(outcome(report), Outcome::Skip { .. }));
    assert!(kept.sub_steps().is_empty());
}

#[test]
fn drives_of_two_controllers_that_number_alike_are_kept_apart() {
    let machine = behind_megaraid();
    let tools = |second: &'static str| {
        Told::new(move |invocation: &Invocation| match arguments(invocation) {
            words if words.contains("--scan-open") => {
                let scan = recorded("smartctl", "7.4-scan-megaraid")?;
                let text = String::from_utf8(scan.stdout.clone()).unwrap();
                let (first, rest) = text.split_once("sat+megaraid,9").unwrap();
                let (before, after) = first.rsplit_once("\"/dev/bus/0\"").unwrap();
                let text = format!("{before}\"/dev/bus/1\"{after}megaraid,8{rest}");
                Ok(Finished { stdout: text.into(), ..scan })
            }
            words if words.contains("-d megaraid,8 /dev/bus/0") => recorded("smartctl", "7.3-ata-good"),
            words if words.contains("-d megaraid,8 /dev/bus/1") => recorded("smartctl", second),
            _ => good_load(invocation),
        })
    };
    let (report, kept, mut facts) = machine.run(&WORK, &tools("7.3-ata-good"));
    assert_eq!(outcome(report), Outcome::Pass);
    let names: Vec<String> = kept.sub_steps().into_keys().collect();
    assert_eq!(names, ["megaraid,8@bus/0 SMART", "megaraid,8@bus/1 SMART", "sda SMART"]);
    let kept = machine.run_with(&mut facts, &STORAGE, &tools("7.3-ata-failing")).1;
    let grown = |drive: &str| kept.measurements()[&format!("smart_growth {drive}/5_reallocated_sector_ct")];
    assert_eq!(grown("megaraid,8@bus/0"), Some(0.0));
    assert!(grown("megaraid,8@bus/1").unwrap() > 0.0);
}

/// Key, grade and value of each limit, by drive.
fn limits_told(kept: &Kept) -> Vec<(String, LimitGrade, f64)> {
    let told = |record| match record {
        Record::HardwareLimits { limits } => limits,
        _ => Vec::new(),
    };
    let limits = kept.records().into_iter().flat_map(told);
    let mut limits: Vec<_> = limits.map(|limit| (limit.key, limit.grade, limit.value)).collect();
    limits.sort_by(|one, other| one.0.cmp(&other.0));
    limits
}

#[test]
fn a_drive_that_the_kernel_does_not_measure_gives_its_own_limits_of_temperature() {
    let machine = behind_megaraid();
    let tools = Told::new(|invocation: &Invocation| match arguments(invocation) {
        words if words.contains("--scan-open") => recorded("smartctl", "7.4-scan-megaraid"),
        words if words.contains("-d megaraid,8 /dev/bus/0") => recorded("smartctl", "7.3-sas-good"),
        words if words.contains("-d sat+megaraid,9 /dev/bus/0") => {
            let good = recorded("smartctl", "7.3-ata-good")?;
            let limits = "\"current\": 34, \"op_limit_max\": 60, \"limit_min\": -41, \"limit_max\": 70\n }";
            let text = String::from_utf8(good.stdout.clone()).unwrap();
            Ok(Finished { stdout: text.replace("\"current\": 34\n }", limits).into(), ..good })
        }
        _ => good_load(invocation),
    });
    let of_drives = [
        ("disk/megaraid,8".to_owned(), LimitGrade::Critical, 65.0),
        ("disk/sat+megaraid,9".to_owned(), LimitGrade::Warning, 60.0),
        ("disk/sat+megaraid,9".to_owned(), LimitGrade::Critical, 70.0),
    ];
    assert_eq!(limits_told(&machine.run(&WORK, &tools).1), of_drives);
    let sas = Told::new(|_: &Invocation| recorded("smartctl", "7.3-sas-good"));
    let machine = Machine::new().with_disk("sda");
    let of_sda = [("disk/sda".to_owned(), LimitGrade::Critical, 65.0)];
    assert_eq!(limits_told(&machine.run(&WORK, &sas).1), of_sda);
    machine.file("sys/block/sda/device/hwmon/hwmon2/name", "drivetemp\n");
    assert!(limits_told(&machine.run(&WORK, &sas).1).is_empty());
}
