//! Firmware versions of a machine's parts: bios, bmc, nic, hba, microcode, nvme_fw.

use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::inventory::Inventory;

use crate::host::Host;
use crate::tools::runner::ToolRunner;

/// Every firmware version that the machine tells, and what could not be read.
pub fn collect(_host: &Host, _tools: &dyn ToolRunner, _inventory: &Inventory) -> FirmwareReport {
    FirmwareReport { versions: Vec::new(), absent: Vec::new() }
}
