//! The pipeline over stages and a link that are made for it.

mod facts;
mod held;
mod limits;
mod order;
mod reboot;
mod records;
mod turns;

use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::plan::{DiskConsent, StageWork};
use vetting_protocol::profile::ProfileName;

use super::*;
use crate::stages::{Effect, StageContext, StageDescription, StageError, StageReport};
use crate::tools::runner::RecordedRunner;

/// What a stage of these tests does.
struct Scripted(StageName, fn(&mut StageContext<'_>) -> Result<StageReport, StageError>);

impl Stage for Scripted {
    fn description(&self) -> StageDescription {
        StageDescription { name: self.0, effect: Effect::ReadOnly, applies_to: "tests", finds: "nothing" }
    }

    fn estimate(&self, _: &StageWork, _: Option<&Inventory>) -> Duration {
        Duration::ZERO
    }

    fn run(&self, context: &mut StageContext<'_>, _: &StageWork) -> Result<StageReport, StageError> {
        (self.1)(context)
    }
}

fn ends(outcome: Outcome) -> StageReport {
    StageReport { outcome, details: Value::Null }
}

static PASS: &[&dyn Stage] = &[
    &Scripted(StageName::Inventory, |_| Ok(ends(Outcome::Pass))),
    &Scripted(StageName::Firmware, |_| Ok(ends(Outcome::Pass))),
];
static SKIP: &[&dyn Stage] = &[
    &Scripted(StageName::Inventory, |_| Ok(ends(Outcome::skip("no such part")))),
    &Scripted(StageName::Firmware, |_| Ok(ends(Outcome::Pass))),
];
static FAIL: &[&dyn Stage] = &[
    &Scripted(StageName::Inventory, |_| Ok(ends(Outcome::fail("sda: sector 7")))),
    &Scripted(StageName::Firmware, |_| Ok(ends(Outcome::Pass))),
];
static NO_ANSWER: &[&dyn Stage] = &[
    &Scripted(StageName::Inventory, |_| Err(StageError::Other { message: "hung".to_owned() })),
    &Scripted(StageName::Firmware, |_| Ok(ends(Outcome::Pass))),
];
static PANIC: &[&dyn Stage] = &[
    &Scripted(StageName::Inventory, |_| panic!("index out of bounds")),
    &Scripted(StageName::Firmware, |_| Ok(ends(Outcome::Pass))),
];
static WAIT: &[&dyn Stage] = &[
    &Scripted(StageName::Inventory, |context| {
        while !context.cancel.is_raised() {
            std::thread::yield_now();
        }
        Ok(ends(Outcome::Pass))
    }),
    &Scripted(StageName::Firmware, |_| Ok(ends(Outcome::Pass))),
];

/// A coordinator that acknowledges everything and gives directives by what it has.
struct FakeLink {
    records: Mutex<Vec<Record>>,
    /// Steps that were there at each flush.
    flushed: Mutex<Vec<usize>>,
    /// Kind, name and content of the files.
    stored: Mutex<Vec<(String, String, String)>>,
    directive: fn(&[Record]) -> Directive,
    failure: Option<UplinkError>,
}

impl FakeLink {
    fn new(directive: fn(&[Record]) -> Directive) -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            flushed: Mutex::default(),
            stored: Mutex::default(),
            directive,
            failure: None,
        })
    }

    fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the pipeline recorded: the sidecar's samples come whenever its thread has its turn.
    fn steps(&self) -> Vec<Record> {
        self.records().into_iter().filter(|record| !matches!(record, Record::Measurement(_))).collect()
    }

    /// Level and kind of the events.
    fn events(&self) -> Vec<(EventLevel, String)> {
        let event = |record| match record {
            Record::Event { level, kind, .. } => Some((level, kind)),
            _ => None,
        };
        self.records().into_iter().filter_map(event).collect()
    }

    /// The records as short words, without samples.
    fn story(&self) -> Vec<String> {
        let words = |record: &Record| match record {
            Record::StageStarted { stage, .. } => Some(format!("{stage} starts")),
            Record::StageFinished { stage, outcome, .. } => Some(match outcome.reason() {
                None => format!("{stage} passes"),
                Some(reason) => format!("{stage} {}: {reason}", outcome.status()),
            }),
            Record::PipelineFinished { .. } => Some("end".to_owned()),
            Record::RebootPlanned { target, .. } => Some(format!("reboots to {target}")),
            Record::TurnAwaited { stage, .. } => Some(format!("{stage} awaits its turn")),
            Record::Progress { .. } => Some("progress".to_owned()),
            _ => None,
        };
        self.records().iter().filter_map(words).collect()
    }
}

impl Reporter for FakeLink {
    fn record(&self, record: Record) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }
}

