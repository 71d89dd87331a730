//! The YAML form of a spec. Refuses what asks for nothing.

use serde::{Deserialize, Serialize};
use vetting_protocol::firmware::{FirmwareComponent, FirmwareReport};
use vetting_protocol::inventory::{DiskKind, Inventory};

use super::SpecError;
use super::expectation::{ExpectedNumber, ExpectedText, ExpectedVersion};
use super::generate;
use crate::host_rules::HostRule;
use crate::yaml::{self, Mistake};

/// What a host should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with cpu, memory, disks, nics, gpus, firmware or system")]
pub struct Spec {
    /// Maker and model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemSpec>,
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuSpec>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySpec>,
    /// Disks but for the boot medium and virtual drives without a medium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disks: Option<Vec<DiskSpec>>,
    /// Network interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nics: Option<Vec<NicSpec>>,
    /// Graphics processors and accelerators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Vec<GpuSpec>>,
    /// Firmware versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareSpec>,
    /// What is judged otherwise here than the profile says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Vec<HostRule>>,
}

/// SMBIOS type 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemSpec {
    /// Maker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<ExpectedText>,
    /// Product name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<ExpectedText>,
}

/// Processors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuSpec {
    /// Model name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ExpectedText>,
    /// Packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<ExpectedNumber>,
    /// Cores over all packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_cores: Option<ExpectedNumber>,
    /// CPUs that Linux sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical_cores: Option<ExpectedNumber>,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySpec {
    /// What is plugged in, GiB. Where SMBIOS does not tell, what Linux sees, which may be less by 10 % (25 % up to 16 GiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_gib: Option<ExpectedNumber>,
    /// The modules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimms: Option<DimmSpec>,
}

/// Memory modules: how many, and what each must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DimmSpec {
    /// How many slots are occupied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<ExpectedNumber>,
    /// Size of each, GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_gib: Option<ExpectedNumber>,
    /// `DDR4`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub memory_type: Option<ExpectedText>,
    /// Speed it can do, MT/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_mts: Option<ExpectedNumber>,
    /// Whether the memory corrects errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecc: Option<bool>,
}

/// A group of disks that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// How many.
    #[serde(default = "ExpectedNumber::one")]
    pub count: ExpectedNumber,
    /// Model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ExpectedText>,
    /// `hdd`, `ssd`, `nvme` or `virtual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<DiskKind>,
    /// Size, decimal GB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_gb: Option<ExpectedNumber>,
    /// Firmware revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<ExpectedText>,
}

/// A group of network interfaces that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicSpec {
    /// How many.
    #[serde(default = "ExpectedNumber::one")]
    pub count: ExpectedNumber,
    /// Kernel driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<ExpectedText>,
    /// Vendor and device in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ExpectedText>,
    /// Speed of its link, Mbit/s; a link that is down has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_mbps: Option<ExpectedNumber>,
}

/// A group of GPUs that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuSpec {
    /// How many.
    #[serde(default = "ExpectedNumber::one")]
    pub count: ExpectedNumber,
    /// Vendor and device in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ExpectedText>,
}

/// Firmware: each holds for every part of its kind, and there must be one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareSpec {
    /// System firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bios: Option<ExpectedVersion>,
    /// BMC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc: Option<ExpectedVersion>,
    /// Network controllers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic: Option<ExpectedVersion>,
    /// Storage controllers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hba: Option<ExpectedVersion>,
    /// CPU microcode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub microcode: Option<ExpectedVersion>,
    /// NVMe controllers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvme_fw: Option<ExpectedVersion>,
}

impl Spec {
    /// Reads a spec. One mistake is told at a time.
    pub fn parse(yaml_text: &str) -> Result<Self, SpecError> {
        let spec: Self = yaml::parse(
            yaml_text,
            "write what the machine should be (cpu, memory, disks, nics, gpus, firmware, system); \
             `vetting-agent inventory` on a good machine tells its values",
        )
        .map_err(|mistake| SpecError { mistake })?;
        match spec.first_empty_part() {
            None => Ok(spec),
            Some(path) => Err(SpecError {
                mistake: Mistake {
                    line: yaml::line_of_key(yaml_text, path),
                    column: 1,
                    path: path.to_owned(),
                    what: "asks for nothing, so any machine would do; name at least one field or remove it"
                        .to_owned(),
                },
            }),
        }
    }

    /// The spec that exactly this machine meets: a start for its siblings. Leaves out what differs between siblings
    /// (serial numbers, MAC addresses) and link speeds.
    pub fn from_inventory(inventory: &Inventory, firmware: &FirmwareReport) -> Self {
        generate::from_inventory(inventory, firmware)
    }

    /// As YAML that [`Spec::parse`] reads.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }

    /// The dotted path of a part that asks for nothing; the empty path if the whole does.
    fn first_empty_part(&self) -> Option<&'static str> {
        let Self { system, cpu, memory, disks, nics, gpus, firmware, thresholds } = self;
        let _ = thresholds; // they say how is judged, not what the machine should be
        let nothing = system.is_none()
            && cpu.is_none()
            && memory.is_none()
            && disks.is_none()
            && nics.is_none()
            && gpus.is_none()
            && firmware.is_none();
        let dimms = memory.as_ref().and_then(|memory| memory.dimms.as_ref());
        [
            ("", nothing),
            ("system", is_empty(system.as_ref(), |s| s.manufacturer.is_none() && s.product.is_none())),
            (
                "cpu",
                is_empty(cpu.as_ref(), |c| {
                    c.model.is_none()
                        && c.sockets.is_none()
                        && c.physical_cores.is_none()
                        && c.logical_cores.is_none()
                }),
            ),
            ("memory", is_empty(memory.as_ref(), |m| m.total_gib.is_none() && m.dimms.is_none())),
            (
                "memory.dimms",
                is_empty(dimms, |d| {
                    d.count.is_none()
                        && d.size_gib.is_none()
                        && d.memory_type.is_none()
                        && d.speed_mts.is_none()
                        && d.ecc.is_none()
                }),
            ),
            ("firmware", is_empty(firmware.as_ref(), |f| f.parts().next().is_none())),
        ]
        .into_iter()
        .find_map(|(path, empty)| empty.then_some(path))
    }
}

fn is_empty<T>(part: Option<&T>, asks_nothing: impl Fn(&T) -> bool) -> bool {
    part.is_some_and(asks_nothing)
}

impl FirmwareSpec {
    /// What it asks for, by kind of part.
    pub fn parts(&self) -> impl Iterator<Item = (FirmwareComponent, &ExpectedVersion)> {
        let Self { bios, bmc, nic, hba, microcode, nvme_fw } = self;
        [
            (FirmwareComponent::Bios, bios),
            (FirmwareComponent::Bmc, bmc),
            (FirmwareComponent::Nic, nic),
            (FirmwareComponent::Hba, hba),
            (FirmwareComponent::Microcode, microcode),
            (FirmwareComponent::NvmeFw, nvme_fw),
        ]
        .into_iter()
        .filter_map(|(component, expected)| expected.as_ref().map(|expected| (component, expected)))
    }
}
