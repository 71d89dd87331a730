//! The order of stages, and what ends it early.

use vetting_protocol::plan::SelfTest;

use super::*;

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
fn a_panic_in_a_stage_is_an_error_of_that_stage() {
    let story = story_of(PANIC);
    assert_eq!(story[1], "Inventory error: the Inventory stage panicked: index out of bounds");
    assert_eq!(story[2], "end");
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
