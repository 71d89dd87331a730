//! SMBIOS tables (DMTF DSP0134): system, board, BIOS, chassis and power supplies.
//!
//! Owns what counts as a placeholder: a text that a maker left in the table without meaning it is absent.

use smbioslib::{
    ChassisType, MaxPowerCapacity, SMBiosBaseboardInformation, SMBiosData, SMBiosInformation,
    SMBiosIpmiDeviceInformation, SMBiosString, SMBiosStruct, SMBiosSystemChassisInformation,
    SMBiosSystemInformation, SMBiosSystemPowerSupply,
};
use vetting_protocol::inventory::{Bios, Board, Chassis, Psu, System};

use super::absences::Absences;
use crate::host::Host;

const ENTRY_POINT: &str = "/sys/firmware/dmi/tables/smbios_entry_point";
const TABLE: &str = "/sys/firmware/dmi/tables/DMI";
/// Where the kernel shows the ACPI tables of the firmware.
const ACPI_TABLES: &str = "/sys/firmware/acpi/tables";
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// The machine's SMBIOS structures; none where the machine has no readable table.
pub(super) struct Tables {
    data: SMBiosData,
    /// From SMBIOS 2.6 on, the first three fields of a UUID are little-endian.
    uuid_is_little_endian: bool,
    readable: bool,
}

impl Tables {
    /// Reads the tables as the kernel hands them out.
    pub(super) fn load(host: &Host, absent: &mut Absences) -> Self {
        let version = host.bytes(ENTRY_POINT).ok().and_then(|entry_point| version(&entry_point));
        let bytes = absent.value("smbios", host.bytes(TABLE));
        let readable = bytes.is_some();
        let data = SMBiosData::from_vec_and_version(bytes.unwrap_or_default(), None);
        if readable && data.iter().next().is_none() {
            absent.note("smbios", format!("{TABLE}: holds no structure"));
        }
        Self { data, uuid_is_little_endian: version.is_none_or(|version| version >= (2, 6)), readable }
    }

