//! PCI functions, their names from the PCI id list, their PCIe links, and the GPUs among them.

use pci_ids::{Device, FromId as _, Vendor};
use vetting_protocol::inventory::{Controller, Gpu, PciDevice, PcieLink};

use super::absences::Absences;
use crate::host::Host;

const DEVICES: &str = "/sys/bus/pci/devices";

/// Every PCI function, sorted by address.
pub(super) fn devices(host: &Host, absent: &mut Absences) -> Vec<PciDevice> {
    let Some(mut addresses) = absent.value("pci", host.list(DEVICES)) else { return Vec::new() };
    addresses.sort_unstable();
    addresses.into_iter().filter_map(|address| device(host, address, absent)).collect()
}

fn device(host: &Host, address: String, absent: &mut Absences) -> Option<PciDevice> {
    let directory = format!("{DEVICES}/{address}");
    let what = format!("pci.{address}");
    let vendor = absent.value(&what, id(host, &format!("{directory}/vendor")))?;
    let device = absent.value(&what, id(host, &format!("{directory}/device")))?;
    let class = absent.value(&what, host.hex(&format!("{directory}/class")))?;
    let device = PciDevice {
        vendor_id: format!("{vendor:04x}"),
        device_id: format!("{device:04x}"),
        class: format!("{:06x}", class & 0x00ff_ffff),
        vendor: Vendor::from_id(vendor).map(|vendor| vendor.name().to_owned()),
        device: Device::from_vid_pid(vendor, device).map(|device| device.name().to_owned()),
        driver: host.link_name(&format!("{directory}/driver")).ok(),
        // The kernel writes -1 where there is no NUMA, which is no u32.
        numa_node: host.number(&format!("{directory}/numa_node")).ok(),
        link: link(host, &directory),
        address,
    };
    if let (None, Some(controller)) = (device.working_driver(), device.controller()) {
        let unseen = match controller {
            Controller::Storage => "disks behind this storage controller are not seen",
            Controller::Network => "this network controller is not seen as an interface",
        };
        let why = match &device.driver {
            None => "no driver took it".to_owned(),
            Some(keeper) => format!("{keeper} only keeps it"),
        };
        absent.note(format!("{what}.driver"), format!("{why}: {unseen}"));
    }
    Some(device)
}

fn id(host: &Host, path: &str) -> Result<u16, crate::host::HostError> {
    // Ids are 16 bits wide; what is beyond cannot be one and will match no name.
    host.hex(path).map(|id| u16::try_from(id).unwrap_or(u16::MAX))
}

/// None for functions that are not PCIe, and for ports with nothing plugged in (width 0 or speed `Unknown`).
fn link(host: &Host, directory: &str) -> Option<PcieLink> {
    let width = |file: &str| {
        host.number::<u32>(&format!("{directory}/{file}")).ok().filter(|width| (1..=32).contains(width))
    };
    let speed = |file: &str| host.link_speed_gts(&format!("{directory}/{file}")).ok();
    Some(PcieLink {
        width: width("current_link_width")?,
        max_width: width("max_link_width")?,
        speed_gts: speed("current_link_speed")?,
        max_speed_gts: speed("max_link_speed")?,
    })
}

/// Display controllers (class 03) and processing accelerators (class 12), without the VGA of BMCs and the screens of virtual
/// machines: what PCI tells of them.
pub(super) fn gpus(devices: &[PciDevice]) -> Vec<Gpu> {
    devices
        .iter()
        .filter(|device| device.class.starts_with("03") || device.class.starts_with("1200"))
        .filter(|device| !is_screen(device))
        .map(|device| Gpu {
            pci_address: device.address.clone(),
            model: device.model(),
            driver: device.driver.clone(),
            serial: None,
            vbios_version: None,
            memory_bytes: None,
        })
        .collect()
}

/// The VGA of a BMC, which shows its remote console, or the screen of a virtual machine (PCI id list): it computes nothing.
pub(crate) fn is_screen(device: &PciDevice) -> bool {
    /// Who make nothing else that shows: Cirrus, Matrox, QEMU and Bochs, VMware, ASPEED, virtio, Red Hat (QXL).
    const VENDORS: [&str; 7] = ["1013", "102b", "1234", "15ad", "1a03", "1af4", "1b36"];
    /// Hyper-V, VirtualBox.
    const SCREENS: [(&str, &str); 2] = [("1414", "5353"), ("80ee", "beef")];
    let ids = (device.vendor_id.as_str(), device.device_id.as_str());
    VENDORS.contains(&ids.0) || SCREENS.contains(&ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(class: &str, vendor_id: &str, device_id: &str) -> PciDevice {
        PciDevice {
            address: format!("0000:{device_id}"),
            vendor_id: vendor_id.to_owned(),
            device_id: device_id.to_owned(),
            class: class.to_owned(),
            vendor: None,
            device: None,
            driver: None,
            numa_node: None,
            link: None,
        }
    }

    #[test]
    fn a_controller_that_is_only_kept_for_a_guest_is_not_seen() {
        let folder = tempfile::tempdir().unwrap();
        let of = |address: &str, driver: &str| {
            let directory = folder.path().join("sys/bus/pci/devices").join(address);
            std::fs::create_dir_all(&directory).unwrap();
            for (file, text) in [("vendor", "0x1000\n"), ("device", "0x0060\n"), ("class", "0x010400\n")] {
                std::fs::write(directory.join(file), text).unwrap();
            }
            std::os::unix::fs::symlink(format!("../../drivers/{driver}"), directory.join("driver")).unwrap();
        };
        of("0000:03:00.0", "vfio-pci");
        of("0000:04:00.0", "megaraid_sas");
        let mut absent = Absences::default();
        let found = devices(&Host::recorded(folder.path()), &mut absent);
        assert_eq!(found[0].driver.as_deref(), Some("vfio-pci"));
        let told: Vec<_> =
            absent.into_list().into_iter().map(|absence| (absence.what, absence.reason)).collect();
        let why = "vfio-pci only keeps it: disks behind this storage controller are not seen";
        assert_eq!(told, [("pci.0000:03:00.0.driver".to_owned(), why.to_owned())]);
    }

    #[test]
    fn the_vga_of_a_bmc_and_the_screen_of_a_virtual_machine_are_no_gpus() {
        let found = gpus(&[
            function("038000", "1234", "1111"),
            function("030000", "1af4", "1050"),
            function("030000", "1a03", "2000"),
            function("030000", "102b", "0536"),
            function("030000", "102b", "0d80"),
            function("030000", "1414", "5353"),
            function("030000", "80ee", "beef"),
            function("120000", "1414", "0001"),
            function("030000", "10de", "2bb1"),
            function("030200", "10de", "2330"),
            function("120000", "1002", "74a1"),
        ]);
        let found: Vec<&str> = found.iter().map(|gpu| gpu.pci_address.as_str()).collect();
        assert_eq!(found, ["0000:0001", "0000:2bb1", "0000:2330", "0000:74a1"]);
    }
}
