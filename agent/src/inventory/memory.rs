//! Memory: what Linux sees, and what SMBIOS types 16 and 17 say is plugged in.

use procfs::{FromBufRead as _, Meminfo};
use smbioslib::{
    MemoryArrayErrorCorrection, MemoryDeviceType, MemorySize, MemorySizeExtended, MemorySpeed,
    MemorySpeedExtended, SMBiosMemoryDevice, SMBiosPhysicalMemoryArray,
};
use vetting_protocol::inventory::{Dimm, Memory};

use super::absences::Absences;
use super::smbios::{Tables, meaningful, text};
use crate::host::Host;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * 1024;

/// Size and slots of the machine's memory.
pub(super) fn memory(host: &Host, tables: &Tables, absent: &mut Absences) -> Memory {
    let devices = devices(tables);
    let slots = u32::try_from(devices.len()).unwrap_or(u32::MAX);
    let dimms: Vec<Dimm> =
        devices.iter().filter_map(|device| dimm(device, slot(device, &devices), absent)).collect();
    if slots == 0 {
        tables.note_missing("memory.dimms", 17, absent);
    }
    Memory {
        visible_bytes: visible_bytes(host, absent),
        installed_bytes: (slots > 0)
            .then(|| dimms.iter().fold(0_u64, |sum, dimm| sum.saturating_add(dimm.size_bytes))),
        ecc: ecc(tables, absent),
        slots: (slots > 0).then_some(slots),
        dimms,
    }
}

/// The slots for memory modules, with or without one.
pub(super) fn devices(tables: &Tables) -> Vec<SMBiosMemoryDevice<'_>> {
    tables.all().filter(|device| !is_firmware_store(device)).collect()
}

fn visible_bytes(host: &Host, absent: &mut Absences) -> u64 {
    let Some(bytes) = absent.value("memory.visible_bytes", host.bytes("/proc/meminfo")) else {
        return 0;
    };
    match Meminfo::from_buf_read(bytes.as_slice()) {
        Ok(found) => found.mem_total,
        Err(error) => {
            absent.note("memory.visible_bytes", format!("/proc/meminfo: {error}"));
            0
        }
    }
}

/// Whether any array of system memory corrects errors.
fn ecc(tables: &Tables, absent: &mut Absences) -> Option<bool> {
    let mut answer = None;
    for array in tables.all::<SMBiosPhysicalMemoryArray<'_>>() {
        let corrects = match array.memory_error_correction().map(|found| found.value) {
            Some(
                MemoryArrayErrorCorrection::SingleBitEcc
                | MemoryArrayErrorCorrection::MultiBitEcc
                | MemoryArrayErrorCorrection::Crc,
            ) => true,
            Some(MemoryArrayErrorCorrection::NoCorrection | MemoryArrayErrorCorrection::Parity) => false,
            Some(
                MemoryArrayErrorCorrection::Other
                | MemoryArrayErrorCorrection::Unknown
                | MemoryArrayErrorCorrection::None,
            )
            | None => continue,
        };
        answer = Some(answer.unwrap_or(false) || corrects);
    }
    if answer.is_none() {
        absent.note("memory.ecc", "no SMBIOS type 16 structure says");
    }
    answer
}

/// Old boards list the chip of the system ROM among the memory devices.
fn is_firmware_store(device: &SMBiosMemoryDevice<'_>) -> bool {
    device.memory_type().is_some_and(|found| {
        matches!(
            found.value,
            MemoryDeviceType::Flash
                | MemoryDeviceType::Rom
                | MemoryDeviceType::Eeprom
                | MemoryDeviceType::Feprom
                | MemoryDeviceType::Eprom
        )
    })
}

