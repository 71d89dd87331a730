//! Names below `/dev/disk/by-path` as udev's `path_id` builtin makes them, for a live system that has no udev.
//!
//! For ATA disks it is the form without the target number (`ata-1`) that every udev version gives the first target.

use crate::host::Host;

/// The by-path name of a block device, given its place below `/sys/devices`. None when it hangs on no bus that
/// `path_id` knows.
pub(super) fn by_path(host: &Host, device: &str) -> Option<String> {
    let mut parts = Vec::new();
    let mut on_bus = false;
    let mut at = device.to_owned();
    while let Some((parent, name)) = at.rsplit_once('/') {
        if parent.is_empty() || at == "/sys/devices" {
            break;
        }
        match host.link_name(&format!("{at}/subsystem")).ok().as_deref() {
            Some("scsi") => {
                let scsi_host = ancestor_named(&at, is_scsi_host)?;
                parts.push(scsi(host, &at, name, &scsi_host)?);
                at = above(&scsi_host)?;
                continue;
            }
            Some("nvme") => {
                let namespace: u32 = host.number(&format!("{device}/nsid")).ok()?;
                parts.push(format!("nvme-{namespace}"));
            }
            Some("usb") => {
                parts.push(format!("usb-0:{}", name.split_once('-')?.1));
                at = skip(host, &at, "usb")?;
                on_bus = true;
                continue;
            }
            Some("pci") => {
                parts.push(format!("pci-{name}"));
                at = skip(host, &at, "pci")?;
                on_bus = true;
                continue;
            }
            Some("platform") => {
                parts.push(format!("platform-{name}"));
                at = skip(host, &at, "platform")?;
                on_bus = true;
                continue;
            }
            Some(_) | None => {}
        }
        at = parent.to_owned();
    }
    parts.reverse();
    on_bus.then(|| parts.join("-"))
}

/// The part of a SCSI device `host:channel:target:lun`.
fn scsi(host: &Host, device: &str, name: &str, scsi_host: &str) -> Option<String> {
    let mut numbers = name.split(':').map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (host_number, channel, target, lun) = (next()?, next()?, next()?, next()?);
    if let Some(port) = ancestor_named(device, is_ata_port) {
        let port_name = port.rsplit_once('/')?.1;
        let number: u32 = host.number(&format!("{port}/ata_port/{port_name}/port_no")).ok()?;
        return Some(match (channel, target) {
            (0, 0) => format!("ata-{number}"),
            (0, target) => format!("ata-{number}.{target}"),
            (channel, _) => format!("ata-{number}.{channel}.0"),
        });
    }
    if let Some(end_device) = ancestor_named(device, |name| name.starts_with("end_device-")) {
        return sas(host, &end_device, lun);
    }
    let first = host
        .list(&above(scsi_host)?)
        .ok()?
        .iter()
        .filter_map(|sibling| sibling.strip_prefix("host")?.parse::<u64>().ok())
        .min()?;
    Some(format!("scsi-{}:{channel}:{target}:{lun}", host_number.checked_sub(first)?))
}

/// A SAS end device: by phy on the HBA or expander it hangs on, or by its address behind a wide port.
fn sas(host: &Host, end_device: &str, lun: u64) -> Option<String> {
    let (port, end_device_name) = end_device.rsplit_once('/')?;
    let device = format!("{end_device}/sas_device/{end_device_name}");
    let (above_port, port_name) = port.rsplit_once('/')?;
    let phys: u32 = host.number(&format!("{port}/sas_port/{port_name}/num_phys")).ok()?;
    if phys != 1 {
        let address = host.text(&format!("{device}/sas_address")).ok()?;
        return Some(format!("sas-{address}-lun-{lun}"));
    }
    let phy: u32 = host.number(&format!("{device}/phy_identifier")).ok()?;
    let above_name = above_port.rsplit_once('/')?.1;
    match host.text(&format!("{above_port}/sas_device/{above_name}/sas_address")) {
        Ok(expander) => Some(format!("sas-exp{expander}-phy{phy}-lun-{lun}")),
        Err(_) => Some(format!("sas-phy{phy}-lun-{lun}")),
    }
}

fn is_scsi_host(name: &str) -> bool {
    is_numbered(name, "host")
}

fn is_ata_port(name: &str) -> bool {
    is_numbered(name, "ata")
}

/// Whether a name is `prefix` and digits.
pub(super) fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The nearest directory above `path`, or itself, whose name is as wanted.
pub(super) fn ancestor_named(path: &str, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let mut at = path;
    loop {
        let (parent, name) = at.rsplit_once('/')?;
        if wanted(name) {
            return Some(at.to_owned());
        }
        at = parent;
    }
}

fn above(path: &str) -> Option<String> {
    path.rsplit_once('/').map(|(parent, _)| parent.to_owned())
}

/// The first directory above `path` that is not of this subsystem.
fn skip(host: &Host, path: &str, subsystem: &str) -> Option<String> {
    let mut at = path.to_owned();
    while host.link_name(&format!("{at}/subsystem")).is_ok_and(|found| found == subsystem) {
        at = above(&at)?;
    }
    Some(at)
}
