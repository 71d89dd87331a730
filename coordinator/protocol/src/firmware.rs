//! Firmware versions seen on a machine. A row of `firmware_snapshots` each.

use serde::{Deserialize, Serialize};

use crate::ids::named_enum;
use crate::inventory::Absence;

named_enum! {
    /// What kind of part the firmware runs on.
    FirmwareComponent, "a firmware component" {
        /// System firmware (SMBIOS type 0).
        Bios = "bios",
        /// Baseboard management controller.
        Bmc = "bmc",
        /// Network controller.
        Nic = "nic",
        /// Storage controller.
        Hba = "hba",
        /// CPU microcode.
        Microcode = "microcode",
        /// NVMe controller.
        NvmeFw = "nvme_fw",
    }
}

/// One firmware version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FirmwareVersion {
    /// The kind of part.
    pub component: FirmwareComponent,
    /// Which one: PCI slot, serial number or device path.
    pub identifier: String,
    /// The version, as the part writes it.
    pub version: String,
    /// Who made it; empty when the part does not say.
    pub vendor: String,
    /// What else the source told.
    pub raw: serde_json::Value,
}

/// All firmware versions of a machine, and what could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FirmwareReport {
    /// In the order of `FirmwareComponent`, then by identifier.
    pub versions: Vec<FirmwareVersion>,
    /// What could not be read, and why.
    pub absent: Vec<Absence>,
}
