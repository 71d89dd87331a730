//! The Storage stage over recorded answers, on disks that are files.

use std::os::unix::fs::FileExt as _;

use vetting_protocol::plan::DiskConsent;

use super::super::tests::{
    MIB, Machine, Told, arguments, disk_of_64_mib, garbage, hung, log_to, missing, outcome, recorded,
};
use super::*;
use crate::tools::runner::{Finished, Invocation, ToolError};

const ZONES: StageWork =
    StageWork::Storage { fio_read_ms: 100, surface: SurfaceScan::ReadZones { zones: 4, zone_mib: 1 } };
const WHOLE: StageWork = StageWork::Storage { fio_read_ms: 100, surface: SurfaceScan::ReadWhole };
const WRITE: StageWork = StageWork::Storage { fio_read_ms: 100, surface: SurfaceScan::WriteWhole };

fn good(invocation: &Invocation) -> Result<Finished, ToolError> {
    match invocation.tool {
        "fio" => recorded("fio", "3.39-good"),
        "badblocks" => recorded("badblocks", "1.47.2-read-good"),
        "wipefs" => recorded("wipefs", "2.41-empty-disk"),
        _ => missing(invocation),
    }
}

#[test]
fn a_good_disk_passes_and_is_measured() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(good);
    let (report, kept, _) = machine.run(&ZONES, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(
        kept.sub_steps().into_keys().collect::<Vec<_>>(),
        ["sda SMART after", "sda read", "sda surface"]
    );
    let measured = kept.measurements();
    assert_eq!(measured["badblocks sda/bad_blocks"], Some(0.0));
    assert_eq!(measured["badblocks sda/coverage"], Some(6.25));
    assert_eq!(measured["fio sda/read_errors"], Some(0.0));
    assert_eq!(measured["kernel sda/io_errors"], Some(0.0));
    assert!(measured["fio sda/read_bandwidth"].unwrap() > 0.0);
    assert!(measured["fio sda/read_latency_p99"].unwrap() > 0.0);
    let scans = tools.calls_of("badblocks");
    assert_eq!(scans.len(), 4);
    assert!(scans[0].ends_with("/dev/sda 255 0") && scans[3].ends_with("/dev/sda 16383 16128"), "{scans:?}");
    assert!(scans.iter().all(|scan| !scan.contains("-w")) && tools.calls_of("wipefs").is_empty());
}

#[test]
fn bad_blocks_are_named_although_reading_failed_before() {
    let machine = Machine::new().with_disk("sda").with_disk("sdb");
    let log = machine.path("dev/kmsg");
    let tools = Told::new(|invocation: &Invocation| {
        if !invocation.args.iter().any(|arg| arg.to_string_lossy().contains("sda")) {
            return good(invocation);
        }
        match invocation.tool {
            "fio" => {
                log_to(&log, "I/O error, dev sda, sector 130048 op 0x0:(READ) flags 0x800");
                log_to(&log, "critical medium error, dev sda, sector 8");
                log_to(&log, "sda: sda1 sda2");
                log_to(&log, "I/O error, dev sdab, sector 8");
                recorded("fio", "3.39-read-errors")
            }
            _ => recorded("badblocks", "1.47.2-read-3-bad"),
        }
    });
    let (report, kept, _) = machine.run(&WHOLE, &tools);
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("of 1 MiB failed, in sectors 129024 to 131071"), "{reason}");
    // the file that stands for the disk reads well
    let blocks =
        "sda: 3 unreadable blocks of 4096 bytes: 16381, 16382, 16383 (when read by sector, none failed)";
    assert!(reason.contains(blocks), "{reason}");
    assert!(!reason.contains("sdb"), "{reason}");
    assert_eq!(kept.sub_steps()["sdb surface"], Outcome::Pass);
    let measured = kept.measurements();
    assert_eq!(measured["badblocks sda/bad_blocks"], Some(3.0));
    assert_eq!(measured["badblocks sda/bad_sectors"], Some(0.0));
    assert_eq!(measured["badblocks sdb/bad_sectors"], Some(0.0));
    assert_eq!(measured["badblocks sda/coverage"], Some(100.0));
    assert_eq!(measured["kernel sda/io_errors"], Some(2.0));
    assert_eq!(measured["kernel sdb/io_errors"], Some(0.0));
}

