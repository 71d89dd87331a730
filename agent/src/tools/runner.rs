//! Starts a tool, watches it, and brings it to an end: own process group, time limit, bounded output, no shell.

use std::ffi::OsString;
use std::time::Duration;

use crate::cancel::Cancel;

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Program name, found in PATH.
    pub tool: &'static str,
    /// Its arguments, one each.
    pub args: Vec<OsString>,
    /// Time after which its process group is killed.
    pub timeout: Duration,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal that we did not send.
    Signal(i32),
    /// Killed by us at its time limit.
    TimedOut,
    /// Killed by us because the work was cancelled.
    Cancelled,
}

/// A tool that came to its end.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How.
    pub exit: Exit,
    /// At most [`OUTPUT_LIMIT_BYTES`].
    pub stdout: Vec<u8>,
    /// At most [`OUTPUT_LIMIT_BYTES`].
    pub stderr: Vec<u8>,
    /// Output beyond the limit was thrown away.
    pub truncated: bool,
    /// From start to end.
    pub elapsed: Duration,
}

/// Most bytes kept of each output stream.
pub const OUTPUT_LIMIT_BYTES: usize = 8 * 1024 * 1024;

/// A tool that gave no answer which can be used.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Not in PATH.
    #[error("{tool} is not installed")]
    Missing {
        /// Its name.
        tool: String,
    },
    /// Could not be started or watched.
    #[error("{tool} could not be run")]
    Start {
        /// Its name.
        tool: String,
        /// Why.
        source: std::io::Error,
    },
    /// Killed at its time limit.
    #[error("{tool} did not end within {limit_ms} ms and was killed")]
    TimedOut {
        /// Its name.
        tool: String,
        /// The limit.
        limit_ms: u64,
    },
    /// Killed because the work was cancelled.
    #[error("{tool} was cancelled")]
    Cancelled {
        /// Its name.
        tool: String,
    },
    /// Ended by a signal.
    #[error("{tool} was ended by signal {signal}")]
    Signalled {
        /// Its name.
        tool: String,
        /// The signal's number.
        signal: i32,
    },
    /// Ended with an exit code that stands for its own failure.
    #[error("{tool} ended with exit code {code}: {message}")]
    Failed {
        /// Its name.
        tool: String,
        /// The code.
        code: i32,
        /// The last line it wrote to stderr, or what the code means.
        message: String,
    },
    /// Wrote something that cannot be understood.
    #[error("{tool} wrote something that cannot be understood: {message}")]
    Garbage {
        /// Its name.
        tool: String,
        /// What was wrong with it.
        message: String,
    },
}

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Runs tools: on the live machine, or by replaying what was recorded of one.
pub trait ToolRunner: Send + Sync {
    /// Runs to the end. `on_line` sees each line as it comes (split at `\n`, `\r` and backspaces), for progress.
    fn run(
        &self,
        invocation: &Invocation,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Finished, ToolError>;
}
