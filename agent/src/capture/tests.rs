//! Captures of recorded machines: they read alike, and nothing that names the machine is left.

use std::fs;
use std::path::Path;

use super::*;
use crate::inventory::tests::{machine, recorded_machines};

/// Every identifier of `handbuilt-2-socket-server`, as it is written there.
const IDENTIFIERS: &[&str] = &[
    "S123456X0A01234",
    "33221100-5544-7766-8899-aabbccddee01",
    "OM18AS012345",
    "C829ABCD0042",
    "LAB-RACK-0117",
    "40AB1200",
    "40AB1206",
    "P1K21PH10042",
    "P1K21PH20042",
    "4711-0815",
    "vendor private",
    "ZA1B2C3D0000R0123456",
    "5000c500a1b2c3d7",
    "5000c500a1b2c3d5",
    "VBG12AB7",
    "BV1GA27B",
    "5000cca0bc1d2e3f",
    "500304801f2e3d7f",
    "500304801f2e3d43",
    "500605b00a1b2c30",
    "SP53912345",
    "S4GCNE0M123456",
    "36344730521234560025384500000001",
    "PHLJ912345671P0FGN",
    "01000000010000005cd2e4a1b2c30001",
    "3c:ec:ef:12:34:50",
    "3c:ec:ef:12:34:51",
    "be:3a:f2:b6:05:9f",
    "3c:ec:ef:12:34:5f",
    "198.51.100.23",
    "198.51.100.1",
];

fn every_file(folder: &Path, visit: &mut dyn FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            every_file(&entry.path(), visit);
        } else if kind.is_file() {
            visit(&entry.path(), &fs::read(entry.path()).unwrap());
        }
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window.eq_ignore_ascii_case(wanted))
}

/// An inventory without what a capture replaces.
fn nameless(mut inventory: Inventory) -> Inventory {
    let blank = |field: &mut Option<String>| {
        if let Some(text) = field {
            *text = format!("{} characters", text.len());
        }
    };
    blank(&mut inventory.system.serial);
    blank(&mut inventory.system.uuid);
    blank(&mut inventory.board.serial);
    blank(&mut inventory.chassis.serial);
    blank(&mut inventory.chassis.asset_tag);
    for dimm in &mut inventory.memory.dimms {
        blank(&mut dimm.serial);
    }
    for disk in &mut inventory.disks {
        blank(&mut disk.serial);
        blank(&mut disk.wwn);
        if let Some(path) = &mut disk.by_path
            && path.contains("sas-exp")
        {
            *path = "behind an expander".to_owned();
        }
    }
    for psu in &mut inventory.psus {
        blank(&mut psu.serial);
    }
    for gpu in &mut inventory.gpus {
        blank(&mut gpu.serial);
    }
    for nic in &mut inventory.nics {
        nic.mac = nic.mac.and(Some("02:00:00:00:00:01".parse().unwrap()));
    }
    if let Some(bmc) = &mut inventory.bmc {
        bmc.address = None;
    }
    inventory
}

#[test]
fn a_capture_reads_as_the_machine_does() {
    for (name, folder) in recorded_machines() {
        let directory = tempfile::tempdir().unwrap();
        let (host, tools) = machine(&folder);
        let summary = capture(&host, &tools, directory.path()).unwrap();
        assert!(summary.files > 20, "{name}: {summary:?}");
        let (captured, recorded) = machine(directory.path());
        let original = inventory::collect(&host, &tools);
        let copy = inventory::collect(&captured, &recorded);
        let firmware = |host: &Host, tools: &dyn ToolRunner, inventory: &Inventory| {
            let report = inventory::firmware::collect(host, tools, inventory);
            let versions: Vec<_> =
                report.versions.iter().map(|found| (found.component, found.version.clone())).collect();
            let mut versions = versions;
            versions.sort();
            (versions, report.absent)
        };
        assert_eq!(firmware(&host, &tools, &original), firmware(&captured, &recorded, &copy), "{name}");
        assert_eq!(nameless(original), nameless(copy), "{name}");
        let sample = |host: &Host| {
            sensors::sample(host, &mut SensorState::default(), Moment { ts_ms: 0, uptime_ms: 0 })
        };
        assert_eq!(sample(&host), sample(&captured), "{name}");
    }
}

