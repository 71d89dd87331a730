//! The parts of a machine that a serial number tells from all others, so that one can be followed from machine to machine.

use vetting_protocol::inventory::Inventory;
use vetting_protocol::named_enum;

named_enum! {
    /// What kind of part it is.
    ComponentKind, "a kind of part" {
        /// The machine as a whole.
        System = "system",
        /// Its main board.
        Board = "board",
        /// A memory module.
        Dimm = "dimm",
        /// A disk.
        Disk = "disk",
        /// A network card, by its MAC address.
        Nic = "nic",
        /// A power supply.
        Psu = "psu",
    }
}

/// A part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// What it is.
    pub kind: ComponentKind,
    /// Serial number.
    pub serial: String,
    /// Model or part number.
    pub model: Option<String>,
    /// Where it is: a slot, or the kernel's name.
    pub place: String,
}

/// The parts of a machine with a serial number of their own. The boot medium is none of them.
pub fn of(inventory: &Inventory) -> Vec<Component> {
    let part = |kind, serial: Option<&String>, model: Option<&String>, place: &str| {
        let serial = serial.map(|serial| serial.trim()).filter(|serial| tells_apart(serial))?;
        Some(Component { kind, serial: serial.to_owned(), model: model.cloned(), place: place.to_owned() })
    };
    let Inventory { system, board, memory, disks, nics, psus, .. } = inventory;
    let whole = [
        part(ComponentKind::System, system.serial.as_ref(), system.product.as_ref(), "machine"),
        part(ComponentKind::Board, board.serial.as_ref(), board.product.as_ref(), "board"),
    ];
    let dimms = memory
        .dimms
        .iter()
        .map(|dimm| part(ComponentKind::Dimm, dimm.serial.as_ref(), dimm.part_number.as_ref(), &dimm.slot));
    let disks = disks.iter().filter(|disk| !disk.boot_medium);
    let disks =
        disks.map(|disk| part(ComponentKind::Disk, disk.serial.as_ref(), disk.model.as_ref(), &disk.name));
    let nics = nics.iter().map(|nic| {
        let mac = nic.mac.map(|mac| mac.to_string());
        part(ComponentKind::Nic, mac.as_ref(), nic.model.as_ref(), &nic.name)
    });
    let psus =
        psus.iter().map(|psu| part(ComponentKind::Psu, psu.serial.as_ref(), psu.model.as_ref(), &psu.slot));
    whole.into_iter().chain(dimms).chain(disks).chain(nics).chain(psus).flatten().collect()
}

/// Makers leave the same words and digits in many parts.
fn tells_apart(serial: &str) -> bool {
    let letters: Vec<char> = serial.chars().filter(char::is_ascii_alphanumeric).collect();
    let is_one_letter = letters.windows(2).all(|pair| pair[0] == pair[1]);
    let lower: String = letters.iter().map(char::to_ascii_lowercase).collect();
    let is_filler =
        ["notspecified", "tobefilledbyoem", "none", "unknown", "default", "defaultstring", "123456789"]
            .iter()
            .any(|filler| lower == *filler || (lower.starts_with(filler) && filler.len() > 8));
    letters.len() >= 4 && !is_one_letter && !is_filler
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_server_has_its_parts() {
        let parts = of(&fixtures::server().0);
        let count = |kind| parts.iter().filter(|part| part.kind == kind).count();
        assert_eq!(count(ComponentKind::Dimm), 12, "{parts:#?}");
        assert_eq!(count(ComponentKind::Disk), 5, "{parts:#?}");
        assert!(parts.iter().all(|part| !part.serial.is_empty() && !part.place.is_empty()));
    }

    #[test]
    fn what_many_parts_have_tells_none_apart() {
        for serial in [
            "",
            "0",
            "00000000",
            "Not Specified",
            "To Be Filled By O.E.M.",
            "123456789ABC",
            "FFFFFFFF",
            "none",
            "----",
        ] {
            assert!(!tells_apart(serial), "{serial}");
        }
        for serial in ["S3Z8NX0K", "PHYF8010", "38F2A1B0", "52:54:00:ab:cd:01"] {
            assert!(tells_apart(serial), "{serial}");
        }
    }
}
