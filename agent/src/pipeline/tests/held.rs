//! A machine that is kept up after its run.

use super::*;

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
