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
        ecc: ecc(tables, &devices, absent),
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

/// Whether the memory corrects errors: what the arrays of system memory say (type 16). Where a module has no bits for it
/// (type 17), that is not known: one of the two is wrong.
fn ecc(tables: &Tables, devices: &[SMBiosMemoryDevice<'_>], absent: &mut Absences) -> Option<bool> {
    let corrects = arrays_correct(tables, absent)?;
    let without: Vec<String> = devices
        .iter()
        .filter(|device| corrects && has_no_check_bits(device))
        .map(|device| slot(device, devices))
        .collect();
    if without.is_empty() {
        return Some(corrects);
    }
    let reason = format!(
        "SMBIOS type 16 says that errors are corrected, but by type 17 modules have no bits for it: {}",
        without.join(", ")
    );
    absent.note("memory.ecc", reason);
    None
}

/// A module no wider than its data, which are a plain number of bits: many boards write the width of an ECC module (72, DDR5's
/// 80) in both places. Memory that is no DIMM (HBM, LPDDR) may correct errors all the same.
fn has_no_check_bits(device: &SMBiosMemoryDevice<'_>) -> bool {
    let is_dimm = device.memory_type().is_some_and(|found| {
        matches!(
            found.value,
            MemoryDeviceType::Ddr
                | MemoryDeviceType::Ddr2
                | MemoryDeviceType::Ddr2Fbdimm
                | MemoryDeviceType::Ddr3
                | MemoryDeviceType::Ddr4
                | MemoryDeviceType::Ddr5
                | MemoryDeviceType::Mrdimm
        )
    });
    // DSP0134 7.18: FFFFh is not known
    let known = |width: Option<u16>| width.filter(|width| !matches!(width, 0 | 0xffff));
    let widths = known(device.total_width()).zip(known(device.data_width()));
    is_dimm
        && matches!(size_bytes(device), Size::Bytes(_))
        && widths.is_some_and(|(total, data)| total <= data && total.is_power_of_two())
}

/// Whether any array of system memory corrects errors.
fn arrays_correct(tables: &Tables, absent: &mut Absences) -> Option<bool> {
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

    /// ECC by type 16 (its error correction) and modules of these total widths, data widths and types; and what is noted.
    fn ecc_of(correction: u8, modules: &[(u16, u16, u8)]) -> (Option<bool>, String) {
        let folder = tempfile::tempdir().unwrap();
        let mut table = Vec::new();
        let mut array = vec![0_u8; 0x0f - 4];
        (array[0x05 - 4], array[0x06 - 4]) = (3, correction);
        structure(&mut table, 16, 0x1000, &array, &[]);
        for (number, (total, data, memory_type)) in (0_u16..).zip(modules) {
            let mut body = vec![0_u8; 0x15 - 4];
            body[0x08 - 4..0x0a - 4].copy_from_slice(&total.to_le_bytes());
            body[0x0a - 4..0x0c - 4].copy_from_slice(&data.to_le_bytes());
            body[0x0c - 4..0x0e - 4].copy_from_slice(&1024_u16.to_le_bytes());
            (body[0x10 - 4], body[0x12 - 4]) = (1, *memory_type);
            structure(&mut table, 17, 0x1100 + number, &body, &[&format!("DIMM_{number}")]);
        }
        write_tables(folder.path(), table);
        let (host, mut absent) = (Host::recorded(folder.path()), Absences::default());
        let tables = Tables::load(&host, &mut absent);
        let ecc = memory(&host, &tables, &mut absent).ecc;
        let noted = absent.into_list().into_iter().find(|absence| absence.what == "memory.ecc");
        (ecc, noted.map(|absence| absence.reason).unwrap_or_default())
    }

    #[test]
    fn errors_are_corrected_where_arrays_and_modules_agree() {
        let (none, multi_bit) = (3, 6);
        let (ddr4, hbm) = (0x1a, 0x20);
        for (correction, modules, ecc) in [
            (multi_bit, [(72, 64, ddr4), (72, 64, ddr4)], Some(true)),
            // as many boards write them for modules with ECC
            (multi_bit, [(72, 72, ddr4), (80, 80, ddr4)], Some(true)),
            // not known, as QEMU says, and memory that is no module
            (multi_bit, [(0xffff, 0xffff, ddr4), (64, 64, hbm)], Some(true)),
            (none, [(72, 64, ddr4), (72, 64, ddr4)], Some(false)),
            (none, [(64, 64, ddr4), (64, 64, ddr4)], Some(false)),
        ] {
            assert_eq!(ecc_of(correction, &modules), (ecc, String::new()), "{modules:?}");
        }
        let (ecc, noted) = ecc_of(multi_bit, &[(72, 64, ddr4), (64, 64, ddr4)]);
        assert!(ecc.is_none() && noted.ends_with("no bits for it: DIMM_1"), "{noted}");
    }

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
