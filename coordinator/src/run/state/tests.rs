//! Every move against a table written by hand, and what no sequence of events may do.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::run::diagram::every_event;

/// Every move there is, written by hand: (from, event, to). What is not here changes no state.
const MOVES: &[(&str, &str, &str)] = &[
    ("Queued", "wake sent", "Waking"),
    ("Queued", "boot script served", "Booting"),
    ("Queued", "imported", "Running"),
    ("Queued", "never appeared", "Reporting"),
    ("Queued", "abort requested", "Aborted"),
    ("Waking", "boot script served", "Booting"),
    ("Waking", "never appeared", "Reporting"),
    ("Waking", "abort requested", "Aborted"),
    ("Booting", "claimed", "Running"),
    ("Booting", "never appeared", "Reporting"),
    ("Booting", "abort requested", "Aborted"),
    ("Running", "reboot planned", "Rebooting"),
    ("Running", "pipeline finished", "Reporting"),
    ("Running", "went silent", "Reporting"),
    ("Running", "unplanned reboot", "Reporting"),
    ("Running", "agent crashed", "Reporting"),
    ("Running", "abort requested", "Reporting"),
    ("Rebooting", "returned from reboot", "Running"),
    ("Rebooting", "went silent", "Reporting"),
    ("Rebooting", "agent crashed", "Reporting"),
    ("Rebooting", "abort requested", "Reporting"),
    ("Reporting", "judged pass", "Completed"),
    ("Reporting", "judged fail", "Completed"),
    ("Reporting", "judged fail, hold", "FailedHolding"),
    ("Reporting", "report of an abort", "Aborted"),
    ("FailedHolding", "hold expired", "Released"),
    ("FailedHolding", "release requested", "Released"),
    ("FailedHolding", "retry requested", "Running"),
    ("FailedHolding", "resume requested", "Running"),
    ("Completed", "resume requested", "Queued"),
];

#[test]
fn the_moves_are_exactly_the_written_ones() {
    let mut found = BTreeSet::new();
    for from in RunState::ALL {
        for (word, event) in every_event() {
            if let Step::Move { to, .. } = step(*from, event) {
                found.insert((from.to_string(), word, to.to_string()));
            }
        }
    }
    let written: BTreeSet<_> =
        MOVES.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect();
    assert_eq!(found, written);
}

#[test]
fn every_end_of_the_pipeline_asks_for_a_verdict() {
    for from in RunState::ALL {
        for (word, event) in every_event() {
            if let Step::Move { to: RunState::Reporting, effects } = step(*from, event) {
                assert!(
                    effects.iter().any(|effect| matches!(effect, Effect::Judge { .. })),
                    "{from} on {word}"
                );
            }
        }
    }
}

#[test]
fn a_state_gets_its_result_when_it_becomes_terminal() {
    for from in RunState::ALL.iter().filter(|state| !state.is_terminal()) {
        for (word, event) in every_event() {
            if let Step::Move { to, effects } = step(*from, event) {
                let completes = effects.iter().any(|effect| matches!(effect, Effect::Complete { .. }));
                assert_eq!(to.is_terminal(), completes, "{from} on {word}");
            }
        }
    }
}

/// An event as the world makes them; `Judged` takes its `ended_by` from what the run stored.
fn any_event() -> impl Strategy<Value = RunEvent> {
    let of_the_world: Vec<RunEvent> = every_event()
        .into_iter()
        .map(|(_, event)| event)
        .filter(|event| !matches!(event, RunEvent::Judged { .. }))
        .collect();
    prop_oneof![
        4 => proptest::sample::select(of_the_world),
        1 => (proptest::sample::select(RunResult::ALL.to_vec()), any::<bool>()).prop_map(|(result, hold)| {
            RunEvent::Judged { ended_by: EndedBy::WentSilent, result, hold }
        }),
    ]
}

proptest! {
    #[test]
    fn no_sequence_leaves_an_end_or_passes_unearned(events in proptest::collection::vec(any_event(), 0..60)) {
        let mut state = RunState::Queued;
        let mut stored: Option<EndedBy> = None;
        let mut finished = false;
        for event in events {
            let event = match (event, stored) {
                (RunEvent::Judged { result, hold, .. }, Some(ended_by)) => {
                    RunEvent::Judged { ended_by, result, hold }
                }
                (other, _) => other,
            };
            let Step::Move { to, effects } = step(state, event) else { continue };
            if state.is_terminal() {
                let reopens = effects.contains(&Effect::Reopen);
                let released = (state, to) == (RunState::FailedHolding, RunState::Released);
                prop_assert!(released || (reopens && !to.is_terminal()), "{} to {}", state, to);
                // what was finished before is no longer what the next verdict is about
                finished &= !reopens;
            }
            finished |= state == RunState::Running && event == RunEvent::PipelineFinished;
            for effect in effects {
                match effect {
                    Effect::Judge { ended_by } => stored = Some(ended_by),
                    Effect::Complete { result: RunResult::Pass } => {
                        prop_assert!(finished);
                        let judged_pass =
                            matches!(event, RunEvent::Judged { result: RunResult::Pass, .. });
                        prop_assert!(judged_pass);
                    }
                    Effect::Complete { result: RunResult::Fail }
                    | Effect::NoteHoldAddress
                    | Effect::Reopen
                    | Effect::ForgetHoldKey
                    | Effect::SetDeadline
                    | Effect::RevokeClaim => {}
                }
            }
            state = to;
        }
    }
}
