//! What the machine is made of. Reads by [`Host`] and a few tools; what cannot be read is absent with a reason.

pub mod firmware;

use vetting_protocol::inventory::{Absence, Bios, Board, Chassis, Cpu, Inventory, Memory, System};

use crate::host::Host;
use crate::tools::runner::ToolRunner;

/// Takes stock of the whole machine. Never fails: what cannot be read is in [`Inventory::absent`].
pub fn collect(_host: &Host, _tools: &dyn ToolRunner) -> Inventory {
    Inventory {
        system: System {
            manufacturer: None,
            product: None,
            version: None,
            serial: None,
            uuid: None,
            sku: None,
            family: None,
        },
        board: Board { manufacturer: None, product: None, version: None, serial: None },
        bios: Bios { vendor: None, version: None, release_date: None, uefi: false, secure_boot: None },
        chassis: Chassis { manufacturer: None, chassis_type: None, serial: None, asset_tag: None },
        cpu: Cpu {
            model: None,
            vendor: None,
            sockets: 0,
            physical_cores: 0,
            logical_cores: 0,
            threads_per_core: 0,
            numa_nodes: 0,
            microcode: None,
            max_mhz: None,
            flags: Vec::new(),
            packages: Vec::new(),
        },
        memory: Memory { visible_bytes: 0, installed_bytes: None, ecc: None, slots: None, dimms: Vec::new() },
        disks: Vec::new(),
        nics: Vec::new(),
        pci: Vec::new(),
        gpus: Vec::new(),
        psus: Vec::new(),
        bmc: None,
        absent: vec![Absence { what: "inventory".to_owned(), reason: "not read yet".to_owned() }],
    }
}
