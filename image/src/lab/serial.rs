//! The serial line of a lab machine: captured to a file, kept in memory with times, watched for text.
//!
//! Owns: the log and waiting on it. Refuses: polling (waiters sleep on a condition variable until bytes arrive).

use std::fs::File;
use std::io::{Read, Write};
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One finished line of the serial console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialLine {
    /// Time since the machine was powered on.
    pub at: Duration,
    /// The line without its end.
    pub text: String,
}

/// A shared view of a machine's serial output; cheap to clone.
#[derive(Debug, Clone)]
pub struct SerialLog {
    inner: Arc<(Mutex<State>, Condvar)>,
    powered_on: Instant,
}

#[derive(Debug, Default)]
struct State {
    text: String,
    lines: Vec<SerialLine>,
    unfinished: Vec<u8>,
    watchers: Vec<Sender<SerialLine>>,
    ended: Option<ExitStatus>,
}

/// Why a wait ended.
#[derive(Debug)]
pub(super) enum Waited<T> {
    Found(T),
    Ended(ExitStatus),
    Deadline,
}

impl SerialLog {
    pub(super) fn new(powered_on: Instant) -> Self {
        Self { inner: Arc::new((Mutex::new(State::default()), Condvar::new())), powered_on }
    }

    /// Everything printed so far.
    pub fn text(&self) -> String {
        self.lock().text.clone()
    }

    /// The finished lines so far, with their times since power-on.
    pub fn lines(&self) -> Vec<SerialLine> {
        self.lock().lines.clone()
    }

    /// The last `count` lines, for error messages.
    pub fn tail(&self, count: usize) -> String {
        let state = self.lock();
        let all: Vec<&str> = state.text.lines().collect();
        all[all.len().saturating_sub(count)..].join("\n")
    }

    /// A stream of the lines: those so far, then each as it is finished. It ends when the machine does.
    pub fn subscribe(&self) -> Receiver<SerialLine> {
        let (sender, receiver) = channel();
        let mut state = self.lock();
        for line in &state.lines {
            // the receiver is in this function's hands: it cannot be closed yet
            let _open = sender.send(line.clone());
        }
        if state.ended.is_none() {
            state.watchers.push(sender);
        }
        receiver
    }

    pub(super) fn wait<T>(
        &self,
        limit: Duration,
        mut find: impl FnMut(&str, &[SerialLine]) -> Option<T>,
    ) -> Waited<T> {
        let deadline = Instant::now() + limit;
        let (_, changed) = &*self.inner;
        let mut state = self.lock();
        loop {
            if let Some(found) = find(&state.text, &state.lines) {
                return Waited::Found(found);
            }
            if let Some(status) = state.ended {
                return Waited::Ended(status);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Waited::Deadline;
            }
            state = changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn ended(&self) -> Option<ExitStatus> {
        self.lock().ended
    }

    /// Read `source` to its end into the log and into `file`. Runs on the machine's own thread.
    pub(super) fn capture(&self, mut source: impl Read, mut file: File) {
        let mut chunk = [0_u8; 4096];
        loop {
            match source.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => {
                    self.append(&chunk[..count]);
                    // the log file is a copy for people; a full disk must not end the machine
                    let _best_effort = file.write_all(&chunk[..count]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    pub(super) fn finish(&self, status: ExitStatus) {
        let mut state = self.lock();
        state.ended = Some(status);
        state.watchers.clear();
        drop(state);
        self.inner.1.notify_all();
    }

    fn append(&self, bytes: &[u8]) {
        let at = self.powered_on.elapsed();
        let mut state = self.lock();
        state.unfinished.extend_from_slice(bytes);
        state.text.push_str(&String::from_utf8_lossy(bytes));
        while let Some(end) = state.unfinished.iter().position(|byte| *byte == b'\n') {
            let raw: Vec<u8> = state.unfinished.drain(..=end).collect();
            let text = String::from_utf8_lossy(&raw).trim_end_matches(['\r', '\n']).to_owned();
            let line = SerialLine { at, text };
            state.watchers.retain(|watcher| watcher.send(line.clone()).is_ok());
            state.lines.push(line);
        }
        drop(state);
        self.inner.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn log() -> SerialLog {
        SerialLog::new(Instant::now())
    }

    #[test]
    fn lines_are_split_across_chunks_and_streamed() {
        let log = log();
        log.append(b"one\r\ntw");
        let stream = log.subscribe();
        log.append(b"o\nrest");
        log.finish(ExitStatus::from_raw(0));
        let texts: Vec<String> = stream.iter().map(|line| line.text).collect();
        assert_eq!(texts, ["one", "two"]);
        assert_eq!(log.tail(2), "two\nrest");
    }

    #[test]
    fn a_wait_sees_unfinished_lines_and_text_from_before() {
        let log = log();
        log.append(b"login: ");
        let found = log.wait(Duration::ZERO, |text, _| text.contains("login:").then_some(()));
        assert!(matches!(found, Waited::Found(())));
    }

    #[test]
    fn a_wait_ends_with_the_machine() {
        let log = log();
        let other = log.clone();
        let waiter = std::thread::spawn(move || other.wait(Duration::from_mins(1), |_, _| None::<()>));
        log.finish(ExitStatus::from_raw(0));
        assert!(matches!(waiter.join().unwrap(), Waited::Ended(status) if status.success()));
    }

    #[test]
    fn a_wait_ends_at_its_deadline() {
        assert!(matches!(log().wait(Duration::ZERO, |_, _| None::<()>), Waited::Deadline));
    }
}
