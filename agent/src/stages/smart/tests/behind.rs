//! RAID controllers: drives that only they know, and the volumes that stand back for them.

use vetting_protocol::agent_api::Record;
use vetting_protocol::limit::LimitGrade;

use super::*;

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

/// smartctl lists the drives of MegaRAID's and not those of others.
#[test]
fn a_volume_of_a_controller_whose_drives_nobody_asked_is_no_volume_that_stands_back() {
    let machine = behind_megaraid().with_disk("sdb").with_disk("sdc");
    on_scsi_host(&machine, "sdb", 1, "aacraid");
    on_scsi_host(&machine, "sdc", 2, "megaraid_sas");
    let sub_steps = machine.run(&WORK, &megaraid("7.3-ata-good", "7.3-ata-good")).1.sub_steps();
    assert_eq!(sub_steps["sda SMART"], Outcome::Pass);
    for disk in ["sdb", "sdc"] {
        assert!(matches!(sub_steps[&format!("{disk} SMART")], Outcome::Skip { .. }), "{disk}");
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
        words if words.contains("cciss,0 ") => recorded("smartctl", "7.3-ata-good"),
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

/// An AVAGO MR9363-4i.
#[test]
fn a_volume_that_tells_no_health_stands_back_as_well() {
    let answers = |scan: &'static str, volume: &'static str| {
        Told::new(move |invocation: &Invocation| match arguments(invocation) {
            words if words.contains("--scan-open") => recorded("smartctl", scan),
            words if words.contains("megaraid,") => recorded("smartctl", "7.3-ata-good"),
            _ if invocation.tool == "smartctl" => recorded("smartctl", volume),
            _ => missing(invocation),
        })
    };
    let machine = behind_megaraid();
    let of = |scan, volume| outcome(machine.run(&WORK, &answers(scan, volume)).0);
    assert_eq!(of("7.4-scan-megaraid", "bad-no-health"), Outcome::Pass);
    assert!(matches!(of("7.4-scan-qemu", "bad-no-health"), Outcome::Error { .. }), "none were asked");
    assert!(matches!(of("7.4-scan-megaraid", "bad-timed-out"), Outcome::Error { .. }));
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

#[test]
fn drives_behind_one_hpe_controller_take_turns() {
    let machine = Machine::new().with_disk("sda");
    on_scsi_host(&machine, "sda", 2, "hpsa");
    machine.file("sys/devices/pci0000:00/host2/2:2:0:0/raid_level", "RAID-5\n");
    let (asked, overlapped) = (Mutex::new(()), Mutex::new(0));
    let tools = Told::new(|invocation: &Invocation| {
        let words = arguments(invocation);
        if invocation.tool == "smartctl" && words.ends_with("/dev/sda") {
            let alone = asked.try_lock();
            *overlapped.lock().unwrap() += u32::from(alone.is_err());
            // room for the other drive's thread
            (0..10_000).for_each(|_| std::thread::yield_now());
        }
        match words {
            words if words.contains("--scan-open") => recorded("smartctl", "7.4-scan-qemu"),
            words if words.contains("cciss,0 ") || words.contains("cciss,1 ") => {
                recorded("smartctl", "7.3-ata-good")
            }
            words if words.contains("cciss,") => recorded("smartctl", "7.3-cciss-open-failed"),
            _ => good_load(invocation),
        }
    });
    let (report, _, mut facts) = machine.run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    machine.run_with(&mut facts, &STORAGE, &tools).0.unwrap();
    assert_eq!(*overlapped.lock().unwrap(), 0);
    let reports = tools.calls_of("smartctl").iter().filter(|call| call.contains("-x -d cciss,1")).count();
    assert_eq!(reports, 2, "before the load and after it");
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