impl Link for FakeLink {
    fn flush(&self, _: &Cancel) -> Result<Directive, UplinkError> {
        let steps = self.steps();
        self.flushed.lock().unwrap().push(steps.len());
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok((self.directive)(&steps)),
        }
    }

    fn directive(&self) -> Directive {
        (self.directive)(&self.steps())
    }

    fn failure(&self) -> Option<UplinkError> {
        self.failure.clone()
    }

    fn next_answer(&self, seen: u64, _: &Cancel) -> Result<(Directive, u64), UplinkError> {
        Ok((self.directive(), seen + 1))
    }

    fn store(&self, kind: &str, name: &str, body: Vec<u8>, _: &Cancel) -> Result<(), UplinkError> {
        let body = String::from_utf8(body).unwrap();
        self.stored.lock().unwrap().push((kind.to_owned(), name.to_owned(), body));
        Ok(())
    }
}

/// The same link, and what happens before it is asked for its next answer, or for room by the sidecar.
struct Watched {
    link: Arc<FakeLink>,
    before_answer: fn(&FakeLink),
    before_room: fn(),
}

impl Watched {
    fn of(link: &Arc<FakeLink>) -> Self {
        Self { link: Arc::clone(link), before_answer: |_| {}, before_room: || {} }
    }
}

impl Reporter for Watched {
    fn record(&self, record: Record) {
        self.link.record(record);
    }

    fn wait_for_room(&self) {
        (self.before_room)();
        self.link.wait_for_room();
    }
}

impl Link for Watched {
    fn flush(&self, cancel: &Cancel) -> Result<Directive, UplinkError> {
        self.link.flush(cancel)
    }

    fn directive(&self) -> Directive {
        self.link.directive()
    }

    fn failure(&self) -> Option<UplinkError> {
        self.link.failure()
    }

    fn next_answer(&self, seen: u64, cancel: &Cancel) -> Result<(Directive, u64), UplinkError> {
        (self.before_answer)(&self.link);
        self.link.next_answer(seen, cancel)
    }

    fn store(&self, kind: &str, name: &str, body: Vec<u8>, cancel: &Cancel) -> Result<(), UplinkError> {
        self.link.store(kind, name, body, cancel)
    }
}

/// A verdict when the pipeline is over.
fn plain(records: &[Record]) -> Directive {
    let over = records.iter().any(|record| matches!(record, Record::PipelineFinished { .. }));
    if over {
        Directive::Finished {
            result: RunResult::Pass,
            reasons: Vec::new(),
            then: AfterRun::PowerOff,
            hold: None,
        }
    } else {
        Directive::Continue
    }
}

/// The same, and halts as the coordinator does after a required stage that failed or could not be judged.
fn all_required(records: &[Record]) -> Directive {
    let failed = records.iter().any(|record| {
        matches!(record, Record::StageFinished { outcome: Outcome::Fail { .. } | Outcome::Error { .. }, .. })
    });
    match plain(records) {
        Directive::Continue if failed => Directive::HaltPipeline { reason: "a stage failed".to_owned() },
        other => other,
    }
}

struct Silent;

impl Console for Silent {
    fn line(&self, _: &str) {}
}

impl Reporter for Silent {
    fn record(&self, _: Record) {}
}

struct Bench {
    link: Arc<FakeLink>,
    limit_ms: u64,
    needs_turn: bool,
    doubt: Option<String>,
    cancel: Cancel,
    grace: Duration,
}

impl Bench {
    fn new(link: Arc<FakeLink>) -> Self {
        Self {
            link,
            limit_ms: 600_000,
            needs_turn: false,
            doubt: None,
            cancel: Cancel::new(),
            grace: Duration::from_mins(10),
        }
    }

    fn run(&self, stages: &'static [&'static dyn Stage]) -> RunEnd {
        self.run_over(Arc::clone(&self.link) as Arc<dyn Link>, stages)
    }

    fn run_over(&self, link: Arc<dyn Link>, stages: &'static [&'static dyn Stage]) -> RunEnd {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("dev")).unwrap();
        std::fs::write(folder.path().join("dev/kmsg"), "").unwrap();
        let work = |stage| match stage {
            StageName::Inventory => StageWork::Inventory {},
            _ => StageWork::Firmware {},
        };
        let planned = |stage: &&dyn Stage| PlannedStage {
            limit_ms: self.limit_ms,
            needs_turn: self.needs_turn,
            work: work(stage.description().name),
        };
        Pipeline {
            subject: "host node, run 7".to_owned(),
            plan: Plan {
                run_id: RunId(7),
                host_name: "h".to_owned(),
                profile: ProfileName::Quick,
                sampling_interval_ms: 60_000,
                expected_spec_yaml: String::new(),
                consent: DiskConsent::NonDestructive,
                stages: stages.iter().map(planned).collect(),
                resumed: None,
                serial_console: false,
                power_control: false,
            },
            stages,
            host: Host::recorded(folder.path()),
            tools: Arc::new(RecordedRunner::new(folder.path())),
            link,
            shown: Arc::new(Silent),
            console: Arc::new(Silent),
            counterpart: Arc::new(crate::counterpart::Nobody),
            inventory_doubt: self.doubt.clone(),
            restarts: true,
            cancel: self.cancel.clone(),
            grace: self.grace,
        }
        .run()
    }
}

fn story_of(stages: &'static [&'static dyn Stage]) -> Vec<String> {
    let bench = Bench::new(FakeLink::new(all_required));
    assert!(matches!(bench.run(stages), RunEnd::Finished { .. }));
    bench.link.story()
}
