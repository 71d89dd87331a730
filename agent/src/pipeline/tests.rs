//! The pipeline over stages and a link that are made for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::plan::{DiskConsent, SelfTest, StageWork};
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::BootTarget;

use super::*;
use crate::stages::{BootEnd, Effect, StageContext, StageDescription, StageError, StageReport};
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
/// Lets the stubborn stage go on after its test has seen what it wanted.
static LET_GO: AtomicBool = AtomicBool::new(false);
static STUBBORN: &[&dyn Stage] = &[&Scripted(StageName::Inventory, |context| {
    while !LET_GO.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    context.progress(None, 99.0, None);
    Ok(ends(Outcome::Pass))
})];

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

#[test]
fn stages_run_in_order_and_each_is_acknowledged_before_the_next() {
    let bench = Bench::new(FakeLink::new(plain));
    let end = bench.run(PASS);
    assert!(matches!(end, RunEnd::Finished { result: RunResult::Pass, then: AfterRun::PowerOff, .. }));
    let story = bench.link.story();
    assert_eq!(story, ["Inventory starts", "Inventory passes", "Firmware starts", "Firmware passes", "end"]);
    let second = bench
        .link
        .steps()
        .iter()
        .position(|step| matches!(step, Record::StageStarted { stage: StageName::Firmware, .. }));
    let flushed = bench.link.flushed.lock().unwrap();
    assert_eq!(flushed.first().copied(), second, "flushed with all that came before the second stage");
}

#[test]
fn a_skip_goes_on() {
    let story = story_of(SKIP);
    assert_eq!(story[1], "Inventory skip: no such part");
    assert_eq!(story[2], "Firmware starts");
}

#[test]
fn a_fail_halts() {
    let story = story_of(FAIL);
    assert_eq!(story, ["Inventory starts", "Inventory complete: sda: sector 7", "end"]);
}

#[test]
fn a_stage_that_could_not_be_judged_halts() {
    assert_eq!(story_of(NO_ANSWER), ["Inventory starts", "Inventory error: hung", "end"]);
}

#[test]
fn a_stage_that_is_not_required_halts_only_when_the_coordinator_says_so() {
    for (stages, ending) in [(FAIL, "complete: sda: sector 7"), (NO_ANSWER, "error: hung")] {
        let bench = Bench::new(FakeLink::new(plain));
        bench.run(stages);
        let inventory = format!("Inventory {ending}");
        let story = bench.link.story();
        assert_eq!(story, ["Inventory starts", &inventory, "Firmware starts", "Firmware passes", "end"]);
    }
}

#[test]
fn a_run_that_is_over_at_the_coordinator_starts_no_stage_any_more() {
    let bench = Bench::new(FakeLink::new(|records| match plain(records) {
        Directive::Continue => Directive::AwaitVerdict,
        other => other,
    }));
    bench.run(PASS);
    assert_eq!(bench.link.story(), ["Inventory starts", "Inventory passes", "end"]);
}

#[test]
fn devices_still_appearing_make_inventory_an_error() {
    let mut bench = Bench::new(FakeLink::new(all_required));
    bench.doubt = Some("devices were still appearing after 60 s".to_owned());
    bench.run(PASS);
    let story = bench.link.story();
    assert_eq!(
        story,
        ["Inventory starts", "Inventory error: devices were still appearing after 60 s", "end"]
    );
    let events = bench.link.events();
    assert_eq!(events, [(EventLevel::Warning, "devices_not_ready".to_owned())]);
}

static NEEDS_INVENTORY: &[&dyn Stage] = &[&Scripted(StageName::Firmware, |context| {
    context.inventory()?;
    Ok(ends(Outcome::Pass))
})];

#[test]
fn a_resumed_plan_without_its_inventory_stage_has_the_facts_all_the_same() {
    let bench = Bench::new(FakeLink::new(all_required));
    bench.run(NEEDS_INVENTORY);
    assert_eq!(bench.link.story(), ["Firmware starts", "Firmware passes", "end"]);
    // samples may come between
    let records = bench.link.records();
    let told = records.iter().position(|record| matches!(record, Record::Inventory(_)));
    let begun = records.iter().position(|record| matches!(record, Record::StageStarted { .. }));
    assert!(told.is_some() && told < begun, "what the machine is made of now: {told:?}, {begun:?}");
}

static ASKS_TOOLS: &[&dyn Stage] = &[
    &Scripted(StageName::Inventory, |context| {
        let wipefs = crate::tools::wipefs::invocation("/dev/sda");
        assert!(context.tools.run(&wipefs, &context.cancel, &mut |_, _| {}).is_err());
        Ok(ends(Outcome::Pass))
    }),
    &Scripted(StageName::Firmware, |_| Ok(ends(Outcome::Pass))),
];