#[test]
fn a_disk_that_is_no_multiple_of_the_block_is_read_to_its_end() {
    let mut machine = Machine::new().with_disk("sda");
    let size = 64 * MIB + 1024;
    machine.inventory.disks[0].size_bytes = size;
    std::fs::OpenOptions::new().write(true).open(machine.path("dev/sda")).unwrap().set_len(size).unwrap();
    let tools = Told::new(good);
    let (report, kept, _) = machine.run(&WHOLE, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(kept.measurements()["badblocks sda/coverage"], Some(100.0));
    let scans = tools.calls_of("badblocks");
    assert!(scans[0].contains("-b 4096") && scans[0].ends_with("/dev/sda 16383 0"), "{scans:?}");
    assert!(scans[1].contains("-b 1024") && scans[1].ends_with("/dev/sda 65536 65536"), "{scans:?}");

    let tools = Told::new(|invocation: &Invocation| {
        let mut finished = good(invocation)?;
        if arguments(invocation).contains("-b 1024") {
            finished.stdout = b"65536\n".to_vec();
            finished.stderr = b"Pass completed, 1 bad blocks found. (1/0/0 errors)\n".to_vec();
        }
        Ok(finished)
    });
    let reason = outcome(machine.run(&WHOLE, &tools).0).reason().unwrap().to_owned();
    assert_eq!(reason, "sda: 1 unreadable block of 4096 bytes: 16384 (when read by sector, none failed)");
}

#[test]
fn a_dead_disk_ends_the_scan_with_a_lower_bound() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(|invocation: &Invocation| match invocation.tool {
        "badblocks" => recorded("badblocks", "1.47.2-read-limit"),
        _ => good(invocation),
    });
    let (report, kept, _) = machine.run(&ZONES, &tools);
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.starts_with("sda: at least 1000 unreadable blocks"), "{reason}");
    assert!(reason.contains("and 984 more"), "{reason}");
    assert!(reason.contains("only the first 256 blocks were"), "{reason}");
    assert_eq!(kept.measurements()["badblocks sda/bad_sectors"], None);
    assert_eq!(tools.calls_of("badblocks").len(), 1);
    assert_eq!(kept.measurements()["badblocks sda/coverage"], Some(0.0));
}

#[test]
fn a_disk_that_vanishes_fails_by_name_and_is_not_asked_again() {
    let machine = Machine::new().with_disk("sda").with_disk("sdb");
    let tools = Told::new(|invocation: &Invocation| {
        if invocation.tool == "fio" && invocation.args.iter().any(|arg| arg == "--filename=/dev/sda") {
            machine.pull("sda");
            return recorded("fio", "3.39-no-such-disk");
        }
        good(invocation)
    });
    let (report, kept, _) = machine.run(&ZONES, &tools);
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("sda: vanished during the test") && !reason.contains("sdb"), "{reason}");
    assert!(tools.calls_of("badblocks").iter().all(|scan| scan.contains("/dev/sdb")));
    assert_eq!(kept.sub_steps()["sdb surface"], Outcome::Pass);
    let is_event = |record: &vetting_protocol::agent_api::Record| matches!(record, vetting_protocol::agent_api::Record::Event { kind, .. } if kind == "disk_vanished");
    assert!(kept.records().iter().any(is_event));
}

#[test]
fn a_disk_that_goes_away_and_comes_back_fails_and_is_not_asked_again() {
    for file in ["diskseq", "device/wwid"] {
        let machine = Machine::new().with_disk("sda").with_disk("sdb");
        for disk in ["sda", "sdb"] {
            machine.file(&format!("sys/block/{disk}/{file}"), "17\n");
        }
        let tools = Told::new(|invocation: &Invocation| {
            if invocation.tool == "fio" && invocation.args.iter().any(|arg| arg == "--filename=/dev/sda") {
                machine.file(&format!("sys/block/sda/{file}"), "18\n");
            }
            good(invocation)
        });
        let (report, kept, _) = machine.run(&ZONES, &tools);
        let Outcome::Fail { reason } = outcome(report) else { panic!() };
        assert!(reason.contains("sda: went away and came back") && !reason.contains("sdb"), "{reason}");
        assert!(tools.calls_of("badblocks").iter().all(|scan| scan.contains("/dev/sdb")));
        assert_eq!(kept.sub_steps()["sdb surface"], Outcome::Pass);
    }
}

