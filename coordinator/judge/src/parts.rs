//! Whether a machine is still made of the parts that were tested. Pure.
//!
//! A run may span several boots, and a held machine may be opened: a stage that passed on one disk says nothing of the
//! one in its place.

use std::collections::BTreeMap;

use vetting_protocol::inventory::Inventory;

/// What was taken out and what was put in between two inventories, in words: `disk S1 (HDD 128) is gone`. Empty if the
/// machine is made of the same parts.
pub fn changes(before: &Inventory, after: &Inventory) -> Vec<String> {
    let (before, mut after) = (parts(before), parts(after));
    let mut changes = Vec::new();
    for (part, count) in before {
        let now = after.remove(&part).unwrap_or(0);
        if now < count {
            changes.push(format!("{part} is gone"));
        } else if now > count {
            changes.push(format!("{part} is there once more"));
        }
    }
    changes.extend(after.into_keys().map(|part| format!("{part} is new")));
    changes
}

/// Every part by what tells it from others of its kind, with how many of it there are.
fn parts(inventory: &Inventory) -> BTreeMap<String, usize> {
    let Inventory { system, board, cpu, memory, disks, nics, gpus, psus, .. } = inventory;
    let mut parts = BTreeMap::new();
    let mut add = |part: String| *parts.entry(part).or_insert(0) += 1;
    let known = |text: &Option<String>| text.as_deref().unwrap_or("unknown").to_owned();
    add(format!("system {} {}", known(&system.serial), known(&system.uuid)));
    add(format!("board {}", known(&board.serial)));
    add(format!("a set of {} CPUs in {} sockets ({})", cpu.logical_cores, cpu.sockets, known(&cpu.model)));
    for dimm in &memory.dimms {
        let name = dimm.serial.as_ref().or(dimm.part_number.as_ref());
        add(format!("DIMM {} in {}", name.map_or("unknown", String::as_str), dimm.slot));
    }
    for disk in disks.iter().filter(|disk| !disk.boot_medium) {
        let name = disk.serial.as_ref().or(disk.wwn.as_ref()).unwrap_or(&disk.name);
        add(format!("disk {name} ({}, {} bytes)", known(&disk.model), disk.size_bytes));
    }
    for nic in nics {
        let name = nic.mac.map_or_else(|| nic.name.clone(), |mac| mac.to_string());
        add(format!("network card {name}"));
    }
    for gpu in gpus {
        add(format!("GPU {} ({})", gpu.pci_address, known(&gpu.model)));
    }
    for psu in psus.iter().filter(|psu| psu.present != Some(false)) {
        add(format!("power supply {} in {}", known(&psu.serial), psu.slot));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn the_same_machine_has_no_changes_whatever_its_links_do() {
        let before = fixtures::passing().inventory.unwrap();
        let mut after = before.clone();
        after.nics[0].link = Some(false);
        after.nics[0].speed_mbps = None;
        after.disks.reverse();
        assert_eq!(changes(&before, &after), Vec::<String>::new());
    }

    #[test]
    fn a_disk_in_anothers_place_is_two_changes() {
        let before = fixtures::passing().inventory.unwrap();
        let mut after = before.clone();
        let old = after.disks[0].serial.replace("OTHER-1".to_owned()).unwrap();
        let changes = changes(&before, &after);
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert!(changes[0].contains(&old) && changes[0].ends_with("is gone"), "{changes:?}");
        assert!(changes[1].starts_with("disk OTHER-1") && changes[1].ends_with("is new"), "{changes:?}");
    }

    #[test]
    fn a_dimm_that_vanished_is_named_with_its_slot() {
        let before = fixtures::passing().inventory.unwrap();
        let mut after = before.clone();
        let lost = after.memory.dimms.pop().unwrap();
        let changes = changes(&before, &after);
        assert!(matches!(&changes[..], [gone] if gone.contains(&lost.slot)), "{changes:?}");
    }
}
