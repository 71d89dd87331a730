//! One stage on its own thread: ended at its time limit, its panic caught, its late records dropped.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use serde_json::{Value, json};
use vetting_protocol::agent_api::Record;
use vetting_protocol::ids::StageName;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::{DiskConsent, StageWork};

use crate::cancel::Cancel;
use crate::clock;
use crate::console::{chain, spoken};
use crate::counterpart::Counterpart;
use crate::host::Host;
use crate::reporter::Reporter;
use crate::stages::{BootEnd, Facts, PlannedReboot, Reboots, Stage, StageContext, StageError};
use crate::tools::runner::ToolRunner;

/// How often the run's cancel and the time limit are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What one stage needs.
pub struct Work {
    /// The stage.
    pub stage: &'static dyn Stage,
    /// Its parameters.
    pub work: StageWork,
    /// The machine.
    pub host: Host,
    /// Its tools.
    pub tools: Arc<dyn ToolRunner>,
    /// Where its facts go.
    pub reporter: Arc<dyn Reporter>,
    /// What it may do to disks.
    pub consent: DiskConsent,
    /// The expected spec, YAML.
    pub expected_spec_yaml: Option<String>,
    /// The other end of network tests.
    pub counterpart: Arc<dyn Counterpart>,
    /// Planned reboots.
    pub reboots: Reboots,
    /// What stages before it left.
    pub facts: Facts,
}

/// How a stage ended in this boot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StageEnd {
    /// It is over.
    Over(Outcome, Value),
    /// It goes on after a restart of the machine.
    Reboot(PlannedReboot),
}

/// A stage at work.
pub(crate) struct StageThread {
    name: StageName,
    /// Raised to end this stage alone.
    stop: Cancel,
    gate: Arc<Gate>,
    /// The end, or why there is no thread.
    ended: Result<Receiver<Ended>, std::io::Error>,
}

struct Ended {
    result: std::thread::Result<Result<BootEnd, StageError>>,
    facts: Facts,
}

/// Why a stage was told to stop.
enum Stopped {
    TimeLimit,
    Cancelled,
    /// Going on would harm the machine: the rule and what was measured.
    MustEnd(String),
}

/// What ends a stage from outside.
pub(crate) struct Bounds<'a> {
    /// Time after which it is told to stop.
    pub limit: Duration,
    /// How long it may take to do so.
    pub grace: Duration,
    /// Raised when the run shall not go on.
    pub cancel: &'a Cancel,
    /// Why the judge ends this stage now; absent while it may go on.
    pub must_end: &'a dyn Fn() -> Option<String>,
}

impl StageThread {
    /// Starts it. `limit` is the time that it is told that it has; [`Self::finish`] sees to it.
    pub(crate) fn start(work: Work, limit: Duration) -> Self {
        let name = work.work.name();
        let stop = Cancel::new();
        let gate = Arc::new(Gate { reporter: Mutex::new(Some(Arc::clone(&work.reporter))) });
        let (sender, receiver) = bounded(1);
        let started = std::thread::Builder::new().name(name.to_string()).spawn({
            let (stop, gate) = (stop.clone(), Arc::clone(&gate));
            move || {
                // nobody listens any more when the stage was left behind
                let _ = sender.send(run(work, limit, stop, &gate));
            }
        });
        Self { name, stop, gate, ended: started.map(|_| receiver) }
    }

