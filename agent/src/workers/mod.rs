//! Tests that compute and remember, each in a process of its own (`vetting-agent memory-worker`, `cpu-worker`): what
//! kills one, such as SIGBUS on a poisoned page or the kernel being short of memory, is an outcome of the stage that
//! started it and not the agent's death.
//!
//! A worker tells what it did in lines of JSON on its standard output. It judges nothing: [`crate::tools::memory_worker`]
//! and [`crate::tools::cpu_worker`] read the lines, the stages draw conclusions.

pub mod cpu;
pub mod memory;
mod process;

pub use process::WorkerError;

/// Tells one event: a line of JSON.
fn tell(event: &impl serde::Serialize) -> Result<(), WorkerError> {
    use std::io::Write as _;
    let mut line = serde_json::to_vec(event).map_err(WorkerError::Event)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(WorkerError::Print)
}

/// SplitMix64 of a counter (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators").
fn splitmix(counter: u64) -> u64 {
    let mut word = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
