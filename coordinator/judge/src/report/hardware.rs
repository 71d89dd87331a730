//! Sections on what the machine is made of: summary, disks, DIMMs, network, GPUs, power, firmware.

use maud::{Markup, html};
use vetting_protocol::inventory::{
    Absence, Bmc, Cpu, Dimm, Disk, DiskBus, DiskKind, Gpu, Inventory, Memory, Nic, Psu,
};
use vetting_protocol::run::RunResult;

use super::html::{Tone, badge, or_dash, scroll, section};
use super::{format, stages};
use crate::facts::{PartBefore, RunFacts, SubStepFacts};

/// All of the hardware.
pub(super) fn hardware(facts: &RunFacts) -> Markup {
    let body = match &facts.inventory {
        None => html! { p.empty { "No inventory was taken." } },
        Some(inventory) => html! {
            (summary(inventory))
            h3 { "Disks" } (disks(inventory, facts))
            h3 { "Memory modules" } (dimms(&inventory.memory))
            h3 { "Network" } (nics(&inventory.nics))
            @if !inventory.gpus.is_empty() { h3 { "GPUs" } (gpus(&inventory.gpus)) }
            @if !inventory.psus.is_empty() { h3 { "Power supplies" } (psus(&inventory.psus)) }
            (absences(&inventory.absent))
        },
    };
    section("hardware", "Hardware", "", &body)
}

fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn summary(inventory: &Inventory) -> Markup {
    let Inventory { system, board, bios, cpu, memory, bmc, .. } = inventory;
    let board = [board.manufacturer.as_deref(), board.product.as_deref()];
    let bios_words = [bios.vendor.as_deref(), bios.version.as_deref(), bios.release_date.as_deref()];
    let boot = match (bios.uefi, bios.secure_boot) {
        (true, Some(true)) => "UEFI, Secure Boot on",
        (true, Some(false)) => "UEFI, Secure Boot off",
        (true, None) => "UEFI",
        (false, _) => "BIOS",
    };
    html! {
        dl.facts {
            (fact("Serial number", &or_dash(system.serial.as_deref())))
            (fact("Board", &or_dash(joined(&board).as_deref())))
            (fact("System firmware", &or_dash(joined(&bios_words).as_deref())))
            (fact("Booted by", &html! { (boot) }))
            (fact("CPU", &cpu_words(cpu)))
            (fact("Memory", &memory_words(memory)))
            (fact("BMC", &bmc_words(bmc.as_ref())))
        }
    }
}