    /// Every structure of one type, in table order.
    pub(super) fn all<'a, T: SMBiosStruct<'a> + 'a>(&'a self) -> impl Iterator<Item = T> + 'a {
        self.data.defined_struct_iter()
    }

    /// Whether the table tells of a BMC (type 38).
    pub(super) fn tells_of_bmc(&self) -> bool {
        self.all::<SMBiosIpmiDeviceInformation<'_>>().next().is_some()
    }

    /// Why a structure type gives nothing; silent when there is no table at all, which is noted once.
    pub(super) fn note_missing(&self, what: &str, structure_type: u8, absent: &mut Absences) {
        if self.readable {
            absent.note(what, format!("no SMBIOS type {structure_type} structure"));
        }
    }

    /// Type 1.
    pub(super) fn system(&self, absent: &mut Absences) -> System {
        let Some(found) = self.all::<SMBiosSystemInformation<'_>>().next() else {
            self.note_missing("system", 1, absent);
            return System {
                manufacturer: None,
                product: None,
                version: None,
                serial: None,
                uuid: None,
                sku: None,
                family: None,
            };
        };
        let uuid = found
            .parts()
            .get_field_data(0x08, 0x18)
            .and_then(|raw| <[u8; 16]>::try_from(raw).ok())
            .and_then(|raw| uuid_text(raw, self.uuid_is_little_endian));
        if uuid.is_none() {
            absent.note("system.uuid", "SMBIOS type 1 has none, or a placeholder");
        }
        System {
            manufacturer: text("system.manufacturer", &found.manufacturer(), absent),
            product: text("system.product", &found.product_name(), absent),
            version: text("system.version", &found.version(), absent),
            serial: text("system.serial", &found.serial_number(), absent),
            uuid,
            sku: text("system.sku", &found.sku_number(), absent),
            family: text("system.family", &found.family(), absent),
        }
    }

    /// Type 2: the first one, which is the motherboard.
    pub(super) fn board(&self, absent: &mut Absences) -> Board {
        let Some(found) = self.all::<SMBiosBaseboardInformation<'_>>().next() else {
            self.note_missing("board", 2, absent);
            return Board { manufacturer: None, product: None, version: None, serial: None };
        };
        Board {
            manufacturer: text("board.manufacturer", &found.manufacturer(), absent),
            product: text("board.product", &found.product(), absent),
            version: text("board.version", &found.version(), absent),
            serial: text("board.serial", &found.serial_number(), absent),
        }
    }

    /// Type 0 and how the machine booted.
    pub(super) fn bios(&self, host: &Host, absent: &mut Absences) -> Bios {
        let uefi = host.is_directory("/sys/firmware/efi");
        let secure_boot = if uefi { secure_boot(host, absent) } else { None };
        let tables = host.list(ACPI_TABLES).ok().filter(|tables| !tables.is_empty());
        let iommu = tables.map(|tables| tables.iter().any(|name| name == "DMAR" || name == "IVRS"));
        let Some(found) = self.all::<SMBiosInformation<'_>>().next() else {
            self.note_missing("bios", 0, absent);
            return Bios { vendor: None, version: None, release_date: None, uefi, secure_boot, iommu };
        };
        Bios {
            vendor: text("bios.vendor", &found.vendor(), absent),
            version: text("bios.version", &found.version(), absent),
            release_date: text("bios.release_date", &found.release_date(), absent),
            uefi,
            secure_boot,
            iommu,
        }
    }

    /// Type 3: the first one, which is the enclosure itself.
    pub(super) fn chassis(&self, absent: &mut Absences) -> Chassis {
        let Some(found) = self.all::<SMBiosSystemChassisInformation<'_>>().next() else {
            self.note_missing("chassis", 3, absent);
            return Chassis { manufacturer: None, chassis_type: None, serial: None, asset_tag: None };
        };
        let chassis_type = found.chassis_type().and_then(|found| chassis_words(&found.value));
        if chassis_type.is_none() {
            absent.note("chassis.chassis_type", "SMBIOS type 3 does not say");
        }
        Chassis {
            manufacturer: text("chassis.manufacturer", &found.manufacturer(), absent),
            chassis_type: chassis_type.map(str::to_owned),
            serial: text("chassis.serial", &found.serial_number(), absent),
            asset_tag: text("chassis.asset_tag", &found.asset_tag_number(), absent),
        }
    }

    /// Type 39.
    pub(super) fn psus(&self, absent: &mut Absences) -> Vec<Psu> {
        let mut psus = Vec::new();
        for (position, found) in self.all::<SMBiosSystemPowerSupply<'_>>().enumerate() {
            let names =
                [found.location(), found.device_name(), found.manufacturer(), found.model_part_number()];
            if !names.iter().any(|name| meaningful(name).is_some()) {
                absent
                    .note("psus", format!("SMBIOS type 39 structure {} has only placeholders", position + 1));
                continue;
            }
            let slot = meaningful(&found.location())
                .or_else(|| meaningful(&found.device_name()))
                .unwrap_or_else(|| format!("PSU {}", position + 1));
            let what = |field: &str| format!("psus.{slot}.{field}");
            let max_watts = match found.max_power_capacity() {
                Some(MaxPowerCapacity::Watts(watts)) if watts > 0 => Some(u32::from(watts)),
                Some(MaxPowerCapacity::Watts(_) | MaxPowerCapacity::Unknown) | None => {
                    absent.note(what("max_watts"), "SMBIOS type 39 does not say");
                    None
                }
            };
            psus.push(Psu {
                manufacturer: text(&what("manufacturer"), &found.manufacturer(), absent),
                model: text(&what("model"), &found.model_part_number(), absent),
                serial: text(&what("serial"), &found.serial_number(), absent),
                max_watts,
                present: found.power_supply_characteristics().map(|bits| bits.is_present()),
                slot,
            });
        }
        if self.all::<SMBiosSystemPowerSupply<'_>>().next().is_none() {
            self.note_missing("psus", 39, absent);
        }
        psus
    }
}

/// Version in an entry point structure, `_SM3_` (64 bit) or `_SM_` (32 bit).
fn version(entry_point: &[u8]) -> Option<(u8, u8)> {
    let at = if entry_point.starts_with(b"_SM3_") {
        7
    } else if entry_point.starts_with(b"_SM_") {
        6
    } else {
        return None;
    };
    Some((*entry_point.get(at)?, *entry_point.get(at + 1)?))
}

/// A UUID in lower case; none when all bits are equal (DSP0134 7.2.1).
fn uuid_text(mut raw: [u8; 16], little_endian: bool) -> Option<String> {
    /// What American Megatrends' firmware has until a maker sets another.
    const PLACEHOLDER: [u8; 16] = [0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 9];
    if raw == [0; 16] || raw == [0xff; 16] || raw == PLACEHOLDER {
        return None;
    }
    if little_endian {
        raw[0..4].reverse();
        raw[4..6].reverse();
        raw[6..8].reverse();
    }
    let mut text = String::with_capacity(36);
    for (position, byte) in raw.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for nibble in [byte >> 4, byte & 0x0f] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    Some(text)
}

/// UEFI 2.10, 3.3: the variable is one byte after four bytes of attributes.
fn secure_boot(host: &Host, absent: &mut Absences) -> Option<bool> {
    let bytes = absent.value("bios.secure_boot", host.bytes(SECURE_BOOT))?;
    match bytes.as_slice() {
        [_, _, _, _, 0] => Some(false),
        [_, _, _, _, 1] => Some(true),
        _ => {
            absent.note("bios.secure_boot", format!("{SECURE_BOOT}: is no boolean variable"));
            None
        }
    }
}