#[test]
fn nothing_that_names_the_machine_is_left() {
    let (_, folder) =
        recorded_machines().into_iter().find(|(name, _)| name == "handbuilt-2-socket-server").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (host, tools) = machine(&folder);
    capture(&host, &tools, directory.path()).unwrap();
    for identifier in IDENTIFIERS {
        let bare: String = identifier.chars().filter(|c| !matches!(c, ':' | '-')).collect();
        let mut seen_before = false;
        every_file(&folder, &mut |_, bytes| seen_before |= contains(bytes, identifier.as_bytes()));
        let is_binary = identifier.len() == 36;
        assert!(
            seen_before || is_binary,
            "the machine does not hold {identifier}: the test would prove nothing"
        );
        every_file(directory.path(), &mut |path, bytes| {
            assert!(!contains(bytes, identifier.as_bytes()), "{identifier} is left in {}", path.display());
            assert!(!contains(bytes, bare.as_bytes()), "{identifier} is left in {}", path.display());
        });
    }
    let uuid =
        [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x01];
    let wwn = [0x00, 0x50, 0xa0, 0xcc, 0x1d, 0xbc, 0x3f, 0x2e];
    every_file(directory.path(), &mut |path, bytes| {
        assert!(!contains(bytes, &uuid), "the UUID is left in {}", path.display());
        assert!(!contains(bytes, &wwn), "a world wide name is left in {}", path.display());
    });
}

#[test]
fn the_same_part_keeps_one_name_and_its_maker() {
    let (_, folder) =
        recorded_machines().into_iter().find(|(name, _)| name == "handbuilt-2-socket-server").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (host, tools) = machine(&folder);
    capture(&host, &tools, directory.path()).unwrap();
    let (captured, recorded) = machine(directory.path());
    let inventory = inventory::collect(&captured, &recorded);
    assert!(inventory.nics[0].mac.unwrap().to_string().starts_with("3c:ec:ef:"));
    assert!(inventory.disks[2].wwn.as_ref().unwrap().starts_with("naa.5000c50"));
    let multipath = inventory.disks.iter().find(|disk| disk.name == "nvme1n1").unwrap();
    let controller = captured.text("/sys/class/nvme/nvme1/serial").unwrap();
    assert_eq!(multipath.serial.as_deref(), Some(controller.as_str()));
}

#[test]
fn a_directory_with_something_in_it_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("precious"), "").unwrap();
    let (host, tools) = machine(directory.path());
    assert!(matches!(capture(&host, &tools, directory.path()), Err(CaptureError::NotEmpty { .. })));
}

#[test]
fn nothing_that_names_a_gpu_is_left() {
    let (_, folder) =
        recorded_machines().into_iter().find(|(name, _)| name == "handbuilt-gpu-server").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (host, tools) = machine(&folder);
    capture(&host, &tools, directory.path()).unwrap();
    for identifier in
        ["1320000000001", "00000000-0000-0000-0000-00000000003b", "692211000042", "8a1b2c3d4e5f6071"]
    {
        let mut seen_before = false;
        every_file(&folder, &mut |_, bytes| seen_before |= contains(bytes, identifier.as_bytes()));
        assert!(seen_before, "{identifier}");
        every_file(directory.path(), &mut |path, bytes| {
            assert!(!contains(bytes, identifier.as_bytes()), "{identifier} is left in {}", path.display());
        });
    }
    let (captured, recorded) = machine(directory.path());
    assert_eq!(inventory::collect(&captured, &recorded).gpus.len(), 3);
}
