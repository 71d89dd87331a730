//! Erasing disks that are files, by tools that do to the file what the real ones do to the disk.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde_json::Value;
use vetting_protocol::agent_api::Record;
use vetting_protocol::erasure::ErasureSample;
use vetting_protocol::inventory::DiskBus;
use vetting_protocol::plan::{DiskBudget, DiskConsent, StageWork, SurfaceScan};

use super::super::super::tests::{Kept, MIB, Machine, Told, arguments, missing, outcome, recorded, told};
use super::*;

const ZONES: StageWork = StageWork::Storage {
    fio_read_ms: 100,
    fio_random_ms: 100,
    surface: SurfaceScan::ReadZones { zones: 4, zone_mib: 1 },
    budget: DiskBudget::UNLIMITED,
};
const SIZE: u64 = 64 * MIB;

fn others(invocation: &Invocation) -> Result<Finished, ToolError> {
    match invocation.tool {
        "fio" if arguments(invocation).contains("--rw=randread") => recorded("fio", "3.39-random-good"),
        "fio" => recorded("fio", "3.39-good"),
        "badblocks" => recorded("badblocks", "1.47.2-read-good"),
        _ => missing(invocation),
    }
}

fn fill(disk: &Path, byte: u8) {
    let file = std::fs::OpenOptions::new().write(true).open(disk).unwrap();
    file.write_all_at(&vec![byte; usize::try_from(SIZE).unwrap()], 0).unwrap();
}

fn machine(bus: DiskBus) -> Machine {
    let mut machine = Machine::on_real_disk().with_disk("sda");
    machine.inventory.disks[0].bus = Some(bus);
    machine.consent = DiskConsent::EraseDisks;
    fill(&machine.path("dev/sda"), 0x5a);
    machine
}

fn zero_filled(invocation: &Invocation, disk: &Path) -> Result<Finished, ToolError> {
    assert_eq!(invocation.tool, "blkdiscard");
    fill(disk, 0);
    told(&format!("/dev/sda: Zero-filled {SIZE} bytes from the offset 0\n"))
}

/// How the sub-step ended, and what it tells of the erasing.
fn erased(kept: &Kept) -> (Outcome, Option<Erasure>) {
    let details = |record| match record {
        Record::SubStepFinished { ordinal: 4, details, .. } => Some(details),
        _ => None,
    };
    let details: Value = kept.records().into_iter().find_map(details).unwrap();
    let erasure = details.get(DETAILS_KEY).map(|value| serde_json::from_value(value.clone()).unwrap());
    (kept.sub_steps()["sda erase"].clone(), erasure)
}

