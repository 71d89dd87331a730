//! Whole disks from `/sys/block`: what stands for a medium of its own. Loop, RAM, device mapper, md, optical and
//! floppy drives are left out, and so are the hidden paths of multipath NVMe and the boot partitions of eMMC.
//!
//! No tool is run: serial numbers and firmware come from the pages that the kernel keeps.

mod boot_medium;
mod identify;

use vetting_protocol::inventory::{Disk, DiskBus, DiskKind};

use super::absences::Absences;
use super::by_path::{ancestor_named, by_path, is_numbered};
use crate::host::Host;
use identify::{Identity, identity};

const BLOCK: &str = "/sys/block";
const SECTOR_BYTES: u64 = 512;

/// Whole disks, sorted by kernel name.
pub(super) fn disks(host: &Host, absent: &mut Absences) -> Vec<Disk> {
    let Some(names) = absent.value("disks", host.list(BLOCK)) else { return Vec::new() };
    let boot_media = boot_medium::boot_media(host);
    names
        .into_iter()
        .filter(|name| is_disk(host, name))
        .filter_map(|name| {
            let boot_medium = boot_media.contains(&name);
            disk(host, name, boot_medium, absent)
        })
        .collect()
}

/// Whether a block device stands for hardware that holds data.
fn is_disk(host: &Host, name: &str) -> bool {
    const OTHERS: &[&str] =
        &["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "mtdblock", "rbd", "drbd"];
    let other = OTHERS.iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    });
    let part_of_emmc =
        name.strip_prefix("mmcblk").is_some_and(|rest| !rest.bytes().all(|b| b.is_ascii_digit()));
    if other || part_of_emmc {
        return false;
    }
    let is_hidden = host.flag(&format!("{BLOCK}/{name}/hidden")).unwrap_or(false);
    !is_hidden && host.exists(&format!("{BLOCK}/{name}/device"))
}

fn disk(host: &Host, name: String, boot_medium: bool, absent: &mut Absences) -> Option<Disk> {
    let directory = format!("{BLOCK}/{name}");
    let what = |field: &str| format!("disks.{name}.{field}");
    let size_bytes = absent
        .value(&what("size_bytes"), host.number::<u64>(&format!("{directory}/size")))
        .and_then(|sectors| sectors.checked_mul(SECTOR_BYTES))?;
    let removable = host.flag(&format!("{directory}/removable")).unwrap_or(false);
    if removable && size_bytes == 0 {
        absent.note(format!("disks.{name}"), "a drive without a medium in it");
        return None;
    }
    let place = hardware_path(host, &name);
    let bus = place.as_deref().and_then(|place| bus(host, &name, place));
    if bus.is_none() {
        absent.note(what("bus"), "hangs on no bus that is known");
    }
    let rotational = absent.value(&what("rotational"), host.flag(&format!("{directory}/queue/rotational")));
    let Identity { model, vendor, serial, wwn, firmware } =
        identity(host, &name, bus, place.as_deref(), absent);
    let sector = |file: &str, absent: &mut Absences| {
        absent
            .value(&what(file), host.number::<u32>(&format!("{directory}/queue/{file}")))
            .unwrap_or_default()
    };
    let by_path = place.as_deref().and_then(|place| by_path(host, place));
    if by_path.is_none() {
        absent.note(what("by_path"), "its place in sysfs gives no by-path name");
    }
    let kind = kind(bus, rotational, vendor.as_deref());
    if bus == Some(DiskBus::Usb) && kind.is_none() {
        absent.note(what("kind"), "over USB it does not tell whether it rotates");
    }
    Some(Disk {
        kind,
        bus,
        model,
        vendor,
        serial,
        wwn,
        firmware,
        size_bytes,
        logical_sector_bytes: sector("logical_block_size", absent),
        physical_sector_bytes: sector("physical_block_size", absent),
        rotational,
        removable,
        by_path,
        boot_medium,
        name,
    })
}

/// Where the disk hangs below `/sys/devices`. The head of a multipath NVMe namespace hangs nowhere: its first path does.
fn hardware_path(host: &Host, name: &str) -> Option<String> {
    let place = host.resolve(&format!("{BLOCK}/{name}")).ok()?;
    if !place.contains("/nvme-subsystem/") {
        return Some(place);
    }
    let namespace = name.rsplit_once('n')?.1;
    let subsystem = place.rsplit_once('/')?.0;
    let controllers = host.list(subsystem).ok()?;
    controllers.iter().filter(|entry| is_numbered(entry, "nvme")).find_map(|controller| {
        let controller = host.resolve(&format!("{subsystem}/{controller}")).ok()?;
        let path = host
            .list(&controller)
            .ok()?
            .into_iter()
            .find(|entry| entry.starts_with("nvme") && entry.ends_with(&format!("n{namespace}")))?;
        Some(format!("{controller}/{path}"))
    })
}

fn bus(host: &Host, name: &str, place: &str) -> Option<DiskBus> {
    let below = |prefix: &str| ancestor_named(place, |part| is_numbered(part, prefix)).is_some();
    if name.starts_with("nvme") {
        Some(DiskBus::Nvme)
    } else if name.starts_with("mmcblk") {
        Some(DiskBus::Mmc)
    } else if below("usb") {
        Some(DiskBus::Usb)
    } else if name.starts_with("vd") && below("virtio") {
        Some(DiskBus::Virtio)
    } else if host.link_name(&format!("{BLOCK}/{name}/device/subsystem")).is_ok_and(|found| found == "scsi") {
        // A SATA disk behind a SAS HBA is an ATA disk: the SCSI layer writes `ATA` as its vendor.
        let is_ata =
            below("ata") || host.text(&format!("{BLOCK}/{name}/device/vendor")).is_ok_and(|v| v == "ATA");
        Some(if is_ata { DiskBus::Ata } else { DiskBus::Scsi })
    } else {
        None
    }
}

fn kind(bus: Option<DiskBus>, rotational: Option<bool>, vendor: Option<&str>) -> Option<DiskKind> {
    const VIRTUAL_VENDORS: &[&str] = &["QEMU", "VMware", "Msft", "VBOX", "Google", "LIO-ORG", "Linux"];
    match bus {
        Some(DiskBus::Nvme) => Some(DiskKind::Nvme),
        Some(DiskBus::Virtio) => Some(DiskKind::Virtual),
        Some(DiskBus::Scsi | DiskBus::Usb)
            if vendor.is_some_and(|vendor| VIRTUAL_VENDORS.contains(&vendor)) =>
        {
            Some(DiskKind::Virtual)
        }
        Some(DiskBus::Mmc) => Some(DiskKind::Ssd),
        // the kernel asks few bridges and sticks, and takes what it did not ask for rotating
        Some(DiskBus::Usb) => (rotational == Some(false)).then_some(DiskKind::Ssd),
        Some(DiskBus::Ata | DiskBus::Scsi) | None => {
            rotational.map(|rotates| if rotates { DiskKind::Hdd } else { DiskKind::Ssd })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usb_disk_that_is_said_to_rotate_has_no_kind() {
        assert_eq!(kind(Some(DiskBus::Usb), Some(true), Some("SanDisk")), None);
        assert_eq!(kind(Some(DiskBus::Usb), Some(false), Some("Samsung")), Some(DiskKind::Ssd));
        assert_eq!(kind(Some(DiskBus::Usb), Some(true), Some("QEMU")), Some(DiskKind::Virtual));
        assert_eq!(kind(Some(DiskBus::Scsi), Some(true), Some("SEAGATE")), Some(DiskKind::Hdd));
    }
}
