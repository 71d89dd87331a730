//! Two inventories of one machine: what the later one lacks. For the Reboot stage: parts that a restart loses.

use std::collections::BTreeMap;

use vetting_protocol::inventory::{Disk, Inventory, Nic};

/// What is gone or less, each in words with the part named; and what could not be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Losses {
    /// Parts that were there at first.
    pub gone: Vec<String>,
    /// What the later inventory could not read though the first could, with the reason.
    pub unread: Vec<String>,
}

/// Compares the inventory after a restart with the first one. What is new is no loss.
pub fn losses(first: &Inventory, now: &Inventory) -> Losses {
    let unread = now
        .absent
        .iter()
        .filter(|absence| first.absent.iter().all(|known| known.what != absence.what))
        .map(|absence| format!("{}: {}", absence.what, absence.reason))
        .collect();
    let mut gone = Vec::new();
    for (what, before, after) in [
        ("CPU sockets", u64::from(first.cpu.sockets), u64::from(now.cpu.sockets)),
        ("CPU cores", u64::from(first.cpu.physical_cores), u64::from(now.cpu.physical_cores)),
        ("logical CPUs", u64::from(first.cpu.logical_cores), u64::from(now.cpu.logical_cores)),
    ] {
        if after < before {
            gone.push(format!("{after} of {before} {what} are left"));
        }
    }
    let dimm = |inventory: &Inventory| {
        let dimms = inventory.memory.dimms.iter();
        named(dimms.map(|dimm| (format!("DIMM {}", dimm.slot), dimm.size_bytes)))
    };
    lost(
        &dimm(first),
        &dimm(now),
        |before, after| (after < before).then(|| format!("has {after} of {before} bytes")),
        &mut gone,
    );
    if let (Some(before), Some(after)) = (first.memory.installed_bytes, now.memory.installed_bytes)
        && after < before
    {
        gone.push(format!("{after} of {before} bytes of installed memory are left"));
    }
    let disks = |inventory: &Inventory| {
        named(
            inventory
                .disks
                .iter()
                .filter(|disk| !disk.removable)
                .map(|disk| (disk_name(disk), disk.size_bytes)),
        )
    };
    lost(
        &disks(first),
        &disks(now),
        |before, after| (after < before).then(|| format!("has {after} of {before} bytes")),
        &mut gone,
    );
    let nics = |inventory: &Inventory| named(inventory.nics.iter().map(|nic| (nic_name(nic), ())));
    lost(&nics(first), &nics(now), |(), ()| None, &mut gone);
    let pci = |inventory: &Inventory| {
        named(inventory.pci.iter().map(|device| {
            let name =
                device.device.clone().unwrap_or_else(|| format!("{}:{}", device.vendor_id, device.device_id));
            let width = device.link.as_ref().map_or(0, |link| link.width);
            (format!("PCI device {} ({name})", device.address), width)
        }))
    };
    // an idle link may run slower, but it keeps its lanes
    lost(
        &pci(first),
        &pci(now),
        |before, after| (after < before).then(|| format!("has {after} of {before} PCIe lanes")),
        &mut gone,
    );
    let psus = |inventory: &Inventory| {
        let present = inventory.psus.iter().filter(|psu| psu.present != Some(false));
        named(present.map(|psu| (format!("power supply {}", psu.slot), ())))
    };
    lost(&psus(first), &psus(now), |(), ()| None, &mut gone);
    if first.bmc.is_some() && now.bmc.is_none() {
        gone.push("the BMC is gone".to_owned());
    }
    Losses { gone, unread }
}

/// By name; parts of one name are numbered, so that each counts.
fn named<T>(parts: impl Iterator<Item = (String, T)>) -> BTreeMap<String, T> {
    let mut all = BTreeMap::new();
    for (name, part) in parts {
        let mut key = name.clone();
        let mut number = 1;
        while all.contains_key(&key) {
            number += 1;
            key = format!("{name} #{number}");
        }
        all.insert(key, part);
    }
    all
}

fn lost<T: Copy>(
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
    lessened: impl Fn(T, T) -> Option<String>,
    gone: &mut Vec<String>,
) {
    for (name, was) in before {
        match after.get(name) {
            None => gone.push(format!("{name} is gone")),
            Some(is) => gone.extend(lessened(*was, *is).map(|how| format!("{name} {how}"))),
        }
    }
}

/// Kernel names may change at a restart; a disk without any name of its own is known by its place.
fn disk_name(disk: &Disk) -> String {
    let own = disk.serial.as_ref().or(disk.wwn.as_ref()).or(disk.by_path.as_ref()).unwrap_or(&disk.name);
    format!("disk {} {own}", disk.model.as_deref().unwrap_or("without a model"))
}

fn nic_name(nic: &Nic) -> String {
    match (nic.mac, &nic.pci_address) {
        (Some(mac), _) => format!("network card {mac}"),
        (None, Some(address)) => format!("network card at {address}"),
        (None, None) => format!("network card {}", nic.name),
    }
}
