//! The YAML form of a spec. Refuses what asks for nothing.

use serde::{Deserialize, Serialize};
use vetting_protocol::firmware::{FirmwareComponent, FirmwareReport};
use vetting_protocol::inventory::Inventory;

use super::SpecError;
use super::disk_use;
use super::expectation::{
    ExpectedFlag, ExpectedKind, ExpectedMost, ExpectedNumber, ExpectedText, ExpectedVersion,
};
use super::generate;
use crate::host_rules::HostRule;
use crate::profile::host_stages::{self, HostStage};
use crate::yaml::{self, Mistake};

/// What a host should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping with cpu, memory, disks, nics, gpus, pcie, bios, firmware or system"
)]
pub struct Spec {
    /// The model whose spec holds for what is not said here. Only [`HostSpec::parse`] takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
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
    /// PCI functions with their links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcie: Option<Vec<PcieSpec>>,
    /// Settings of the system firmware, as far as Linux sees them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bios: Option<BiosSpec>,
    /// What is judged otherwise here than the profile says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Vec<HostRule>>,
    /// What is tested otherwise here than the profile says.
    #[serde(default, deserialize_with = "host_stages::distinct", skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<HostStage>>,
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
    pub ecc: Option<ExpectedFlag>,
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
    pub kind: Option<ExpectedKind>,
    /// Size, decimal GB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_gb: Option<ExpectedNumber>,
    /// Firmware revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<ExpectedText>,
    /// The most hours that each was switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_on_hours: Option<ExpectedMost>,
    /// The most of its life that each has used, percent; of solid state disks, which tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wear_percent: Option<ExpectedMost>,
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
    /// Its link works in both directions at once; a link that is down does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_duplex: Option<ExpectedFlag>,
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

/// PCI functions that are alike, and what the link of each must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcieSpec {
    /// Vendor and device in words, with a space between them.
    pub device: ExpectedText,
    /// How many; without it at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<ExpectedNumber>,
    /// Lanes in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<ExpectedNumber>,
    /// Speed of the link, GT/s. Links that rest may be slower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_gts: Option<ExpectedNumber>,
}

/// Settings of the system firmware that Linux can see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BiosSpec {
    /// Linux was started by UEFI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uefi: Option<ExpectedFlag>,
    /// Secure Boot is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<ExpectedFlag>,
    /// More than one thread a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smt: Option<ExpectedFlag>,
    /// The CPU offers virtualisation (VT-x, AMD-V).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtualization: Option<ExpectedFlag>,
    /// The firmware describes an IOMMU (VT-d, AMD-Vi).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iommu: Option<ExpectedFlag>,
}

impl BiosSpec {
    /// What it asks for, by name.
    pub(super) fn flags(&self) -> [(&'static str, Option<ExpectedFlag>); 5] {
        let Self { uefi, secure_boot, smt, virtualization, iommu } = *self;
        [
            ("bios.uefi", uefi),
            ("bios.secure_boot", secure_boot),
            ("bios.smt", smt),
            ("bios.virtualization", virtualization),
            ("bios.iommu", iommu),
        ]
    }
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
    /// Reads a spec that stands by itself. One mistake is told at a time.
    pub fn parse(yaml_text: &str) -> Result<Self, SpecError> {
        let HostSpec { model, own } = HostSpec::parse(yaml_text)?;
        match model {
            None => Ok(own),
            Some(_) => Err(mistake_at(
                yaml_text,
                "model",
                "only a host's spec on the coordinator can name a model; write what the machine should be",
            )),
        }
    }

    /// The spec that exactly this machine meets: a start for its siblings. Leaves out what differs between siblings
    /// (serial numbers, MAC addresses) and link speeds.
    pub fn from_inventory(inventory: &Inventory, firmware: &FirmwareReport) -> Self {
        generate::from_inventory(inventory, firmware)
    }

    /// The rules that its disks' past is judged by. Parsing refused what none can be made of.
    pub(crate) fn disk_rules(&self) -> Vec<HostRule> {
        disk_use::rules(self.disks.as_deref().unwrap_or_default()).unwrap_or_default()
    }

    /// As YAML that [`Spec::parse`] reads.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }

    /// The dotted path of a part that asks for nothing; the empty path if the whole does.
    fn first_empty_part(&self) -> Option<&'static str> {
        let Self { system, cpu, memory, disks, nics, gpus, firmware, pcie, bios, .. } = self;
        let nothing = system.is_none()
            && cpu.is_none()
            && memory.is_none()
            && disks.is_none()
            && nics.is_none()
            && gpus.is_none()
            && firmware.is_none()
            && pcie.is_none()
            && bios.is_none();
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
            ("pcie", is_empty(pcie.as_ref(), Vec::is_empty)),
            ("bios", is_empty(bios.as_ref(), |b| b.flags().iter().all(|(_, flag)| flag.is_none()))),
        ]
        .into_iter()
        .find_map(|(path, empty)| empty.then_some(path))
    }
}

