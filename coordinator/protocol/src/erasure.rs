//! What the agent tells of an erased disk: enough to write a certificate from.

use serde::{Deserialize, Serialize};

/// Key of an [`Erasure`] in the details of its sub-step.
pub const DETAILS_KEY: &str = "erasure";

/// How a disk is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EraseMethod {
    /// NVMe Sanitize, block erase (NVMe Base 2.0, 5.24).
    NvmeSanitizeBlock,
    /// NVMe Sanitize, crypto erase.
    NvmeSanitizeCrypto,
    /// NVMe Format with user data erase, SES 1 (NVMe Base 2.0, 5.14).
    NvmeFormat,
    /// ATA SECURITY ERASE UNIT in normal mode (ACS-3, 7.46).
    AtaSecureErase,
    /// ATA SECURITY ERASE UNIT in enhanced mode.
    AtaEnhancedSecureErase,
    /// Every logical block written with zeros.
    ZeroFill,
}

impl EraseMethod {
    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::NvmeSanitizeBlock => "NVMe Sanitize, block erase",
            Self::NvmeSanitizeCrypto => "NVMe Sanitize, cryptographic erase",
            Self::NvmeFormat => "NVMe Format with user data erase (SES 1)",
            Self::AtaSecureErase => "ATA SECURITY ERASE UNIT, normal mode",
            Self::AtaEnhancedSecureErase => "ATA SECURITY ERASE UNIT, enhanced mode",
            Self::ZeroFill => "every logical block written with zeros",
        }
    }

    /// Whether also blocks that the disk has set aside are erased, which overwriting cannot reach.
    pub fn reaches_spare_blocks(self) -> bool {
        self != Self::ZeroFill && self != Self::AtaSecureErase
    }

    /// Whether every block reads as zeros afterwards, so that anything else is a fault.
    pub fn leaves_zeros(self) -> bool {
        self == Self::ZeroFill
    }
}

/// An erased disk, or one that was to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    /// Kernel name: `sda`.
    pub disk: String,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// World wide name, EUI-64 or NGUID.
    pub wwn: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// Size, bytes.
    pub size_bytes: u64,
    /// How.
    pub method: EraseMethod,
    /// Why no better method was taken, one sentence each.
    pub remarks: Vec<String>,
    /// When the erasing began, ms since the epoch.
    pub started_ms: i64,
    /// When it ended, ms since the epoch.
    pub ended_ms: i64,
    /// What was read back.
    pub sample: ErasureSample,
}

/// Blocks that were marked before the erasing and read after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ErasureSample {
    /// Blocks marked, spread over the disk, the first and the last among them.
    pub blocks: u32,
    /// Size of each, bytes.
    pub block_bytes: u32,
    /// Of the marks and of their places; with it the same can be made again.
    pub seed: u64,
    /// Blocks that still hold their mark.
    pub surviving: u32,
    /// Blocks of all zeros or all ones.
    pub blank: u32,
    /// Blocks with anything else in them.
    pub other: u32,
    /// Blocks that could not be read.
    pub unreadable: u32,
}

impl ErasureSample {
    /// Why the sample does not show an erased disk; `None` if it does.
    pub fn objection(&self, method: EraseMethod) -> Option<String> {
        let of = |count: u32| format!("{count} of {} marked blocks", self.blocks);
        if self.surviving > 0 {
            return Some(format!("{} still hold what was written before", of(self.surviving)));
        }
        if method.leaves_zeros() && self.other > 0 {
            return Some(format!("{} are not blank", of(self.other)));
        }
        if self.unreadable > 0 {
            return Some(format!("{} cannot be read, so nobody can tell", of(self.unreadable)));
        }
        let read = self.blank.saturating_add(self.other);
        (read < self.blocks || self.blocks == 0).then(|| format!("only {} were read back", of(read)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(blank: u32, other: u32) -> ErasureSample {
        ErasureSample { blocks: 8, block_bytes: 4096, seed: 1, blank, other, ..ErasureSample::default() }
    }

    #[test]
    fn only_a_whole_sample_without_a_mark_is_no_objection() {
        assert_eq!(sample(8, 0).objection(EraseMethod::ZeroFill), None);
        assert_eq!(sample(0, 8).objection(EraseMethod::NvmeSanitizeCrypto), None);
        assert!(sample(7, 1).objection(EraseMethod::ZeroFill).is_some());
        assert!(sample(7, 0).objection(EraseMethod::NvmeFormat).is_some());
        assert!(ErasureSample::default().objection(EraseMethod::NvmeFormat).is_some());
        let surviving = ErasureSample { surviving: 1, ..sample(7, 0) };
        assert!(surviving.objection(EraseMethod::NvmeSanitizeCrypto).unwrap().starts_with("1 of 8"));
        let unreadable = ErasureSample { unreadable: 1, ..sample(7, 0) };
        assert!(unreadable.objection(EraseMethod::AtaSecureErase).is_some());
    }
}