#[test]
fn what_tools_wrote_is_stored_word_for_word_and_a_stage_without_tools_stores_nothing() {
    let bench = Bench::new(FakeLink::new(plain));
    bench.run(ASKS_TOOLS);
    let stored = bench.link.stored.lock().unwrap();
    let [(kind, name, body)] = stored.as_slice() else { panic!("{stored:?}") };
    assert_eq!((kind.as_str(), name.as_str()), ("tool_output", "Inventory.jsonl"));
    assert!(body.contains("\"tool\":\"wipefs\"") && body.contains("wipefs is not installed"), "{body}");
}

/// A sidecar that panics in its first sample.
struct Panicking(Arc<FakeLink>);

impl Reporter for Panicking {
    fn record(&self, record: Record) {
        self.0.record(record);
    }

    fn wait_for_room(&self) {
        panic!("on purpose");
    }
}

impl Link for Panicking {
    fn flush(&self, cancel: &Cancel) -> Result<Directive, UplinkError> {
        self.0.flush(cancel)
    }
    fn directive(&self) -> Directive {
        self.0.directive()
    }
    fn failure(&self) -> Option<UplinkError> {
        None
    }
    fn next_answer(&self, seen: u64, cancel: &Cancel) -> Result<(Directive, u64), UplinkError> {
        self.0.next_answer(seen, cancel)
    }
    fn store(&self, kind: &str, name: &str, body: Vec<u8>, cancel: &Cancel) -> Result<(), UplinkError> {
        self.0.store(kind, name, body, cancel)
    }
}

#[test]
fn sensors_whose_thread_died_are_told_of() {
    let bench = Bench::new(FakeLink::new(plain));
    bench.run_over(Arc::new(Panicking(Arc::clone(&bench.link))), PASS);
    let events = bench.link.events();
    assert_eq!(events, [(EventLevel::Error, "sensors_unavailable".to_owned())]);
    let last = bench.link.steps().pop();
    assert!(matches!(last, Some(Record::PipelineFinished { .. })), "{last:?}");
}

#[test]
fn a_panic_in_a_stage_is_an_error_of_that_stage() {
    let story = story_of(PANIC);
    assert_eq!(story[1], "Inventory error: the Inventory stage panicked: index out of bounds");
    assert_eq!(story[2], "end");
}

/// Wants a restart in each boot.
struct Restless;

impl Stage for Restless {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Inventory,
            effect: Effect::ReadOnly,
            applies_to: "tests",
            finds: "nothing",
        }
    }

    fn estimate(&self, _: &StageWork, _: Option<&Inventory>) -> Duration {
        Duration::ZERO
    }

    fn run(&self, _: &mut StageContext<'_>, _: &StageWork) -> Result<StageReport, StageError> {
        Err(StageError::Other { message: "not asked for".to_owned() })
    }

    fn run_in_this_boot(&self, _: &mut StageContext<'_>, _: &StageWork) -> Result<BootEnd, StageError> {
        let reason = "a test".to_owned();
        Ok(BootEnd::Reboot(PlannedReboot { target: BootTarget::Memtest, budget: Duration::ZERO, reason }))
    }
}

static RESTLESS: &[&dyn Stage] = &[&Restless, &Scripted(StageName::Firmware, |_| Ok(ends(Outcome::Pass)))];

#[test]
fn a_planned_reboot_leaves_its_stage_open_and_goes_once_the_coordinator_knows() {
    let bench = Bench::new(FakeLink::new(|_| Directive::Continue));
    assert!(
        matches!(bench.run(RESTLESS), RunEnd::Rebooting { reason, target: BootTarget::Memtest } if reason == "a test")
    );
    assert_eq!(bench.link.story(), ["Inventory starts", "reboots to memtest"]);
    let announced = bench.link.steps().len();
    assert!(bench.link.flushed.lock().unwrap().contains(&announced));
}

#[test]
fn a_run_that_is_aborted_meanwhile_does_not_restart_the_machine_for_its_test() {
    let abort = |_: &[Record]| Directive::Abort { reason: "operator".to_owned(), then: AfterRun::PowerOff };
    let end = Bench::new(FakeLink::new(abort)).run(RESTLESS);
    assert!(matches!(end, RunEnd::Aborted { then: AfterRun::PowerOff, .. }));
}