#[test]
fn a_disk_without_means_of_its_own_is_overwritten_and_found_empty() {
    let machine = machine(DiskBus::Virtio);
    let disk = machine.path("dev/sda");
    let tools = Told::new(|call: &Invocation| match call.tool {
        "blkdiscard" => zero_filled(call, &disk),
        _ => others(call),
    });
    let (report, kept, _) = machine.run(&ZONES, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    let (ended, erasure) = erased(&kept);
    let erasure = erasure.unwrap();
    assert_eq!(ended, Outcome::Pass);
    assert_eq!((erasure.method, erasure.serial.as_deref()), (EraseMethod::ZeroFill, Some("TEST1")));
    let ErasureSample { blocks, blank, surviving, other, unreadable, .. } = erasure.sample;
    assert!(blocks > 50 && blank == blocks, "{:?}", erasure.sample);
    assert_eq!((surviving, other, unreadable), (0, 0, 0));
}

#[test]
fn an_erasing_that_did_nothing_fails_although_the_tool_says_that_all_went_well() {
    let machine = machine(DiskBus::Virtio);
    let tools = Told::new(|call: &Invocation| match call.tool {
        "blkdiscard" => told(&format!("/dev/sda: Zero-filled {SIZE} bytes from the offset 0\n")),
        _ => others(call),
    });
    let (report, kept, _) = machine.run(&ZONES, &tools);
    let Outcome::Fail { reason } = outcome(report) else { panic!() };
    assert!(reason.contains("sda: is not erased") && reason.contains("still hold"), "{reason}");
    let sample = erased(&kept).1.unwrap().sample;
    assert_eq!(sample.surviving, sample.blocks);
}

#[test]
fn a_tool_that_fails_or_is_missing_is_an_error_even_if_the_disk_is_empty() {
    let machine = machine(DiskBus::Virtio);
    let disk = machine.path("dev/sda");
    let short = Told::new(|call: &Invocation| match call.tool {
        "blkdiscard" => {
            fill(&disk, 0);
            told("/dev/sda: Zero-filled 4096 bytes from the offset 0\n")
        }
        _ => others(call),
    });
    for report in [machine.run(&ZONES, &short).0, machine.run(&ZONES, &Told::new(others)).0] {
        assert!(matches!(outcome(report), Outcome::Error { .. }));
    }
}

#[test]
fn an_nvme_drive_is_formatted_where_it_cannot_sanitize() {
    let machine = machine(DiskBus::Nvme);
    let disk = machine.path("dev/sda");
    let tools = Told::new(|call: &Invocation| match (call.tool, arguments(call)) {
        ("nvme", words) if words.starts_with("id-ctrl") => {
            let mut bytes = vec![0_u8; 4096];
            bytes[256] = 0b10;
            Ok(Finished { stdout: bytes, ..told("").unwrap() })
        }
        ("nvme", words) if words.starts_with("list-ns") => told("[   0]:0x1\n"),
        ("nvme", words) if words.starts_with("format /dev/sda --ses=1") => {
            fill(&disk, 0);
            told("Success formatting namespace:1\n")
        }
        _ => others(call),
    });
    let (report, kept, _) = machine.run(&ZONES, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    let erasure = erased(&kept).1.unwrap();
    assert_eq!(erasure.method, EraseMethod::NvmeFormat);
    assert_eq!(erasure.remarks, ["the drive cannot sanitize"]);
}

#[test]
fn a_drive_that_does_not_forget_its_password_is_an_error_with_the_way_out() {
    let machine = machine(DiskBus::Ata);
    let disk = machine.path("dev/sda");
    let state = |enabled: &str| {
        format!(
            "ATA device, with non-removable media\nSecurity: \n\t\tsupported\n\t{enabled}\tenabled\n\tnot\tlocked\n\
             \tnot\tfrozen\n\t2min for SECURITY ERASE UNIT.\n"
        )
    };
    for (forgets, expected) in [(true, Outcome::Pass), (false, Outcome::error(""))] {
        let was_set = std::sync::atomic::AtomicBool::new(false);
        let tools = Told::new(|call: &Invocation| {
            let words = arguments(call);
            let set = || was_set.load(std::sync::atomic::Ordering::SeqCst);
            match call.tool {
                "hdparm" if words.starts_with("-I") => told(&state(if set() { "" } else { "not" })),
                "hdparm" if words.contains("--security-set-pass") => {
                    was_set.store(true, std::sync::atomic::Ordering::SeqCst);
                    told("")
                }
                "hdparm" if words.contains("--security-erase") => {
                    fill(&disk, 0);
                    was_set.store(!forgets, std::sync::atomic::Ordering::SeqCst);
                    told("")
                }
                "hdparm" => told(""),
                _ => others(call),
            }
        });
        let (_, kept, _) = machine.run(&ZONES, &tools);
        let (ended, erasure) = erased(&kept);
        assert_eq!(erasure.unwrap().method, EraseMethod::AtaSecureErase);
        match expected {
            Outcome::Pass => assert_eq!(ended, Outcome::Pass),
            _ => {
                assert!(
                    ended.reason().unwrap().contains("hdparm --user-master u --security-disable vetting")
                );
            }
        }
    }
}

#[test]
fn without_the_order_or_in_use_nothing_is_erased() {
    let mut machine = machine(DiskBus::Virtio);
    let disk = machine.path("dev/sda");
    let untouched = |machine: &Machine| {
        let tools = Told::new(|call: &Invocation| {
            assert_ne!(call.tool, "blkdiscard");
            others(call)
        });
        let (_, kept, _) = machine.run(&ZONES, &tools);
        assert!(std::fs::read(&disk).unwrap().iter().all(|byte| *byte == 0x5a));
        kept.sub_steps().get("sda erase").cloned()
    };
    for consent in [DiskConsent::NonDestructive, DiskConsent::EmptyDisksOnly, DiskConsent::WipeAllowed] {
        machine.consent = consent;
        assert_eq!(untouched(&machine), None);
    }
    machine.consent = DiskConsent::EraseDisks;
    machine.file("proc/self/mountinfo", "30 1 8:0 / /mnt rw - ext4 /dev/x rw\n");
    assert!(
        matches!(untouched(&machine), Some(Outcome::Skip { reason }) if reason.contains("mounted at /mnt"))
    );
}
