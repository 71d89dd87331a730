//! Inventories of the recorded machines under `tests/hosts`, and of trees that no machine has.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use vetting_protocol::inventory::Inventory;

use super::*;
use crate::tools::runner::RecordedRunner;

/// Every recorded machine: a folder with `root` and perhaps `tools`.
pub(crate) fn recorded_machines() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hosts");
    let mut machines: Vec<(String, PathBuf)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("root").is_dir())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    machines.sort();
    assert!(!machines.is_empty());
    machines
}

/// Host and tools of a recorded machine.
pub(crate) fn machine(folder: &Path) -> (Host, RecordedRunner) {
    (Host::recorded(folder.join("root")), RecordedRunner::new(folder.join("tools")))
}

#[test]
fn inventories_of_recorded_machines() {
    for (name, folder) in recorded_machines() {
        let (host, tools) = machine(&folder);
        let inventory = collect(&host, &tools);
        insta::assert_json_snapshot!(format!("inventory-{name}"), inventory);
        let firmware = firmware::collect(&host, &tools, &inventory);
        insta::assert_json_snapshot!(format!("firmware-{name}"), firmware);
    }
}

#[test]
fn an_empty_machine_is_all_absent() {
    let directory = tempfile::tempdir().unwrap();
    let (host, tools) = machine(directory.path());
    let inventory = collect(&host, &tools);
    assert!(inventory.disks.is_empty() && inventory.nics.is_empty() && inventory.pci.is_empty());
    let absent: Vec<&str> = inventory.absent.iter().map(|absence| absence.what.as_str()).collect();
    for what in ["smbios", "cpu", "memory.visible_bytes", "disks", "nics", "pci", "bmc"] {
        assert!(absent.contains(&what), "{what} in {absent:?}");
    }
}

#[test]
fn a_link_is_waited_for_where_an_interface_is_up_without_its_carrier() {
    let directory = tempfile::tempdir().unwrap();
    let card = directory.path().join("sys/class/net/eth1");
    std::fs::create_dir_all(card.join("device")).unwrap();
    let host = Host::recorded(directory.path());
    for (flags, carrier, waited_for) in
        [("0x1003", "0", true), ("0x1003", "1", false), ("0x1002", "0", false), ("0x1002", "", false)]
    {
        std::fs::write(card.join("flags"), flags).unwrap();
        std::fs::write(card.join("carrier"), carrier).unwrap();
        assert_eq!(without_carrier(&host), waited_for, "flags {flags}, carrier {carrier}");
    }
    std::fs::remove_dir(card.join("device")).unwrap();
    std::fs::write(card.join("flags"), "0x1003").unwrap();
    assert!(!without_carrier(&host), "a bridge or a tunnel has no wire");
}

fn copy(from: &Path, to: &Path, files: &mut Vec<PathBuf>) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else if kind.is_dir() {
            copy(&entry.path(), &target, files);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
            files.push(target);
        }
    }
}

/// What a file turns into: gone, empty, garbage, a number out of range, or cut in the middle.
#[derive(Debug, Clone)]
enum Damage {
    Gone,
    Text(String),
    Bytes(Vec<u8>),
    Cut(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        Just(Damage::Gone),
        "(-?[0-9]{0,25}|[a-f0-9x:.-]{0,20}|[A-Za-z0-9 ]{0,10})".prop_map(Damage::Text),
        proptest::collection::vec(any::<u8>(), 0..600).prop_map(Damage::Bytes),
        (0_usize..700).prop_map(Damage::Cut),
    ]
}

fn apply(path: &Path, damage: &Damage) {
    let whole = std::fs::read(path).unwrap();
    match damage {
        Damage::Gone => std::fs::remove_file(path).unwrap(),
        Damage::Text(text) => std::fs::write(path, text).unwrap(),
        Damage::Bytes(bytes) => std::fs::write(path, bytes).unwrap(),
        Damage::Cut(length) => std::fs::write(path, &whole[..whole.len().min(*length)]).unwrap(),
    }
}

#[test]
fn no_tree_makes_it_panic_or_answer_what_cannot_travel() {
    let directory = tempfile::tempdir().unwrap();
    for (name, folder) in recorded_machines() {
        let mut files = Vec::new();
        let copied = directory.path().join(&name);
        copy(&folder, &copied, &mut files);
        let (host, tools) = machine(&copied);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(16));
        let damages = proptest::collection::vec((any::<prop::sample::Index>(), damage()), 1..12);
        runner
            .run(&damages, |damages| {
                let mut whole = std::collections::BTreeMap::new();
                for (index, damage) in &damages {
                    let path = index.get(&files);
                    if !whole.contains_key(path) {
                        whole.insert(path.clone(), std::fs::read(path).unwrap());
                        apply(path, damage);
                    }
                }
                let inventory = collect(&host, &tools);
                firmware::collect(&host, &tools, &inventory);
                let mut sensors = crate::sensors::SensorState::default();
                crate::sensors::sample(
                    &host,
                    &mut sensors,
                    crate::sensors::Moment { ts_ms: 0, uptime_ms: 0 },
                );
                for (path, bytes) in whole {
                    std::fs::write(path, bytes).unwrap();
                }
                let text = serde_json::to_string(&inventory).unwrap();
                let read_back: Inventory = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(read_back, inventory);
                Ok(())
            })
            .unwrap();
    }
}
