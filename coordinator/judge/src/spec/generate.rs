//! A spec from a machine.

use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::inventory::Inventory;

use super::document::Spec;

/// See [`Spec::from_inventory`].
pub(super) fn from_inventory(inventory: &Inventory, firmware: &FirmwareReport) -> Spec {
    let _ = (inventory, firmware);
    Spec { system: None, cpu: None, memory: None, disks: None, nics: None, gpus: None, firmware: None }
}
