//! A spec from a machine that is as it should be.

use vetting_protocol::diff::Severity;
use vetting_protocol::firmware::{FirmwareComponent, FirmwareReport};
use vetting_protocol::inventory::{Dimm, Disk, Gpu, Inventory, Memory, Nic};

use super::compare::{GB, GIB, counted_disks, largest_gap};
use super::document::{
    CpuSpec, DimmSpec, DiskSpec, FirmwareSpec, GpuSpec, MemorySpec, NicSpec, Spec, SystemSpec,
};
use super::expectation::{
    ExpectedFlag, ExpectedKind, ExpectedNumber, ExpectedText, ExpectedVersion, Range, VersionRule,
};

/// See [`Spec::from_inventory`].
pub(super) fn from_inventory(inventory: &Inventory, firmware: &FirmwareReport) -> Spec {
    let Inventory { system, cpu, .. } = inventory;
    let counted = |number: u32| (number > 0).then(|| ExpectedNumber::exactly(number));
    let (manufacturer, product) = (literal(system.manufacturer.as_ref()), literal(system.product.as_ref()));
    let cpu = CpuSpec {
        model: literal(cpu.model.as_ref()),
        sockets: counted(cpu.sockets),
        physical_cores: counted(cpu.physical_cores),
        logical_cores: counted(cpu.logical_cores),
    };
    let tells_cpu = cpu.model.is_some()
        || cpu.sockets.is_some()
        || cpu.physical_cores.is_some()
        || cpu.logical_cores.is_some();
    Spec {
        model: None,
        system: (manufacturer.is_some() || product.is_some()).then_some(SystemSpec { manufacturer, product }),
        cpu: tells_cpu.then_some(cpu),
        memory: memory(&inventory.memory),
        disks: Some(grouped(counted_disks(inventory).map(disk), |group| &mut group.count)),
        nics: Some(grouped(inventory.nics.iter().map(nic), |group| &mut group.count)),
        gpus: Some(grouped(inventory.gpus.iter().map(gpu), |group| &mut group.count)),
        firmware: firmware_spec(firmware),
        pcie: None,
        bios: None,
        thresholds: None,
        stages: None,
    }
}

fn literal(text: Option<&String>) -> Option<ExpectedText> {
    text.and_then(|text| ExpectedText::literal(text))
}

fn memory(memory: &Memory) -> Option<MemorySpec> {
    let total_gib = match memory.installed_bytes.filter(|bytes| *bytes > 0) {
        Some(bytes) => Some(ExpectedNumber::exactly(bytes as f64 / GIB)),
        None if memory.visible_bytes > 0 => Some(ExpectedNumber::exactly(likely_size(memory.visible_bytes))),
        None => None,
    };
    let dimms = dimms(memory);
    (total_gib.is_some() || dimms.is_some()).then_some(MemorySpec { total_gib, dimms })
}

/// The next whole number of GiB if the kernel may keep that much to itself, else what is visible.
fn likely_size(visible_bytes: u64) -> f64 {
    let visible = visible_bytes as f64 / GIB;
    let whole = visible.ceil();
    if visible >= whole * (1.0 - largest_gap(whole)) { whole } else { visible }
}

fn dimms(memory: &Memory) -> Option<DimmSpec> {
    let dimms = &memory.dimms;
    let first = dimms.first()?;
    let alike = |same: &dyn Fn(&Dimm) -> bool| dimms.iter().all(same);
    let sizes = || dimms.iter().map(|dimm| dimm.size_bytes as f64 / GIB);
    let (least, most) = (sizes().fold(f64::MAX, f64::min), sizes().fold(0.0, f64::max));
    let size = if alike(&|dimm| dimm.size_bytes == first.size_bytes) {
        Range::Exactly(most)
    } else {
        Range::Between(least, most)
    };
    Some(DimmSpec {
        count: u32::try_from(dimms.len()).ok().map(ExpectedNumber::exactly),
        size_gib: Some(ExpectedNumber { range: size, severity: Severity::Critical }),
        memory_type: literal(
            first.memory_type.as_ref().filter(|_| alike(&|dimm| dimm.memory_type == first.memory_type)),
        ),
        speed_mts: first
            .speed_mts
            .filter(|_| alike(&|dimm| dimm.speed_mts == first.speed_mts))
            .map(ExpectedNumber::exactly),
        ecc: memory.ecc.map(ExpectedFlag::critical),
    })
}

/// Joins equal groups of one, adding up their counts; the order of the first of each is kept.
fn grouped<G: PartialEq + Clone>(
    ones: impl Iterator<Item = G>,
    count: impl Fn(&mut G) -> &mut ExpectedNumber,
) -> Vec<G> {
    let mut kinds: Vec<(G, u32)> = Vec::new();
    for one in ones {
        match kinds.iter_mut().find(|(kind, _)| *kind == one) {
            Some((_, number)) => *number += 1,
            None => kinds.push((one, 1)),
        }
    }
    kinds
        .into_iter()
        .map(|(mut kind, number)| {
            *count(&mut kind) = ExpectedNumber::exactly(number);
            kind
        })
        .collect()
}

fn disk(disk: &Disk) -> DiskSpec {
    DiskSpec {
        count: ExpectedNumber::one(),
        model: literal(disk.model.as_ref()),
        kind: disk.kind.map(ExpectedKind::critical),
        size_gb: Some(ExpectedNumber::exactly(three_digits(disk.size_bytes as f64 / GB))),
        firmware: literal(disk.firmware.as_ref()),
        power_on_hours: None,
        wear_percent: None,
    }
}

/// Rounded to three significant digits, as on a label; at most 0.5 % off.
fn three_digits(number: f64) -> f64 {
    if number <= 0.0 {
        return number;
    }
    let scale = 10_f64.powf(2.0 - number.log10().floor());
    (number * scale).round() / scale
}

fn nic(nic: &Nic) -> NicSpec {
    NicSpec {
        count: ExpectedNumber::one(),
        driver: literal(nic.driver.as_ref()),
        model: literal(nic.model.as_ref()),
        speed_mbps: None,
        full_duplex: None,
    }
}

fn gpu(gpu: &Gpu) -> GpuSpec {
    GpuSpec { count: ExpectedNumber::one(), model: literal(gpu.model.as_ref()) }
}

fn firmware_spec(firmware: &FirmwareReport) -> Option<FirmwareSpec> {
    let of = |component: FirmwareComponent| {
        let mut versions =
            firmware.versions.iter().filter(|found| found.component == component).map(|found| &found.version);
        let first = versions.next().filter(|version| !version.is_empty())?;
        versions.all(|version| version == first).then(|| ExpectedVersion {
            rule: VersionRule::Exactly(first.clone()),
            severity: Severity::Critical,
        })
    };
    let spec = FirmwareSpec {
        bios: of(FirmwareComponent::Bios),
        bmc: of(FirmwareComponent::Bmc),
        nic: of(FirmwareComponent::Nic),
        hba: of(FirmwareComponent::Hba),
        microcode: of(FirmwareComponent::Microcode),
        nvme_fw: of(FirmwareComponent::NvmeFw),
    };
    let asks = spec.parts().next().is_some();
    asks.then_some(spec)
}
