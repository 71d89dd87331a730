//! Who a disk is: model, maker, serial number, world wide name and firmware revision, from the identify data that the
//! kernel keeps in sysfs.
//!
//! For ATA disks the ATA Information VPD page (SAT-5, 12.4.2) is read: the plain SCSI attributes hold only the first
//! 16 characters of the model and 4 of the firmware revision.

use vetting_protocol::inventory::DiskBus;

use super::super::absences::Absences;
use super::super::by_path::ancestor_named;
use crate::host::Host;

/// What identifies a disk.
pub(super) struct Identity {
    pub(super) model: Option<String>,
    pub(super) vendor: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) wwn: Option<String>,
    pub(super) firmware: Option<String>,
}

/// Who the disk is. `place` is where it hangs below `/sys/devices`.
pub(super) fn identity(
    host: &Host,
    name: &str,
    bus: Option<DiskBus>,
    place: Option<&str>,
    absent: &mut Absences,
) -> Identity {
    let block = format!("/sys/block/{name}");
    let device = format!("{block}/device");
    let what = |field: &str| format!("disks.{name}.{field}");
    match bus {
        Some(DiskBus::Nvme) => Identity {
            model: absent.text(&what("model"), host.text(&format!("{device}/model"))),
            vendor: None,
            serial: absent.text(&what("serial"), host.text(&format!("{device}/serial"))),
            wwn: wwn(host, &[format!("{block}/wwid")], &what("wwn"), absent),
            firmware: absent.text(&what("firmware"), host.text(&format!("{device}/firmware_rev"))),
        },
        Some(DiskBus::Virtio) => Identity {
            model: None,
            vendor: None,
            serial: absent.text(&what("serial"), host.text(&format!("{block}/serial"))),
            wwn: None,
            firmware: None,
        },
        Some(DiskBus::Mmc) => Identity {
            model: absent.text(&what("model"), host.text(&format!("{device}/name"))),
            vendor: host.text(&format!("{device}/manfid")).ok(),
            serial: absent.text(&what("serial"), host.text(&format!("{device}/serial"))),
            wwn: None,
            firmware: absent.text(&what("firmware"), host.text(&format!("{device}/fwrev"))),
        },
        Some(DiskBus::Ata) => ata(host, name, absent),
        Some(DiskBus::Scsi | DiskBus::Usb) | None => {
            let serial = scsi_serial(host, &device).or_else(|| {
                let usb = place.filter(|_| bus == Some(DiskBus::Usb))?;
                usb_serial(host, usb)
            });
            if serial.is_none() {
                absent.note(what("serial"), "neither VPD page 80h nor the USB device has one");
            }
            Identity {
                model: absent.text(&what("model"), host.text(&format!("{device}/model"))),
                vendor: host.text(&format!("{device}/vendor")).ok().filter(|vendor| !vendor.is_empty()),
                serial,
                wwn: wwn(host, &[format!("{device}/wwid")], &what("wwn"), absent),
                firmware: absent.text(&what("firmware"), host.text(&format!("{device}/rev"))),
            }
        }
    }
}

fn ata(host: &Host, name: &str, absent: &mut Absences) -> Identity {
    let device = format!("/sys/block/{name}/device");
    let what = |field: &str| format!("disks.{name}.{field}");
    let page = host.bytes(&format!("{device}/vpd_pg89")).ok();
    let words = page.as_deref().and_then(identify_words);
    let from_identify = |first: usize, last: usize| words.and_then(|words| ata_string(words, first, last));
    let serial = from_identify(10, 19).or_else(|| scsi_serial(host, &device));
    if serial.is_none() {
        absent.note(what("serial"), "neither VPD page 89h nor 80h has one");
    }
    let firmware = from_identify(23, 26);
    if firmware.is_none() {
        absent.note(
            what("firmware"),
            "VPD page 89h cannot be read, and the SCSI revision is only a part of it",
        );
    }
    let model = from_identify(27, 46);
    if model.is_none() {
        absent.note(what("model"), "VPD page 89h cannot be read, and the SCSI model is cut at 16 characters");
    }
    Identity {
        model,
        vendor: None,
        serial,
        wwn: wwn(host, &[format!("{device}/wwid")], &what("wwn"), absent),
        firmware,
    }
}

