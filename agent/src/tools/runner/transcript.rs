//! What tools wrote, kept word for word: a runner around another one that writes down each call, for the artifact
//! `tool_output` of a stage. Bounded: long streams lose their middle, and a flood of calls its later ones, counted.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::kept::Kept;
use super::{Finished, Invocation, Stream, ToolError, ToolRunner};
use crate::cancel::Cancel;
use crate::clock;

/// Most bytes kept of each stream of a call.
const STREAM_LIMIT_BYTES: usize = 1024 * 1024;
/// Calls are written down until they take so many bytes; below what a coordinator takes as one artifact.
const LIMIT_BYTES: usize = 32 * 1024 * 1024;

/// One call, a line of JSON.
#[derive(Serialize)]
struct Line<'c> {
    /// When it ended, milliseconds since the Unix epoch.
    ts_ms: i64,
    tool: &'c str,
    args: Vec<String>,
    /// `code 0`, `signal 9`, `timed_out`, `cancelled`; absent if it could not be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<String>,
    /// Why it could not be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    elapsed_ms: u64,
    stdout: String,
    stderr: String,
}

#[derive(Default)]
struct Calls {
    lines: Vec<u8>,
    left_out: u64,
}

/// Runs tools by another runner and writes down what they wrote.
pub struct Transcript {
    runner: Arc<dyn ToolRunner>,
    calls: Mutex<Calls>,
    /// [`LIMIT_BYTES`], smaller in tests.
    limit_bytes: usize,
}

impl Transcript {
    /// Nothing written down yet.
    pub fn new(runner: Arc<dyn ToolRunner>) -> Self {
        Self { runner, calls: Mutex::default(), limit_bytes: LIMIT_BYTES }
    }

    /// Every call so far, one line of JSON each, in the order they ended; empty if there was none. A last line
    /// `{"left_out": N}` tells how many there was no room for.
    pub fn take(&self) -> Vec<u8> {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner));
        let mut lines = calls.lines;
        if calls.left_out > 0 {
            lines.extend_from_slice(format!("{{\"left_out\":{}}}\n", calls.left_out).as_bytes());
        }
        lines
    }

    fn write_down(&self, line: &Line<'_>) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.lines.len() >= self.limit_bytes {
            calls.left_out += 1;
        } else if let Ok(mut text) = serde_json::to_vec(line) {
            text.push(b'\n');
            calls.lines.append(&mut text);
        } else {
            calls.left_out += 1;
        }
    }
}

impl ToolRunner for Transcript {
    fn run(
        &self,
        invocation: &Invocation,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Finished, ToolError> {
        let result = self.runner.run(invocation, cancel, on_line);
        let mut line = Line {
            ts_ms: clock::now_ms(),
            tool: invocation.tool,
            args: invocation.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect(),
            exit: None,
            error: None,
            elapsed_ms: 0,
            stdout: String::new(),
            stderr: String::new(),
        };
        match &result {
            Ok(finished) => {
                line.exit = Some(finished.exit.to_string());
                line.elapsed_ms = u64::try_from(finished.elapsed.as_millis()).unwrap_or(u64::MAX);
                line.stdout = text_of(&finished.stdout);
                line.stderr = text_of(&finished.stderr);
            }
            Err(error) => line.error = Some(error.reason()),
        }
        self.write_down(&line);
        result
    }
}

fn text_of(stream: &[u8]) -> String {
    let mut kept = Kept::new(STREAM_LIMIT_BYTES);
    kept.push(stream);
    String::from_utf8_lossy(&kept.into_bytes().0).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::super::Exit;
    use super::*;

    struct Loud(usize);

    impl ToolRunner for Loud {
        fn run(
            &self,
            invocation: &Invocation,
            _: &Cancel,
            _: &mut dyn FnMut(Stream, &str),
        ) -> Result<Finished, ToolError> {
            if invocation.tool == "fio" {
                return Err(ToolError::Missing { tool: "fio".to_owned() });
            }
            Ok(Finished {
                exit: Exit::Signal(9),
                stdout: vec![b'x'; self.0],
                stderr: b"\xff\n".to_vec(),
                truncated: false,
                elapsed: Duration::from_millis(7),
            })
        }
    }

    fn call(transcript: &Transcript, tool: &'static str) -> Result<Finished, ToolError> {
        let invocation =
            Invocation { tool, args: vec!["-x".into(), "/dev/sda".into()], timeout: Duration::ZERO };
        transcript.run(&invocation, &Cancel::new(), &mut |_, _| {})
    }

    fn lines(transcript: &Transcript) -> Vec<Value> {
        let text = String::from_utf8(transcript.take()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_call_is_written_down_also_one_that_could_not_be_run() {
        let transcript = Transcript::new(Arc::new(Loud(3)));
        assert!(call(&transcript, "smartctl").is_ok() && call(&transcript, "fio").is_err());
        let lines = lines(&transcript);
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["tool"], &lines[0]["args"][1]), (&"smartctl".into(), &"/dev/sda".into()));
        assert_eq!((&lines[0]["exit"], &lines[0]["stdout"]), (&"signal 9".into(), &"xxx".into()));
        assert_eq!((&lines[0]["elapsed_ms"], &lines[0]["stderr"]), (&7.into(), &"\u{fffd}\n".into()));
        assert_eq!(lines[1]["error"], "fio is not installed");
        assert!(transcript.take().is_empty());
    }

    #[test]
    fn a_long_stream_loses_its_middle_and_a_flood_its_later_calls() {
        let mut transcript = Transcript::new(Arc::new(Loud(2 * STREAM_LIMIT_BYTES)));
        transcript.limit_bytes = 2 * STREAM_LIMIT_BYTES;
        for _ in 0..4 {
            call(&transcript, "smartctl").unwrap();
        }
        let lines = lines(&transcript);
        let stdout = lines[0]["stdout"].as_str().unwrap();
        assert!(stdout.contains("[output left out]") && stdout.len() < STREAM_LIMIT_BYTES + 100);
        let left_out = lines.last().unwrap()["left_out"].as_u64().unwrap();
        assert_eq!((lines.len(), left_out), (3, 2));
    }
}