    /// Waits for the end, which it brings about at a bound. A stage that does not end within the grace after that is left
    /// behind, and what it reports later is dropped.
    pub(crate) fn finish(self, bounds: &Bounds<'_>, facts: &mut Facts) -> StageEnd {
        let Bounds { limit, grace, cancel, must_end } = *bounds;
        let ended = match &self.ended {
            Ok(ended) => ended,
            Err(error) => {
                let outcome = Outcome::error(format!("its thread cannot be started: {error}"));
                return StageEnd::Over(outcome, Value::Null);
            }
        };
        let begin = clock::monotonic();
        let mut stopped: Option<(Stopped, Duration)> = None;
        let end = loop {
            match ended.recv_timeout(LOOK) {
                Ok(end) => break Some(end),
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let elapsed = begin.elapsed();
            match &stopped {
                Some((_, since)) if elapsed >= *since + grace => break None,
                Some(_) => {}
                None if cancel.is_raised() => stopped = Some((Stopped::Cancelled, elapsed)),
                None if elapsed >= limit => stopped = Some((Stopped::TimeLimit, elapsed)),
                None => stopped = must_end().map(|reason| (Stopped::MustEnd(reason), elapsed)),
            }
            if stopped.is_some() {
                self.stop.raise();
            }
        };
        self.gate.close();
        let stopped = stopped.map(|(why, _)| why);
        match end {
            // one that was told to stop restarts nothing any more
            Some(Ended { result: Ok(Ok(BootEnd::Reboot(reboot))), .. }) if stopped.is_none() => {
                StageEnd::Reboot(reboot)
            }
            end => {
                let (outcome, details) = self.outcome(end, stopped, limit, facts);
                StageEnd::Over(outcome, details)
            }
        }
    }

    fn outcome(
        &self,
        end: Option<Ended>,
        stopped: Option<Stopped>,
        limit: Duration,
        facts: &mut Facts,
    ) -> (Outcome, Value) {
        let is_fault = matches!(stopped, Some(Stopped::MustEnd(_)));
        let why = stopped.map(|why| match why {
            Stopped::TimeLimit => format!("it did not end within its time limit of {}", spoken(limit)),
            Stopped::Cancelled => "it was cancelled".to_owned(),
            Stopped::MustEnd(reason) => format!("it was ended early, to spare the machine: {reason}"),
        });
        // the hardware is at fault, whatever the stage would have said
        let ended = |why: String| if is_fault { Outcome::fail(why) } else { Outcome::error(why) };
        let Some(end) = end else {
            let reason = match why {
                Some(why) => format!("{why}, and did not stop when told to"),
                None => "its thread vanished".to_owned(),
            };
            return (ended(reason), Value::Null);
        };
        match (end.result, why) {
            (Err(panic), _) => {
                let reason = format!("the {} stage panicked: {}", self.name, panic_words(&*panic));
                (Outcome::error(reason), Value::Null)
            }
            (Ok(Ok(BootEnd::Reboot(reboot))), why) => {
                let why = why.unwrap_or_else(|| "it wants a restart".to_owned());
                (Outcome::error(format!("{why} before {}", reboot.reason)), Value::Null)
            }
            // what it found before it was stopped still counts if it found a fault
            (Ok(Ok(BootEnd::Finished(report))), Some(why)) => {
                *facts = end.facts;
                match report.outcome {
                    Outcome::Fail { reason } => (Outcome::fail(format!("{reason} ({why})")), report.details),
                    Outcome::Pass | Outcome::Error { .. } | Outcome::Skip { .. } => {
                        (ended(why), report.details)
                    }
                }
            }
            (Ok(Err(error)), Some(why)) => (ended(why), json!({ "error": chain(&error) })),
            (Ok(Ok(BootEnd::Finished(report))), None) => {
                *facts = end.facts;
                (report.outcome, report.details)
            }
            (Ok(Err(error)), None) => (Outcome::error(chain(&error)), json!({ "error": chain(&error) })),
        }
    }
}

fn run(work: Work, limit: Duration, stop: Cancel, gate: &Gate) -> Ended {
    let Work {
        stage,
        work,
        host,
        tools,
        consent,
        expected_spec_yaml,
        counterpart,
        reboots,
        mut facts,
        reporter: _,
    } = work;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut context = StageContext {
            stage: work.name(),
            host: &host,
            tools: &*tools,
            reporter: gate,
            cancel: stop,
            begun: clock::monotonic(),
            limit,
            consent,
            expected_spec_yaml: expected_spec_yaml.as_deref(),
            counterpart: &*counterpart,
            reboots: &reboots,
            facts: &mut facts,
        };
        stage.run_in_this_boot(&mut context, &work)
    }));
    Ended { result, facts }
}

fn panic_words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// Lets a stage's records through until the stage is over: none may follow its `StageFinished`.
struct Gate {
    reporter: Mutex<Option<Arc<dyn Reporter>>>,
}

impl Gate {
    fn close(&self) {
        self.reporter.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Reporter for Gate {
    fn record(&self, record: Record) {
        // under the lock, so that none is on its way when the gate closes
        if let Some(reporter) = &*self.reporter.lock().unwrap_or_else(PoisonError::into_inner) {
            reporter.record(record);
        }
    }
}
