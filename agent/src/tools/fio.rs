//! fio (3.33 to 3.39): reads of a disk past the page cache, and writing it whole with verification, from its JSON.
//!
//! The reading jobs only read (`--readonly`). `--thread` keeps fio's work in our process group: a forked job would make
//! a session of its own and outlive a kill. Errors do not stop it; where they were comes from its error lines.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::runner::{Finished, Invocation, ToolError};

const TOOL: &str = "fio";
/// Size of one sequential read or write.
pub const BLOCK_BYTES: u64 = 1024 * 1024;
/// Size of one random read: the page of file systems and databases.
pub const RANDOM_BLOCK_BYTES: u64 = 4096;
/// What a disk may take after its time for what is under way: several of the kernel's 30 s command timeouts.
const SETTLE: Duration = Duration::from_mins(5);
/// Slowest healthy flash that is waited for.
const SLOWEST_BYTES_PER_SECOND: u64 = 10 * 1000 * 1000;

/// What fio does to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Reads from the start on, 1 MiB at a time, again from the start if the end comes first.
    SequentialRead(Duration),
    /// Reads 4 KiB at random places, 32 at a time.
    RandomRead(Duration),
    /// Writes a range in blocks of this size, each with its checksum, and reads it back (`--verify=crc32c`). What was
    /// there is lost.
    WriteAndVerify {
        /// First byte.
        offset_bytes: u64,
        /// How many; a multiple of the block.
        length_bytes: u64,
        /// Size of one write.
        block_bytes: u64,
    },
}

impl Job {
    /// Size of one read or write.
    pub fn block_bytes(self) -> u64 {
        match self {
            Self::SequentialRead(_) => BLOCK_BYTES,
            Self::RandomRead(_) => RANDOM_BLOCK_BYTES,
            Self::WriteAndVerify { block_bytes, .. } => block_bytes,
        }
    }

    fn words(self) -> (Vec<String>, Duration) {
        let timed = |pattern: &str, depth: u32, time: Duration| {
            let words = vec![
                "--readonly".to_owned(),
                format!("--rw={pattern}"),
                format!("--iodepth={depth}"),
                "--time_based".to_owned(),
                format!("--runtime={}ms", time.as_millis().max(1)),
                "--continue_on_error=read".to_owned(),
            ];
            (words, time)
        };
        match self {
            Self::SequentialRead(time) => timed("read", 8, time),
            Self::RandomRead(time) => timed("randread", 32, time),
            Self::WriteAndVerify { offset_bytes, length_bytes, .. } => {
                let words = vec![
                    "--rw=write".to_owned(),
                    "--iodepth=8".to_owned(),
                    format!("--offset={offset_bytes}"),
                    format!("--size={length_bytes}"),
                    "--verify=crc32c".to_owned(),
                    "--verify_fatal=0".to_owned(),
                    "--verify_dump=0".to_owned(),
                    "--continue_on_error=all".to_owned(),
                ];
                (words, Duration::from_secs(length_bytes / SLOWEST_BYTES_PER_SECOND * 2))
            }
        }
    }
}

/// Does `job` to `device`.
pub fn invocation(device: &str, job: Job) -> Invocation {
    let (words, time) = job.words();
    let mut args = vec![
        "--name=disk".to_owned(),
        // a colon separates file names
        format!("--filename={}", device.replace(':', "\\:")),
        format!("--bs={}", job.block_bytes()),
    ];
    args.extend(words);
    args.extend(
        [
            "--ioengine=libaio",
            "--direct=1",
            "--thread",
            "--error_dump=1",
            "--output-format=json",
            "--eta=never",
        ]
        .map(str::to_owned),
    );
    Invocation { tool: TOOL, args: args.into_iter().map(Into::into).collect(), timeout: time + SETTLE }
}

/// What one direction showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Bytes moved.
    pub bytes: f64,
    /// Bytes a second.
    pub bandwidth_bytes_per_second: f64,
    /// Reads or writes a second.
    pub iops: f64,
    /// Completion latency at these percentiles, microseconds: 50, 99, 99.9; absent if nothing was completed.
    pub latency_microseconds: [Option<f64>; 3],
}

