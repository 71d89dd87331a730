//! The threads that sample the sensors for as long as stages run: one for what the kernel tells, and one each for the BMC and
//! for NVIDIA's GPUs, which are slow.
//!
//! Owns which stage runs now. Sampling never holds up a stage: only recording takes the lock that a stage change takes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vetting_protocol::agent_api::{EventLevel, Record};
use vetting_protocol::ids::StageName;

use super::bmc::{self, Bmc};
use super::gpu::{self, Gpus};
use super::{Moment, Sample, SensorState, finish, kernel_log, sample};
use crate::cancel::Cancel;
use crate::host::Host;
use crate::reporter::Reporter;
use crate::tools::runner::ToolRunner;

/// The BMC is asked at most this often: each time costs a process and some 10 ms a sensor of its own slow processor.
const BMC_INTERVAL: Duration = Duration::from_secs(20);

/// NVIDIA's GPUs are asked at most this often: where nothing keeps their driver awake, each time starts them anew.
const GPU_INTERVAL: Duration = Duration::from_secs(20);

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
    threads: Vec<JoinHandle<()>>,
}

/// The sidecar ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("a thread of the sensors died, so samples are missing: this is a bug of vetting-agent")]
pub struct SidecarDied;

#[derive(Debug, Default)]
struct Stop {
    wanted: Mutex<bool>,
    changed: Condvar,
    /// Ends a tool that is under way.
    tools: Cancel,
}

