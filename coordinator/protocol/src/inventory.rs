//! What a machine is made of. What cannot be read is absent, with a reason in [`Inventory::absent`], never a guess.
//!
//! Field names follow SMBIOS (DMTF DSP0134), ATA/NVMe/SCSI identify data and the PCI specification.

use serde::{Deserialize, Serialize};

use crate::ids::{MacAddress, named_enum};

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Absence {
    /// Dotted path of the field or part: `bmc`, `disks.sda.serial`, `memory.dimms`.
    pub what: String,
    /// Why: `no SMBIOS type 17 structure`, `/sys/… : permission denied`.
    pub reason: String,
}

/// The whole machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// SMBIOS type 1.
    pub system: System,
    /// SMBIOS type 2.
    pub board: Board,
    /// SMBIOS type 0.
    pub bios: Bios,
    /// SMBIOS type 3.
    pub chassis: Chassis,
    /// Processors.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Whole disks, sorted by kernel name. The boot medium is among them, marked.
    pub disks: Vec<Disk>,
    /// Network interfaces that stand for hardware, sorted by kernel name.
    pub nics: Vec<Nic>,
    /// Every PCI function, sorted by address.
    pub pci: Vec<PciDevice>,
    /// Display and accelerator functions.
    pub gpus: Vec<Gpu>,
    /// Power supplies (SMBIOS type 39, IPMI FRU).
    pub psus: Vec<Psu>,
    /// The BMC, if there is one.
    pub bmc: Option<Bmc>,
    /// What could not be read.
    pub absent: Vec<Absence>,
}

/// SMBIOS type 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Maker.
    pub manufacturer: Option<String>,
    /// Product name: the model that siblings share.
    pub product: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// UUID, lower case; absent when the board has none or all bits are equal.
    pub uuid: Option<String>,
    /// SKU number.
    pub sku: Option<String>,
    /// Product family.
    pub family: Option<String>,
}

/// SMBIOS type 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Maker.
    pub manufacturer: Option<String>,
    /// Product name.
    pub product: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
}

/// SMBIOS type 0 and how the machine booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Bios {
    /// Maker.
    pub vendor: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Release date as written there.
    pub release_date: Option<String>,
    /// Whether Linux was started by UEFI (`/sys/firmware/efi` exists).
    pub uefi: bool,
    /// Whether Secure Boot is on; absent under BIOS or when the variable cannot be read.
    pub secure_boot: Option<bool>,
    /// Whether the firmware describes an IOMMU (ACPI table DMAR or IVRS); absent where the kernel shows no ACPI tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iommu: Option<bool>,
}

/// SMBIOS type 3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Chassis {
    /// Maker.
    pub manufacturer: Option<String>,
    /// Type in words: `Rack Mount Chassis`.
    pub chassis_type: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Asset tag.
    pub asset_tag: Option<String>,
}

/// Processors, from `/proc/cpuinfo` and `/sys/devices/system/cpu`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// Model name of the first one.
    pub model: Option<String>,
    /// Vendor id: `GenuineIntel`, `AuthenticAMD`.
    pub vendor: Option<String>,
    /// Packages with at least one CPU online.
    pub sockets: u32,
    /// Physical cores over all packages.
    pub physical_cores: u32,
    /// Logical CPUs online.
    pub logical_cores: u32,
    /// Threads a core.
    pub threads_per_core: u32,
    /// NUMA nodes with memory or CPUs; 1 on a machine without NUMA.
    pub numa_nodes: u32,
    /// Microcode revision, as `/proc/cpuinfo` writes it: `0x2006e05`.
    pub microcode: Option<String>,
    /// Highest frequency in MHz that the hardware says it can do.
    pub max_mhz: Option<u32>,
    /// CPU flags, sorted.
    pub flags: Vec<String>,
    /// One entry an occupied socket, SMBIOS type 4.
    pub packages: Vec<CpuPackage>,
}

/// SMBIOS type 4 of a socket that is occupied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CpuPackage {
    /// Socket designation.
    pub socket: String,
    /// Version string.
    pub version: Option<String>,
    /// Cores in it.
    pub cores: Option<u32>,
    /// Threads in it.
    pub threads: Option<u32>,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// What Linux sees: `MemTotal` of `/proc/meminfo`, bytes.
    pub visible_bytes: u64,
    /// What is plugged in: sum of SMBIOS type 17 sizes, bytes; absent without such structures.
    pub installed_bytes: Option<u64>,
    /// Whether any array corrects errors (SMBIOS type 16); absent if it does not say.
    pub ecc: Option<bool>,
    /// Slots that exist.
    pub slots: Option<u32>,
    /// Occupied slots.
    pub dimms: Vec<Dimm>,
}

/// SMBIOS type 17 of an occupied slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Dimm {
    /// Device locator: `DIMM_A1`.
    pub slot: String,
    /// Bank locator.
    pub bank: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// `DDR4`, `DDR5`, ….
    pub memory_type: Option<String>,
    /// Speed in MT/s that it can do.
    pub speed_mts: Option<u32>,
    /// Speed in MT/s it is set to.
    pub configured_mts: Option<u32>,
    /// Maker.
    pub manufacturer: Option<String>,
    /// Part number.
    pub part_number: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Rank count.
    pub ranks: Option<u32>,
}

named_enum! {
    /// What a disk is.
    DiskKind, "a disk kind" {
        /// Rotating.
        Hdd = "hdd",
        /// Solid state behind SATA, SAS or USB.
        Ssd = "ssd",
        /// NVMe.
        Nvme = "nvme",
        /// A virtual disk that has no medium of its own to speak of.
        Virtual = "virtual",
    }
}

