//! The report as JUnit XML, for CI systems: a suite for the verdict and one for each stage, a case for each sub-step.
//!
//! A stage's own case carries what no sub-step does. The verdict is a case of its own, since a run can fail by a rule or
//! a diff with every stage passed.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Document, SerializeError, TestCase, TestCaseStatus, TestSuite};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::RunResult;

use super::Report;
use crate::facts::StageFacts;

/// The whole document.
///
/// # Errors
/// The XML cannot be written.
pub(super) fn document(report: &Report) -> Result<String, SerializeError> {
    let facts = &report.facts;
    let mut document = Document::new(format!("vetting {}, profile {}", facts.host.name, facts.run.profile));
    document.set_time(span(Some(facts.run.started_ms), Some(facts.run.ended_ms)));
    document.add_test_suite(verdict(report));
    for stage in &facts.stages {
        document.add_test_suite(suite(stage));
    }
    document.to_string()
}

fn verdict(report: &Report) -> TestSuite {
    let status = match report.verdict.result {
        RunResult::Pass => TestCaseStatus::success(),
        RunResult::Fail => {
            let reasons: Vec<String> = report.verdict.reasons.iter().map(ToString::to_string).collect();
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(reasons.first().cloned().unwrap_or_default());
            status.set_description(reasons.join("\n"));
            status
        }
    };
    let mut case = TestCase::new("verdict", status);
    case.set_classname("run");
    let mut suite = TestSuite::new("verdict");
    suite.add_test_case(case);
    suite
}

fn suite(stage: &StageFacts) -> TestSuite {
    let mut suite = TestSuite::new(stage.name.as_str());
    suite.set_time(span(stage.started_ms, stage.ended_ms));
    let steps = stage
        .sub_steps
        .iter()
        .map(|step| (step.name.as_str(), &step.outcome, step.started_ms, step.ended_ms));
    let whole = std::iter::once((stage.name.as_str(), &stage.outcome, stage.started_ms, stage.ended_ms));
    for (name, outcome, from, to) in whole.chain(steps) {
        let mut case = TestCase::new(name, status(outcome.as_ref()));
        case.set_classname(stage.name.as_str());
        case.set_time(span(from, to));
        suite.add_test_case(case);
    }
    suite
}

/// What never ended is an error, never a success.
fn status(outcome: Option<&Outcome>) -> TestCaseStatus {
    let mut status = match outcome {
        Some(Outcome::Pass) => TestCaseStatus::success(),
        Some(Outcome::Skip { .. }) => TestCaseStatus::skipped(),
        Some(Outcome::Fail { .. }) => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Some(Outcome::Error { .. }) | None => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    match outcome {
        Some(outcome) => {
            if let Some(reason) = outcome.reason() {
                status.set_message(reason);
            }
        }
        None => {
            status.set_message("it did not come to its end");
        }
    }
    status
}

fn span(from_ms: Option<i64>, to_ms: Option<i64>) -> Duration {
    let ms = from_ms.zip(to_ms).and_then(|(from, to)| u64::try_from(to.checked_sub(from)?).ok());
    Duration::from_millis(ms.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_failed_run_names_its_failures() {
        let text = document(&Report::new(fixtures::failing_in_storage())).unwrap();
        insta::assert_snapshot!("junit_failing_in_storage", text);
    }

    #[test]
    fn a_passed_run_has_no_failure_and_an_unfinished_stage_is_an_error() {
        let text = document(&Report::new(fixtures::passing())).unwrap();
        assert!(text.contains("failures=\"0\" errors=\"0\""), "{text}");
        let mut facts = fixtures::passing();
        facts.stages.last_mut().unwrap().outcome = None;
        let text = document(&Report::new(facts)).unwrap();
        assert!(
            text.contains("it did not come to its end")
                && !text.contains("errors=\"0\">\n    <testsuite name=\"verdict\"")
        );
    }
}
