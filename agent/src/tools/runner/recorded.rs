//! Tool outputs in a folder: written by `capture`, replayed for `--root` and in tests.
//!
//! `<dir>/<tool>/<any name>/` holds one call: `args.json` (array of strings), `stdout`, `stderr`, and `exit`
//! (`code 0`, `signal 9`, `timed_out`). A call is found by its tool and its exact arguments.

#![expect(clippy::disallowed_methods, reason = "reads and writes recordings of tools")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kept::Kept;
use super::lines::LineCutter;
use super::{Exit, Finished, Invocation, OUTPUT_LIMIT_BYTES, Stream, ToolError, ToolRunner};
use crate::cancel::Cancel;

/// A recording that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file or folder could not be made.
    #[error("{path} could not be written")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A tool that was cancelled has no answer worth keeping.
    #[error("{tool} was cancelled: there is nothing to record")]
    Cancelled {
        /// The tool.
        tool: &'static str,
    },
}

/// Writes one call below `dir` in the form that [`RecordedRunner`] reads, replacing an earlier one with the same
/// arguments.
pub fn record(dir: &Path, invocation: &Invocation, finished: &Finished) -> Result<(), RecordError> {
    if finished.exit == Exit::Cancelled {
        return Err(RecordError::Cancelled { tool: invocation.tool });
    }
    let exit = format!("{}\n", finished.exit);
    let args: Vec<String> = arguments(invocation);
    let folder = dir.join(invocation.tool).join(slug(&args));
    let write = |path: PathBuf, bytes: &[u8]| {
        fs::write(&path, bytes).map_err(|source| RecordError::Write { path, source })
    };
    fs::create_dir_all(&folder).map_err(|source| RecordError::Write { path: folder.clone(), source })?;
    write(folder.join("args.json"), format!("{}\n", serde_json::json!(args)).as_bytes())?;
    write(folder.join("stdout"), &finished.stdout)?;
    write(folder.join("stderr"), &finished.stderr)?;
    write(folder.join("exit"), exit.as_bytes())
}

fn arguments(invocation: &Invocation) -> Vec<String> {
    invocation.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect()
}

/// A folder name that a person can read and that differs for different arguments.
fn slug(args: &[String]) -> String {
    let readable: String = args
        .join("_")
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '_' })
        .take(60)
        .collect();
    let digest = vetting_protocol::ids::Sha256Hex::of(args.join("\0").as_bytes()).to_string();
    format!("{}-{}", readable.trim_matches('_'), digest.get(..8).unwrap_or_default())
}

/// Replays what was recorded of a machine; starts nothing.
#[derive(Debug, Clone)]
pub struct RecordedRunner {
    dir: PathBuf,
}

impl RecordedRunner {
    /// Replays the recordings below this folder; a folder that does not exist has none.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn find(&self, invocation: &Invocation) -> Result<PathBuf, ToolError> {
        let of_tool = self.dir.join(invocation.tool);
        let calls =
            fs::read_dir(&of_tool).map_err(|_| ToolError::Missing { tool: invocation.tool.to_owned() })?;
        let wanted = arguments(invocation);
        for call in calls.flatten() {
            let recorded: Option<Vec<String>> = fs::read(call.path().join("args.json"))
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if recorded.as_ref() == Some(&wanted) {
                return Ok(call.path());
            }
        }
        Err(ToolError::NotRecorded { tool: invocation.tool.to_owned(), args: wanted.join(" ") })
    }
}

fn exit_from(text: &str) -> Option<Exit> {
    let mut words = text.split_whitespace();
    let exit = match (words.next()?, words.next()) {
        ("code", Some(code)) => Exit::Code(code.parse().ok()?),
        ("signal", Some(signal)) => Exit::Signal(signal.parse().ok()?),
        ("timed_out", None) => Exit::TimedOut,
        _ => return None,
    };
    words.next().is_none().then_some(exit)
}