fn joined(words: &[Option<&str>]) -> Option<String> {
    let words: Vec<&str> = words.iter().copied().flatten().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn cpu_words(cpu: &Cpu) -> Markup {
    html! {
        (or_dash(cpu.model.as_deref())) br;
        span.muted {
            (format::count(cpu.sockets.into(), "socket", "sockets")) ", "
            (format::count(cpu.physical_cores.into(), "core", "cores")) ", "
            (format::count(cpu.logical_cores.into(), "thread", "threads"))
        }
    }
}

fn memory_words(memory: &Memory) -> Markup {
    let ecc = match memory.ecc {
        Some(true) => "ECC",
        Some(false) => "no ECC",
        None => "ECC not told",
    };
    html! {
        @match memory.installed_bytes {
            Some(bytes) => { (format::memory(bytes)) " installed" }
            None => { "installed size not told" }
        }
        br; span.muted { (format::memory(memory.visible_bytes)) " visible to Linux, " (ecc) }
    }
}

fn bmc_words(bmc: Option<&Bmc>) -> Markup {
    let words = bmc.and_then(|bmc| {
        joined(&[bmc.manufacturer.as_deref(), bmc.product.as_deref(), bmc.firmware.as_deref()])
    });
    or_dash(words.as_deref())
}

fn disks(inventory: &Inventory, facts: &RunFacts) -> Markup {
    html! {
        @if inventory.disks.is_empty() { p.empty { "None." } } @else {
            (scroll("Disks", &html! { table {
                thead { tr {
                    th { "Disk" } th { "Model" } th { "Serial number" } th.num { "Size" } th { "Kind" } th { "Firmware" } th { "Tests" }
                } }
                tbody { @for disk in &inventory.disks { (disk_row(disk, facts)) } }
            } }))
        }
    }
}

fn disk_row(disk: &Disk, facts: &RunFacts) -> Markup {
    let bus = disk.bus.map(DiskBus::as_str);
    let kind = joined(&[disk.kind.map(DiskKind::as_str).filter(|kind| bus != Some(*kind)), bus]);
    html! {
        tr {
            td { code { (disk.name) } @if disk.boot_medium { " " (badge(Tone::Quiet, "boot medium")) } }
            td { (or_dash(disk.model.as_deref())) }
            td.nowrap { code { (or_dash(disk.serial.as_deref())) } }
            td.num { (format::size(disk.size_bytes)) }
            td.nowrap { (or_dash(kind.as_deref())) }
            td.nowrap { (or_dash(disk.firmware.as_deref())) }
            td.tests {
                @for (name, step) in tests_of(&disk.name, facts) {
                    span.test { (name) " " (stages::outcome(step.outcome.as_ref())) }
                }
            }
        }
    }
}

/// Sub-steps named after a part: `sda badblocks` is the test `badblocks` of `sda`.
fn tests_of<'a>(part: &'a str, facts: &'a RunFacts) -> impl Iterator<Item = (&'a str, &'a SubStepFacts)> {
    facts.stages.iter().flat_map(|stage| &stage.sub_steps).filter_map(move |step| {
        let (of, test) = step.name.split_once(' ')?;
        (of == part).then_some((test, step))
    })
}

fn dimms(memory: &Memory) -> Markup {
    html! {
        @if memory.dimms.is_empty() { p.empty { "SMBIOS tells of none." } } @else {
            (scroll("Memory modules", &html! { table {
                thead { tr {
                    th { "Slot" } th.num { "Size" } th { "Type" } th.num { "Speed" } th { "Maker" } th { "Part number" } th { "Serial number" }
                } }
                tbody { @for dimm in &memory.dimms { (dimm_row(dimm)) } }
            } }))
        }
    }
}

fn dimm_row(dimm: &Dimm) -> Markup {
    let speed = match (dimm.configured_mts, dimm.speed_mts) {
        (Some(set), Some(able)) if set != able => Some(format!("{set} of {able} MT/s")),
        (_, Some(speed)) | (Some(speed), None) => Some(format!("{speed} MT/s")),
        (None, None) => None,
    };
    html! {
        tr {
            td { code { (dimm.slot) } }
            td.num { (format::memory(dimm.size_bytes)) }
            td { (or_dash(dimm.memory_type.as_deref())) }
            td.num { (or_dash(speed.as_deref())) }
            td { (or_dash(dimm.manufacturer.as_deref())) }
            td { (or_dash(dimm.part_number.as_deref())) }
            td { code { (or_dash(dimm.serial.as_deref())) } }
        }
    }
}

fn nics(nics: &[Nic]) -> Markup {
    html! {
        @if nics.is_empty() { p.empty { "None." } } @else {
            (scroll("Network interfaces", &html! { table {
                thead { tr { th { "Interface" } th { "Model" } th { "MAC" } th { "Driver" } th { "Link" } th { "Firmware" } } }
                tbody { @for nic in nics { (nic_row(nic)) } }
            } }))
        }
    }
}

fn nic_row(nic: &Nic) -> Markup {
    let link = match (nic.link, nic.speed_mbps) {
        (Some(true), Some(speed)) => Some(format!("up, {speed} Mbit/s")),
        (Some(true), None) => Some("up".to_owned()),
        (Some(false), _) => Some("no carrier".to_owned()),
        (None, _) => None,
    };
    html! {
        tr {
            td { code { (nic.name) } }
            td { (or_dash(nic.model.as_deref())) }
            td { code { (or_dash(nic.mac.map(|mac| mac.to_string()).as_deref())) } }
            td { (or_dash(nic.driver.as_deref())) }
            td { (or_dash(link.as_deref())) }
            td { (or_dash(nic.firmware.as_deref())) }
        }
    }
}

