//! A machine that is kept up after its run.

use super::*;

/// Counts the answers that were waited for, as records.
fn counting(link: &Arc<FakeLink>) -> Watched {
    let before_answer = |link: &FakeLink| link.record(Record::PipelineFinished { ts_ms: 0 });
    Watched { before_answer, ..Watched::of(link) }
}

#[test]
fn a_held_machine_stays_until_the_coordinator_lets_it_go() {
    let link = FakeLink::new(|records| {
        let then = if records.len() > 3 { AfterRun::PowerOff } else { AfterRun::Stay };
        Directive::Finished { result: RunResult::Fail, reasons: Vec::new(), then, hold: None }
    });
    let end = stay(&counting(&link), &Cancel::new()).unwrap();
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
    assert_eq!(stay(&counting(&link), &Cancel::new()).unwrap(), AfterHold::GoOn);
    assert_eq!(link.records().len(), 3);
}
