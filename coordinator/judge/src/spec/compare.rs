//! A machine against its spec.

use vetting_protocol::diff::SpecDiff;
use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::inventory::Inventory;

use super::document::Spec;

/// Everything in which the machine is not as the spec asks, in the order of the spec.
pub fn compare(spec: &Spec, inventory: &Inventory, firmware: &FirmwareReport) -> Vec<SpecDiff> {
    let _ = (spec, inventory, firmware);
    Vec::new()
}