impl Stop {
    fn raise(&self) {
        self.tools.raise();
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
    /// Starts sampling: at once, then every `interval` (BMC and NVIDIA's GPUs less often), until [`Sidecar::stop`].
    pub fn start(
        host: Host,
        tools: Arc<dyn ToolRunner>,
        reporter: Arc<dyn Reporter>,
        cell: StageCell,
        interval: Duration,
    ) -> std::io::Result<Self> {
        // dropped with what it started when a later thread cannot be
        let mut sidecar = Self { stop: Arc::new(Stop::default()), threads: Vec::new() };
        let recorder = Recorder { reporter, cell };
        if gpu::is_there(&host) {
            let (stop, recorder, tools) = (Arc::clone(&sidecar.stop), recorder.clone(), Arc::clone(&tools));
            let work = move || ask_gpus(&*tools, &recorder, &stop, interval.max(GPU_INTERVAL));
            sidecar.threads.push(std::thread::Builder::new().name("gpus".to_owned()).spawn(work)?);
        }
        if bmc::is_there(&host) {
            let (stop, recorder) = (Arc::clone(&sidecar.stop), recorder.clone());
            let work = move || ask_bmc(&*tools, &recorder, &stop, interval.max(BMC_INTERVAL));
            sidecar.threads.push(std::thread::Builder::new().name("bmc".to_owned()).spawn(work)?);
        }
        let stop = Arc::clone(&sidecar.stop);
        let work = move || ask_kernel(&host, &recorder, &stop, interval);
        sidecar.threads.push(std::thread::Builder::new().name("sensors".to_owned()).spawn(work)?);
        Ok(sidecar)
    }

    /// Stops it and waits for its end, after a last look: no sample is recorded after this returns.
    ///
    /// # Errors
    /// It had died before, so that samples are missing.
    pub fn stop(mut self) -> Result<(), SidecarDied> {
        self.end()
    }

    fn end(&mut self) -> Result<(), SidecarDied> {
        self.stop.raise();
        // the panic was printed by its own hook
        let died = |thread: JoinHandle<()>| thread.join().is_err();
        // all of them are waited for, also when one died
        let dead = self.threads.drain(..).map(died).filter(|died| *died).count();
        if dead == 0 { Ok(()) } else { Err(SidecarDied) }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // who wants to know asks `stop`
        let _ = self.end();
    }
}

/// Asks what the kernel tells, and once more when the work is over, so that what came since the last time is not missed.
fn ask_kernel(host: &Host, recorder: &Recorder, stop: &Stop, interval: Duration) {
    let (mut sensors, mut log) = (SensorState::default(), kernel_log::Watch::default());
    let mut once = || {
        recorder.record(|moment| {
            let mut sample = sample(host, &mut sensors, moment);
            log.sample(host, moment, &mut sample);
            sample
        });
    };
    loop {
        once();
        if stop.wait(interval) {
            break;
        }
    }
    once();
    recorder.record(|moment| finish(&sensors, moment));
}

/// The same of the BMC.
fn ask_bmc(tools: &dyn ToolRunner, recorder: &Recorder, stop: &Stop, interval: Duration) {
    let mut bmc = Bmc::new(tools);
    loop {
        recorder.record(|moment| bmc.sample(moment.ts_ms, &stop.tools));
        if stop.wait(interval) {
            break;
        }
    }
    recorder.record(|moment| bmc.finish(moment.ts_ms));
}

/// The same of NVIDIA's GPUs.
fn ask_gpus(tools: &dyn ToolRunner, recorder: &Recorder, stop: &Stop, interval: Duration) {
    let mut gpus = Gpus::new(tools);
    loop {
        recorder.record(|moment| gpus.sample(moment.ts_ms, &stop.tools));
        if stop.wait(interval) {
            break;
        }
    }
}

/// Records samples with the stage that they were taken in.
#[derive(Clone)]
struct Recorder {
    reporter: Arc<dyn Reporter>,
    cell: StageCell,
}

impl Recorder {
    fn record(&self, take: impl FnOnce(Moment) -> Sample) {
        // before the lock: while the coordinator is away for long, the sensors stand back and no stage is held up
        self.reporter.wait_for_room();
        let changes_before = self.cell.lock().changes;
        let moment = Moment::now();
        let Sample { limits, measurements, lost, notices } = take(moment);
        let ts_ms = moment.ts_ms;
        let current = self.cell.lock();
        // Sensors are slow: a sample taken across a change belongs to neither stage.
        let owner = if current.changes == changes_before { current.stage } else { None };
        if !limits.is_empty() {
            self.reporter.record(Record::HardwareLimits { limits });
        }
        for mut measurement in measurements {
            measurement.stage = owner;
            self.reporter.record(Record::Measurement(measurement));
        }
        let event =
            |level, kind: &str, message| Record::Event { level, kind: kind.to_owned(), message, ts_ms };
        for message in lost {
            self.reporter.record(event(EventLevel::Warning, "sensor_lost", message));
        }
        for notice in notices {
            self.reporter.record(event(notice.level, notice.kind, notice.message));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use vetting_protocol::measurement::Measurement;

    use super::*;
    use crate::tools::runner::RecordedRunner;

    /// Sends on what is recorded.
    struct Heard {
        records: Mutex<mpsc::Sender<Record>>,
    }

    impl Reporter for Heard {
        fn record(&self, record: Record) {
            // The test may have seen enough.
            let _ = self.records.lock().unwrap().send(record);
        }
    }

    fn machine() -> (tempfile::TempDir, Host) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("proc")).unwrap();
        std::fs::write(directory.path().join("proc/loadavg"), "0.50 0.40 0.30 1/100 1\n").unwrap();
        std::fs::create_dir_all(directory.path().join("dev")).unwrap();
        std::fs::write(directory.path().join("dev/kmsg"), "").unwrap();
        let host = Host::recorded(directory.path());
        (directory, host)
    }

    fn start(host: Host, reporter: Arc<dyn Reporter>, cell: StageCell, interval: Duration) -> Sidecar {
        let no_tools = Arc::new(RecordedRunner::new("/nonexistent"));
        Sidecar::start(host, no_tools, reporter, cell, interval).unwrap()
    }

    fn finished(stage: StageName) -> Record {
        Record::StageStarted { stage, ts_ms: 0 }
    }

    #[test]
    fn no_sample_of_a_stage_follows_its_end() {
        let (_directory, host) = machine();
        let (sender, records) = mpsc::channel();
        let reporter: Arc<dyn Reporter> = Arc::new(Heard { records: Mutex::new(sender) });
        let cell = StageCell::new();
        let sidecar = start(host, Arc::clone(&reporter), cell.clone(), Duration::from_micros(1));
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
        let reporter = Arc::new(Heard { records: Mutex::new(sender) });
        let sidecar = start(host, reporter, StageCell::new(), Duration::from_secs(100_000));
        assert!(records.recv().is_ok());
        sidecar.stop().unwrap();
        let is_load =
            |record: &Record| matches!(record, Record::Measurement(sample) if sample.kind == "load_avg");
        // the channel ends, so the thread is gone: the first look may be among them, the last one is
        let looks = records.iter().filter(is_load).count();
        assert!((1..=2).contains(&looks), "{looks}");
    }
}
