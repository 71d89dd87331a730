//! Which memory module a physical address lies in, as SMBIOS says: type 20 names the device of a range, type 19 the
//! array whose devices share one (DMTF DSP0134 7.20, 7.21).
//!
//! Firmware seldom tells how modules are interleaved, so an address often has several candidates: all of them are named,
//! never one of them guessed.

use std::fmt;

use smbioslib::{
    MemorySize, SMBiosMemoryArrayMappedAddress, SMBiosMemoryDevice, SMBiosMemoryDeviceMappedAddress,
    SMBiosStruct as _,
};

use super::absences::Absences;
use super::memory;
use super::smbios::Tables;
use crate::host::Host;

const KIB: u64 = 1024;
/// The 32-bit address fields hold this where the 64-bit ones are valid.
const SEE_EXTENDED: u32 = u32::MAX;

/// Ranges of physical addresses and the slots behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DimmMap {
    /// Ranges of type 20.
    devices: Vec<Range>,
    /// Ranges of type 19.
    arrays: Vec<Range>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    first: u64,
    last: u64,
    slots: Vec<String>,
}

/// The slots that an address may lie in; none where the firmware does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots(pub Vec<String>);

impl DimmMap {
    /// Reads the tables; a machine without them knows no slot.
    pub fn read(host: &Host) -> Self {
        // what is missing was noted when the inventory was taken
        let tables = Tables::load(host, &mut Absences::default());
        let mut map = Self { devices: Vec::new(), arrays: Vec::new() };
        for found in tables.all::<SMBiosMemoryDeviceMappedAddress<'_>>() {
            let range = range(
                (found.starting_address(), found.extended_starting_address()),
                (found.ending_address(), found.extended_ending_address()),
            );
            let slots = slots(&tables, |device| {
                found
                    .memory_device_handle()
                    .is_some_and(|handle| handle.0 == device.parts().header.handle().0)
            });
            map.devices.extend(range.map(|(first, last)| Range { first, last, slots }));
        }
        for found in tables.all::<SMBiosMemoryArrayMappedAddress<'_>>() {
            let range = range(
                (found.starting_address(), found.extended_starting_address()),
                (found.ending_address(), found.extended_ending_address()),
            );
            let slots = slots(&tables, |device| {
                let array = found.physical_memory_array_handle();
                array.zip(device.physical_memory_array_handle()).is_some_and(|(one, other)| one.0 == other.0)
            });
            map.arrays.extend(range.map(|(first, last)| Range { first, last, slots }));
        }
        map
    }

    /// The slots that `address` may lie in. What type 20 says goes before what type 19 says.
    pub fn slots_of(&self, address: u64) -> Slots {
        let among = |ranges: &[Range]| {
            let mut slots: Vec<String> = Vec::new();
            for range in ranges.iter().filter(|range| (range.first..=range.last).contains(&address)) {
                for slot in &range.slots {
                    if !slots.contains(slot) {
                        slots.push(slot.clone());
                    }
                }
            }
            slots
        };
        let exact = among(&self.devices);
        Slots(if exact.is_empty() { among(&self.arrays) } else { exact })
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("the firmware does not tell the slot"),
            [slot] => f.write_str(slot),
            many => write!(f, "one of {}", many.join(", ")),
        }
    }
}

/// First and last byte; the 32-bit fields count KiB, the last one whole.
fn range(first: (Option<u32>, Option<u64>), last: (Option<u32>, Option<u64>)) -> Option<(u64, u64)> {
    let first = match first {
        (Some(SEE_EXTENDED), extended) => extended?,
        (plain, _) => u64::from(plain?) * KIB,
    };
    let last = match last {
        (Some(SEE_EXTENDED), extended) => extended?,
        (plain, _) => u64::from(plain?) * KIB + (KIB - 1),
    };
    (first < last).then_some((first, last))
}

