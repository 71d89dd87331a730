//! A disk's self-test, from its start to its end. A test that left no trace of having run is not passed.

use std::time::Duration;

use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::SelfTest;

use super::{StageContext, Turn};
use crate::clock;
use crate::tools::runner::ToolError;
use crate::tools::smartctl::Drive;
use crate::tools::smartctl::self_test::{self, State, Status};

/// How often a disk is asked how far it is.
pub(super) const POLL: Duration = Duration::from_secs(5);
/// A test may take so many times the disk's own estimate, since the disk also does what else it is asked.
const PATIENCE_FACTOR: u32 = 4;
/// What a test of unknown length leaves of the stage's time, but no more than a tenth: the disk is still asked for its
/// report.
const TIME_FOR_REPORT: Duration = Duration::from_mins(10);

/// How a self-test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tested {
    /// None was asked for.
    NotAsked,
    /// The disk has none.
    NotSupported,
    /// It found nothing.
    Passed,
    /// It found a fault.
    Failed(String),
    /// It cannot be told how it ended, or whether it ran.
    Unknown(String),
}

impl Tested {
    pub(super) fn outcome(&self, name: &str) -> Outcome {
        match self {
            Self::NotAsked | Self::NotSupported | Self::Passed => Outcome::Pass,
            Self::Failed(what) => Outcome::fail(format!("{name}: its self-test failed: {what}")),
            Self::Unknown(why) => Outcome::error(format!("{name}: its self-test: {why}")),
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::NotAsked => "not asked for".to_owned(),
            Self::NotSupported => "the disk has none".to_owned(),
            Self::Passed => "passed".to_owned(),
            Self::Failed(what) => format!("failed: {what}"),
            Self::Unknown(why) => format!("not known: {why}"),
        }
    }
}

/// What a test usually takes, where the disk has not been asked.
pub(super) fn usual_time(test: SelfTest) -> Duration {
    match test {
        SelfTest::None => Duration::ZERO,
        SelfTest::Short => Duration::from_mins(2),
        SelfTest::Extended => Duration::from_hours(4),
    }
}

/// Starts the test and waits for its end, asking every `poll`. Of a disk that smartctl cannot speak to at all nobody asks what
/// became of it: its report tells what is the matter.
pub(super) fn run(
    context: &StageContext<'_>,
    drive: &Drive,
    turn: &Turn,
    test: SelfTest,
    poll: Duration,
    advance: &impl Fn(f64, Option<Duration>),
) -> Tested {
    let Some(start) = self_test::start(drive, test) else { return Tested::NotAsked };
    let ask =
        || -> Result<Status, ToolError> { self_test::parse(&turn.run(context, &self_test::ask(drive))?) };
    let before = match ask() {
        Ok(status) if status.supported => status,
        Ok(_) => return Tested::NotSupported,
        Err(error) => return Tested::Unknown(error.reason()),
    };
    let started = turn.run(context, &start).and_then(|finished| self_test::parse_start(&finished));
    // another namespace of the same NVMe disk may have begun it: the disk does one at a time
    let is_under_way = || ask().is_ok_and(|status| status.under_way == Some(test));
    if let Err(error) = started
        && !is_under_way()
    {
        return Tested::Unknown(format!("it could not be started: {}", error.reason()));
    }
    let mut estimate = time_told(&before, test);
    let begin = clock::monotonic();
    let mut was_seen_running = false;
    loop {
        let status = match ask() {
            Ok(status) => status,
            Err(error) => return Tested::Unknown(error.reason()),
        };
        // smartctl leaves out the estimate of a SCSI disk while its log is empty
        estimate = time_told(&status, test).or(estimate);
        let expected = estimate.unwrap_or(usual_time(test));
        let elapsed = begin.elapsed();
        let is_over = |limit: Option<Duration>| match limit {
            Some(limit) => elapsed >= limit,
            None => context.time_left() <= TIME_FOR_REPORT.min(context.limit / 10),
        };
        let by_time = elapsed.as_secs_f64() / expected.as_secs_f64().max(1.0);
        // such a disk tells meanwhile how an earlier test ended
        let is_not_logged_yet = !status.shows_running
            && !was_seen_running
            && status.log_mark == before.log_mark
            && !is_over(estimate.map(|time| time.saturating_add(time / 2)));
        match status.state {
            State::Running { percent_left } => {
                was_seen_running = true;
                let done = percent_left.map_or(by_time, |left| 1.0 - left / 100.0).clamp(0.0, 0.99);
                advance(done, Some(expected.saturating_sub(elapsed)));
                if is_over(estimate.map(|time| time.saturating_mul(PATIENCE_FACTOR))) {
                    return Tested::Unknown(format!(
                        "it was still running after {} min",
                        elapsed.as_secs() / 60
                    ));
                }
            }
            _ if is_not_logged_yet => advance(by_time.min(0.99), Some(expected.saturating_sub(elapsed))),
            State::Failed { what } => return Tested::Failed(what),
            State::BrokenOff { what } => return Tested::Unknown(format!("it was broken off: {what}")),
            State::Passed if was_seen_running || status.log_mark != before.log_mark => return Tested::Passed,
            State::Passed => return Tested::Unknown("it left no trace of having run".to_owned()),
        }
        if !context.wait(poll) {
            return Tested::Unknown("it was cancelled".to_owned());
        }
    }
}