#[test]
fn a_stage_that_is_not_built_in_is_an_error() {
    let bench = Bench::new(FakeLink::new(plain));
    let outcome_of_unknown = {
        let facts = &mut Facts::default();
        let folder = tempfile::tempdir().unwrap();
        let pipeline = Pipeline {
            subject: "host node, run 7".to_owned(),
            plan: Plan {
                run_id: RunId(7),
                host_name: String::new(),
                profile: ProfileName::Quick,
                sampling_interval_ms: 60_000,
                expected_spec_yaml: String::new(),
                consent: DiskConsent::NonDestructive,
                stages: Vec::new(),
                resumed: None,
                serial_console: false,
                power_control: false,
            },
            stages: &[],
            host: Host::recorded(folder.path()),
            tools: Arc::new(RecordedRunner::new(folder.path())),
            link: bench.link.clone() as Arc<dyn Link>,
            shown: Arc::new(Silent),
            console: Arc::new(Silent),
            counterpart: Arc::new(crate::counterpart::Nobody),
            inventory_doubt: None,
            restarts: true,
            cancel: Cancel::new(),
            grace: Duration::ZERO,
        };
        let planned = PlannedStage {
            limit_ms: 1,
            needs_turn: false,
            work: StageWork::Smart { self_test: SelfTest::None },
        };
        let tools = Arc::clone(&pipeline.tools);
        match pipeline.end_of(&planned, &(Arc::new(Silent) as Arc<dyn Reporter>), tools, facts) {
            StageEnd::Over(outcome, _) => outcome,
            StageEnd::Reboot(reboot) => panic!("{reboot:?}"),
        }
    };
    assert!(matches!(outcome_of_unknown, Outcome::Error { reason } if reason.contains("no stage SMART")));
}

#[test]
fn a_stage_over_its_time_limit_is_told_to_end_and_is_an_error() {
    let mut bench = Bench::new(FakeLink::new(all_required));
    bench.limit_ms = 1;
    bench.run(WAIT);
    let story = bench.link.story();
    assert!(story[1].starts_with("Inventory error: it did not end within its time limit"), "{story:?}");
    assert_eq!(story[2], "end");
}

/// A judge that ends the stage Inventory as soon as it has begun, and halts once it is over.
fn too_hot(records: &[Record]) -> Directive {
    let begun = records.iter().any(|record| matches!(record, Record::StageStarted { .. }));
    match all_required(records) {
        Directive::Continue if begun => {
            Directive::EndStage { stage: StageName::Inventory, reason: "temp cpu/0 is 101".to_owned() }
        }
        other => other,
    }
}

#[test]
fn a_stage_that_would_harm_the_machine_is_ended_and_fails() {
    let bench = Bench::new(FakeLink::new(too_hot));
    bench.run(WAIT);
    let ended = "Inventory complete: it was ended early, to spare the machine: temp cpu/0 is 101";
    assert_eq!(bench.link.story(), ["Inventory starts", ended, "end"]);
}

#[test]
fn the_end_of_another_stage_ends_none() {
    let bench = Bench::new(FakeLink::new(|records| match plain(records) {
        Directive::Continue
            if records.iter().all(|record| !matches!(record, Record::StageFinished { .. })) =>
        {
            Directive::EndStage { stage: StageName::Storage, reason: "too hot".to_owned() }
        }
        other => other,
    }));
    bench.run(PASS);
    assert_eq!(
        bench.link.story(),
        ["Inventory starts", "Inventory passes", "Firmware starts", "Firmware passes", "end"]
    );
}

#[test]
fn a_stage_that_does_not_end_is_left_behind_and_its_late_records_are_dropped() {
    let mut bench = Bench::new(FakeLink::new(plain));
    bench.limit_ms = 1;
    bench.grace = Duration::ZERO;
    bench.run(STUBBORN);
    LET_GO.store(true, Ordering::SeqCst);
    let story = bench.link.story();
    assert!(story[1].ends_with("and did not stop when told to"), "{story:?}");
    assert!(!story.contains(&"progress".to_owned()), "{story:?}");
}

#[test]
fn the_judges_halt_is_obeyed_at_the_end_of_the_stage() {
    let bench = Bench::new(FakeLink::new(|records| match plain(records) {
        Directive::Continue => Directive::HaltPipeline { reason: "critical breach".to_owned() },
        other => other,
    }));
    bench.run(PASS);
    assert_eq!(bench.link.story(), ["Inventory starts", "Inventory passes", "end"]);
}

#[test]
fn an_abort_ends_the_stage_and_nothing_more_is_reported() {
    let bench = Bench::new(FakeLink::new(|_| Directive::Abort {
        reason: "operator".to_owned(),
        then: AfterRun::Reboot,
    }));
    // as the uplink does when an abort arrives while a stage runs
    bench.cancel.raise();
    let end = bench.run(WAIT);
    assert!(matches!(end, RunEnd::Aborted { then: AfterRun::Reboot, .. }));
    assert_eq!(bench.link.story(), ["Inventory starts", "Inventory error: it was cancelled"]);
}