/// A string of the table, if it means something; else a note of why it is absent.
pub(super) fn text(what: &str, found: &SMBiosString, absent: &mut Absences) -> Option<String> {
    let text = meaningful(found);
    if text.is_none() {
        let reason = match found.to_utf8_lossy() {
            Some(placeholder) if !placeholder.trim().is_empty() => {
                format!("the firmware has the placeholder `{}`", placeholder.trim())
            }
            Some(_) | None => "the firmware left it empty".to_owned(),
        };
        absent.note(what, reason);
    }
    text
}

/// A string of the table, if it means something.
pub(super) fn meaningful(found: &SMBiosString) -> Option<String> {
    let text = found.to_utf8_lossy()?;
    let text = text.trim();
    (!is_placeholder(text)).then(|| text.to_owned())
}

/// Whether a maker left this text in a table without meaning it.
pub(crate) fn is_placeholder(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "to be filled by o.e.m",
        "to be filled by oem",
        "to be filled by odm",
        "tbd by odm",
        "tbd by oem",
        "not settable",
        "not specified",
        "not available",
        "not provided",
        "not applicable",
        "not present",
        "not installed",
        "default string",
        "default_string",
        "no dimm",
        "no module installed",
        "empty",
        "none",
        "null",
        "n/a",
        "na",
        "oem",
        "o.e.m",
        "unknown",
        "undefined",
        "unspecified",
        "system manufacturer",
        "system product name",
        "system version",
        "system serial number",
        "base board serial number",
        "chassis manufacturer",
        "chassis serial number",
        "chassis version",
        "asset-1234567890",
        "asset tag",
        "no asset tag",
        "no asset information",
        "serial number",
        "sku",
        "1234567890",
        "0123456789",
        "01234567890123456789ab",
        "123456789",
        "invalid",
        "bad index",
        "type1productconfigid",
        "type2 - board manufacturer",
        "type2 - board product name1",
        "type2 - board version",
        "type2 - board serial number",
    ];
    let text = text.trim().trim_end_matches('.').to_ascii_lowercase();
    let filler = |character| matches!(character, '0' | 'f' | 'x' | '.' | '-' | ' ' | '_' | '*' | '?');
    let slot_words = ["array", "dimm", "node", "proc"];
    let names_its_slot = |suffix: &str| {
        // American Megatrends boards write `DIMM_A1_SerNum`, `Array1_PartNumber0` into empty fields.
        text.ends_with(suffix) || text.trim_end_matches(|c: char| c.is_ascii_digit()).ends_with(suffix)
    };
    text.chars().all(filler)
        || WORDS.contains(&text.as_str())
        || slot_words.iter().any(|word| text.contains(word))
            && ["sernum", "serialnumber", "partnumber", "partnum", "manufacturer", "assettag", "assettagnum"]
                .iter()
                .any(|suffix| names_its_slot(suffix))
}

/// DSP0134 7.4.1 in the words of the specification.
fn chassis_words(chassis: &ChassisType) -> Option<&'static str> {
    Some(match chassis {
        ChassisType::Desktop => "Desktop",
        ChassisType::LowProfileDesktop => "Low Profile Desktop",
        ChassisType::PizzaBox => "Pizza Box",
        ChassisType::MiniTower => "Mini Tower",
        ChassisType::Tower => "Tower",
        ChassisType::Portable => "Portable",
        ChassisType::Laptop => "Laptop",
        ChassisType::Notebook => "Notebook",
        ChassisType::HandHeld => "Hand Held",
        ChassisType::DockingStation => "Docking Station",
        ChassisType::AllInOne => "All in One",
        ChassisType::SubNotebook => "Sub Notebook",
        ChassisType::SpaceSaving => "Space-saving",
        ChassisType::LunchBox => "Lunch Box",
        ChassisType::MainServerChassis => "Main Server Chassis",
        ChassisType::ExpansionChassis => "Expansion Chassis",
        ChassisType::SubChassis => "SubChassis",
        ChassisType::BusExpansionChassis => "Bus Expansion Chassis",
        ChassisType::PeripheralChassis => "Peripheral Chassis",
        ChassisType::RaidChassis => "RAID Chassis",
        ChassisType::RackMountChassis => "Rack Mount Chassis",
        ChassisType::SealedCasePC => "Sealed-case PC",
        ChassisType::MultiSystemChassis => "Multi-system Chassis",
        ChassisType::CompactPci => "Compact PCI",
        ChassisType::AdvancedTca => "Advanced TCA",
        ChassisType::Blade => "Blade",
        ChassisType::BladeEnclosure => "Blade Enclosure",
        ChassisType::Tablet => "Tablet",
        ChassisType::Convertible => "Convertible",
        ChassisType::Detachable => "Detachable",
        ChassisType::IoTGateway => "IoT Gateway",
        ChassisType::EmbeddedPC => "Embedded PC",
        ChassisType::MiniPC => "Mini PC",
        ChassisType::StickPC => "Stick PC",
        ChassisType::Other | ChassisType::Unknown | ChassisType::None => return None,
    })
}
