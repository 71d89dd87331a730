//! Stages that wait for their turn.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

fn waits(records: &[Record]) -> bool {
    matches!(records.last(), Some(Record::TurnAwaited { .. }))
}

#[test]
fn a_stage_begins_only_when_it_has_its_turn() {
    static ANSWERS: AtomicU32 = AtomicU32::new(0);
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
