//! Each way to fail, alone, on a run that would pass.

use super::*;
use crate::fixtures;
use crate::threshold::{Change, Op, Rule, RuleChange, RuleSeverity, RuleSource, Sustain};
use vetting_protocol::diff::SpecDiff;
use vetting_protocol::inventory::PciDevice;

fn only_reason(facts: &RunFacts) -> Reason {
    let verdict = judge(facts);
    assert_eq!(verdict.result, RunResult::Fail);
    match verdict.reasons.as_slice() {
        [reason] => reason.clone(),
        reasons => panic!("{reasons:#?}"),
    }
}

fn rule(severity: RuleSeverity) -> Rule {
    Rule {
        stage: None,
        kind: "temp".to_owned(),
        key: "cpu/*".parse().unwrap(),
        op: Op::Lt,
        threshold: 95.0,
        nominal: 0.0,
        unit: "celsius".to_owned(),
        severity,
        source: RuleSource::Profile,
        fallback: false,
        sustain: Sustain::AtOnce,
        ends_stage: false,
        required: false,
        change: None,
    }
}

fn evaluation(severity: RuleSeverity, samples: &[(Option<f64>, &str)]) -> Evaluation {
    let mut evaluation = Evaluation::empty(rule(severity), Some(StageName::CpuStress), "cpu/0".to_owned());
    for (value, unit) in samples {
        evaluation.observe(1, *value, unit);
    }
    evaluation
}

#[test]
fn a_good_run_passes_and_says_what_was_done() {
    let verdict = judge(&fixtures::passing());
    assert_eq!(verdict.result, RunResult::Pass);
    assert_eq!(verdict.failed_stage, None);
    assert!(verdict.reasons[0].text.starts_with("All 6 required stages passed"), "{:?}", verdict.reasons);
}

#[test]
fn nothing_but_a_regular_end_passes() {
    let endings = [
        Ending::NeverAppeared { waited_ms: 600_000, last_seen: "no DHCP request".to_owned() },
        Ending::WentSilent { stage: Some(StageName::Storage), silent_ms: 120_000, evidence: None },
        Ending::UnplannedReboot { stage: Some(StageName::CpuStress), evidence: None },
        Ending::AgentCrashed { how: "signal SIGSEGV".to_owned() },
        Ending::Aborted { reason: "wrong machine".to_owned() },
        Ending::CoordinatorFault { reason: "database is full".to_owned() },
    ];
    for ending in endings {
        let mut facts = fixtures::passing();
        facts.ending = ending.clone();
        assert_eq!(only_reason(&facts).cause, Cause::Ending, "{ending:?}");
    }
}

#[test]
fn nothing_is_said_of_evidence_that_nobody_gathered() {
    let mut facts = fixtures::passing();
    let reboot = |evidence: Option<&str>| Ending::UnplannedReboot {
        stage: Some(StageName::CpuStress),
        evidence: evidence.map(str::to_owned),
    };
    facts.ending = reboot(None);
    assert_eq!(
        only_reason(&facts).text,
        "The machine restarted in stage CPUStress though no restart was planned."
    );
    facts.ending = reboot(Some("It was a kernel panic: `Oops`."));
    assert!(only_reason(&facts).text.ends_with("planned. It was a kernel panic: `Oops`."));
}

#[test]
fn a_memory_pass_that_reached_too_little_blames_no_part() {
    let of_stress = |key: &str| {
        let rule = Rule {
            kind: "stress".to_owned(),
            key: "memory/*".parse().unwrap(),
            op: Op::Gte,
            threshold: 50.0,
            unit: "percent".to_owned(),
            ..rule(RuleSeverity::Critical)
        };
        let mut evaluation = Evaluation::empty(rule, Some(StageName::CpuStress), key.to_owned());
        evaluation.observe(1, Some(20.0), "percent");
        let mut facts = fixtures::passing();
        facts.evaluations = vec![evaluation];
        only_reason(&facts).next
    };
    assert_eq!(
        of_stress("memory/coverage"),
        "The memory pass reached too little: free memory, or a larger share in the profile."
    );
    assert!(of_stress("memory/verify_failures").contains("CPU or DIMM"));
}

