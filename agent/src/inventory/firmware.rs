//! Firmware versions of a machine's parts: bios, bmc, nic, hba, microcode, nvme_fw.

use serde_json::json;
use vetting_protocol::firmware::{FirmwareComponent, FirmwareReport, FirmwareVersion};
use vetting_protocol::inventory::{Inventory, Nic, PciDevice};

use super::absences::Absences;
use super::bmc::{ask, error_chain};
use super::by_path::{ancestor_named, is_numbered};
use super::cpu;
use crate::host::Host;
use crate::tools::ethtool;
use crate::tools::runner::ToolRunner;

/// Every firmware version that the machine tells, and what could not be read.
pub fn collect(host: &Host, tools: &dyn ToolRunner, inventory: &Inventory) -> FirmwareReport {
    let mut absent = Absences::default();
    let mut versions = Vec::new();
    versions.extend(bios(inventory, &mut absent));
    versions.extend(bmc(inventory, &mut absent));
    versions.extend(inventory.nics.iter().filter_map(|nic| of_nic(tools, nic, inventory, &mut absent)));
    versions.extend(hbas(host, inventory, &mut absent));
    versions.extend(microcode(host, inventory, &mut absent));
    versions.extend(nvme(host, inventory, &mut absent));
    versions
        .sort_by(|left, right| (left.component, &left.identifier).cmp(&(right.component, &right.identifier)));
    FirmwareReport { versions, absent: absent.into_list() }
}

fn bios(inventory: &Inventory, absent: &mut Absences) -> Option<FirmwareVersion> {
    let Some(version) = inventory.bios.version.clone() else {
        absent.note("bios", "SMBIOS type 0 has no version");
        return None;
    };
    Some(FirmwareVersion {
        component: FirmwareComponent::Bios,
        identifier: "bios".to_owned(),
        version,
        vendor: inventory.bios.vendor.clone().unwrap_or_default(),
        raw: json!({
            "release_date": inventory.bios.release_date,
            "uefi": inventory.bios.uefi,
            "secure_boot": inventory.bios.secure_boot,
        }),
    })
}

fn bmc(inventory: &Inventory, absent: &mut Absences) -> Option<FirmwareVersion> {
    let Some((bmc, version)) = inventory.bmc.as_ref().and_then(|bmc| Some((bmc, bmc.firmware.clone()?)))
    else {
        absent.note("bmc", "no BMC answers");
        return None;
    };
    Some(FirmwareVersion {
        component: FirmwareComponent::Bmc,
        identifier: "bmc".to_owned(),
        version,
        vendor: bmc.manufacturer.clone().unwrap_or_default(),
        raw: json!({ "product": bmc.product, "ipmi_version": bmc.ipmi_version }),
    })
}

/// NICs that are PCI functions of their own; virtio ones have no firmware.
fn of_nic(
    tools: &dyn ToolRunner,
    nic: &Nic,
    inventory: &Inventory,
    absent: &mut Absences,
) -> Option<FirmwareVersion> {
    let address = nic.pci_address.as_ref().filter(|_| nic.driver.as_deref() != Some("virtio_net"))?;
    let what = format!("nic.{}", nic.name);
    let info = match ask(tools, &ethtool::driver_invocation(&nic.name), ethtool::parse_driver) {
        Ok(info) => info,
        Err(error) => {
            absent.note(what, error_chain(&error));
            return None;
        }
    };
    let Some(version) = info.firmware_version else {
        absent.note(what, format!("driver {} does not say", info.driver));
        return None;
    };
    Some(FirmwareVersion {
        component: FirmwareComponent::Nic,
        identifier: address.clone(),
        version,
        vendor: pci_device(inventory, address).and_then(|device| device.vendor.clone()).unwrap_or_default(),
        raw: json!({
            "interface": nic.name,
            "model": nic.model,
            "driver": info.driver,
            "expansion_rom_version": info.expansion_rom_version,
        }),
    })
}

fn pci_device<'a>(inventory: &'a Inventory, address: &str) -> Option<&'a PciDevice> {
    inventory.pci.iter().find(|device| device.address == address)
}

