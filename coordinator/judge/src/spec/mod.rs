//! The expected spec of a host, in YAML, and how a machine is compared with it.
//!
//! ```yaml
//! system: {manufacturer: "Dell*", product: "PowerEdge R640"}
//! cpu:
//!   model: "Intel(R) Xeon(R) Gold 6130*"
//!   sockets: 2
//!   physical_cores: 32
//!   logical_cores: {min: 32, max: 64}
//! memory:
//!   total_gib: 384
//!   dimms: {count: 12, size_gib: 32, type: DDR4, speed_mts: {min: 2666, severity: warning}, ecc: true}
//! disks:
//!   - {count: 2, kind: ssd, model: "INTEL SSDSC2K*", size_gb: 480, firmware: XCV10132}
//!   - {count: 8, kind: hdd, size_gb: {min: 4000}}
//! nics:
//!   - {count: {min: 2}, driver: ixgbe, speed_mbps: {min: 10000}}
//! gpus: []                                    # none at all
//! firmware:
//!   bios: {minimum: "2.10"}
//!   bmc: {version: "4.22.00.00", severity: warning}
//!   nvme_fw: "VDV101*"
//! pcie:
//!   - {device: "*ConnectX-5*", count: 2, width: 16}
//! bios: {smt: true, virtualization: true, secure_boot: {value: false, severity: warning}}
//! thresholds:                                 # see [`crate::host_rules`]
//!   - {kind: temp, key: "cpu/*", op: lt, threshold: 85, unit: celsius, severity: critical, note: "cold aisle"}
//! stages:                                     # see [`crate::profile::host_stages`]
//!   - {stage: Storage, profiles: [quick], limit: 20m, fio_read: 60s, note: "slow disks"}
//! ```
//!
//! - A text is a glob (`*`, `?`), and must match whole.
//! - A number is exact, or `{min: …}`, `{max: …}`, or both.
//! - A mapping in place of a text or a number may bear `severity: critical | warning | info` (critical without it);
//!   the text or exact number then stands under `value`.
//! - Firmware asks for one of `version` (exactly), `minimum` or `glob`; a plain text is a glob.
//! - A list of groups asks for so many parts that match the whole group; what no group asks for is told as a warning.
//!   An empty list asks for none. A list that is absent asks for nothing. `count` is 1 without it.
//! - Sizes of disks are decimal GB as on their label, and may be 1 % off; those of memory are GiB.
//!
//! Refuses an empty document, one that asks for nothing, unknown keys, and numbers where a text belongs (`2.10` is
//! not `"2.10"`). What the spec asks for and the machine does not tell is a diff, never silently equal.

mod compare;
mod disk_use;
mod document;
mod expectation;
mod generate;
mod groups;
mod platform;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;

pub use compare::compare;
pub use document::{
    BiosSpec, CpuSpec, DimmSpec, DiskSpec, FirmwareSpec, GpuSpec, HostSpec, MemorySpec, NicSpec, PcieSpec,
    Spec, SystemSpec,
};
pub use expectation::{
    ExpectedFlag, ExpectedKind, ExpectedMost, ExpectedNumber, ExpectedText, ExpectedVersion, Range,
    VersionRule,
};

/// The JSON Schema of a spec, for editors and programs; the parser finds more mistakes than it can tell.
pub const SCHEMA: &str = include_str!("../../../../docs/api/spec.schema.json");

/// A spec that cannot be used: where the mistake is, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the expected spec: {mistake}")]
pub struct SpecError {
    /// Line, column, dotted path, and what is wrong.
    pub mistake: crate::yaml::Mistake,
}