#[test]
fn a_run_that_never_began_blames_no_stage() {
    let mut facts = fixtures::passing();
    facts.ending = Ending::NeverAppeared { waited_ms: 600_000, last_seen: "no DHCP request".to_owned() };
    for stage in &mut facts.stages {
        stage.outcome = None;
    }
    let verdict = judge(&facts);
    assert_eq!(verdict.failed_stage, None);
    assert!(verdict.reasons[0].text.contains("within 10m: no DHCP request"), "{:?}", verdict.reasons);
    assert!(
        verdict.reasons[1].text.starts_with("Not finished: Inventory, Firmware"),
        "{:?}",
        verdict.reasons
    );
}

#[test]
fn a_required_stage_must_pass_whatever_else_it_did() {
    let not_a_pass = [None, Some(Outcome::fail("x")), Some(Outcome::error("x")), Some(Outcome::skip("x"))];
    for outcome in not_a_pass {
        let mut facts = fixtures::passing();
        facts.stages[3].outcome = outcome.clone();
        let reason = only_reason(&facts);
        assert!(matches!(reason.cause, Cause::StageFailed | Cause::StageNotJudged), "{outcome:?}");
    }
}

#[test]
fn a_stage_that_is_not_required_may_be_skipped_and_nothing_else() {
    let mut facts = fixtures::passing();
    facts.stages[3].required = false;
    for outcome in [None, Some(Outcome::skip("x"))] {
        facts.stages[3].outcome = outcome;
        let verdict = judge(&facts);
        assert_eq!((verdict.result, verdict.remarks.len()), (RunResult::Pass, 1));
    }
    facts.stages[3].outcome = Some(Outcome::fail("sda is dying"));
    assert_eq!(only_reason(&facts).cause, Cause::StageFailed);
    facts.stages[3].outcome = Some(Outcome::error("sda does not answer"));
    assert_eq!(only_reason(&facts).cause, Cause::StageNotJudged);
}

#[test]
fn no_stage_and_an_unknown_stage_fail() {
    let mut facts = fixtures::passing();
    facts.stages[0].name = "Blessing".to_owned();
    assert_eq!(only_reason(&facts).cause, Cause::Record);
    facts.stages.clear();
    assert_eq!(only_reason(&facts).cause, Cause::Record);
}

#[test]
fn a_critical_diff_fails_unless_it_is_ignored() {
    let mut facts = fixtures::passing();
    let diff = |severity| SpecDiff {
        field: "memory.total_gib".to_owned(),
        expected: Some("64".to_owned()),
        actual: None,
        severity,
    };
    facts.diffs = Some(vec![DiffFacts { diff: diff(Severity::Critical), ignored: false }]);
    let reason = only_reason(&facts);
    assert_eq!(reason.text, "memory.total_gib: expected 64, found nothing.");
    // no command can
    assert!(!reason.next.contains("ignore"), "{}", reason.next);
    facts.diffs = Some(vec![
        DiffFacts { diff: diff(Severity::Critical), ignored: true },
        DiffFacts { diff: diff(Severity::Warning), ignored: false },
        DiffFacts { diff: diff(Severity::Info), ignored: false },
    ]);
    let verdict = judge(&facts);
    assert_eq!((verdict.result, verdict.remarks.len()), (RunResult::Pass, 2));
}

#[test]
fn a_comparison_that_got_lost_is_no_pass() {
    let mut facts = fixtures::passing();
    facts.diffs = None;
    assert_eq!(only_reason(&facts).cause, Cause::Record);
}