/// Storage controllers with firmware of their own: SCSI hosts whose driver shows a version.
fn hbas(host: &Host, inventory: &Inventory, absent: &mut Absences) -> Vec<FirmwareVersion> {
    /// Attributes of mpt3sas; qla2xxx, bfa; lpfc; smartpqi; hpsa; arcmsr; aacraid.
    const VERSIONS: &[&str] = &[
        "version_fw",
        "fw_version",
        "fwrev",
        "firmware_version",
        "firmware_revision",
        "host_fw_version",
        "hba_kernel_version",
    ];
    /// Attributes that name the board, of the same drivers.
    const BOARDS: &[&str] =
        &["board_name", "model_name", "modelname", "host_fw_model", "model", "serial_number"];
    let mut versions: Vec<FirmwareVersion> = Vec::new();
    for name in host.list("/sys/class/scsi_host").unwrap_or_default() {
        let directory = format!("/sys/class/scsi_host/{name}");
        let Some(address) = controller(host, &directory, inventory) else { continue };
        // One controller has several SCSI hosts where each port is one.
        if versions.iter().any(|known| known.identifier == address.address) || !is_hba(address) {
            continue;
        }
        let found = VERSIONS.iter().find_map(|attribute| {
            host.text(&format!("{directory}/{attribute}")).ok().filter(|text| !text.is_empty())
        });
        let driver = address.driver.clone().unwrap_or_default();
        let Some(version) = found else {
            absent.note(format!("hba.{}", address.address), format!("driver {driver} does not say"));
            continue;
        };
        let board: serde_json::Map<String, serde_json::Value> = BOARDS
            .iter()
            .filter_map(|attribute| {
                Some(((*attribute).to_owned(), host.text(&format!("{directory}/{attribute}")).ok()?.into()))
            })
            .collect();
        versions.push(FirmwareVersion {
            component: FirmwareComponent::Hba,
            identifier: address.address.clone(),
            version,
            vendor: address.vendor.clone().unwrap_or_default(),
            raw: json!({ "model": address.device, "driver": driver, "board": board }),
        });
    }
    versions
}

/// The PCI function that a SCSI host hangs on.
fn controller<'a>(host: &Host, scsi_host: &str, inventory: &'a Inventory) -> Option<&'a PciDevice> {
    let place = host.resolve(scsi_host).ok()?;
    let function = ancestor_named(&place, |name| pci_device(inventory, name).is_some())?;
    pci_device(inventory, function.rsplit_once('/')?.1)
}

/// RAID (0104), SAS (0107) and Fibre Channel (0c04) controllers; a plain AHCI or USB controller has no firmware to tell.
fn is_hba(device: &PciDevice) -> bool {
    ["0104", "0107", "0100", "0c04"].iter().any(|class| device.class.starts_with(class))
        && device.driver.as_deref() != Some("virtio-pci")
}

/// One version a package, from `/proc/cpuinfo`. Packages whose CPUs disagree are told one by one.
fn microcode(host: &Host, inventory: &Inventory, absent: &mut Absences) -> Vec<FirmwareVersion> {
    let Some(info) = cpu::cpuinfo(host, absent) else { return Vec::new() };
    let mut versions: Vec<FirmwareVersion> = Vec::new();
    for position in 0..info.num_cores() {
        let Some(revision) = info.get_field(position, "microcode") else { continue };
        let package = info.get_field(position, "physical id").unwrap_or("0");
        let known = versions.iter().filter(|known| known.raw["package"] == package).collect::<Vec<_>>();
        if known.iter().any(|known| known.version == revision) {
            continue;
        }
        let identifier = if known.is_empty() {
            format!("cpu{package}")
        } else {
            let processor = info.get_field(position, "processor").unwrap_or("?");
            absent.note("microcode", format!("CPUs of package {package} disagree"));
            format!("cpu{package}/{processor}")
        };
        versions.push(FirmwareVersion {
            component: FirmwareComponent::Microcode,
            identifier,
            version: revision.to_owned(),
            vendor: inventory.cpu.vendor.clone().unwrap_or_default(),
            raw: json!({ "package": package, "model": inventory.cpu.model }),
        });
    }
    if versions.is_empty() {
        absent.note("microcode", "/proc/cpuinfo has none");
    }
    versions
}

/// One version an NVMe controller, by its serial number.
fn nvme(host: &Host, inventory: &Inventory, absent: &mut Absences) -> Vec<FirmwareVersion> {
    let mut versions = Vec::new();
    for name in host.list("/sys/class/nvme").unwrap_or_default() {
        if !is_numbered(&name, "nvme") {
            continue;
        }
        let directory = format!("/sys/class/nvme/{name}");
        let Some(version) =
            absent.text(&format!("nvme_fw.{name}"), host.text(&format!("{directory}/firmware_rev")))
        else {
            continue;
        };
        let text = |attribute: &str| {
            host.text(&format!("{directory}/{attribute}")).ok().filter(|text| !text.is_empty())
        };
        versions.push(FirmwareVersion {
            component: FirmwareComponent::NvmeFw,
            identifier: text("serial").unwrap_or_else(|| format!("/dev/{name}")),
            version,
            vendor: text("address")
                .and_then(|address| pci_device(inventory, &address)?.vendor.clone())
                .unwrap_or_default(),
            raw: json!({ "device": format!("/dev/{name}"), "model": text("model"), "address": text("address") }),
        });
    }
    versions
}
