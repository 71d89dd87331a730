//! PCIe links and settings of the system firmware against a spec.

use vetting_protocol::diff::SpecDiff;
use vetting_protocol::inventory::{Inventory, PciDevice};

use super::compare::{diff_at, number_mismatch};
use super::document::{BiosSpec, PcieSpec};
use super::expectation::ExpectedFlag;

/// Compares the functions that an entry is for. One without a link does not tell its width.
pub(super) fn compare_pcie(
    position: usize,
    expected: &PcieSpec,
    inventory: &Inventory,
    diffs: &mut Vec<SpecDiff>,
) {
    let found: Vec<&PciDevice> =
        inventory.pci.iter().filter(|device| expected.device.glob.matches(&words(device))).collect();
    let addresses: Vec<&str> = found.iter().map(|device| device.address.as_str()).collect();
    let told = (!found.is_empty()).then(|| format!("{} ({})", found.len(), addresses.join(", ")));
    let (is_met, wanted, severity) = match &expected.count {
        Some(count) => {
            (count.range.contains(found.len() as f64, 0.0), count.range.to_string(), count.severity)
        }
        None => (!found.is_empty(), ">= 1".to_owned(), expected.device.severity),
    };
    if !is_met {
        diffs.push(SpecDiff {
            field: format!("pcie[{position}].count"),
            expected: Some(format!("{wanted} with device {}", expected.device.describe())),
            actual: told,
            severity,
        });
    }
    for device in found {
        let link = device.link.as_ref();
        let mismatches = [
            number_mismatch("width", expected.width.as_ref(), link.map(|link| f64::from(link.width)), 0.0),
            number_mismatch("speed_gts", expected.speed_gts.as_ref(), link.map(|link| link.speed_gts), 0.0),
        ];
        diffs.extend(mismatches.into_iter().flatten().map(|mismatch| {
            diff_at(&format!("pcie[{position}].{}[{}]", mismatch.field, device.address), mismatch)
        }));
    }
}

fn words(device: &PciDevice) -> String {
    let parts = [device.vendor.as_deref(), device.device.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Compares what Linux sees of the firmware's settings.
pub(super) fn compare_bios(expected: &BiosSpec, inventory: &Inventory, diffs: &mut Vec<SpecDiff>) {
    for (field, flag) in expected.flags() {
        let Some(ExpectedFlag { value, severity }) = flag else { continue };
        let actual = setting(field, inventory);
        if actual != Some(value) {
            diffs.push(SpecDiff {
                field: field.to_owned(),
                expected: Some(value.to_string()),
                actual: actual.map(|actual| actual.to_string()),
                severity,
            });
        }
    }
}

/// Absent where the machine does not tell.
fn setting(field: &str, inventory: &Inventory) -> Option<bool> {
    let Inventory { bios, cpu, .. } = inventory;
    match field {
        "bios.uefi" => Some(bios.uefi),
        // started by BIOS there is none to be on
        "bios.secure_boot" => bios.secure_boot.or((!bios.uefi).then_some(false)),
        "bios.smt" => (cpu.threads_per_core > 0).then_some(cpu.threads_per_core > 1),
        // Linux takes the flag away where the firmware forbids it
        "bios.virtualization" => {
            let offers = |flag: &str| cpu.flags.iter().any(|known| known == flag);
            (!cpu.flags.is_empty()).then(|| offers("vmx") || offers("svm"))
        }
        "bios.iommu" => bios.iommu,
        _ => None,
    }
}