#[test]
fn a_critical_breach_fails_and_is_named() {
    let mut facts = fixtures::passing();
    let samples = [(Some(94.9), "celsius"), (Some(97.25), "celsius"), (Some(95.0), "celsius")];
    facts.evaluations = vec![evaluation(RuleSeverity::Critical, &samples)];
    let reason = only_reason(&facts);
    assert_eq!(
        reason.text,
        "temp cpu/0 must be < 95 °C, but was out of it in 2 of 3 samples, at worst 97.25 °C."
    );
    assert_eq!(judge(&facts).failed_stage.as_deref(), Some("CPUStress"));
    facts.evaluations = vec![evaluation(RuleSeverity::Warning, &samples)];
    let verdict = judge(&facts);
    assert_eq!((verdict.result, verdict.remarks.len()), (RunResult::Pass, 1));
}

#[test]
fn a_critical_rule_that_could_judge_nothing_fails() {
    for samples in [[(None, "celsius"); 2], [(Some(40.0), "fahrenheit"); 2]] {
        let mut facts = fixtures::passing();
        facts.evaluations = vec![evaluation(RuleSeverity::Critical, &samples)];
        assert_eq!(only_reason(&facts).cause, Cause::Unjudged);
    }
    let mut facts = fixtures::passing();
    facts.evaluations =
        vec![evaluation(RuleSeverity::Critical, &[(None, "celsius"), (Some(40.0), "celsius")])];
    assert_eq!(judge(&facts).result, RunResult::Pass);
}

#[test]
fn the_pipeline_halts_for_a_stage_that_did_not_pass_or_a_critical_breach_in_it() {
    let facts = fixtures::passing();
    let cpu = &facts.stages[4];
    let breach = evaluation(RuleSeverity::Critical, &[(Some(99.0), "celsius")]);
    let warning = evaluation(RuleSeverity::Warning, &[(Some(99.0), "celsius")]);
    assert_eq!(reasons_to_halt(cpu, [&warning]), []);
    assert_eq!(reasons_to_halt(cpu, [&breach, &warning]).len(), 1);
    assert_eq!(reasons_to_halt(&facts.stages[5], [&breach]), []);
    let failed = StageFacts { outcome: Some(Outcome::error("stress-ng is missing")), ..cpu.clone() };
    assert_eq!(reasons_to_halt(&failed, []).len(), 1);
}

#[test]
fn a_stage_that_is_not_required_halts_unless_it_is_skipped() {
    let facts = fixtures::passing();
    let optional = StageFacts { required: false, ..facts.stages[4].clone() };
    for outcome in [None, Some(Outcome::skip("no CPU"))] {
        assert_eq!(reasons_to_halt(&StageFacts { outcome, ..optional.clone() }, []), []);
    }
    for outcome in [Outcome::fail("wrong answers"), Outcome::error("stress-ng is missing")] {
        let failed = StageFacts { outcome: Some(outcome), ..optional.clone() };
        assert_eq!(reasons_to_halt(&failed, []).len(), 1);
    }
    let breach = evaluation(RuleSeverity::Critical, &[(Some(99.0), "celsius")]);
    assert_eq!(reasons_to_halt(&optional, [&breach]).len(), 1);
}

#[test]
fn a_stage_that_was_run_again_is_told_of_and_decides_by_its_last_attempt() {
    let mut facts = fixtures::passing();
    let outcome = Some(Outcome::fail("sda: 3 unreadable blocks."));
    facts.attempts = vec![AttemptFacts { stage: StageName::Storage, attempt: 1, outcome }];
    let verdict = judge(&facts);
    assert_eq!(verdict.result, RunResult::Pass);
    let told = verdict.remarks.iter().find(|remark| remark.cause == Cause::RunAgain).unwrap();
    assert_eq!(told.text, "Storage was run again; attempt 1 failed: sda: 3 unreadable blocks.");
}

#[test]
fn a_machine_that_changed_during_its_run_does_not_pass() {
    let mut facts = fixtures::passing();
    facts.parts_in_doubt = vec!["disk S1 is gone".to_owned(), "disk S2 is new".to_owned()];
    let verdict = judge(&facts);
    assert_eq!(verdict.result, RunResult::Fail);
    assert_eq!(verdict.reasons[0].cause, Cause::PartsChanged);
    assert!(verdict.reasons[0].text.contains("disk S1 is gone; disk S2 is new"), "{:?}", verdict.reasons);
}