/// What a slot is called: `DIMM_A1`. Boards that name the slots of each channel alike, as most of AMD's do, say which one
/// only in the bank: `DIMM 1 (P0 CHANNEL A)`.
pub(super) fn slot(device: &SMBiosMemoryDevice<'_>, devices: &[SMBiosMemoryDevice<'_>]) -> String {
    let name = |device: &SMBiosMemoryDevice<'_>| {
        meaningful(&device.device_locator()).unwrap_or_else(|| "unnamed slot".to_owned())
    };
    let slot = name(device);
    let is_shared = devices.iter().filter(|other| name(other) == slot).count() > 1;
    match meaningful(&device.bank_locator()).filter(|bank| is_shared && *bank != slot) {
        Some(bank) => format!("{slot} ({bank})"),
        None => slot,
    }
}

/// The module in a slot; none when it is empty.
fn dimm(device: &SMBiosMemoryDevice<'_>, slot: String, absent: &mut Absences) -> Option<Dimm> {
    let what = |field: &str| format!("memory.dimms.{slot}.{field}");
    let size_bytes = match size_bytes(device) {
        Size::Empty => return None,
        Size::Bytes(bytes) => bytes,
        Size::Unknown => {
            absent.note(what("size_bytes"), "SMBIOS type 17 does not say; the slot is left out");
            return None;
        }
    };
    let memory_type = device.memory_type().and_then(|found| type_words(&found.value));
    if memory_type.is_none() {
        absent.note(what("memory_type"), "SMBIOS type 17 does not say");
    }
    let speed_mts = speed(device.speed(), device.extended_speed());
    if speed_mts.is_none() {
        absent.note(what("speed_mts"), "SMBIOS type 17 does not say");
    }
    let configured_mts = speed(device.configured_memory_speed(), device.extended_configured_memory_speed());
    if configured_mts.is_none() {
        absent.note(what("configured_mts"), "SMBIOS type 17 does not say");
    }
    Some(Dimm {
        bank: meaningful(&device.bank_locator()),
        size_bytes,
        memory_type: memory_type.map(str::to_owned),
        speed_mts,
        configured_mts,
        manufacturer: text(&what("manufacturer"), &device.manufacturer(), absent),
        part_number: text(&what("part_number"), &device.part_number(), absent),
        serial: text(&what("serial"), &device.serial_number(), absent),
        ranks: device.attributes().map(|bits| u32::from(bits & 0x0f)).filter(|ranks| *ranks > 0),
        slot,
    })
}

enum Size {
    Empty,
    Unknown,
    Bytes(u64),
}

/// DSP0134 7.18.5: sizes from 32 GiB - 1 MiB on are in the extended field.
fn size_bytes(device: &SMBiosMemoryDevice<'_>) -> Size {
    match device.size() {
        Some(MemorySize::NotInstalled) => Size::Empty,
        Some(MemorySize::Kilobytes(kib)) if kib > 0 => Size::Bytes(u64::from(kib) * KIB),
        Some(MemorySize::Megabytes(mib)) => Size::Bytes(u64::from(mib) * MIB),
        Some(MemorySize::SeeExtendedSize) => match device.extended_size() {
            Some(MemorySizeExtended::Megabytes(mib)) if mib > 0 => Size::Bytes(u64::from(mib) * MIB),
            Some(MemorySizeExtended::Megabytes(_) | MemorySizeExtended::SeeSize) | None => Size::Unknown,
        },
        Some(MemorySize::Kilobytes(_) | MemorySize::Unknown) | None => Size::Unknown,
    }
}

fn speed(plain: Option<MemorySpeed>, extended: Option<MemorySpeedExtended>) -> Option<u32> {
    match plain? {
        MemorySpeed::MTs(speed) => Some(u32::from(speed)).filter(|speed| *speed > 0),
        MemorySpeed::SeeExtendedSpeed => match extended? {
            MemorySpeedExtended::MTs(speed) => Some(speed).filter(|speed| *speed > 0),
            MemorySpeedExtended::SeeSpeed => None,
        },
        MemorySpeed::Unknown => None,
    }
}

