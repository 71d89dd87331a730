//! What the machine is made of.
//!
//! Reads through [`Host`], and asks a tool only for what sysfs does not tell (NIC firmware, the BMC, GPUs of NVIDIA). What cannot be
//! read is absent with a reason, never a guess; nothing here fails or panics, whatever the machine says.

mod absences;
mod bmc;
mod by_path;
mod cpu;
pub mod dimm_map;
pub mod firmware;
mod gpu;
mod memory;
mod network;
mod pci;
mod smbios;
mod storage;

use vetting_protocol::inventory::Inventory;

use crate::host::Host;
use crate::tools::runner::ToolRunner;
use absences::Absences;
pub(crate) use network::without_carrier;
pub(crate) use pci::is_screen;
pub(crate) use smbios::is_placeholder;

/// Takes stock of the whole machine. Never fails: what cannot be read is in [`Inventory::absent`].
pub fn collect(host: &Host, tools: &dyn ToolRunner) -> Inventory {
    let mut absent = Absences::default();
    let tables = smbios::Tables::load(host, &mut absent);
    let pci = pci::devices(host, &mut absent);
    Inventory {
        system: tables.system(&mut absent),
        board: tables.board(&mut absent),
        bios: tables.bios(host, &mut absent),
        chassis: tables.chassis(&mut absent),
        cpu: cpu::cpu(host, &tables, &mut absent),
        memory: memory::memory(host, &tables, &mut absent),
        disks: storage::disks(host, &mut absent),
        nics: network::nics(host, tools, &pci, &mut absent),
        gpus: gpu::gpus(host, tools, &pci, &mut absent),
        psus: tables.psus(&mut absent),
        bmc: bmc::bmc(host, tools, &tables, &mut absent),
        pci,
        absent: absent.into_list(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