#[test]
fn a_glitch_is_a_remark_and_what_lasts_is_a_reason() {
    let lasting = |samples: &[f64]| {
        let rule = Rule { sustain: Sustain::Samples(2), ..rule(RuleSeverity::Critical) };
        let mut evaluation = Evaluation::empty(rule, Some(StageName::CpuStress), "cpu/0".to_owned());
        for celsius in samples {
            evaluation.observe(1, Some(*celsius), "celsius");
        }
        let mut facts = fixtures::passing();
        facts.evaluations = vec![evaluation];
        judge(&facts)
    };
    let verdict = lasting(&[50.0, 99.0, 50.0]);
    assert_eq!((verdict.result, verdict.remarks.len()), (RunResult::Pass, 1), "{verdict:#?}");
    assert_eq!((verdict.remarks[0].cause, &verdict.remarks[0].finding), (Cause::Breach, &None));
    assert_eq!(lasting(&[50.0, 99.0, 99.0, 50.0]).result, RunResult::Fail);
    // nobody knows whether it would have come back
    assert_eq!(lasting(&[50.0, 99.0]).result, RunResult::Fail);
}

#[test]
fn a_rule_that_must_meet_a_sample_fails_the_run_that_met_none() {
    let silent = Rule { required: true, kind: "humidity".to_owned(), ..rule(RuleSeverity::Critical) };
    let mut facts = fixtures::passing();
    facts.rules.push(silent.clone());
    let reason = only_reason(&facts);
    assert_eq!((reason.cause, reason.finding.is_some()), (Cause::Unjudged, true));
    assert_eq!(reason.text, "humidity cpu/* must be < 95 °C, but no sample of it was taken.");
    // of a stage that did not pass nothing more is asked
    facts.rules = vec![Rule { stage: Some(StageName::Psu), ..silent.clone() }];
    assert_eq!(judge(&facts).result, RunResult::Pass);
    let off =
        RuleChange { kind: Change::Off, was: Some("must be < 95 °C".to_owned()), note: "x".to_owned() };
    facts.rules = vec![Rule { change: Some(off), ..silent.clone() }];
    let verdict = judge(&facts);
    assert_eq!(verdict.result, RunResult::Pass);
    assert_eq!(verdict.remarks[0].cause, Cause::HostRule, "{verdict:#?}");
    facts.evaluations = vec![Evaluation::empty(silent.clone(), None, "cpu/0".to_owned())];
    facts.rules = vec![silent];
    assert_eq!(judge(&facts).result, RunResult::Fail);
    facts.evaluations[0].observe(1, Some(40.0), "celsius");
    assert_eq!(judge(&facts).result, RunResult::Pass);
}

#[test]
fn a_controller_without_a_driver_is_a_remark_and_names_what_was_not_tested() {
    let mut facts = fixtures::passing();
    assert!(judge(&facts).remarks.iter().all(|remark| remark.cause != Cause::NotTested));
    let inventory = facts.inventory.as_mut().unwrap();
    let raid = PciDevice {
        address: "0000:3b:00.0".to_owned(),
        class: "010400".to_owned(),
        driver: None,
        ..inventory.pci[0].clone()
    };
    inventory.pci.push(raid);
    let verdict = judge(&facts);
    assert_eq!(verdict.result, RunResult::Pass);
    let told: Vec<&Reason> =
        verdict.remarks.iter().filter(|remark| remark.cause == Cause::NotTested).collect();
    let [remark] = told.as_slice() else { panic!("{told:#?}") };
    assert!(remark.text.starts_with("No driver took storage controller 0000:3b:00.0 ("), "{remark}");
    assert!(remark.text.ends_with("disks behind it were not seen and not tested."), "{remark}");
    assert_eq!((remark.stage.as_deref(), &remark.finding), (Some("Inventory"), &None));
}
