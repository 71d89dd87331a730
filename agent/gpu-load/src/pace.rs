//! Arithmetic by the clock: pieces of work of a good size, counted and timed.

use std::time::Duration;

use crate::clock;
use crate::gpu::GpuError;
use crate::{Arithmetic, Wrong};

/// How long one piece of work should take: long beside what its start costs, short beside a driver's patience.
const PIECE: Duration = Duration::from_millis(200);

/// What was done so far.
pub(crate) struct Pace {
    /// What one repetition yields: results, and operations for each of them.
    results: u64,
    operations: f64,
    repetitions: usize,
    report: Arithmetic,
    seconds: f64,
}

impl Pace {
    pub(crate) fn new(results: u64, operations: f64) -> Self {
        let report = Arithmetic { results: 0, operations_per_second: 0.0, wrong: Wrong::default() };
        Self { results, operations, repetitions: 1, report, seconds: 0.0 }
    }

    /// Does `work`, which gets how often it shall repeat itself, for this long, and at least once.
    pub(crate) fn keep(
        &mut self,
        duration: Duration,
        work: impl Fn(usize) -> Result<Wrong, GpuError>,
    ) -> Result<(), GpuError> {
        let begun = clock::now();
        loop {
            let piece = clock::now();
            let wrong = work(self.repetitions)?;
            self.report.wrong.add(wrong);
            self.report.results = self.report.results.saturating_add(self.results * self.repetitions as u64);
            if piece.elapsed() < PIECE / 2 {
                self.repetitions *= 2;
            }
            if begun.elapsed() >= duration {
                self.seconds += begun.elapsed().as_secs_f64();
                return Ok(());
            }
        }
    }

    pub(crate) fn report(self) -> Arithmetic {
        let operations = self.report.results as f64 * self.operations;
        Arithmetic { operations_per_second: operations / self.seconds, ..self.report }
    }
}
