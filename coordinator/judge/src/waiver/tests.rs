//! What a waiver lets pass, and what it does not.

use vetting_protocol::run::RunResult;

use super::*;
use crate::facts::{DiffFacts, Ending};
use crate::fixtures;
use crate::verdict::{Verdict, judge};

fn waive(facts: &mut RunFacts, reason: &Reason) {
    let finding = reason.finding.clone().unwrap_or_else(|| panic!("cannot be waived: {reason:?}"));
    let id = i64::try_from(facts.waivers.len()).unwrap() + 1;
    facts.waivers.push(Waiver {
        id,
        finding,
        found: reason.text.clone(),
        reason: "spare part".to_owned(),
        by: "ada".to_owned(),
        caller: Some("ada".to_owned()),
        given_ms: 1,
        withdrawn: None,
    });
}

fn waive_all(facts: &mut RunFacts, verdict: &Verdict) {
    for reason in verdict.reasons.iter().filter(|reason| reason.finding.is_some()) {
        waive(facts, reason);
    }
}

/// One disk too few, and nothing else; the pipeline went on to its end.
fn differs() -> RunFacts {
    let mut facts = fixtures::passing();
    let diff = SpecDiff {
        field: "disks[0].count".to_owned(),
        expected: Some("2".to_owned()),
        actual: Some("1 (sda)".to_owned()),
        severity: Severity::Critical,
    };
    facts.diffs = Some(vec![DiffFacts { diff, ignored: false }]);
    facts.stages[2].outcome = Some(Outcome::fail("disks[0].count: expected 2, found 1 (sda)"));
    facts
}

/// A CPU that got too hot once.
fn too_hot() -> RunFacts {
    let mut facts = fixtures::passing();
    let evaluation = facts
        .evaluations
        .iter_mut()
        .find(|evaluation| evaluation.key == "cpu/0" && evaluation.stage == Some(StageName::CpuStress))
        .unwrap();
    let unit = evaluation.rule.unit.clone();
    evaluation.observe(5, Some(97.0), &unit);
    facts.stages[4].outcome = Some(Outcome::fail("temp cpu/0 must be < 95 °C"));
    facts.stages[4].reported = Some(Outcome::Pass);
    facts
}

#[test]
fn a_waived_difference_or_breach_passes_with_its_stage_and_says_who_and_why() {
    for mut facts in [differs(), too_hot()] {
        let before = judge(&facts);
        assert_eq!((before.result, before.reasons.len()), (RunResult::Fail, 2), "{before:#?}");
        waive_all(&mut facts, &before);
        assert_eq!(facts.waivers.len(), 1);
        let after = judge(&facts);
        assert_eq!((after.result, &after.failed_stage), (RunResult::Pass, &None), "{after:#?}");
        assert!(after.reasons[0].text.contains("with one finding waived"), "{after:#?}");
        let told: Vec<_> = after.remarks.iter().filter(|remark| remark.next.starts_with("Waived")).collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].next, "Waived by ada: spare part.");
        facts.waivers[0].withdrawn = Some(Withdrawn {
            reason: "no spare came".to_owned(),
            by: "bob".to_owned(),
            caller: None,
            at_ms: 2,
        });
        assert_eq!(judge(&facts).result, RunResult::Fail);
    }
}

#[test]
fn a_waiver_meets_nothing_once_more_was_found() {
    let mut facts = too_hot();
    let before = judge(&facts);
    waive_all(&mut facts, &before);
    let evaluation = facts.evaluations.iter_mut().find(|evaluation| evaluation.breaches > 0).unwrap();
    let unit = evaluation.rule.unit.clone();
    evaluation.observe(6, Some(99.0), &unit);
    let after = judge(&facts);
    assert_eq!((after.result, after.reasons.len()), (RunResult::Fail, 2), "{after:#?}");
    assert!(after.remarks.iter().any(|remark| remark.cause == Cause::Waiver), "{after:#?}");

    let mut facts = differs();
    let before = judge(&facts);
    waive_all(&mut facts, &before);
    facts.diffs.as_mut().unwrap()[0].diff.actual = None;
    assert_eq!(judge(&facts).result, RunResult::Fail);
}

#[test]
fn each_of_several_findings_needs_its_own() {
    let mut facts = too_hot();
    facts.diffs = differs().diffs;
    let before = judge(&facts);
    let breach = before.reasons.iter().find(|reason| reason.cause == Cause::Breach).unwrap();
    waive(&mut facts, breach);
    let after = judge(&facts);
    assert_eq!(after.result, RunResult::Fail);
    assert!(after.reasons.iter().all(|reason| reason.cause == Cause::SpecDiff), "{after:#?}");
}

#[test]
fn a_stage_that_failed_by_itself_is_waived_by_itself() {
    let mut facts = fixtures::failing_in_storage();
    let before = judge(&facts);
    let breaches: Vec<_> =
        before.reasons.iter().filter(|reason| reason.cause != Cause::StageFailed).collect();
    for reason in breaches {
        waive(&mut facts, reason);
    }
    let left = judge(&facts);
    assert_eq!(left.result, RunResult::Fail);
    assert_eq!(left.reasons.len(), 1, "{left:#?}");
    waive(&mut facts, &left.reasons[0]);
    assert_eq!(judge(&facts).result, RunResult::Pass);
}

#[test]
fn what_was_never_tested_or_ended_early_cannot_be_waived() {
    let mut facts = fixtures::not_as_ordered();
    let before = judge(&facts);
    waive_all(&mut facts, &before);
    let after = judge(&facts);
    assert_eq!(after.result, RunResult::Fail);
    assert!(after.reasons[0].text.starts_with("Not finished"), "{after:#?}");
    assert_eq!(after.reasons[0].finding, None);

    let mut facts = fixtures::passing();
    facts.ending = Ending::WentSilent { stage: Some(StageName::Storage), silent_ms: 120_000, evidence: None };
    assert_eq!(judge(&facts).reasons[0].finding, None);
    facts.stages.clear();
    assert!(judge(&facts).reasons.iter().all(|reason| reason.finding.is_none()));
}

#[test]
fn a_warning_needs_no_waiver() {
    let verdict = judge(&fixtures::passing());
    assert!(verdict.remarks.iter().all(|remark| remark.finding.is_none()), "{:#?}", verdict.remarks);
}

#[test]
fn a_stage_that_the_judge_failed_for_reasons_that_are_gone_still_fails() {
    let mut facts = fixtures::passing();
    facts.stages[4].outcome = Some(Outcome::fail("temp cpu/0 must be < 95 °C"));
    facts.stages[4].reported = Some(Outcome::Pass);
    let verdict = judge(&facts);
    assert_eq!((verdict.result, verdict.reasons[0].finding.clone()), (RunResult::Fail, None));
}
