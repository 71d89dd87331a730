//! badblocks (e2fsprogs 1.47): reads, or writes and reads back, every block of a range and names the bad ones.
//!
//! Numbers of bad blocks come on stdout, the progress on stderr, rewritten with backspaces. Never gives `-f`:
//! badblocks' own refusal to write to a disk that is in use stays in force.

use std::time::Duration;

use super::runner::{Finished, Invocation, ToolError};

const TOOL: &str = "badblocks";
/// A disk with this many bad blocks is scrap: the scan stops there, and the count is a lower bound.
pub const LIMIT: u64 = 1000;
/// Slowest healthy disk that a scan waits for.
const SLOWEST_BYTES_PER_SECOND: u64 = 10 * 1000 * 1000;
/// Time beyond that, for errors: a failed read is tried again by disk and kernel for up to minutes.
const SETTLE: Duration = Duration::from_mins(15);
/// badblocks counts blocks in 32 bits.
const MOST_BLOCKS: u64 = 1 << 32;

/// What is done to each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is read.
    Read,
    /// Four patterns are written and read back. What was on it is lost.
    WriteRead,
}

impl Mode {
    /// How often the range is gone over.
    fn rounds(self) -> u32 {
        match self {
            Self::Read => 1,
            Self::WriteRead => 8,
        }
    }
}

/// Blocks from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
}

impl Range {
    /// How many.
    pub fn blocks(self) -> u64 {
        self.last.saturating_sub(self.first) + 1
    }
}

/// The block size for a disk, bytes: 4096, or larger on a disk with too many of those.
pub fn block_bytes(size_bytes: u64) -> u64 {
    let mut block_bytes = 4096;
    while size_bytes / block_bytes >= MOST_BLOCKS {
        block_bytes *= 2;
    }
    block_bytes
}

/// Block size and blocks that reach the end of a disk which blocks of `block_bytes` do not. `None` if they do reach
/// it, or if no blocks that badblocks takes (powers of two) and can count would.
pub fn tail(size_bytes: u64, block_bytes: u64, sector_bytes: u64) -> Option<(u64, Range)> {
    let reached = size_bytes / block_bytes * block_bytes;
    // the largest power of two that divides both
    let tail_bytes = 1_u64.checked_shl((size_bytes | block_bytes).trailing_zeros())?;
    let is_taken = tail_bytes >= sector_bytes.max(512) && size_bytes / tail_bytes < MOST_BLOCKS;
    (reached < size_bytes && is_taken)
        .then(|| (tail_bytes, Range { first: reached / tail_bytes, last: size_bytes / tail_bytes - 1 }))
}

/// Goes over `range` of `device` in blocks of `block_bytes`.
pub fn invocation(device: &str, block_bytes: u64, range: Range, mode: Mode) -> Invocation {
    let mut args = vec!["-b".to_owned(), block_bytes.to_string(), "-e".to_owned(), LIMIT.to_string()];
    args.extend(["-s".to_owned(), "-v".to_owned()]);
    match mode {
        Mode::Read => {}
        Mode::WriteRead => args.push("-w".to_owned()),
    }
    args.extend([device.to_owned(), range.last.to_string(), range.first.to_string()]);
    let bytes = range.blocks().saturating_mul(block_bytes);
    let work = Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND) * mode.rounds();
    Invocation { tool: TOOL, args: args.into_iter().map(Into::into).collect(), timeout: work + SETTLE }
}

/// What a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Numbers of the bad blocks, ascending, each once.
    pub bad_blocks: Vec<u64>,
    /// The scan stopped at [`LIMIT`]: there may be more, and the rest was not looked at.
    pub stopped_at_limit: bool,
}

fn garbage(message: impl Into<String>) -> ToolError {
    ToolError::Garbage { tool: TOOL.to_owned(), message: message.into() }
}

/// Reads what a scan found, and insists on badblocks saying that it came to the end.
pub fn parse(finished: &Finished) -> Result<Scan, ToolError> {
    finished.success(TOOL)?;
    let bad_blocks = bad_blocks_so_far(finished)?;
    let stderr = String::from_utf8_lossy(&finished.stderr);
    // `Pass completed, 128 bad blocks found. (128/0/0 errors)`
    let counted: Option<u64> = stderr
        .lines()
        .filter_map(|line| line.split_once("Pass completed, ")?.1.split_whitespace().next()?.parse().ok())
        .next_back();
    match counted {
        None => Err(garbage("it does not say that it completed")),
        Some(counted) if counted != bad_blocks.len() as u64 => {
            Err(garbage(format!("it counted {counted} bad blocks but named {}", bad_blocks.len())))
        }
        Some(counted) => Ok(Scan { bad_blocks, stopped_at_limit: counted >= LIMIT }),
    }
}

/// The bad blocks that were named, also by a scan that was cut short.
pub fn bad_blocks_so_far(finished: &Finished) -> Result<Vec<u64>, ToolError> {
    let stdout = finished.stdout_text();
    let mut blocks = Vec::new();
    for line in stdout.lines().map(str::trim).filter(|line| !line.is_empty()) {
        blocks.push(line.parse().map_err(|_| {
            garbage(format!("`{}` is no block number", line.chars().take(80).collect::<String>()))
        })?);
    }
    blocks.sort_unstable();
    blocks.dedup();
    Ok(blocks)
}

/// How far a scan is, read from its progress lines.
#[derive(Debug, Clone)]
pub struct Meter {
    rounds: u32,
    round: u32,
    last: f64,
}

impl Meter {
    /// Nothing done yet.
    pub fn new(mode: Mode) -> Self {
        Self { rounds: mode.rounds(), round: 0, last: 0.0 }
    }

    /// Reads one line of stderr; the part done of the whole scan, 0 to 1, if it told any.
    /// `Testing with pattern 0xaa:  12.50% done, 1:02 elapsed. (0/0/0 errors)`
    pub fn read(&mut self, line: &str) -> Option<f64> {
        let (before, _) = line.split_once("% done")?;
        let percent: f64 = before.rsplit([' ', ':']).next()?.parse().ok()?;
        if !(0.0..=100.0).contains(&percent) {
            return None;
        }
        // each round starts again from nothing
        if percent < self.last && self.round + 1 < self.rounds {
            self.round += 1;
        }
        self.last = percent;
        Some((f64::from(self.round) + percent / 100.0) / f64::from(self.rounds))
    }
}

#[cfg(test)]
mod tests;
