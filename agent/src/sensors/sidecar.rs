//! The thread that samples the sensors for as long as stages run.
//!
//! Owns which stage runs now. Sampling never holds up a stage: only recording takes the lock that a stage change takes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vetting_protocol::agent_api::Record;
use vetting_protocol::ids::StageName;

use super::{SensorState, sample};
use crate::clock;
use crate::host::Host;
use crate::reporter::Reporter;

/// Which stage runs now, shared by the pipeline and the sidecar.
///
/// The pipeline records `StageStarted` and `StageFinished` inside [`StageCell::change`], the sidecar records its
/// samples under the same lock: so no sample of a stage follows the stage's `StageFinished`.
#[derive(Debug, Clone, Default)]
pub struct StageCell(Arc<Mutex<Current>>);

#[derive(Debug, Default)]
struct Current {
    stage: Option<StageName>,
    changes: u64,
}

impl StageCell {
    /// No stage runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `stage` the one that runs (`None`: none does) and records what has to be recorded of the change,
    /// with no sample in between.
    pub fn change(&self, stage: Option<StageName>, record: impl FnOnce()) {
        let mut current = self.lock();
        current.stage = stage;
        current.changes += 1;
        record();
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running sidecar. Dropping it stops it.
#[derive(Debug)]
pub struct Sidecar {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    wanted: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn raise(&self) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for `interval`; true when it was asked to stop.
    fn wait(&self, interval: Duration) -> bool {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let (wanted, _) = self
            .changed
            .wait_timeout_while(wanted, interval, |wanted| !*wanted)
            .unwrap_or_else(PoisonError::into_inner);
        *wanted
    }
}

impl Sidecar {
    /// Starts sampling: at once, then every `interval`, until [`Sidecar::stop`].
    pub fn start(
        host: Host,
        reporter: Arc<dyn Reporter>,
        stage: StageCell,
        interval: Duration,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let thread = std::thread::Builder::new().name("sensors".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut state = SensorState::default();
                loop {
                    sample_once(&host, &*reporter, &stage, &mut state);
                    if stop.wait(interval) {
                        return;
                    }
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops it and waits for its end: no sample is recorded after this returns.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.stop.raise();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by its own hook; there is nothing left to do about it here.
            let _ = thread.join();
        }
    }
}

fn sample_once(host: &Host, reporter: &dyn Reporter, stage: &StageCell, state: &mut SensorState) {
    // before the lock: while the coordinator is away for long, the sensors stand back and no stage is held up
    reporter.wait_for_room();
    let before = stage.lock().changes;
    let measurements = sample(host, state, clock::now_ms());
    let current = stage.lock();
    // Sensors are slow: a sample taken across a change belongs to neither stage.
    let owner = if current.changes == before { current.stage } else { None };
    for mut measurement in measurements {
        measurement.stage = owner;
        reporter.record(Record::Measurement(measurement));
    }
}
