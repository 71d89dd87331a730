//! fio (3.33 to 3.39): sequential read of a disk past the page cache, from its JSON.
//!
//! Reads only (`--readonly`). `--thread` keeps its work in our process group: a forked job would make a session of
//! its own and outlive a kill. Read errors do not stop it; where they were comes from its error lines.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::runner::{Finished, Invocation, ToolError};

const TOOL: &str = "fio";
/// Size of one read.
pub const BLOCK_BYTES: u64 = 1024 * 1024;
/// What a disk may take after its time for reads under way: several of the kernel's 30 s command timeouts.
const SETTLE: Duration = Duration::from_mins(5);

/// Reads `device` from its start on for `duration`, again from the start if its end comes first.
pub fn invocation(device: &str, duration: Duration) -> Invocation {
    let args = [
        "--name=read".to_owned(),
        // a colon separates file names
        format!("--filename={}", device.replace(':', "\\:")),
        "--readonly".to_owned(),
        "--rw=read".to_owned(),
        format!("--bs={BLOCK_BYTES}"),
        "--iodepth=8".to_owned(),
        "--ioengine=libaio".to_owned(),
        "--direct=1".to_owned(),
        "--time_based".to_owned(),
        format!("--runtime={}ms", duration.as_millis().max(1)),
        "--thread".to_owned(),
        "--continue_on_error=read".to_owned(),
        "--error_dump=1".to_owned(),
        "--output-format=json".to_owned(),
        "--eta=never".to_owned(),
    ];
    Invocation { tool: TOOL, args: args.into_iter().map(Into::into).collect(), timeout: duration + SETTLE }
}

/// What the reading showed.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadReport {
    /// Bytes read.
    pub bytes: f64,
    /// Bytes a second.
    pub bandwidth_bytes_per_second: f64,
    /// Reads a second.
    pub iops: f64,
    /// 99th percentile of the completion latency, microseconds; absent if no read completed.
    pub latency_p99_microseconds: Option<f64>,
    /// Reads that failed; a place is counted each time the reading comes around to it.
    pub errors: u64,
    /// errno of the first one.
    pub first_errno: Option<i64>,
    /// Byte offsets of the reads that failed, each once, ascending; [`BLOCK_BYTES`] long each.
    pub failed_offsets: Vec<u64>,
}

fn garbage(message: impl Into<String>) -> ToolError {
    ToolError::Garbage { tool: TOOL.to_owned(), message: message.into() }
}

/// Reads fio's JSON and its error lines. Read errors are a report, not an error.
pub fn parse(finished: &Finished) -> Result<ReadReport, ToolError> {
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
    let number = |pointer: &str| -> Result<f64, ToolError> {
        job.pointer(pointer)
            .and_then(Value::as_f64)
            .ok_or_else(|| garbage(format!("there is no number at {pointer} of its job")))
    };
    let failed_offsets = failed_offsets(&finished.stderr);
    let errno =
        job.get("error").and_then(Value::as_i64).ok_or_else(|| garbage("its job has no error code"))?;
    let counted = job.get("total_err").and_then(Value::as_u64).unwrap_or(0);
    let errors = counted.max(failed_offsets.len() as u64);
    if errors == 0 && (code != 0 || errno != 0) {
        return Err(failed());
    }
    let bytes = number("/read/io_bytes")?;
    // zero also when NaN
    let read_any = bytes > 0.0;
    if errors == 0 && !read_any {
        return Err(garbage("it read nothing"));
    }
    Ok(ReadReport {
        bytes,
        bandwidth_bytes_per_second: number("/read/bw_bytes")?,
        iops: number("/read/iops")?,
        latency_p99_microseconds: job
            .pointer("/read/clat_ns/percentile/99.000000")
            .and_then(Value::as_f64)
            .map(|nanoseconds| nanoseconds / 1000.0),
        errors,
        first_errno: (errors > 0).then_some(errno),
        failed_offsets,
    })
}

/// `fio: io_u error on file /dev/sda: Input/output error: read offset=66060288, buflen=1048576`
fn failed_offsets(stderr: &[u8]) -> Vec<u64> {
    let offset_of = |line: &str| -> Option<u64> {
        if !line.starts_with("fio: io_u error on file ") {
            return None;
        }
        let (_, rest) = line.split_once(" offset=")?;
        rest.split(',').next()?.parse().ok()
    };
    let text = String::from_utf8_lossy(stderr);
    text.lines().filter_map(offset_of).collect::<BTreeSet<u64>>().into_iter().collect()
}

#[cfg(test)]
mod tests;
