//! Sub-steps of a stage: their records, and the progress of the whole from that of its parts. Shared by the threads
//! that work on them side by side.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use serde_json::Value;
use vetting_protocol::outcome::Outcome;

use super::StageContext;
use crate::clock;

/// Progress of a sub-step is told at most this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a sub-step found.
pub(super) struct Found {
    pub(super) outcome: Outcome,
    pub(super) details: Value,
}

impl Found {
    pub(super) fn new(outcome: Outcome, details: Value) -> Self {
        Self { outcome, details }
    }
}

/// The sub-steps of one stage.
pub(super) struct SubSteps<'s, 'a> {
    context: &'s StageContext<'a>,
    parts: Mutex<Vec<Part>>,
}

#[derive(Clone)]
struct Part {
    done: f64,
    told: Option<Instant>,
}

impl<'s, 'a> SubSteps<'s, 'a> {
    pub(super) fn new(context: &'s StageContext<'a>, count: u32) -> Self {
        let parts = vec![Part { done: 0.0, told: None }; usize::try_from(count).unwrap_or_default()];
        Self { context, parts: Mutex::new(parts) }
    }

    /// Runs one, with its records around it.
    pub(super) fn run(&self, ordinal: u32, name: &str, work: impl FnOnce() -> Found) -> Outcome {
        self.context.sub_step_started(ordinal, name);
        let Found { outcome, details } = work();
        let overall = self.note(ordinal, 1.0).0;
        self.context.sub_step_finished(ordinal, outcome.clone(), details);
        self.context.progress(None, overall * 100.0, None);
        outcome
    }

    /// Tells how much of a sub-step is done, 0 to 1.
    pub(super) fn advance(&self, ordinal: u32, done: f64, left: Option<Duration>) {
        let (overall, tell) = self.note(ordinal, done);
        if tell {
            self.context.progress(Some(ordinal), done * 100.0, left);
            self.context.progress(None, overall * 100.0, None);
        }
    }

    /// Runs `work` and tells its progress by the time that it is expected to take.
    pub(super) fn by_time<T>(&self, ordinal: u32, expected: Duration, work: impl FnOnce() -> T) -> T {
        let begin = clock::monotonic();
        self.watch(ordinal, || Some(begin.elapsed().as_secs_f64() / expected.as_secs_f64().max(0.001)), work)
    }

    /// Runs `work` and tells its progress as `done` has it, 0 to 1.
    pub(super) fn watch<T>(
        &self,
        ordinal: u32,
        done: impl Fn() -> Option<f64> + Send,
        work: impl FnOnce() -> T,
    ) -> T {
        std::thread::scope(|scope| {
            let (over, wait) = bounded::<()>(0);
            scope.spawn(move || {
                let begin = clock::monotonic();
                while wait.recv_timeout(TELL_EVERY) == Err(RecvTimeoutError::Timeout) {
                    let Some(done) = done() else { continue };
                    // the last bit is for what comes after, which nobody can foretell
                    let done = done.clamp(0.0, 0.99);
                    let left = (done > 0.001).then(|| begin.elapsed().mul_f64((1.0 - done) / done));
                    self.advance(ordinal, done, left);
                }
            });
            let result = work();
            drop(over);
            result
        })
    }

    /// The part of the whole that is done, and whether this sub-step's progress is due to be told.
    fn note(&self, ordinal: u32, done: f64) -> (f64, bool) {
        let now = clock::monotonic();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tell = false;
        if let Some(part) = usize::try_from(ordinal).ok().and_then(|index| parts.get_mut(index)) {
            part.done = done.clamp(0.0, 1.0);
            tell = part.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY);
            if tell {
                part.told = Some(now);
            }
        }
        let count = parts.len().max(1) as f64;
        (parts.iter().map(|part| part.done).sum::<f64>() / count, tell)
    }
}
