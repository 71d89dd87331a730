//! Stages that are told to end: by their time limit, or to spare the machine.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Lets the stubborn stage go on after its test has seen what it wanted.
static LET_GO: AtomicBool = AtomicBool::new(false);
static STUBBORN: &[&dyn Stage] = &[&Scripted(StageName::Inventory, |context| {
    while !LET_GO.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    context.progress(None, 99.0, None);
    Ok(ends(Outcome::Pass))
})];

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
