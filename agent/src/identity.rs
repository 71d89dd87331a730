//! What a machine shows of itself when it asks to be taken in: by what it is recognised, and enough for a person to know
//! which one it is. What it does not tell is absent.

use vetting_protocol::enrolment::{Identity, MAX_NICS, PresentedNic};
use vetting_protocol::ids::MacAddress;

use crate::host::Host;

const DMI: &str = "/sys/class/dmi/id";
const NET: &str = "/sys/class/net";

/// SMBIOS system UUID, where it may be read.
pub fn system_uuid(host: &Host) -> Option<String> {
    dmi(host, "product_uuid")
}

/// The network interfaces that stand for hardware.
pub fn nics(host: &Host) -> Vec<PresentedNic> {
    let interfaces = host.list(NET).unwrap_or_default();
    interfaces
        .iter()
        .filter(|name| host.exists(&format!("{NET}/{name}/device")))
        .filter_map(|name| {
            let mac = host.text(&format!("{NET}/{name}/address")).ok()?.parse().ok()?;
            Some(PresentedNic { mac, removable: is_on_usb(host, name) })
        })
        .collect()
}

/// Everything a machine shows; `boot_mac` is the card that the boot loader names.
pub fn present(host: &Host, boot_mac: Option<MacAddress>) -> Identity {
    let mut nics = nics(host);
    nics.truncate(MAX_NICS);
    Identity {
        system_uuid: system_uuid(host),
        manufacturer: dmi(host, "sys_vendor"),
        product: dmi(host, "product_name"),
        system_serial: dmi(host, "product_serial"),
        board_serial: dmi(host, "board_serial"),
        chassis_serial: dmi(host, "chassis_serial"),
        nics,
        boot_mac,
        cpu: host.text("/proc/cpuinfo").ok().as_deref().and_then(cpu_model),
        memory_bytes: host.text("/proc/meminfo").ok().as_deref().and_then(memory_bytes),
        disks: disks(host),
    }
}

fn dmi(host: &Host, field: &str) -> Option<String> {
    host.text(&format!("{DMI}/{field}")).ok().filter(|text| !text.is_empty())
}

/// A card whose device lies below a USB bus.
fn is_on_usb(host: &Host, interface: &str) -> bool {
    let place = host.resolve(&format!("{NET}/{interface}/device"));
    place.is_ok_and(|path| path.split('/').any(|part| part.starts_with("usb")))
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Block devices that stand for hardware.
fn disks(host: &Host) -> Option<u32> {
    let names = host.list("/sys/block").ok()?;
    let real = names.iter().filter(|name| host.exists(&format!("/sys/block/{name}/device")));
    u32::try_from(real.count()).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_machine_shows_what_it_is_and_which_cards_may_be_pulled_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "sys/class/dmi/id/product_uuid", "4c4c4544-0043-3010-8057-b5c04f503332\n");
        write(root, "sys/class/dmi/id/sys_vendor", "Dell Inc.\n");
        write(root, "sys/class/dmi/id/product_serial", "\n");
        write(root, "proc/cpuinfo", "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Gold 6130 CPU\n");
        write(root, "proc/meminfo", "MemTotal:       394872348 kB\nMemFree: 1 kB\n");
        for (name, mac, device) in [
            ("eth0", "b8:ca:3a:00:00:01", "devices/pci0000:00/0000:00:1c.0/0000:01:00.0"),
            ("eth1", "00:e0:4c:68:00:01", "devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0"),
        ] {
            std::fs::create_dir_all(root.join("sys").join(device)).unwrap();
            write(root, &format!("sys/class/net/{name}/address"), mac);
            symlink(format!("../../../{device}"), root.join(format!("sys/class/net/{name}/device"))).unwrap();
        }
        write(root, "sys/class/net/lo/address", "00:00:00:00:00:00");
        std::fs::create_dir_all(root.join("sys/block/sda/device")).unwrap();
        std::fs::create_dir_all(root.join("sys/block/loop0")).unwrap();
        let shown = present(&Host::recorded(root), None);
        assert_eq!(shown.system_uuid.as_deref(), Some("4c4c4544-0043-3010-8057-b5c04f503332"));
        assert_eq!((shown.manufacturer.as_deref(), shown.system_serial), (Some("Dell Inc."), None));
        let cards: Vec<_> = shown.nics.iter().map(|nic| (nic.mac.to_string(), nic.removable)).collect();
        assert_eq!(cards, [("b8:ca:3a:00:00:01".to_owned(), false), ("00:e0:4c:68:00:01".to_owned(), true)]);
        assert_eq!(shown.cpu.as_deref(), Some("Intel(R) Xeon(R) Gold 6130 CPU"));
        assert_eq!((shown.memory_bytes, shown.disks), (Some(394_872_348 * 1024), Some(1)));
    }
}