#[test]
fn a_lost_coordinator_ends_the_run() {
    let mut link = FakeLink::new(plain);
    let failure = UplinkError::NotAcknowledged { sent: 2, acknowledged: 1 };
    Arc::get_mut(&mut link).unwrap().failure = Some(failure);
    let bench = Bench::new(link);
    let end = bench.run(PASS);
    assert!(matches!(end, RunEnd::Lost(UplinkError::NotAcknowledged { .. })));
    assert_eq!(end.then(), None);
    assert!(!bench.link.story().contains(&"Firmware starts".to_owned()));
}

#[test]
fn no_sample_of_a_stage_follows_its_end() {
    let bench = Bench::new(FakeLink::new(plain));
    bench.run(PASS);
    let mut finished = Vec::new();
    for record in bench.link.records() {
        match record {
            Record::StageFinished { stage, .. } => finished.push(stage),
            Record::Measurement(sample) => {
                assert!(sample.stage.is_none_or(|stage| !finished.contains(&stage)));
            }
            _ => {}
        }
    }
    assert_eq!(finished.len(), 2);
}

/// Counts the answers that were waited for, as records.
struct Counting(Arc<FakeLink>);

impl Reporter for Counting {
    fn record(&self, record: Record) {
        self.0.record(record);
    }
}

impl Link for Counting {
    fn flush(&self, cancel: &Cancel) -> Result<Directive, UplinkError> {
        self.0.flush(cancel)
    }
    fn directive(&self) -> Directive {
        self.0.directive()
    }
    fn failure(&self) -> Option<UplinkError> {
        None
    }
    fn next_answer(&self, seen: u64, cancel: &Cancel) -> Result<(Directive, u64), UplinkError> {
        self.0.record(Record::PipelineFinished { ts_ms: 0 });
        self.0.next_answer(seen, cancel)
    }
    fn store(&self, kind: &str, name: &str, body: Vec<u8>, cancel: &Cancel) -> Result<(), UplinkError> {
        self.0.store(kind, name, body, cancel)
    }
}

#[test]
fn a_held_machine_stays_until_the_coordinator_lets_it_go() {
    let link = FakeLink::new(|records| {
        let then = if records.len() > 3 { AfterRun::PowerOff } else { AfterRun::Stay };
        Directive::Finished { result: RunResult::Fail, reasons: Vec::new(), then, hold: None }
    });
    let end = stay(&Counting(Arc::clone(&link)), &Cancel::new()).unwrap();
    assert_eq!(end, AfterHold::LetGo(AfterRun::PowerOff));
    assert_eq!(link.records().len(), 4);
}

#[test]
fn a_held_machine_whose_run_is_taken_up_goes_on() {
    let link = FakeLink::new(|records| match records.len() {
        0..3 => Directive::Finished {
            result: RunResult::Fail,
            reasons: Vec::new(),
            then: AfterRun::Stay,
            hold: None,
        },
        _ => Directive::Continue,
    });
    assert_eq!(stay(&Counting(Arc::clone(&link)), &Cancel::new()).unwrap(), AfterHold::GoOn);
    assert_eq!(link.records().len(), 3);
}

fn waits(records: &[Record]) -> bool {
    matches!(records.last(), Some(Record::TurnAwaited { .. }))
}

#[test]
fn a_stage_begins_only_when_it_has_its_turn() {
    static ANSWERS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let bench = Bench {
        needs_turn: true,
        ..Bench::new(FakeLink::new(|records| {
            if waits(records) && ANSWERS.fetch_add(1, Ordering::SeqCst) % 3 != 2 {
                return Directive::AwaitTurn { stage: StageName::Burn, reason: "third of 3".to_owned() };
            }
            plain(records)
        }))
    };
    assert!(matches!(bench.run(PASS), RunEnd::Finished { result: RunResult::Pass, .. }));
    let story = bench.link.story();
    let firmware = ["Firmware awaits its turn", "Firmware starts", "Firmware passes", "end"];
    let inventory = ["Inventory awaits its turn", "Inventory starts", "Inventory passes"];
    assert_eq!(story, [&inventory[..], &firmware[..]].concat());
    assert_eq!(ANSWERS.load(Ordering::SeqCst), 6, "two answers each told it to wait");
}

#[test]
fn a_run_that_is_aborted_while_it_waits_ends() {
    let bench = Bench {
        needs_turn: true,
        ..Bench::new(FakeLink::new(|records| match records.last() {
            Some(Record::TurnAwaited { .. }) => {
                Directive::Abort { reason: "an operator".to_owned(), then: AfterRun::PowerOff }
            }
            _ => plain(records),
        }))
    };
    assert!(matches!(bench.run(PASS), RunEnd::Aborted { .. }));
    assert_eq!(bench.link.story(), ["Inventory awaits its turn"]);
}