/// The 512 bytes of IDENTIFY DEVICE in an ATA Information VPD page.
fn identify_words(page: &[u8]) -> Option<&[u8]> {
    const PAGE_CODE: u8 = 0x89;
    const IDENTIFY_AT: usize = 60;
    (page.get(1) == Some(&PAGE_CODE)).then(|| page.get(IDENTIFY_AT..IDENTIFY_AT + 512))?
}

/// An ATA string (ACS-4, 3.4.9): two characters a word, the first in the high byte. `last` is included.
fn ata_string(words: &[u8], first: usize, last: usize) -> Option<String> {
    let bytes: Vec<u8> =
        words.get(first * 2..(last + 1) * 2)?.chunks_exact(2).flat_map(|word| [word[1], word[0]]).collect();
    printable(&bytes)
}

/// VPD page 80h (SPC-5, 7.7.19), or the attribute of newer kernels.
fn scsi_serial(host: &Host, device: &str) -> Option<String> {
    if let Some(serial) = host.text(&format!("{device}/serial")).ok().filter(|serial| !serial.is_empty()) {
        return Some(serial);
    }
    let page = host.bytes(&format!("{device}/vpd_pg80")).ok()?;
    let [_, 0x80, high, low, ref text @ ..] = *page.as_slice() else { return None };
    printable(text.get(..usize::from(u16::from_be_bytes([high, low])))?)
}

/// Serial number of the USB device that a disk hangs on.
fn usb_serial(host: &Host, place: &str) -> Option<String> {
    let interface = ancestor_named(place, |name| name.contains(':') && name.contains('-'))?;
    let device = interface.rsplit_once('/')?.0;
    host.text(&format!("{device}/serial")).ok().filter(|serial| !serial.is_empty())
}

/// Text of a device, if it is text.
fn printable(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// A registered name. `t10.…` and `nvme.…` are put together from model and serial number and name nothing new.
fn wwn(host: &Host, paths: &[String], what: &str, absent: &mut Absences) -> Option<String> {
    let found = paths.iter().find_map(|path| host.text(path).ok()).filter(|wwid| {
        ["naa.", "eui.", "uuid.", "0x"].iter().any(|prefix| wwid.to_ascii_lowercase().starts_with(prefix))
    });
    if found.is_none() {
        absent.note(what, "the disk has none");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(serial: &str, firmware: &str, model: &str) -> Vec<u8> {
        let mut page = vec![0_u8; 60 + 512];
        page[1] = 0x89;
        let mut put = |at: usize, words: usize, text: &str| {
            for (position, character) in format!("{text:<width$}", width = words * 2).bytes().enumerate() {
                page[60 + at * 2 + (position ^ 1)] = character;
            }
        };
        put(10, 10, serial);
        put(23, 4, firmware);
        put(27, 20, model);
        page
    }

    #[test]
    fn ata_identify_data_gives_whole_names() {
        let page = page("WD-WCC4N0000000", "82.00A82", "WDC WD20EFRX-68EUZN0");
        let words = identify_words(&page).unwrap();
        assert_eq!(ata_string(words, 10, 19).as_deref(), Some("WD-WCC4N0000000"));
        assert_eq!(ata_string(words, 23, 26).as_deref(), Some("82.00A82"));
        assert_eq!(ata_string(words, 27, 46).as_deref(), Some("WDC WD20EFRX-68EUZN0"));
    }

    #[test]
    fn cut_or_foreign_pages_give_nothing() {
        let whole = page("S", "F", "M");
        assert!(identify_words(&whole[..200]).is_none());
        assert!(identify_words(&[]).is_none());
        let mut foreign = whole.clone();
        foreign[1] = 0x80;
        assert!(identify_words(&foreign).is_none());
        assert_eq!(printable(&[0xff, 0xfe]), None);
        assert_eq!(printable(b"\0\0  \0"), None);
    }
}
