//! What end-to-end tests, demo and bench share: a whole site on this machine — the real coordinator with its
//! database, and emulated machines from the lab of `vetting-image`.
//!
//! Owns no product logic: everything goes through the binaries, the HTTP API and the finished files.

pub mod bench;
pub mod bmc;
pub mod console_server;
pub mod fleet;
pub mod lan_site;
pub mod local_disk;
pub mod machines;
pub mod simulated;
pub mod site;
pub mod verdict;

use std::time::Duration;

/// Time between two of the API's time stamps (`YYYY-MM-DD HH:MM:SS.sss`, UTC).
pub fn step_duration(from: &str, to: &str) -> anyhow::Result<Duration> {
    let from: jiff::civil::DateTime = from.parse()?;
    let to: jiff::civil::DateTime = to.parse()?;
    Ok(to.duration_since(from).try_into()?)
}
