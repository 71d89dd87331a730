//! blkdiscard (util-linux 2.38 to 2.41), only to fill a disk with zeros (`--zeroout`, the kernel's BLKZEROOUT).

use std::time::Duration;

use super::runner::{Finished, Invocation, ToolError};

const TOOL: &str = "blkdiscard";
/// Filled at a time, so that there is progress to tell.
const STEP_BYTES: u64 = 1024 * 1024 * 1024;
/// Slowest healthy disk that is waited for.
const SLOWEST_BYTES_PER_SECOND: u64 = 10 * 1000 * 1000;
/// For what is under way at the end: several of the kernel's 30 s command timeouts.
const SETTLE: Duration = Duration::from_mins(5);

/// Fills the whole of `device` with zeros: all on it is lost.
pub fn zero_fill(device: &str, size_bytes: u64) -> Invocation {
    let step = STEP_BYTES.to_string();
    Invocation {
        tool: TOOL,
        args: ["--zeroout", "--verbose", "--force", "--step", &step, device].map(Into::into).into(),
        timeout: SETTLE + Duration::from_secs(size_bytes / SLOWEST_BYTES_PER_SECOND),
    }
}

/// Bytes that a line tells to be filled: `/dev/sda: Zero-filled 1073741824 bytes from the offset 0`.
pub fn filled_bytes(line: &str) -> Option<u64> {
    line.split_once(": Zero-filled ")?.1.split(' ').next()?.parse().ok()
}

/// Whether the whole disk was filled.
///
/// # Errors
/// Anything but success, and a sum of filled bytes that is not the size of the disk.
pub fn parse(finished: &Finished, size_bytes: u64) -> Result<(), ToolError> {
    finished.success(TOOL)?;
    let filled: u64 = finished.stdout_text().lines().filter_map(filled_bytes).sum();
    // the middle of a long output is not kept: then its word has to do, and the sample that is read back
    if !finished.truncated && filled != size_bytes {
        let message = format!("it filled {filled} of {size_bytes} bytes");
        return Err(ToolError::Garbage { tool: TOOL.to_owned(), message });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::runner::Exit;

    fn answer(stdout: &str, code: i32) -> Finished {
        Finished {
            exit: Exit::Code(code),
            stdout: stdout.as_bytes().to_vec(),
            stderr: Vec::new(),
            truncated: false,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn only_the_whole_disk_is_a_success() {
        let both = "/dev/sda: Zero-filled 1073741824 bytes from the offset 0\n\
                    /dev/sda: Zero-filled 4096 bytes from the offset 1073741824\n";
        assert!(parse(&answer(both, 0), 1_073_745_920).is_ok());
        assert!(parse(&answer(both, 0), 1_073_745_921).is_err());
        assert!(parse(&answer(both, 1), 1_073_745_920).is_err());
        assert!(parse(&answer("", 0), 4096).is_err());
    }
}