/// DSP0134 7.18.2 in the words of the specification.
fn type_words(memory: &MemoryDeviceType) -> Option<&'static str> {
    Some(match memory {
        MemoryDeviceType::Dram => "DRAM",
        MemoryDeviceType::Edram => "EDRAM",
        MemoryDeviceType::Vram => "VRAM",
        MemoryDeviceType::Sram => "SRAM",
        MemoryDeviceType::Ram => "RAM",
        MemoryDeviceType::Rom => "ROM",
        MemoryDeviceType::Flash => "FLASH",
        MemoryDeviceType::Eeprom => "EEPROM",
        MemoryDeviceType::Feprom => "FEPROM",
        MemoryDeviceType::Eprom => "EPROM",
        MemoryDeviceType::Cdram => "CDRAM",
        MemoryDeviceType::ThreeDram => "3DRAM",
        MemoryDeviceType::Sdram => "SDRAM",
        MemoryDeviceType::Sgram => "SGRAM",
        MemoryDeviceType::Rdram => "RDRAM",
        MemoryDeviceType::Ddr => "DDR",
        MemoryDeviceType::Ddr2 => "DDR2",
        MemoryDeviceType::Ddr2Fbdimm => "DDR2 FB-DIMM",
        MemoryDeviceType::Ddr3 => "DDR3",
        MemoryDeviceType::Fbd2 => "FBD2",
        MemoryDeviceType::Ddr4 => "DDR4",
        MemoryDeviceType::Lpddr => "LPDDR",
        MemoryDeviceType::Lpddr2 => "LPDDR2",
        MemoryDeviceType::Lpddr3 => "LPDDR3",
        MemoryDeviceType::Lpddr4 => "LPDDR4",
        MemoryDeviceType::LogicalNonVolatileDevice => "Logical non-volatile device",
        MemoryDeviceType::Hbm => "HBM",
        MemoryDeviceType::Hbm2 => "HBM2",
        MemoryDeviceType::Ddr5 => "DDR5",
        MemoryDeviceType::Lpddr5 => "LPDDR5",
        MemoryDeviceType::Hbm3 => "HBM3",
        MemoryDeviceType::Mrdimm => "MRDIMM",
        MemoryDeviceType::Other | MemoryDeviceType::Unknown | MemoryDeviceType::None => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::dimm_map::tests::{structure, write_tables};
    use super::*;

    /// Names of the modules in four slots that have these locators and banks, the first of each two empty.
    fn slots(of: [(&str, &str); 4]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut table = Vec::new();
        for (number, (locator, bank)) in (0_u16..).zip(of) {
            let mut body = vec![0_u8; 0x15 - 4];
            body[8..10].copy_from_slice(&(number % 2 * 1024).to_le_bytes());
            (body[0x10 - 4], body[0x11 - 4]) = (1, 2);
            structure(&mut table, 17, 0x1100 + number, &body, &[locator, bank]);
        }
        write_tables(folder.path(), table);
        let (host, mut absent) = (Host::recorded(folder.path()), Absences::default());
        let tables = Tables::load(&host, &mut absent);
        let memory = memory(&host, &tables, &mut absent);
        assert_eq!((memory.slots, memory.installed_bytes), (Some(4), Some(2 << 30)));
        memory.dimms.into_iter().map(|dimm| dimm.slot).collect()
    }

    #[test]
    fn slots_that_are_named_alike_are_told_apart_by_their_bank() {
        // an ASRock Rack X570D4U, as AMD's firmware names them
        let amd = slots([
            ("DIMM 0", "P0 CHANNEL A"),
            ("DIMM 1", "P0 CHANNEL A"),
            ("DIMM 0", "P0 CHANNEL B"),
            ("DIMM 1", "P0 CHANNEL B"),
        ]);
        assert_eq!(amd, ["DIMM 1 (P0 CHANNEL A)", "DIMM 1 (P0 CHANNEL B)"]);
        let own = slots([("A1", "BANK 0"), ("A2", "BANK 1"), ("B1", "BANK 2"), ("B2", "BANK 3")]);
        assert_eq!(own, ["A2", "B2"]);
    }
}