fn gpus(gpus: &[Gpu]) -> Markup {
    html! {
        (scroll("GPUs", &html! { table {
            thead { tr { th { "PCI address" } th { "Model" } th { "Serial" } th { "VBIOS" } th { "Driver" } } }
            tbody { @for gpu in gpus { tr {
                td { code { (gpu.pci_address) } }
                td { (or_dash(gpu.model.as_deref())) }
                td { (or_dash(gpu.serial.as_deref())) }
                td { (or_dash(gpu.vbios_version.as_deref())) }
                td { (or_dash(gpu.driver.as_deref())) }
            } } }
        } }))
    }
}

fn psus(psus: &[Psu]) -> Markup {
    html! {
        (scroll("Power supplies", &html! { table {
            thead { tr { th { "Slot" } th { "Model" } th { "Serial number" } th.num { "Rated" } th { "Present" } } }
            tbody { @for psu in psus { tr {
                td { code { (psu.slot) } }
                td { (or_dash(joined(&[psu.manufacturer.as_deref(), psu.model.as_deref()]).as_deref())) }
                td { code { (or_dash(psu.serial.as_deref())) } }
                td.num { (or_dash(psu.max_watts.map(|watts| format!("{watts} W")).as_deref())) }
                td { (or_dash(psu.present.map(|present| if present { "yes" } else { "no" }))) }
            } } }
        } }))
    }
}

fn absences(absent: &[Absence]) -> Markup {
    html! {
        @if !absent.is_empty() {
            details {
                summary { (format::count(absent.len() as u64, "part or field", "parts or fields")) " could not be read" }
                ul.plain { @for absence in absent { li { code { (absence.what) } " " (absence.reason) } } }
            }
        }
    }
}

/// Where parts were before, in other machines; nothing where none was.
pub(super) fn parts_before(facts: &RunFacts) -> Markup {
    if facts.parts_before.is_empty() {
        return html! {};
    }
    let body = html! {
        (scroll("Parts that were in other machines", &html! { table {
            thead { tr { th { "Part" } th { "Serial number" } th { "Machine" } th { "Run" } th { "When" } th { "Verdict" } } }
            tbody { @for part in &facts.parts_before { (part_row(part)) } }
        } }))
    };
    section("parts", "Parts that were in other machines", "By serial number, the newest run first.", &body)
}

fn part_row(part: &PartBefore) -> Markup {
    html! {
        tr {
            td { (part.kind) " " code { (part.place) } }
            td { code { (part.serial) } }
            td { (part.host) }
            td { (part.run) }
            td { (format::time(part.started_ms)) }
            td {
                (or_dash(part.result.map(RunResult::as_str)))
                @if let Some(stage) = &part.failed_stage { " in " (stage) }
            }
        }
    }
}

/// Firmware versions.
pub(super) fn firmware(facts: &RunFacts) -> Markup {
    let body = match &facts.firmware {
        None => html! { p.empty { "No firmware versions were taken." } },
        Some(firmware) => html! {
            @if firmware.versions.is_empty() { p.empty { "None could be read." } } @else {
                (scroll("Firmware", &html! { table {
                    thead { tr { th { "Component" } th { "Part" } th { "Version" } th { "Maker" } } }
                    tbody { @for version in &firmware.versions { tr {
                        td { (version.component) }
                        td { code { (version.identifier) } }
                        td { strong { (version.version) } }
                        td { (or_dash(Some(&version.vendor))) }
                    } } }
                } }))
            }
            (absences(&firmware.absent))
        },
    };
    section("firmware", "Firmware", "", &body)
}
