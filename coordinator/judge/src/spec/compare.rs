//! A machine against its spec. What the spec asks for and the machine does not tell is a diff with nothing found.

use vetting_protocol::diff::{Severity, SpecDiff};
use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::inventory::{Cpu, Disk, DiskBus, Inventory, Memory};

use super::document::{CpuSpec, DimmSpec, DiskSpec, FirmwareSpec, GpuSpec, MemorySpec, NicSpec, Spec};
use super::expectation::{ExpectedFlag, ExpectedNumber, ExpectedText, Range};
use super::groups::{self, Group, Mismatch};
use super::platform;

/// Bytes of a GiB.
pub(super) const GIB: f64 = 1_073_741_824.0;
/// Bytes of a decimal GB.
pub(super) const GB: f64 = 1e9;
/// How far a memory size may be off for the rounding of what people write, GiB.
const GIB_ROUNDING: f64 = 0.005;
/// How far an exact disk size may be off: labels are rounded.
const DISK_SIZE_TOLERANCE: f64 = 0.01;

/// Everything in which the machine is not as the spec asks, in the order of the spec.
pub fn compare(spec: &Spec, inventory: &Inventory, firmware: &FirmwareReport) -> Vec<SpecDiff> {
    let mut diffs = Vec::new();
    if let Some(system) = &spec.system {
        let found = &inventory.system;
        diffs.extend(text_diff(
            "system.manufacturer",
            system.manufacturer.as_ref(),
            found.manufacturer.as_ref(),
        ));
        diffs.extend(text_diff("system.product", system.product.as_ref(), found.product.as_ref()));
    }
    if let Some(cpu) = &spec.cpu {
        compare_cpu(cpu, &inventory.cpu, &mut diffs);
    }
    if let Some(memory) = &spec.memory {
        compare_memory(memory, &inventory.memory, &mut diffs);
    }
    if let Some(disks) = &spec.disks {
        diffs.extend(compare_disks(disks, inventory));
    }
    if let Some(nics) = &spec.nics {
        diffs.extend(compare_nics(nics, inventory));
    }
    if let Some(gpus) = &spec.gpus {
        diffs.extend(compare_gpus(gpus, inventory));
    }
    if let Some(expected) = &spec.firmware {
        compare_firmware(expected, firmware, &mut diffs);
    }
    for (position, expected) in spec.pcie.iter().flatten().enumerate() {
        platform::compare_pcie(position, expected, inventory, &mut diffs);
    }
    if let Some(bios) = &spec.bios {
        platform::compare_bios(bios, inventory, &mut diffs);
    }
    diffs
}

/// Disks that a spec speaks of: not the boot medium, no optical or floppy drive, no drive that a BMC lends, and none
/// without a medium.
pub(super) fn counted_disks(inventory: &Inventory) -> impl Iterator<Item = &Disk> {
    inventory.disks.iter().filter(|disk| !disk.boot_medium && !is_virtual_media(disk))
}

