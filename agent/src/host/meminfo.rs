//! Memory as Linux counts it: `/proc/meminfo` (proc_meminfo(5)).

use std::path::PathBuf;

use super::{Host, HostError};

const MEMINFO: &str = "/proc/meminfo";

/// How much memory there is, and how much a program can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meminfo {
    /// `MemTotal`: all that the kernel manages.
    pub total_bytes: u64,
    /// `MemAvailable`: what new programs can have without swapping.
    pub available_bytes: u64,
}

impl Host {
    /// Reads it; a line that is missing, malformed or 0 is an error.
    pub fn meminfo(&self) -> Result<Meminfo, HostError> {
        let text = self.text(MEMINFO)?;
        let bytes = |name: &str, expected| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            kib(found).map(|kib| kib * 1024).ok_or_else(|| HostError::Unparsable {
                path: PathBuf::from(MEMINFO),
                found: found.trim().chars().take(80).collect(),
                expected,
            })
        };
        Ok(Meminfo {
            total_bytes: bytes("MemTotal:", "a line `MemTotal` in kB")?,
            available_bytes: bytes("MemAvailable:", "a line `MemAvailable` in kB")?,
        })
    }
}

/// `  1000 kB` → 1000.
fn kib(text: &str) -> Option<u64> {
    let number = text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(number).filter(|number| *number > 0 && *number <= u64::MAX / 1024)
}