/// The slots of those devices that have a module in them, named as the inventory does.
fn slots(tables: &Tables, belongs: impl Fn(&SMBiosMemoryDevice<'_>) -> bool) -> Vec<String> {
    let devices = memory::devices(tables);
    devices
        .iter()
        .filter(|device| !matches!(device.size(), Some(MemorySize::NotInstalled) | None))
        .filter(|device| belongs(device))
        .map(|device| memory::slot(device, &devices))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;

    pub(crate) fn structure(table: &mut Vec<u8>, kind: u8, handle: u16, body: &[u8], strings: &[&str]) {
        table.extend([kind, u8::try_from(body.len() + 4).unwrap()]);
        table.extend(handle.to_le_bytes());
        table.extend(body);
        for string in strings {
            table.extend(string.bytes());
            table.push(0);
        }
        table.extend(if strings.is_empty() { &[0, 0][..] } else { &[0][..] });
    }

    fn device(table: &mut Vec<u8>, handle: u16, slot: &str, mib: u16) {
        device_in_bank(table, handle, (slot, None), mib);
    }

    fn device_in_bank(table: &mut Vec<u8>, handle: u16, (slot, bank): (&str, Option<&str>), mib: u16) {
        let mut body = vec![0_u8; 0x15 - 4];
        body[0..2].copy_from_slice(&0x1000_u16.to_le_bytes());
        body[8..10].copy_from_slice(&mib.to_le_bytes());
        (body[0x10 - 4], body[0x11 - 4]) = (1, if bank.is_some() { 2 } else { 0 });
        let strings: Vec<&str> = [Some(slot), bank].into_iter().flatten().collect();
        structure(table, 17, handle, &body, &strings);
    }

    fn mapped_device(table: &mut Vec<u8>, handle: u16, device: u16, kib: (u32, u32)) {
        let mut body = Vec::new();
        body.extend(kib.0.to_le_bytes());
        body.extend(kib.1.to_le_bytes());
        body.extend(device.to_le_bytes());
        body.extend([0, 0, 1, 0, 0]);
        structure(table, 20, handle, &body, &[]);
    }

    fn mapped_array(table: &mut Vec<u8>, kib: (u32, u32), bytes: (u64, u64)) {
        let mut body = Vec::new();
        body.extend(kib.0.to_le_bytes());
        body.extend(kib.1.to_le_bytes());
        body.extend(0x1000_u16.to_le_bytes());
        body.push(2);
        body.extend(bytes.0.to_le_bytes());
        body.extend(bytes.1.to_le_bytes());
        structure(table, 19, 0x1300, &body, &[]);
    }

    fn map(build: impl Fn(&mut Vec<u8>)) -> DimmMap {
        let folder = tempfile::tempdir().unwrap();
        let mut table = Vec::new();
        build(&mut table);
        write_tables(folder.path(), table);
        DimmMap::read(&Host::recorded(folder.path()))
    }

    pub(crate) fn write_tables(root: &Path, mut table: Vec<u8>) {
        let tables = root.join("sys/firmware/dmi/tables");
        std::fs::create_dir_all(&tables).unwrap();
        structure(&mut table, 127, 0x7f00, &[], &[]);
        std::fs::write(tables.join("DMI"), table).unwrap();
    }

    /// Gives a recorded machine two modules of 1 GiB, `DIMM_A1` below `DIMM_B1`.
    pub(crate) fn two_modules(root: &Path) {
        let mut table = Vec::new();
        device(&mut table, 0x1100, "DIMM_A1", 1024);
        device(&mut table, 0x1101, "DIMM_B1", 1024);
        mapped_device(&mut table, 0x1400, 0x1100, (0, 0xf_ffff));
        mapped_device(&mut table, 0x1401, 0x1101, (0x10_0000, 0x1f_ffff));
        write_tables(root, table);
    }

    #[test]
    fn the_device_of_a_range_is_named() {
        let map = map(|table| {
            device(table, 0x1100, "DIMM_A1", 1024);
            device(table, 0x1101, "DIMM_B1", 1024);
            mapped_device(table, 0x1400, 0x1100, (0, 0xf_ffff));
            mapped_device(table, 0x1401, 0x1101, (0x10_0000, 0x1f_ffff));
        });
        assert_eq!(map.slots_of(0x3fff_ffff), Slots(vec!["DIMM_A1".to_owned()]));
        assert_eq!(map.slots_of(0x4000_0000).to_string(), "DIMM_B1");
        assert_eq!(map.slots_of(0x8000_0000).to_string(), "the firmware does not tell the slot");
    }

    #[test]
    fn interleaved_devices_are_all_named_and_empty_slots_are_not() {
        let map = map(|table| {
            device(table, 0x1100, "DIMM_A1", 1024);
            device(table, 0x1101, "DIMM_B1", 1024);
            device(table, 0x1102, "DIMM_C1", 0);
            for (handle, of) in [(0x1400, 0x1100), (0x1401, 0x1101), (0x1402, 0x1102)] {
                mapped_device(table, handle, of, (0, 0x1f_ffff));
            }
        });
        assert_eq!(map.slots_of(0x1000).to_string(), "one of DIMM_A1, DIMM_B1");
    }

    /// So that a fault's slot is found in the inventory.
    #[test]
    fn slots_are_named_as_the_inventory_does() {
        let named = |slots: [(&str, &str); 2]| {
            let map = map(|table| {
                for (handle, (slot, bank)) in [0x1100, 0x1101].into_iter().zip(slots) {
                    device_in_bank(table, handle, (slot, Some(bank)), 1024);
                    mapped_device(table, handle + 0x300, handle, (0, 0x1f_ffff));
                }
            });
            map.slots_of(0x1000).0
        };
        assert_eq!(named([("A1", "BANK 0"), ("B1", "BANK 1")]), ["A1", "B1"]);
        let alike = named([("DIMM 0", "P0 CHANNEL A"), ("DIMM 0", "P0 CHANNEL B")]);
        assert_eq!(alike, ["DIMM 0 (P0 CHANNEL A)", "DIMM 0 (P0 CHANNEL B)"]);
    }

    #[test]
    fn the_array_says_where_no_device_does_also_above_4_gib_of_kib() {
        let map = map(|table| {
            device(table, 0x1100, "DIMM_A1", 1024);
            mapped_array(table, (u32::MAX, u32::MAX), (0x1_0000_0000, 0x500_ffff_ffff));
        });
        assert_eq!(map.slots_of(0x400_0000_0000).to_string(), "DIMM_A1");
        assert_eq!(map.slots_of(0x1000), Slots(Vec::new()));
    }

    #[test]
    fn a_machine_without_tables_knows_no_slot() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(DimmMap::read(&Host::recorded(folder.path())).slots_of(0), Slots(Vec::new()));
    }
}
