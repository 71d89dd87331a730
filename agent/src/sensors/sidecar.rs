//! The thread that samples the sensors for as long as stages run.
//!
//! Owns which stage runs now. Sampling never holds up a stage: only recording takes the lock that a stage change takes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vetting_protocol::agent_api::{EventLevel, Record};
use vetting_protocol::ids::StageName;

use super::{Sample, SensorState, sample};
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

/// The sidecar ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("the sensors' thread died, so samples are missing: this is a bug of vetting-agent")]
pub struct SidecarDied;

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
        cell: StageCell,
        interval: Duration,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let thread = std::thread::Builder::new().name("sensors".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut sensors = SensorState::default();
                loop {
                    sample_once(&host, &*reporter, &cell, &mut sensors);
                    if stop.wait(interval) {
                        return;
                    }
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops it and waits for its end: no sample is recorded after this returns.
    ///
    /// # Errors
    /// It had died before, so that samples are missing.
    pub fn stop(mut self) -> Result<(), SidecarDied> {
        self.end()
    }

    fn end(&mut self) -> Result<(), SidecarDied> {
        self.stop.raise();
        // the panic was printed by its own hook
        self.thread.take().map_or(Ok(()), |thread| thread.join().map_err(|_panic| SidecarDied))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // who wants to know asks `stop`
        let _ = self.end();
    }
}

fn sample_once(host: &Host, reporter: &dyn Reporter, cell: &StageCell, sensors: &mut SensorState) {
    // before the lock: while the coordinator is away for long, the sensors stand back and no stage is held up
    reporter.wait_for_room();
    let changes_before = cell.lock().changes;
    let ts_ms = clock::now_ms();
    let Sample { measurements, lost } = sample(host, sensors, ts_ms);
    let current = cell.lock();
    // Sensors are slow: a sample taken across a change belongs to neither stage.
    let owner = if current.changes == changes_before { current.stage } else { None };
    for mut measurement in measurements {
        measurement.stage = owner;
        reporter.record(Record::Measurement(measurement));
    }
    for message in lost {
        reporter.record(Record::Event {
            level: EventLevel::Warning,
            kind: "sensor_lost".to_owned(),
            message,
            ts_ms,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use vetting_protocol::measurement::Measurement;

    use super::*;

    /// Sends on what is recorded.
    struct Recorder {
        records: Mutex<mpsc::Sender<Record>>,
    }

    impl Reporter for Recorder {
        fn record(&self, record: Record) {
            // The test may have seen enough.
            let _ = self.records.lock().unwrap().send(record);
        }
    }

    fn machine() -> (tempfile::TempDir, Host) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("proc")).unwrap();
        std::fs::write(directory.path().join("proc/loadavg"), "0.50 0.40 0.30 1/100 1\n").unwrap();
        let host = Host::recorded(directory.path());
        (directory, host)
    }

    fn finished(stage: StageName) -> Record {
        Record::StageStarted { stage, ts_ms: 0 }
    }

    #[test]
    fn no_sample_of_a_stage_follows_its_end() {
        let (_directory, host) = machine();
        let (sender, records) = mpsc::channel();
        let reporter: Arc<dyn Reporter> = Arc::new(Recorder { records: Mutex::new(sender) });
        let cell = StageCell::new();
        let sidecar =
            Sidecar::start(host, Arc::clone(&reporter), cell.clone(), Duration::from_micros(1)).unwrap();
        for _ in 0..50 {
            cell.change(Some(StageName::CpuStress), || {});
            // Not before the sidecar has seen the stage is it worth ending it.
            let sampled = records.iter().find(|record| {
                matches!(record, Record::Measurement(Measurement { stage: Some(StageName::CpuStress), .. }))
            });
            assert!(sampled.is_some());
            cell.change(None, || reporter.record(finished(StageName::CpuStress)));
            let mut ended = false;
            while !ended {
                ended = matches!(records.recv().unwrap(), Record::StageStarted { .. });
            }
            let Record::Measurement(after) = records.recv().unwrap() else { panic!("a measurement") };
            assert_eq!(after.stage, None);
        }
        sidecar.stop().unwrap();
        drop(reporter);
        assert!(records.iter().all(|record| matches!(record, Record::Measurement(_))));
    }

    #[test]
    fn stopping_does_not_wait_for_the_interval() {
        let (_directory, host) = machine();
        let (sender, records) = mpsc::channel();
        let reporter = Arc::new(Recorder { records: Mutex::new(sender) });
        let sidecar = Sidecar::start(host, reporter, StageCell::new(), Duration::from_secs(100_000)).unwrap();
        assert!(records.recv().is_ok());
        sidecar.stop().unwrap();
        assert!(records.recv().is_err(), "the thread still holds the reporter");
    }
}
