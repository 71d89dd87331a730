//! External tools: how each is called and how its output is read. Only [`runner`] starts processes.
//!
//! Each tool file has two pure functions, `invocation(..) -> Invocation` and `parse(&Finished) -> Result<_, ToolError>`.

pub mod badblocks;
pub mod blkdiscard;
pub mod blkid;
pub mod cpu_worker;
pub mod dcgmi;
mod document;
pub mod dropbear;
pub mod ethtool;
pub mod fio;
pub mod gpu_load;
pub mod hdparm;
pub mod ip;
pub mod iperf3;
pub mod ipmitool;
pub mod memory_worker;
pub mod nvme;
pub mod nvml;
#[cfg(any(test, fuzzing))]
pub mod parsers;
pub mod runner;
pub mod smartctl;
pub mod stress_ng;
pub mod wipefs;

/// A recorded call below `tests/fixtures/tools`, as its tool finished.
#[cfg(test)]
pub(crate) fn fixture(tool: &'static str, case: &str) -> runner::Finished {
    runner::read_recording(&fixture_folder(tool, case), tool).unwrap()
}

/// Where a recorded call lies.
#[cfg(test)]
pub(crate) fn fixture_folder(tool: &str, case: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tools").join(tool).join(case)
}
