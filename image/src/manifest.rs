//! `manifest.json`: what a build made, for the coordinator, for people, and for comparing two builds.
//!
//! Owns: its form and the size table. Refuses: times and host names, which would make equal builds differ.

use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use crate::lock::LockedPackage;

/// Everything about one built image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Kernel version as `uname -r` says.
    pub kernel_version: String,
    /// Files of the output folder.
    pub files: Vec<BuiltFile>,
    /// Archives inside `initrd.zst`, in order.
    pub archives: Vec<Archive>,
    /// The parts of the initramfs before compression, largest first.
    pub parts: Vec<Part>,
    /// The agent, where the image has it.
    pub agent: Option<BuiltFile>,
    /// Debian packages, by name.
    pub packages: Vec<PackageVersion>,
    /// Version of NVIDIA's driver, where the image has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvidia_driver: Option<String>,
    /// Firmware that modules in the image may ask for and that is not in it.
    pub firmware_left_out: Vec<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuiltFile {
    /// Path relative to the output folder.
    pub name: String,
    /// Lower-case hex.
    pub sha256: String,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// One archive of the initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// What is in it.
    pub name: String,
    /// Bytes of its files.
    pub unpacked_bytes: u64,
    /// Bytes it takes in `initrd.zst`.
    pub packed_bytes: u64,
}

/// A part of the initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Package, module group, or the like.
    pub name: String,
    /// Bytes of its files before compression.
    pub bytes: u64,
}

/// A package in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageVersion {
    /// Name.
    pub name: String,
    /// Full Debian version.
    pub version: String,
}

impl From<&LockedPackage> for PackageVersion {
    fn from(package: &LockedPackage) -> Self {
        Self { name: package.name.clone(), version: package.version.clone() }
    }
}

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file is not there or not readable.
    #[error("{path} cannot be read; `make image` makes it")]
    Read {
        /// The file.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The file is not a manifest.
    #[error("{path}")]
    Parse {
        /// The file.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl Manifest {
    /// Read the manifest of an output folder.
    pub fn read(output: &Path) -> Result<Self, ManifestError> {
        let file = output.join("manifest.json");
        let path = file.display().to_string();
        let text = std::fs::read_to_string(&file)
            .map_err(|source| ManifestError::Read { path: path.clone(), source })?;
        serde_json::from_str(&text).map_err(|source| ManifestError::Parse { path, source })
    }

    /// Kernel plus initramfs in bytes: what a machine downloads.
    pub fn download_bytes(&self) -> u64 {
        let boot = self.files.iter().filter(|file| file.name == "vmlinuz" || file.name == "initrd.zst");
        boot.map(|file| file.size_bytes).sum()
    }

    /// Tables of files and parts, for people.
    pub fn summary(&self) -> String {
        let mut files = table(["file", "MB", "SHA-256"]);
        for file in &self.files {
            files.add_row([file.name.clone(), megabytes(file.size_bytes), file.sha256[..16].to_owned()]);
        }
        files.add_row(["kernel + initramfs".to_owned(), megabytes(self.download_bytes()), String::new()]);
        let mut parts = table(["in the initramfs", "MB", "compressed"]);
        for archive in &self.archives {
            parts.add_row([
                format!("archive: {}", archive.name),
                megabytes(archive.unpacked_bytes),
                megabytes(archive.packed_bytes),
            ]);
        }
        let (large, small): (Vec<&Part>, Vec<&Part>) =
            self.parts.iter().partition(|part| part.bytes >= 500_000);
        for part in large {
            parts.add_row([part.name.clone(), megabytes(part.bytes), String::new()]);
        }
        let rest: u64 = small.iter().map(|part| part.bytes).sum();
        parts.add_row([format!("{} parts below 0.5 MB", small.len()), megabytes(rest), String::new()]);
        format!("kernel {}, {} Debian packages\n{files}\n{parts}", self.kernel_version, self.packages.len())
    }
}

fn table(header: [&str; 3]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
    for index in 1..=2 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// In units of 1,000,000 bytes, to two places.
fn megabytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}