named_enum! {
    /// How a disk is attached.
    DiskBus, "a disk bus" {
        /// Serial ATA or parallel ATA.
        Ata = "ata",
        /// SCSI, SAS, Fibre Channel.
        Scsi = "scsi",
        /// NVMe over PCIe.
        Nvme = "nvme",
        /// USB mass storage.
        Usb = "usb",
        /// virtio.
        Virtio = "virtio",
        /// MMC or SD.
        Mmc = "mmc",
    }
}

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Kernel name: `sda`, `nvme0n1`.
    pub name: String,
    /// What it is; absent when the kernel does not say whether it rotates.
    pub kind: Option<DiskKind>,
    /// How it is attached; absent for a bus we do not know.
    pub bus: Option<DiskBus>,
    /// Model.
    pub model: Option<String>,
    /// Maker, where the bus tells one.
    pub vendor: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// World wide name, EUI-64 or NGUID.
    pub wwn: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical sector size in bytes.
    pub logical_sector_bytes: u32,
    /// Physical sector size in bytes.
    pub physical_sector_bytes: u32,
    /// Whether it rotates.
    pub rotational: Option<bool>,
    /// Whether it can be taken out while running.
    pub removable: bool,
    /// Stable path below `/dev/disk/by-path`, made as udev's path_id does: `pci-0000:00:1f.2-ata-1`.
    pub by_path: Option<String>,
    /// Whether the live system was started from it. Never a test's target.
    pub boot_medium: bool,
}

/// A network interface that stands for hardware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// Kernel name: `eth0`.
    pub name: String,
    /// Permanent MAC address; absent if it is no valid one.
    pub mac: Option<MacAddress>,
    /// Kernel driver.
    pub driver: Option<String>,
    /// PCI address.
    pub pci_address: Option<String>,
    /// Vendor and device in words, from the PCI id list.
    pub model: Option<String>,
    /// Link speed in Mbit/s; absent while the link is down or the driver does not say.
    pub speed_mbps: Option<u32>,
    /// Full duplex; absent likewise.
    pub full_duplex: Option<bool>,
    /// Whether there is a carrier; absent while the interface is administratively down.
    pub link: Option<bool>,
    /// Firmware version as the driver tells it (ethtool -i).
    pub firmware: Option<String>,
}

/// A PCI function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PciDevice {
    /// `0000:3b:00.0`.
    pub address: String,
    /// Vendor id, four hex digits.
    pub vendor_id: String,
    /// Device id, four hex digits.
    pub device_id: String,
    /// Class code, six hex digits.
    pub class: String,
    /// Vendor in words.
    pub vendor: Option<String>,
    /// Device in words.
    pub device: Option<String>,
    /// Kernel driver bound to it.
    pub driver: Option<String>,
    /// NUMA node; absent on machines without.
    pub numa_node: Option<u32>,
    /// PCIe link; absent for functions without one.
    pub link: Option<PcieLink>,
}

/// A PCI function behind which nothing is seen without its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// Mass storage: SATA, SAS, RAID, NVMe.
    Storage,
    /// Network.
    Network,
}

impl PciDevice {
    /// What it controls, by its base class (PCI Code and ID Assignment Specification); absent for every other function.
    pub fn controller(&self) -> Option<Controller> {
        match self.class.get(..2)? {
            "01" => Some(Controller::Storage),
            "02" => Some(Controller::Network),
            _ => None,
        }
    }

    /// The driver that works it here; absent where there is none, or one that only keeps it for a guest or a program.
    pub fn working_driver(&self) -> Option<&str> {
        const KEEPERS: [&str; 4] = ["pci-stub", "pciback", "uio_pci_generic", "igb_uio"];
        // the makers' own are called `mlx5-vfio-pci` and the like
        let is_vfio = |driver: &str| driver.ends_with("vfio-pci") || driver.ends_with("vfio_pci");
        self.driver.as_deref().filter(|driver| !KEEPERS.contains(driver) && !is_vfio(driver))
    }

    /// Vendor and device in words, as far as the PCI id list knows them.
    pub fn model(&self) -> Option<String> {
        match (&self.vendor, &self.device) {
            (Some(vendor), Some(device)) => Some(format!("{vendor} {device}")),
            (Some(vendor), None) => Some(format!("{vendor} device {}", self.device_id)),
            (None, _) => None,
        }
    }
}

/// State of a PCIe link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PcieLink {
    /// Lanes in use.
    pub width: u32,
    /// Lanes it could use.
    pub max_width: u32,
    /// Speed in GT/s as sysfs writes it: `8.0`.
    pub speed_gts: f64,
    /// Highest speed in GT/s.
    pub max_speed_gts: f64,
}

/// A graphics processor or accelerator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// PCI address.
    pub pci_address: String,
    /// Vendor and device in words.
    pub model: Option<String>,
    /// Kernel driver.
    pub driver: Option<String>,
    /// Serial number, or what else names this one: NVIDIA's UUID, the unique id of AMD's chip.
    #[serde(default)]
    pub serial: Option<String>,
    /// Version of its firmware.
    #[serde(default)]
    pub vbios_version: Option<String>,
    /// Size of its own memory.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
}

/// A power supply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Psu {
    /// Slot or location.
    pub slot: String,
    /// Maker.
    pub manufacturer: Option<String>,
    /// Model or part number.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Rated power in watts.
    pub max_watts: Option<u32>,
    /// Whether one is plugged in.
    pub present: Option<bool>,
}

/// The baseboard management controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Bmc {
    /// IPMI manufacturer name or id.
    pub manufacturer: Option<String>,
    /// Product name or id.
    pub product: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// IPMI version.
    pub ipmi_version: Option<String>,
    /// Address of its LAN channel.
    pub address: Option<String>,
}