#[test]
fn a_disk_that_was_away_between_two_stages_fails() {
    let machine = Machine::new().with_disk("sda");
    machine.file("sys/block/sda/diskseq", "17\n");
    machine.file("sys/block/sda/device/model", "EXAMPLE HD\n");
    let tools = Told::new(missing);
    let mut facts = machine.run(&StageWork::Inventory {}, &tools).2;
    facts.inventory = Some(machine.inventory.clone());
    machine.file("sys/block/sda/diskseq", "18\n");
    let (report, _) = machine.run_with(&mut facts, &ZONES, &Told::new(good));
    assert!(outcome(report).reason().unwrap().contains("sda: went away and came back"));
}

#[test]
fn a_disk_that_vanishes_in_the_scan_fails_too() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(|invocation: &Invocation| {
        if invocation.tool == "badblocks" {
            machine.file("sys/block/sda/size", "0\n");
        }
        good(invocation)
    });
    let (report, kept, _) = machine.run(&ZONES, &tools);
    assert_eq!(outcome(report), Outcome::fail("sda: vanished during the test"));
    assert_eq!(kept.measurements()["badblocks sda/bad_blocks"], None);
}

#[test]
fn tools_missing_hung_or_speaking_nonsense_are_errors() {
    for answer in [missing, hung, garbage] {
        let (report, kept, _) = Machine::new().with_disk("sda").run(&WHOLE, &Told::new(answer));
        assert!(matches!(outcome(report), Outcome::Error { .. }));
        let sub_steps = kept.sub_steps();
        for name in ["sda read", "sda surface"] {
            assert!(matches!(sub_steps[name], Outcome::Error { .. }), "{name}");
        }
        // nothing was counted, so there is no count
        assert_eq!(kept.measurements()["badblocks sda/bad_blocks"], None);
    }
}

#[test]
fn a_scan_that_hangs_after_finding_bad_blocks_still_names_them() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(|invocation: &Invocation| match invocation.tool {
        "badblocks" => recorded("badblocks", "bad-killed-after-finding"),
        _ => good(invocation),
    });
    let (report, _, _) = machine.run(&WHOLE, &tools);
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("at least 3 unreadable blocks") && reason.contains("was killed"), "{reason}");
}

#[test]
fn a_cancelled_run_is_no_pass() {
    let machine = Machine::new().with_disk("sda");
    let cancel = machine.cancel.clone();
    let tools = Told::new(|invocation: &Invocation| {
        cancel.raise();
        good(invocation)
    });
    let (report, kept, _) = machine.run(&ZONES, &tools);
    assert!(matches!(outcome(report), Outcome::Error { .. }));
    assert!(matches!(kept.sub_steps()["sda surface"], Outcome::Error { .. }));
    assert!(tools.calls_of("badblocks").is_empty());
}

#[test]
fn no_disk_is_a_skip_and_a_disk_without_size_fails() {
    let (report, _, _) = Machine::new().run(&ZONES, &Told::new(good));
    assert!(matches!(outcome(report), Outcome::Skip { .. }));
    let mut machine = Machine::new().with_disk("sda");
    machine.inventory.disks[0].size_bytes = 0;
    let (report, _, _) = machine.run(&ZONES, &Told::new(good));
    assert!(matches!(outcome(report), Outcome::Fail { .. }));
}

/// Runs a write scan, and says how the surface sub-step ended and whether badblocks was told to write.
fn write_scan(machine: &Machine, wipefs: &'static str) -> (Outcome, bool) {
    let tools = Told::new(|invocation: &Invocation| match invocation.tool {
        "wipefs" => recorded("wipefs", wipefs),
        _ => good(invocation),
    });
    let (_, kept, _) = machine.run(&WRITE, &tools);
    let wrote = tools.calls_of("badblocks").iter().any(|call| call.split(' ').any(|word| word == "-w"));
    (kept.sub_steps()["sda surface"].clone(), wrote)
}