/// The disk's own estimate. A short test takes two minutes at most where the disk does not tell (SPC-5, SEND DIAGNOSTIC);
/// an extended one a day and more on large hard disks.
fn time_told(status: &Status, test: SelfTest) -> Option<Duration> {
    let (minutes, at_most) = match test {
        SelfTest::None => (None, None),
        SelfTest::Short => (status.minutes.0, Some(usual_time(test))),
        SelfTest::Extended => (status.minutes.1, None),
    };
    minutes
        .and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok())
        .filter(|time| !time.is_zero())
        .or(at_most)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};

    use super::super::super::tests::{Machine, Told, missing};
    use super::*;
    use crate::tools::runner::{Exit, Finished, Invocation};

    fn finished(json: &Value, code: i32) -> Finished {
        Finished {
            exit: Exit::Code(code),
            stdout: serde_json::to_vec(json).unwrap(),
            stderr: Vec::new(),
            truncated: false,
            elapsed: Duration::ZERO,
        }
    }

    fn status(value: u8, count: u32) -> Value {
        json!({
            "device": { "protocol": "ATA" },
            "ata_smart_data": {
                "self_test": { "status": { "value": value, "string": "read failure" }, "polling_minutes": {} },
                "capabilities": { "self_tests_supported": true },
            },
            "ata_smart_self_test_log": { "standard": { "count": count } },
        })
    }

    /// Answers of a disk in turn; the second call is the start.
    fn tested(answers: Vec<Result<Finished, ToolError>>) -> Tested {
        tested_by(SelfTest::Short, answers)
    }

    fn tested_by(test: SelfTest, answers: Vec<Result<Finished, ToolError>>) -> Tested {
        tested_on(&Machine::new(), test, answers)
    }

    fn tested_on(machine: &Machine, test: SelfTest, answers: Vec<Result<Finished, ToolError>>) -> Tested {
        let asked = AtomicUsize::new(0);
        let answers: Vec<_> = answers.into_iter().map(|answer| std::sync::Mutex::new(Some(answer))).collect();
        let tools = Told::new(move |_: &Invocation| {
            let nth = asked.fetch_add(1, Ordering::SeqCst);
            answers[nth.min(answers.len() - 1)].lock().unwrap().take().expect("asked once more than expected")
        });
        machine.with_context(&tools, |context| {
            run(context, &Drive::of("/dev/sda"), &Turn::default(), test, Duration::ZERO, &|_, _| {})
        })
    }

    /// A SCSI disk's log, the newest first; `seconds` is the disk's own estimate, which smartctl gives only beside a line.
    #[expect(clippy::unnecessary_wraps, reason = "the signature of a test's tool")]
    fn sas(results: &[u8], seconds: f64) -> Result<Finished, ToolError> {
        let mut json = json!({ "device": { "protocol": "SCSI" } });
        let told = json.as_object_mut().unwrap();
        for (row, result) in results.iter().enumerate() {
            let result = json!({ "result": { "value": result, "string": "words" } });
            told.insert(format!("scsi_self_test_{row}"), result);
        }
        if !results.is_empty() {
            told.insert("scsi_extended_self_test_seconds".to_owned(), json!(seconds));
        }
        Ok(finished(&json, 0))
    }

    #[test]
    fn a_new_sas_disk_tells_its_estimate_once_its_test_is_in_the_log() {
        let started = || Ok(finished(&json!({}), 0));
        let extended = |machine: &Machine, answers| tested_on(machine, SelfTest::Extended, answers);
        // a running test is a line too
        let long = 86_400.0;
        let running = vec![sas(&[], 0.0), started(), sas(&[15], long), sas(&[15], long), sas(&[0], long)];
        assert_eq!(extended(&Machine::new(), running), Tested::Passed);
        // its estimate is over at the first look, four times
        let stuck = extended(&Machine::new(), vec![sas(&[], 0.0), started(), sas(&[15], 1e-9)]);
        assert!(matches!(&stuck, Tested::Unknown(why) if why.contains("still running")), "{stuck:?}");
        // one without any line is waited for while the stage has time
        let until_the_end = vec![sas(&[], 0.0), started(), sas(&[], 0.0), sas(&[], 0.0), sas(&[0], long)];
        assert_eq!(extended(&Machine::new(), until_the_end), Tested::Passed);
        let mut machine = Machine::new();
        machine.limit = Duration::ZERO;
        let none = extended(&machine, vec![sas(&[], 0.0), started(), sas(&[], 0.0)]);
        assert!(matches!(&none, Tested::Unknown(why) if why.contains("no trace")), "{none:?}");
    }

    #[test]
    fn a_sas_disk_that_logs_a_test_only_at_its_end_is_waited_for() {
        let started = || Ok(finished(&json!({}), 0));
        let tested = |answers| tested_by(SelfTest::Extended, answers);
        let long = 3600.0;
        let good = vec![sas(&[0], long), started(), sas(&[0], long), sas(&[0, 0], long)];
        assert_eq!(tested(good), Tested::Passed);
        // what an earlier test found is not the answer of this one
        let after_an_old_fault = vec![sas(&[7], long), started(), sas(&[7], long), sas(&[0, 7], long)];
        assert_eq!(tested(after_an_old_fault), Tested::Passed);
        let failed = tested(vec![sas(&[0], long), started(), sas(&[0], long), sas(&[7, 0], long)]);
        assert_eq!(failed, Tested::Failed("words".to_owned()));
        // its time is over, and there is no trace
        let none = tested(vec![sas(&[0], 1e-6), started(), sas(&[0], 1e-6)]);
        assert!(matches!(none, Tested::Unknown(_)), "{none:?}");
    }

    #[test]
    fn a_test_is_followed_to_its_end() {
        let started = || Ok(finished(&json!({}), 0));
        let at = |value, count| Ok(finished(&status(value, count), 0));
        assert_eq!(tested(vec![at(0, 0), started(), at(0xf9, 0), at(0xf1, 0), at(0, 1)]), Tested::Passed);
        // over before it was looked at, but in the log
        assert_eq!(tested(vec![at(0, 3), started(), at(0, 4)]), Tested::Passed);
        let failed = tested(vec![at(0, 0), started(), at(0xf9, 0), at(0x74, 1)]);
        assert_eq!(failed, Tested::Failed("read failure".to_owned()));
        assert!(matches!(failed.outcome("sda"), Outcome::Fail { .. }));
    }

    #[test]
    fn the_test_that_another_namespace_began_is_this_ones_as_well() {
        let at = |operation: u8, rows: usize| {
            let row = json!({ "self_test_result": { "value": 0, "string": "words" } });
            let json = json!({
                "device": { "protocol": "NVMe" },
                "nvme_self_test_log": {
                    "current_self_test_operation": { "value": operation },
                    "table": vec![row; rows],
                },
            });
            Ok(finished(&json, 0))
        };
        let refused = || Ok(finished(&json!({}), 4));
        assert_eq!(tested(vec![at(1, 0), refused(), at(1, 0), at(1, 0), at(0, 1)]), Tested::Passed);
        // one of another kind is not what was asked for
        let other = tested(vec![at(2, 0), refused(), at(2, 0)]);
        assert!(matches!(other, Tested::Unknown(_)), "{other:?}");
    }

    #[test]
    fn what_cannot_be_told_is_not_passed() {
        let started = || Ok(finished(&json!({}), 0));
        let at = |value, count| Ok(finished(&status(value, count), 0));
        for answers in [
            vec![at(0, 0), started(), at(0, 0)],
            vec![at(0, 0), Ok(finished(&json!({}), 4)), at(0, 0)],
            vec![at(0, 0), started(), at(0xf9, 0), at(0x20, 1)],
            vec![at(0, 0), started(), at(0xf9, 0), Ok(finished(&json!({}), 2))],
            vec![Err(ToolError::Missing { tool: "smartctl".to_owned() })],
        ] {
            let tested = tested(answers);
            assert!(matches!(tested, Tested::Unknown(_)), "{tested:?}");
            assert!(matches!(tested.outcome("sda"), Outcome::Error { .. }));
        }
    }

    #[test]
    fn without_a_test_nothing_is_asked() {
        let tools = Told::new(missing);
        let tested = Machine::new().with_context(&tools, |context| {
            run(context, &Drive::of("/dev/sda"), &Turn::default(), SelfTest::None, Duration::ZERO, &|_, _| {})
        });
        assert_eq!(tested, Tested::NotAsked);
        assert!(tools.calls.lock().unwrap().is_empty());
    }
}
