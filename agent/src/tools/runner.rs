//! Starts a tool, watches it, and brings it to an end: own process group, time limit, bounded output, no shell.
//!
//! The only module that starts processes. Every tool leads a process group of its own; when the leader ends, or its
//! time is over, or the work is cancelled, what is left of the group is killed. A tool that moves its children to
//! other groups (fio without `--thread`) has to be called so that it does not.
//!
//! # Who reaps what
//! Each child started here has a thread that waits for that one pid. PID 1 also gets orphans, which nobody waits
//! for: it calls [`reap_orphans`], which looks (`WNOWAIT`) before it reaps and leaves the children of this module
//! to their own threads. Nothing else in the process may call `waitpid(-1)`.

mod kept;
mod lines;
mod process;
mod recorded;
mod transcript;

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::clock;

pub use process::{Happening, Leads, RunningTool, Service, reap_orphans};
pub use recorded::{RecordError, RecordedRunner, read_recording, record};
pub use transcript::Transcript;

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

/// `code 0`, `signal 9`, `timed_out`, `cancelled`.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::TimedOut => f.write_str("timed_out"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// A tool that came to its end.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How.
    pub exit: Exit,
    /// Of more than [`OUTPUT_LIMIT_BYTES`] the beginning and the end, with a marker between.
    pub stdout: Vec<u8>,
    /// Likewise.
    pub stderr: Vec<u8>,
    /// Output beyond the limit was thrown away, from the middle of it.
    pub truncated: bool,
    /// From start to end.
    pub elapsed: Duration,
}

impl Finished {
    /// The exit code of a tool that ended by itself; a signal, the time limit and a cancel are errors.
    pub fn code(&self, tool: &str) -> Result<i32, ToolError> {
        let tool = tool.to_owned();
        match self.exit {
            Exit::Code(code) => Ok(code),
            Exit::Signal(signal) => Err(ToolError::Signalled { tool, signal }),
            Exit::TimedOut => Err(ToolError::TimedOut {
                tool,
                limit_ms: u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
            }),
            Exit::Cancelled => Err(ToolError::Cancelled { tool }),
        }
    }

    /// Succeeds if the tool ended by itself with exit code 0.
    pub fn success(&self, tool: &str) -> Result<(), ToolError> {
        match self.code(tool)? {
            0 => Ok(()),
            code => Err(ToolError::Failed { tool: tool.to_owned(), code, message: self.last_words() }),
        }
    }

    /// Standard output as text, bytes that are not UTF-8 replaced.
    pub fn stdout_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// The last line that is not empty of stderr, or else of stdout, for messages.
    pub fn last_words(&self) -> String {
        let last_of = |bytes: &[u8]| -> Option<String> {
            let text = String::from_utf8_lossy(bytes);
            let line = text.split(['\n', '\r', '\x08']).map(str::trim).rfind(|line| !line.is_empty())?;
            Some(line.chars().filter(|character| !character.is_control()).take(300).collect())
        };
        last_of(&self.stderr)
            .or_else(|| last_of(&self.stdout))
            .unwrap_or_else(|| "it wrote nothing".to_owned())
    }
}

/// Most bytes kept of each output stream: half of its beginning, half of its end.
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
    /// The recorded machine has this tool, but not called this way.
    #[error("{tool} was not recorded with the arguments `{args}`")]
    NotRecorded {
        /// Its name.
        tool: String,
        /// The arguments asked for.
        args: String,
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
    /// Had too little time to do even the least of its work.
    #[error("{tool} did no work in its time, so nothing was verified")]
    NothingDone {
        /// Its name.
        tool: String,
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

impl ToolError {
    /// The whole story in one line, for an outcome's reason.
    pub fn reason(&self) -> String {
        match self {
            Self::Start { source, .. } => format!("{self}: {source}"),
            Self::Missing { .. }
            | Self::NotRecorded { .. }
            | Self::TimedOut { .. }
            | Self::Cancelled { .. }
            | Self::Signalled { .. }
            | Self::Failed { .. }
            | Self::NothingDone { .. }
            | Self::Garbage { .. } => self.to_string(),
        }
    }
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

/// How often a running tool's limits are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long after `SIGKILL` a tool is waited for: one that hangs in the kernel on a dead disk cannot be killed, and
/// must not hang us too.
const UNKILLABLE: Duration = Duration::from_secs(10);

/// Runs tools on the machine this runs on.
#[derive(Debug, Clone)]
pub struct SystemRunner {
    grace: Duration,
}

impl Default for SystemRunner {
    fn default() -> Self {
        Self::new()
    }
}

impl SystemRunner {
    /// Tools get two seconds from `SIGTERM` to `SIGKILL`.
    pub fn new() -> Self {
        Self { grace: Duration::from_secs(2) }
    }

    /// Tools get this long from `SIGTERM` to `SIGKILL`.
    pub fn with_grace(grace: Duration) -> Self {
        Self { grace }
    }

    /// Starts a program that runs until it is told to end. Its lines must be read ([`RunningTool::next`]), or it
    /// will stand still when the pipe is full.
    pub fn spawn(&self, service: &Service) -> Result<RunningTool, ToolError> {
        process::start(service, 0)
    }
}

impl ToolRunner for SystemRunner {
    fn run(
        &self,
        invocation: &Invocation,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Finished, ToolError> {
        if cancel.is_raised() {
            return Err(ToolError::Cancelled { tool: invocation.tool.to_owned() });
        }
        let service = Service {
            program: invocation.tool.into(),
            args: invocation.args.clone(),
            env: Vec::new(),
            leads: Leads::Group,
        };
        let begin = clock::monotonic();
        let tool = process::start(&service, OUTPUT_LIMIT_BYTES)?;
        let exit = self.watch(&tool, invocation.timeout, cancel, on_line);
        let output = tool.take_output();
        Ok(Finished {
            exit,
            stdout: output.stdout,
            stderr: output.stderr,
            truncated: output.truncated,
            elapsed: begin.elapsed(),
        })
    }
}

impl SystemRunner {
    /// Waits for the end, and brings it about when the time is over or the work is cancelled.
    fn watch(
        &self,
        tool: &RunningTool,
        timeout: Duration,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Exit {
        let begin = clock::monotonic();
        // why we ended it, and when we asked for that
        let mut ending: Option<(Exit, Duration)> = None;
        let mut killed = false;
        loop {
            match tool.next(TICK) {
                Some(Happening::Line(stream, line)) => on_line(stream, &line),
                Some(Happening::Exited(exit)) => return ending.map_or(exit, |(why, _)| why),
                None => {}
            }
            let elapsed = begin.elapsed();
            match ending {
                None => {
                    let why = if cancel.is_raised() {
                        Exit::Cancelled
                    } else if elapsed >= timeout {
                        Exit::TimedOut
                    } else {
                        continue;
                    };
                    tool.terminate();
                    ending = Some((why, elapsed));
                }
                Some((_, since)) if !killed && elapsed >= since + self.grace => {
                    tool.kill();
                    killed = true;
                }
                Some((why, since)) if elapsed >= since + self.grace + UNKILLABLE => return why,
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