fn skip_reason(machine: &Machine, wipefs: &'static str) -> String {
    match write_scan(machine, wipefs) {
        (Outcome::Skip { reason }, false) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_disk_is_written() {
    let machine = Machine::new().with_disk("sda");
    assert_eq!(write_scan(&machine, "2.41-empty-disk"), (Outcome::Pass, true));
    // erased flash reads as ones
    let disk = std::fs::OpenOptions::new().write(true).open(machine.path("dev/sda")).unwrap();
    disk.write_all_at(&vec![0xff; usize::try_from(MIB).unwrap()], 63 * MIB).unwrap();
    assert_eq!(write_scan(&machine, "2.41-empty-disk"), (Outcome::Pass, true));
}

#[test]
fn a_disk_with_content_is_skipped_until_wipe_is_allowed() {
    let mut machine = Machine::new().with_disk("sda");
    assert!(skip_reason(&machine, "2.41-gpt").contains("sda: has data (gpt, PMBR): allow with wipe"));
    let disk = std::fs::OpenOptions::new().write(true).open(machine.path("dev/sda")).unwrap();
    disk.write_all_at(b"x", 64 * MIB - 1).unwrap();
    assert!(skip_reason(&machine, "2.41-empty-disk").contains("its last MiB is not blank"));
    disk.write_all_at(b"x", 0).unwrap();
    assert!(skip_reason(&machine, "2.41-empty-disk").contains("its first MiB is not blank"));
    machine.consent = DiskConsent::WipeAllowed;
    assert_eq!(write_scan(&machine, "2.41-gpt"), (Outcome::Pass, true));
}

#[test]
fn a_probe_that_fails_counts_as_content() {
    for bad in ["bad-no-output", "bad-garbage", "bad-killed", "bad-timed-out", "2.41-no-such-disk"] {
        let machine = Machine::new().with_disk("sda");
        assert!(skip_reason(&machine, bad).contains("cannot tell whether it is empty"), "{bad}");
    }
    // shorter than it says: its last MiB cannot be read
    let machine = Machine::new().with_disk("sda");
    std::fs::File::create(machine.path("dev/sda")).unwrap().set_len(MIB).unwrap();
    assert!(skip_reason(&machine, "2.41-empty-disk").contains("cannot tell whether it is empty"));
}

#[test]
fn a_disk_in_use_is_never_written_even_when_wipe_is_allowed() {
    type Use = fn(&Machine);
    let uses: [(Use, &str); 7] = [
        (
            |machine| machine.file("proc/self/mountinfo", "30 1 8:0 / /mnt rw - ext4 /dev/x rw\n"),
            "mounted at /mnt",
        ),
        (
            |machine| {
                machine.file("sys/block/sda/sda1/partition", "1\n");
                machine.file("sys/block/sda/sda1/dev", "8:1\n");
                std::fs::create_dir(machine.path("sys/block/sda/sda1/holders")).unwrap();
                machine.file("proc/self/mountinfo", "30 1 0:40 /a /data rw - btrfs /dev/sda1 rw\n");
            },
            "/dev/sda1 is mounted at /data",
        ),
        (|machine| machine.file("proc/swaps", "Filename Type\n/dev/sda partition 1 0 -2\n"), "swap"),
        (|machine| machine.file("sys/block/sda/holders/dm-0", ""), "dm-0 is built on /dev/sda"),
        (|machine| std::fs::remove_file(machine.path("proc/self/mountinfo")).unwrap(), "mountinfo"),
        (|machine| std::fs::remove_file(machine.path("sys/block/sda/dev")).unwrap(), "sys/block/sda/dev"),
        (|machine| std::fs::remove_file(machine.path("dev/sda")).unwrap(), "/dev/sda"),
    ];
    for (make_use, word) in uses {
        let mut machine = Machine::new().with_disk("sda");
        machine.consent = DiskConsent::WipeAllowed;
        make_use(&machine);
        let reason = skip_reason(&machine, "2.41-empty-disk");
        assert!(reason.contains(word), "{reason}");
    }
}

/// `sda` and `sdb` are two ports of one SAS disk.
fn dual_ported() -> Machine {
    let mut machine = Machine::new().with_disk("sda").with_disk("sdb").with_disk("sdc");
    for disk in &mut machine.inventory.disks {
        disk.wwn = Some("naa.5000c50000000001".to_owned());
    }
    // a maker who gives all his disks the same
    machine.inventory.disks[2].serial = Some("TEST2".to_owned());
    machine
}

#[test]
fn a_disk_with_two_paths_is_written_by_one() {
    let machine = dual_ported();
    let tools = Told::new(good);
    let report = machine.run(&WRITE, &tools).0.unwrap();
    assert_eq!(report.outcome, Outcome::Pass);
    assert_eq!(report.details["disks"], json!(["sda", "sdc"]));
    assert_eq!(report.details["other_paths"], json!({ "sda": ["sdb"] }));
    assert_eq!(
        report.details["left_out"],
        json!([{ "disk": "sdb", "reason": "another path to sda, which is tested" }])
    );
    assert!(tools.calls.lock().unwrap().iter().all(|call| !arguments(call).contains("/dev/sdb")));
    assert_eq!(tools.calls_of("badblocks").len(), 2);
}

#[test]
fn another_path_to_the_boot_medium_is_never_touched() {
    for boot in 0..2 {
        let mut machine = dual_ported();
        machine.consent = DiskConsent::WipeAllowed;
        machine.inventory.disks[boot].boot_medium = true;
        let tools = Told::new(good);
        let report = machine.run(&WRITE, &tools).0.unwrap();
        assert_eq!(report.details["disks"], json!(["sdc"]));
        assert!(tools.calls.lock().unwrap().iter().all(|call| arguments(call).contains("sdc")));
    }
}

#[test]
fn a_disk_in_use_by_its_other_path_is_never_written() {
    let mut machine = dual_ported();
    machine.inventory.disks.truncate(2);
    machine.consent = DiskConsent::WipeAllowed;
    machine.file("proc/self/mountinfo", "30 1 8:16 / /mnt rw - ext4 /dev/x rw\n");
    let reason = skip_reason(&machine, "2.41-empty-disk");
    assert_eq!(reason, "sda: in use: /dev/sdb is mounted at /mnt, another path to it");
}

#[test]
fn a_non_destructive_run_reads_and_does_not_probe() {
    let mut machine = Machine::new().with_disk("sda");
    machine.consent = DiskConsent::NonDestructive;
    let tools = Told::new(good);
    let (report, _, _) = machine.run(&WRITE, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert!(tools.calls_of("wipefs").is_empty());
    assert!(tools.calls_of("badblocks").iter().all(|call| !call.contains("-w")));
}

#[test]
fn the_boot_medium_is_never_touched() {
    let mut machine = Machine::new().with_disk("sda");
    machine.consent = DiskConsent::WipeAllowed;
    machine.inventory.disks[0].boot_medium = true;
    let tools = Told::new(good);
    let (report, _, _) = machine.run(&WRITE, &tools);
    assert!(matches!(outcome(report), Outcome::Skip { .. }));
    assert!(tools.calls.lock().unwrap().is_empty());
}

/// By hand, as root, on a disk of 64 MiB that may be lost: `VETTING_SCRATCH_DISK=loop0 cargo test -- --ignored scratch`.
#[test]
#[ignore = "writes to a real disk"]
fn on_a_real_scratch_disk() {
    let name = std::env::var("VETTING_SCRATCH_DISK").unwrap();
    let mut machine = Machine::new();
    machine.inventory.disks.push(disk_of_64_mib(&name));
    for work in [ZONES, WHOLE, WRITE] {
        let host = crate::host::Host::live();
        let (report, kept, _) = machine.run_on(&host, &work, &crate::tools::runner::SystemRunner::new());
        println!("{work:?}\n{report:#?}\n{:#?}\n{:#?}", kept.sub_steps(), kept.measurements());
    }
}

#[test]
fn kernel_lines_are_told_apart() {
    assert!(is_io_error_of("Buffer I/O error on dev sda, logical block 5, async page read", "sda"));
    assert!(is_io_error_of("blk_update_request: critical target error, dev nvme0n1, sector 7", "nvme0n1"));
    assert!(is_io_error_of("sd 2:0:0:0: dev x: I/O error, dev sda, sector 9 op 0x0:(READ)", "sda"));
    assert!(!is_io_error_of("blk_print_req_error: 23 callbacks suppressed", "sda"));
    for other in ["dev sda: fine", "I/O error, dev sda1, sector 1", "error", "devices error dev ", ""] {
        assert!(!is_io_error_of(other, "sda"), "{other}");
    }
}