fn is_virtual_media(disk: &Disk) -> bool {
    let has_driver_of = |prefixes: &[&str]| {
        prefixes.iter().any(|prefix| {
            disk.name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    let words = format!("{} {}", disk.vendor.as_deref().unwrap_or(""), disk.model.as_deref().unwrap_or(""))
        .to_ascii_lowercase();
    let is_lent = disk.bus == Some(DiskBus::Usb)
        && ["virtual cd", "virtual floppy", "virtual media", "virtual hdisk", "virtual disk"]
            .iter()
            .any(|lent| words.contains(lent));
    disk.size_bytes == 0 || has_driver_of(&["sr", "fd", "loop", "ram", "zram"]) || is_lent
}

pub(super) fn text_mismatch(
    field: &'static str,
    expected: Option<&ExpectedText>,
    actual: Option<&String>,
) -> Option<Mismatch> {
    let expected = expected?;
    let met = actual.is_some_and(|actual| expected.glob.matches(actual));
    (!met).then(|| Mismatch {
        field,
        expected: expected.describe(),
        actual: actual.cloned(),
        severity: expected.severity,
    })
}

pub(super) fn number_mismatch(
    field: &'static str,
    expected: Option<&ExpectedNumber>,
    actual: Option<f64>,
    tolerance: f64,
) -> Option<Mismatch> {
    let expected = expected?;
    let met = actual.is_some_and(|actual| expected.range.contains(actual, tolerance));
    (!met).then(|| Mismatch {
        field,
        expected: expected.range.to_string(),
        actual: actual.map(rounded),
        severity: expected.severity,
    })
}

fn flag_mismatch(
    field: &'static str,
    expected: Option<ExpectedFlag>,
    actual: Option<bool>,
) -> Option<Mismatch> {
    let expected = expected.filter(|expected| actual != Some(expected.value))?;
    Some(Mismatch {
        field,
        expected: expected.value.to_string(),
        actual: actual.map(|actual| actual.to_string()),
        severity: expected.severity,
    })
}

/// At most three digits after the point.
fn rounded(number: f64) -> String {
    ((number * 1_000.0).round() / 1_000.0).to_string()
}

pub(super) fn diff_at(path: &str, mismatch: Mismatch) -> SpecDiff {
    SpecDiff {
        field: path.to_owned(),
        expected: Some(mismatch.expected),
        actual: mismatch.actual,
        severity: mismatch.severity,
    }
}

fn text_diff(
    path: &'static str,
    expected: Option<&ExpectedText>,
    actual: Option<&String>,
) -> Option<SpecDiff> {
    text_mismatch(path, expected, actual).map(|mismatch| diff_at(path, mismatch))
}

fn compare_cpu(spec: &CpuSpec, cpu: &Cpu, diffs: &mut Vec<SpecDiff>) {
    diffs.extend(text_diff("cpu.model", spec.model.as_ref(), cpu.model.as_ref()));
    for (path, expected, actual) in [
        ("cpu.sockets", &spec.sockets, cpu.sockets),
        ("cpu.physical_cores", &spec.physical_cores, cpu.physical_cores),
        ("cpu.logical_cores", &spec.logical_cores, cpu.logical_cores),
    ] {
        // no machine has none: 0 is "not told"
        let actual = (actual > 0).then(|| f64::from(actual));
        diffs.extend(
            number_mismatch(path, expected.as_ref(), actual, 0.0).map(|mismatch| diff_at(path, mismatch)),
        );
    }
}

fn compare_memory(spec: &MemorySpec, memory: &Memory, diffs: &mut Vec<SpecDiff>) {
    if let Some(total) = &spec.total_gib {
        diffs.extend(compare_total(total, memory));
    }
    if let Some(dimms) = &spec.dimms {
        compare_dimms(dimms, memory, diffs);
    }
}

/// The part of the installed memory that Linux may not see (Checkbox): a quarter up to 16 GiB, a tenth above.
pub(super) fn largest_gap(installed_gib: f64) -> f64 {
    if installed_gib > 16.0 { 0.10 } else { 0.25 }
}

/// The gap that kernel and firmware never take: what a DIMM that is plugged in but dead leaves is larger (a share of
/// the installed memory; firmware and the kernel's page table of 1.6 % stay below).
const GAP_WITHOUT_DIMM: f64 = 0.03;

/// Size of a DIMM, if as much as that is installed but not seen, GiB.
fn missing_dimm(memory: &Memory, installed: f64, visible: f64) -> Option<f64> {
    let sizes = memory.dimms.iter().map(|dimm| dimm.size_bytes as f64 / GIB).filter(|size| *size > 0.0);
    let smallest = sizes.reduce(f64::min)?;
    let gap = installed - visible;
    (gap >= smallest && gap > installed * GAP_WITHOUT_DIMM).then_some(smallest)
}

fn compare_total(total: &ExpectedNumber, memory: &Memory) -> Vec<SpecDiff> {
    let visible = memory.visible_bytes as f64 / GIB;
    let diff = |field: &str, expected: String, actual: Option<String>| SpecDiff {
        field: field.to_owned(),
        expected: Some(expected),
        actual,
        severity: total.severity,
    };
    let mut diffs = Vec::new();
    let installed = memory.installed_bytes.map(|bytes| bytes as f64 / GIB).filter(|gib| *gib > 0.0);
    if let Some(installed) = installed {
        if !total.range.contains(installed, GIB_ROUNDING) {
            diffs.push(diff("memory.total_gib", total.range.to_string(), Some(rounded(installed))));
        }
        let least = installed * (1.0 - largest_gap(installed));
        if visible < least {
            diffs.push(diff(
                "memory.visible_gib",
                format!(">= {} of the {} installed", rounded(least), rounded(installed)),
                Some(rounded(visible)),
            ));
        } else if let Some(dimm) = missing_dimm(memory, installed, visible) {
            let expected = format!(
                "> {} of the {} installed, or a DIMM of {} is not used",
                rounded(installed - dimm),
                rounded(installed),
                rounded(dimm)
            );
            diffs.push(SpecDiff {
                severity: Severity::Critical,
                ..diff("memory.visible_gib", expected, Some(rounded(visible)))
            });
        }
    } else if memory.visible_bytes == 0 {
        diffs.push(diff("memory.total_gib", total.range.to_string(), None));
    } else {
        let (least, most) = total.range.bounds();
        let lowered = Range::of(least.map(|least| least * (1.0 - largest_gap(least))), most);
        if lowered.is_some_and(|range| !range.contains(visible, GIB_ROUNDING)) {
            diffs.push(diff(
                "memory.total_gib",
                total.range.to_string(),
                Some(format!("{} visible to Linux, installed not told", rounded(visible))),
            ));
        }
    }
    diffs
}

fn compare_dimms(spec: &DimmSpec, memory: &Memory, diffs: &mut Vec<SpecDiff>) {
    let count = (!memory.dimms.is_empty()).then_some(memory.dimms.len() as f64);
    let path = "memory.dimms.count";
    diffs.extend(
        number_mismatch(path, spec.count.as_ref(), count, 0.0).map(|mismatch| diff_at(path, mismatch)),
    );
    let ecc = flag_mismatch("ecc", spec.ecc, memory.ecc);
    diffs.extend(ecc.map(|mismatch| diff_at("memory.dimms.ecc", mismatch)));
    let of_dimm = |size: Option<f64>, memory_type: Option<&String>, speed: Option<f64>| {
        [
            number_mismatch("size_gib", spec.size_gib.as_ref(), size, GIB_ROUNDING),
            text_mismatch("type", spec.memory_type.as_ref(), memory_type),
            number_mismatch("speed_mts", spec.speed_mts.as_ref(), speed, 0.0),
        ]
        .into_iter()
        .flatten()
    };
    for dimm in &memory.dimms {
        let size = Some(dimm.size_bytes as f64 / GIB);
        let found = of_dimm(size, dimm.memory_type.as_ref(), dimm.speed_mts.map(f64::from));
        diffs.extend(
            found.map(|mismatch| {
                diff_at(&format!("memory.dimms[{}].{}", dimm.slot, mismatch.field), mismatch)
            }),
        );
    }
    if memory.dimms.is_empty() {
        let nothing_told = of_dimm(None, None, None);
        diffs.extend(
            nothing_told.map(|mismatch| diff_at(&format!("memory.dimms.{}", mismatch.field), mismatch)),
        );
    }
}

fn group<'a, Part: 'a>(
    count: &ExpectedNumber,
    words: Vec<(&'static str, Option<String>)>,
    parts: impl IntoIterator<Item = &'a Part>,
    mismatches: impl Fn(&Part) -> Vec<Option<Mismatch>>,
) -> Group {
    let words: Vec<String> = words
        .into_iter()
        .filter_map(|(field, asked)| asked.map(|asked| format!("{field} {asked}")))
        .collect();
    Group {
        count: *count,
        words: words.join(", "),
        mismatches: parts.into_iter().map(|part| mismatches(part).into_iter().flatten().collect()).collect(),
    }
}

fn in_words<const N: usize>(name: &str, words: [Option<String>; N]) -> String {
    let words: Vec<String> = words.into_iter().flatten().collect();
    if words.is_empty() { name.to_owned() } else { format!("{name}: {}", words.join(", ")) }
}

fn compare_disks(specs: &[DiskSpec], inventory: &Inventory) -> Vec<SpecDiff> {
    let disks: Vec<&Disk> = counted_disks(inventory).collect();
    let parts: Vec<String> = disks
        .iter()
        .map(|disk| {
            let size = Some(format!("{} GB", rounded(disk.size_bytes as f64 / GB)));
            let kind = disk.kind.map(|kind| kind.to_string());
            in_words(&disk.name, [disk.model.clone(), kind, size])
        })
        .collect();
    let groups: Vec<Group> = specs
        .iter()
        .map(|spec| {
            let size = spec.size_gb;
            let words = vec![
                ("kind", spec.kind.map(|kind| kind.value.to_string())),
                ("model", spec.model.as_ref().map(ExpectedText::describe)),
                ("size_gb", size.map(|size| size.range.to_string())),
                ("firmware", spec.firmware.as_ref().map(ExpectedText::describe)),
            ];
            group(&spec.count, words, disks.iter().copied(), |disk| {
                let tolerance = match size.map(|size| size.range) {
                    Some(Range::Exactly(size)) => size * DISK_SIZE_TOLERANCE,
                    Some(Range::AtLeast(_) | Range::AtMost(_) | Range::Between(..)) | None => 0.0,
                };
                let kind = spec.kind.filter(|kind| disk.kind != Some(kind.value)).map(|kind| Mismatch {
                    field: "kind",
                    expected: kind.value.to_string(),
                    actual: disk.kind.map(|kind| kind.to_string()),
                    severity: kind.severity,
                });
                vec![
                    kind,
                    text_mismatch("model", spec.model.as_ref(), disk.model.as_ref()),
                    number_mismatch("size_gb", size.as_ref(), Some(disk.size_bytes as f64 / GB), tolerance),
                    text_mismatch("firmware", spec.firmware.as_ref(), disk.firmware.as_ref()),
                ]
            })
        })
        .collect();
    groups::compare("disks", &groups, &parts)
}

fn compare_nics(specs: &[NicSpec], inventory: &Inventory) -> Vec<SpecDiff> {
    let parts: Vec<String> = inventory
        .nics
        .iter()
        .map(|nic| in_words(&nic.name, [nic.model.clone(), nic.driver.clone()]))
        .collect();
    let groups: Vec<Group> = specs
        .iter()
        .map(|spec| {
            let speed = spec.speed_mbps;
            let words = vec![
                ("driver", spec.driver.as_ref().map(ExpectedText::describe)),
                ("model", spec.model.as_ref().map(ExpectedText::describe)),
                ("speed_mbps", speed.map(|speed| speed.range.to_string())),
                ("full_duplex", spec.full_duplex.map(|full| full.value.to_string())),
            ];
            group(&spec.count, words, &inventory.nics, |nic| {
                vec![
                    text_mismatch("driver", spec.driver.as_ref(), nic.driver.as_ref()),
                    text_mismatch("model", spec.model.as_ref(), nic.model.as_ref()),
                    number_mismatch("speed_mbps", speed.as_ref(), nic.speed_mbps.map(f64::from), 0.0),
                    flag_mismatch("full_duplex", spec.full_duplex, nic.full_duplex),
                ]
            })
        })
        .collect();
    groups::compare("nics", &groups, &parts)
}

fn compare_gpus(specs: &[GpuSpec], inventory: &Inventory) -> Vec<SpecDiff> {
    let parts: Vec<String> =
        inventory.gpus.iter().map(|gpu| in_words(&gpu.pci_address, [gpu.model.clone()])).collect();
    let groups: Vec<Group> = specs
        .iter()
        .map(|spec| {
            let words = vec![("model", spec.model.as_ref().map(ExpectedText::describe))];
            group(&spec.count, words, &inventory.gpus, |gpu| {
                vec![text_mismatch("model", spec.model.as_ref(), gpu.model.as_ref())]
            })
        })
        .collect();
    groups::compare("gpus", &groups, &parts)
}

fn compare_firmware(spec: &FirmwareSpec, firmware: &FirmwareReport, diffs: &mut Vec<SpecDiff>) {
    for (component, expected) in spec.parts() {
        let mut found = firmware.versions.iter().filter(|version| version.component == component).peekable();
        let path = format!("firmware.{component}");
        let diff = |field: String, actual: Option<String>| SpecDiff {
            field,
            expected: Some(expected.rule.to_string()),
            actual,
            severity: expected.severity,
        };
        if found.peek().is_none() {
            diffs.push(diff(path, None));
            continue;
        }
        let wrong = found.filter(|version| !expected.rule.is_met_by(&version.version));
        diffs.extend(
            wrong.map(|version| {
                diff(format!("{path}[{}]", version.identifier), Some(version.version.clone()))
            }),
        );
    }
}