fn is_empty<T>(part: Option<&T>, asks_nothing: impl Fn(&T) -> bool) -> bool {
    part.is_some_and(asks_nothing)
}

fn mistake_at(yaml_text: &str, path: &str, what: &str) -> SpecError {
    let line = yaml::line_of_key(yaml_text, path);
    SpecError { mistake: Mistake { line, column: 1, path: path.to_owned(), what: what.to_owned() } }
}

/// A host's spec: its own, and the model that holds for what it does not say.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSpec {
    /// Name of the model.
    pub model: Option<String>,
    /// What the host itself says; may ask for nothing where there is a model.
    pub own: Spec,
}

impl HostSpec {
    /// Reads a host's spec. One mistake is told at a time.
    pub fn parse(yaml_text: &str) -> Result<Self, SpecError> {
        let mut own: Spec = yaml::parse(
            yaml_text,
            "write what the machine should be (cpu, memory, disks, nics, gpus, firmware, system); \
             `vetting-agent inventory` on a good machine tells its values",
        )
        .map_err(|mistake| SpecError { mistake })?;
        let model = own.model.take();
        let nothing = "asks for nothing, so any machine would do; name at least one field or remove it";
        match own.first_empty_part() {
            Some(path) if !path.is_empty() || model.is_none() => {
                return Err(mistake_at(yaml_text, path, nothing));
            }
            Some(_) | None => {}
        }
        match disk_use::rules(own.disks.as_deref().unwrap_or_default()) {
            Ok(_) => Ok(Self { model, own }),
            Err(disk_use::Mistake { field, what }) => Err(mistake_at(yaml_text, field, &what)),
        }
    }

    /// The spec by which the host is judged: of each part (`cpu`, `disks`, …) the host's own, else the model's. Rules and
    /// stages of both hold; the host's own for the same samples, or the same stage of a profile, take the place of the
    /// model's.
    pub fn over(self, model: Spec) -> Spec {
        let Spec { system, cpu, memory, disks, nics, gpus, firmware, pcie, bios, thresholds, stages, .. } =
            self.own;
        let stages = match (model.stages, stages) {
            (Some(shared), Some(own)) => Some(host_stages::over_model(shared, own)),
            (shared, own) => own.or(shared),
        };
        let thresholds = match (model.thresholds, thresholds) {
            (Some(shared), Some(own)) => {
                let kept =
                    shared.into_iter().filter(|shared| !own.iter().any(|own| own.is_about_the_same(shared)));
                Some(kept.chain(own.clone()).collect())
            }
            (shared, own) => own.or(shared),
        };
        Spec {
            model: None,
            system: system.or(model.system),
            cpu: cpu.or(model.cpu),
            memory: memory.or(model.memory),
            disks: disks.or(model.disks),
            nics: nics.or(model.nics),
            gpus: gpus.or(model.gpus),
            firmware: firmware.or(model.firmware),
            pcie: pcie.or(model.pcie),
            bios: bios.or(model.bios),
            thresholds,
            stages,
        }
    }
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