impl ToolRunner for RecordedRunner {
    fn run(
        &self,
        invocation: &Invocation,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Finished, ToolError> {
        if cancel.is_raised() {
            return Err(ToolError::Cancelled { tool: invocation.tool.to_owned() });
        }
        let mut finished = read_recording(&self.find(invocation)?, invocation.tool)?;
        for (stream, bytes) in [(Stream::Stdout, &finished.stdout), (Stream::Stderr, &finished.stderr)] {
            let mut cutter = LineCutter::default();
            cutter.push(bytes, |line| on_line(stream, &line));
            cutter.flush(|line| on_line(stream, &line));
        }
        // nothing ran, so nothing took time but what a time limit stands for
        if finished.exit == Exit::TimedOut {
            finished.elapsed = invocation.timeout;
        }
        Ok(finished)
    }
}

/// Reads the folder of one call.
pub fn read_recording(call: &Path, tool: &str) -> Result<Finished, ToolError> {
    let read = |name: &str| {
        fs::read(call.join(name)).map_err(|source| ToolError::Start { tool: tool.to_owned(), source })
    };
    let exit_text = String::from_utf8_lossy(&read("exit")?).into_owned();
    let exit = exit_from(&exit_text).ok_or_else(|| ToolError::Garbage {
        tool: tool.to_owned(),
        message: format!("its recorded exit is `{}`", exit_text.trim()),
    })?;
    let bounded = |bytes: Vec<u8>| {
        let mut kept = Kept::new(OUTPUT_LIMIT_BYTES);
        kept.push(&bytes);
        kept.into_bytes()
    };
    let (stdout, stdout_left_out) = bounded(read("stdout")?);
    let (stderr, stderr_left_out) = bounded(read("stderr")?);
    let truncated = stdout_left_out || stderr_left_out;
    Ok(Finished { exit, stdout, stderr, truncated, elapsed: Duration::ZERO })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(args: &[&str]) -> Invocation {
        Invocation {
            tool: "smartctl",
            args: args.iter().map(Into::into).collect(),
            timeout: Duration::from_secs(1),
        }
    }

    fn finished(exit: Exit, stdout: &[u8]) -> Finished {
        Finished {
            exit,
            stdout: stdout.to_vec(),
            stderr: b"oops".to_vec(),
            truncated: false,
            elapsed: Duration::ZERO,
        }
    }

    fn replay(runner: &RecordedRunner, invocation: &Invocation) -> Result<Finished, ToolError> {
        runner.run(invocation, &Cancel::new(), &mut |_, _| {})
    }

    #[test]
    fn what_was_recorded_is_replayed_by_its_arguments() {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), &call(&["-x", "/dev/sda"]), &finished(Exit::Code(4), b"a\nb\xff\n")).unwrap();
        record(folder.path(), &call(&["-x", "/dev/sdb"]), &finished(Exit::Signal(9), b"")).unwrap();
        record(folder.path(), &call(&["-x /dev/sda"]), &finished(Exit::TimedOut, b"")).unwrap();
        let runner = RecordedRunner::new(folder.path());

        let mut lines = Vec::new();
        let first = runner
            .run(&call(&["-x", "/dev/sda"]), &Cancel::new(), &mut |stream, line| {
                lines.push((stream, line.to_owned()));
            })
            .unwrap();
        assert_eq!((first.exit, first.stdout), (Exit::Code(4), b"a\nb\xff\n".to_vec()));
        assert_eq!(lines[2], (Stream::Stderr, "oops".to_owned()));
        assert_eq!(replay(&runner, &call(&["-x", "/dev/sdb"])).unwrap().exit, Exit::Signal(9));
        assert_eq!(replay(&runner, &call(&["-x /dev/sda"])).unwrap().exit, Exit::TimedOut);
    }

    #[test]
    fn what_was_not_recorded_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let runner = RecordedRunner::new(folder.path());
        assert!(matches!(replay(&runner, &call(&[])), Err(ToolError::Missing { .. })));
        record(folder.path(), &call(&["-x"]), &finished(Exit::Code(0), b"")).unwrap();
        assert!(matches!(replay(&runner, &call(&[])), Err(ToolError::NotRecorded { .. })));
        assert!(record(folder.path(), &call(&[]), &finished(Exit::Cancelled, b"")).is_err());
    }

    #[test]
    fn a_recording_with_a_strange_exit_is_garbage() {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), &call(&[]), &finished(Exit::Code(0), b"")).unwrap();
        let entry = fs::read_dir(folder.path().join("smartctl")).unwrap().next().unwrap().unwrap();
        for bad in ["", "0", "code", "code x", "code 0 0", "timed_out now", "cancelled"] {
            fs::write(entry.path().join("exit"), bad).unwrap();
            let answer = replay(&RecordedRunner::new(folder.path()), &call(&[]));
            assert!(matches!(answer, Err(ToolError::Garbage { .. })), "{bad}");
        }
    }
}