/// What a job showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What was read, verification included.
    pub read: Flow,
    /// What was written.
    pub written: Flow,
    /// Reads, writes and verifications that failed; a place is counted each time a read comes around to it.
    pub errors: u64,
    /// errno of the first one; 84 (EILSEQ) is another content than was written.
    pub first_errno: Option<i64>,
    /// Byte offsets of what failed, each once, ascending; a block of the job long each.
    pub failed_offsets: Vec<u64>,
}

fn garbage(message: impl Into<String>) -> ToolError {
    ToolError::Garbage { tool: TOOL.to_owned(), message: message.into() }
}

/// Reads fio's JSON and its error lines. What failed on the disk is a report, not an error; fio's exit code does not tell
/// of it.
pub fn parse(finished: &Finished) -> Result<Report, ToolError> {
    let code = finished.code(TOOL)?;
    let failed = || ToolError::Failed { tool: TOOL.to_owned(), code, message: finished.last_words() };
    let stdout = finished.stdout_text();
    // a fatal error is told in a line before the JSON
    let Some(start) = stdout.find('{') else {
        return Err(if code == 0 { garbage("there is no JSON in it") } else { failed() });
    };
    let json: Value = serde_json::Deserializer::from_str(stdout.get(start..).unwrap_or_default())
        .into_iter()
        .next()
        .unwrap_or(Ok(Value::Null))
        .map_err(|error| garbage(format!("its JSON cannot be read: {error}")))?;
    let job = json.pointer("/jobs/0").ok_or_else(|| garbage("there is no job in it"))?;
    let failed_offsets = failed_offsets(&finished.stderr);
    let errno =
        job.get("error").and_then(Value::as_i64).ok_or_else(|| garbage("its job has no error code"))?;
    let counted = job.get("total_err").and_then(Value::as_u64).unwrap_or(0);
    let errors = counted.max(failed_offsets.len() as u64);
    if errors == 0 && (code != 0 || errno != 0) {
        return Err(failed());
    }
    let (read, written) = (flow(job, "read")?, flow(job, "write")?);
    // zero also when NaN
    let read_any = read.bytes > 0.0;
    if errors == 0 && !read_any {
        return Err(garbage("it read nothing"));
    }
    Ok(Report { read, written, errors, first_errno: (errors > 0).then_some(errno), failed_offsets })
}

fn flow(job: &Value, direction: &str) -> Result<Flow, ToolError> {
    let at = |name: &str| job.pointer(&format!("/{direction}/{name}"));
    let number = |name: &str| -> Result<f64, ToolError> {
        at(name)
            .and_then(Value::as_f64)
            .ok_or_else(|| garbage(format!("there is no number at {direction}/{name} of its job")))
    };
    let latency = |percentile: &str| {
        at(&format!("clat_ns/percentile/{percentile}"))
            .and_then(Value::as_f64)
            .map(|nanoseconds| nanoseconds / 1000.0)
    };
    Ok(Flow {
        bytes: number("io_bytes")?,
        bandwidth_bytes_per_second: number("bw_bytes")?,
        iops: number("iops")?,
        latency_microseconds: ["50.000000", "99.000000", "99.900000"].map(latency),
    })
}

/// `fio: io_u error on file /dev/sda: Input/output error: read offset=66060288, buflen=1048576`,
/// `verify: bad magic header 5858, wanted acca at file /dev/sda offset 5242880, length 1048576 (…)`,
/// `crc32c: verify failed at file /dev/sda offset 9437184, length 1048576 (…)`
fn failed_offsets(stderr: &[u8]) -> Vec<u64> {
    let offset_of = |line: &str| -> Option<u64> {
        let rest = if line.starts_with("fio: io_u error on file ") {
            line.split_once(" offset=")?.1
        } else if line.starts_with("verify: ") || line.starts_with("crc32c: verify failed") {
            line.split_once(" at file ")?.1.split_once(" offset ")?.1
        } else {
            return None;
        };
        rest.split(',').next()?.parse().ok()
    };
    let text = String::from_utf8_lossy(stderr);
    text.lines().filter_map(offset_of).collect::<BTreeSet<u64>>().into_iter().collect()
}

#[cfg(test)]
mod tests;
