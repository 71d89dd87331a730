//! Pass or fail, and why, in sentences a person can act on.
//!
//! A run passes only if it ended regularly, every required stage passed, no critical diff stands, no critical rule was
//! breached, and no critical rule met only samples it could not judge, but for what an operator waived. Everything else
//! is a fail.

mod advice;

use std::fmt;

use serde::{Deserialize, Serialize};
use vetting_protocol::diff::Severity;
use vetting_protocol::ids::{FindingId, StageName};
use vetting_protocol::named_enum;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::profile::{StageChange, StageChangeKind};
use vetting_protocol::run::{RunPlace, RunResult};

use crate::duration::HumanDuration;
use crate::facts::{AttemptFacts, DiffFacts, Ending, RunFacts, StageFacts};
use crate::quantity;
use crate::siblings::Outlier;
use crate::tally::Evaluation;
use crate::threshold::{Change, Rule, RuleChange};
use crate::untested;
use crate::waiver;

named_enum! {
    /// What kind of thing a reason speaks of.
    Cause, "the cause of a verdict" {
        /// Everything asked for was found good.
        AllGood = "all_good",
        /// The run did not end regularly.
        Ending = "ending",
        /// A stage found the hardware at fault.
        StageFailed = "stage_failed",
        /// A stage could not be judged, was skipped, or did not end.
        StageNotJudged = "stage_not_judged",
        /// The machine differs from its spec.
        SpecDiff = "spec_diff",
        /// A rule was breached.
        Breach = "breach",
        /// A rule met only samples it could not judge.
        Unjudged = "unjudged",
        /// What was tested before may not be what was tested later.
        PartsChanged = "parts_changed",
        /// A stage was run again.
        RunAgain = "run_again",
        /// What is stored of the run contradicts itself.
        Record = "record",
        /// The host's own rules bear more than the profile's.
        HostRule = "host_rule",
        /// The host's own stages are not those of the profile.
        HostStage = "host_stage",
        /// Parts that no stage could test, since nothing showed them.
        NotTested = "not_tested",
        /// A figure is far from those of other machines of the same model.
        Outlier = "outlier",
        /// A waiver that meets nothing.
        Waiver = "waiver",
    }
}

/// One reason of a verdict, or a remark beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// What it speaks of.
    pub cause: Cause,
    /// The stage, where it is one's.
    pub stage: Option<String>,
    /// What was found, with sample, rule and part named.
    pub text: String,
    /// What to do next; empty when there is nothing to do.
    pub next: String,
    /// What an operator waives it by; absent where it cannot be waived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<FindingId>,
    /// The waiver that stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiver: Option<i64>,
}

impl Reason {
    /// One that nobody can waive.
    fn of(cause: Cause, stage: Option<String>, text: String, next: &str) -> Self {
        Self { cause, stage, text, next: next.to_owned(), finding: None, waiver: None }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if !self.next.is_empty() {
            write!(f, " {}", self.next)?;
        }
        Ok(())
    }
}

/// The judgement of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Pass or fail.
    pub result: RunResult,
    /// The stage that failed first, if one did.
    pub failed_stage: Option<String>,
    /// Why; never empty.
    pub reasons: Vec<Reason>,
    /// What did not decide but should be read: warnings, and what an operator chose to ignore.
    pub remarks: Vec<Reason>,
}

/// Judges a whole run.
pub fn judge(facts: &RunFacts) -> Verdict {
    let mut reasons: Vec<Reason> = ending_reason(&facts.ending).into_iter().collect();
    let mut remarks = Vec::new();
    if facts.stages.is_empty() {
        let text = "The run has no stages, so nothing was tested.".to_owned();
        reasons.push(Reason::of(Cause::Record, None, text, "Start a new run."));
    }
    stage_reasons(&facts.stages, &mut reasons, &mut remarks);
    if !facts.parts_in_doubt.is_empty() {
        let text = format!("The machine changed during its run: {}.", facts.parts_in_doubt.join("; "));
        let next = "What passed before says nothing of it now; start a new run.";
        reasons.push(Reason::of(Cause::PartsChanged, None, text, next));
    }
    remarks.extend(facts.attempts.iter().map(attempt_remark));
    diff_reasons(facts, &mut reasons, &mut remarks);
    for evaluation in &facts.evaluations {
        let into = if evaluation.is_fatal() { &mut reasons } else { &mut remarks };
        into.extend(evaluation_reason(evaluation));
    }
    reasons.extend(
        facts.rules.iter().filter(|rule| rule.required).filter_map(|rule| silent_reason(facts, rule)),
    );
    remarks.extend(facts.rules.iter().filter_map(host_rule_remark));
    remarks.extend(facts.stage_changes.iter().filter_map(host_stage_remark));
    remarks.extend(facts.outliers.iter().map(outlier_remark));
    let unseen = facts.inventory.iter().flat_map(untested::without_driver);
    remarks.extend(unseen.map(not_tested_remark));
    if facts.run.place == RunPlace::InstalledSystem {
        let text = "The run was made on the installed system: stages that would disturb it were left out, and no disk \
                    was written to. It is no vetting of the whole machine.";
        let next = "Vet the machine in the live image before it carries data.";
        remarks.push(Reason::of(Cause::Record, None, text.to_owned(), next));
    }
    remarks.extend(waiver::set_aside(facts, &mut reasons));
    // what never ran explains nothing: it comes after what was found
    reasons.sort_by_key(|reason| reason.cause == Cause::StageNotJudged);
    let result = if reasons.is_empty() { RunResult::Pass } else { RunResult::Fail };
    let failed_stage = first_failed_stage(facts, &reasons);
    if reasons.is_empty() {
        reasons.push(all_good(facts, &remarks));
    }
    Verdict { result, failed_stage, reasons, remarks }
}

/// Why the pipeline must halt after a stage: its own outcome, and the critical rules breached in it. Empty if it may
/// go on. `evaluations` are those of the run so far.
pub fn reasons_to_halt<'a>(
    stage: &StageFacts,
    evaluations: impl IntoIterator<Item = &'a Evaluation>,
) -> Vec<Reason> {
    let (mut reasons, mut remarks) = (Vec::new(), Vec::new());
    stage_reasons(std::slice::from_ref(stage), &mut reasons, &mut remarks);
    let of_this_stage =
        |evaluation: &&Evaluation| evaluation.stage.is_some_and(|name| name.as_str() == stage.name);
    reasons.extend(
        evaluations
            .into_iter()
            .filter(of_this_stage)
            .filter(|evaluation| evaluation.is_fatal())
            .filter_map(evaluation_reason),
    );
    reasons
}

fn attempt_remark(attempt: &AttemptFacts) -> Reason {
    let AttemptFacts { stage, attempt, outcome } = attempt;
    let ended = match outcome {
        Some(outcome) => {
            let state = outcome.step_state();
            outcome.reason().map_or_else(|| state.to_string(), |reason| format!("{state}: {reason}"))
        }
        None => "did not end".to_owned(),
    };
    let text = format!("{stage} was run again; attempt {attempt} {}.", ended.trim_end_matches('.'));
    Reason::of(Cause::RunAgain, Some(stage.to_string()), text, "")
}

fn first_failed_stage(facts: &RunFacts, reasons: &[Reason]) -> Option<String> {
    let blamed = |stage: &&StageFacts| {
        reasons.iter().any(|reason| reason.stage.as_deref() == Some(stage.name.as_str()))
    };
    facts.stages.iter().find(blamed).map(|stage| stage.name.clone())
}

fn all_good(facts: &RunFacts, remarks: &[Reason]) -> Reason {
    let stages = facts.stages.iter().filter(|stage| stage.required).count();
    let rules = facts.evaluations.iter().filter(|evaluation| evaluation.judged() > 0).count();
    let diffs = match &facts.diffs {
        Some(diffs) if diffs.is_empty() => "no difference from the spec",
        Some(_) => "no critical difference from the spec that stands",
        None => "no comparison with a spec",
    };
    let waived = remarks.iter().filter(|remark| remark.waiver.is_some() && remark.finding.is_some()).count();
    let passed = match waived {
        0 => "passed".to_owned(),
        1 => "passed, with one finding waived".to_owned(),
        waived => format!("passed, with {waived} findings waived"),
    };
    let text = format!(
        "All {stages} required stages {passed}: {} samples taken, {rules} checks of a rule against a sensor or part, {diffs}.",
        facts.sample_count
    );
    Reason::of(Cause::AllGood, None, text, "")
}

fn ending_reason(ending: &Ending) -> Option<Reason> {
    let in_stage = |stage: &Option<StageName>| {
        stage.map_or_else(|| "between two stages".to_owned(), |stage| format!("in stage {stage}"))
    };
    let more = |evidence: &Option<String>| {
        evidence.as_ref().map_or_else(String::new, |evidence| format!(" {evidence}"))
    };
    let (stage, text, next) = match ending {
        Ending::Regular => return None,
        Ending::NeverAppeared { waited_ms, last_seen } => (
            None,
            format!("The machine never claimed its run within {}: {last_seen}.", minutes(*waited_ms)),
            "Check its power, its network cable and that it boots from the network first.",
        ),
        Ending::WentSilent { stage, silent_ms, evidence } => (
            *stage,
            format!(
                "The machine went silent {}: nothing was heard for {}.{}",
                in_stage(stage),
                minutes(*silent_ms),
                more(evidence)
            ),
            "Look at its console; a hang under load points to CPU, memory or power.",
        ),
        Ending::UnplannedReboot { stage, evidence } => (
            *stage,
            format!(
                "The machine restarted {} though no restart was planned.{}",
                in_stage(stage),
                more(evidence)
            ),
            "Look at the last measurements before it and at the BMC's event log; power, CPU and memory come first.",
        ),
        Ending::AgentCrashed { how } => (
            None,
            format!("The agent's process died: {how}."),
            "Read its last lines in the event log. This is no finding about the hardware; start the run again.",
        ),
        Ending::Aborted { reason } => (
            None,
            format!("An operator aborted the run: {reason}."),
            "Start a new run when the cause is gone.",
        ),
        Ending::CoordinatorFault { reason } => (
            None,
            format!("The coordinator could not finish the run: {reason}."),
            "This is no finding about the hardware; start the run again.",
        ),
    };
    Some(Reason::of(Cause::Ending, stage.map(|stage| stage.to_string()), text, next))
}

fn minutes(ms: u64) -> String {
    HumanDuration::from_ms(ms / 1_000 * 1_000).to_string()
}

fn stage_reasons(stages: &[StageFacts], reasons: &mut Vec<Reason>, remarks: &mut Vec<Reason>) {
    let mut not_reached: Vec<&StageFacts> = Vec::new();
    let mut halted = false;
    for stage in stages {
        let Ok(name) = stage.name.parse::<StageName>() else {
            reasons.push(unknown_stage(stage));
            continue;
        };
        let (cause, text, next) = match &stage.outcome {
            Some(Outcome::Pass) => continue,
            None => {
                not_reached.push(stage);
                continue;
            }
            // skipped without a start after another one failed: the pipeline halted
            Some(Outcome::Skip { .. }) if halted && stage.started_ms.is_none() => {
                not_reached.push(stage);
                continue;
            }
            Some(Outcome::Fail { reason }) => {
                (Cause::StageFailed, format!("failed: {reason}"), advice::after_failure(name))
            }
            Some(Outcome::Error { reason }) => (
                Cause::StageNotJudged,
                format!("could not be judged: {reason}"),
                "Remove the cause and vet again; an error is never a pass.",
            ),
            Some(Outcome::Skip { reason }) => (
                Cause::StageNotJudged,
                format!("was skipped: {reason}"),
                "Make it applicable, or use a profile that does not require it.",
            ),
        };
        let text = format!("{name} {}.", text.trim_end_matches('.'));
        let finding = stage.outcome.as_ref().and_then(|outcome| waiver::of_stage(name, outcome));
        // what the judge found in it is waived by itself
        let finding = finding.filter(|_| !stage.failed_by_judge());
        let reason = Reason { finding, ..Reason::of(cause, Some(stage.name.clone()), text, next) };
        // hardware found at fault and hardware that could not be judged count, required or not; only a skip may pass
        if stage.required || !matches!(stage.outcome, Some(Outcome::Skip { .. })) {
            halted = true;
            reasons.push(reason);
        } else {
            remarks.push(Reason { next: String::new(), finding: None, ..reason });
        }
    }
    let names: Vec<&str> = not_reached.iter().map(|stage| stage.name.as_str()).collect();
    if !names.is_empty() {
        let is_required = not_reached.iter().any(|stage| stage.required);
        let into = if is_required { reasons } else { remarks };
        let text = format!("Not finished: {}.", names.join(", "));
        let next = "Vet again when what stopped the run is repaired.";
        into.push(Reason::of(Cause::StageNotJudged, None, text, next));
    }
}

fn unknown_stage(stage: &StageFacts) -> Reason {
    let text = format!("The run has a stage `{}` that nobody knows.", stage.name);
    let next = "Bring coordinator and image to the same version and start the run again.";
    Reason::of(Cause::Record, Some(stage.name.clone()), text, next)
}

fn diff_reasons(facts: &RunFacts, reasons: &mut Vec<Reason>, remarks: &mut Vec<Reason>) {
    for DiffFacts { diff, ignored } in facts.diffs.iter().flatten() {
        let expected = diff.expected.as_deref().unwrap_or("nothing");
        let actual = diff.actual.as_deref().unwrap_or("nothing");
        let text = format!("{}: expected {expected}, found {actual}.", diff.field);
        let next = "Correct the machine, or its spec if that is wrong, then vet again.";
        let reason = Reason::of(Cause::SpecDiff, Some(StageName::SpecValidate.to_string()), text, next);
        let finding = waiver::of_diff(diff);
        // one that is waived is ignored, too: its waiver says more
        let is_waived = facts
            .waivers
            .iter()
            .any(|waiver| waiver.withdrawn.is_none() && Some(&waiver.finding) == finding.as_ref());
        match (diff.severity, *ignored && !is_waived) {
            (Severity::Critical, false) => reasons.push(Reason { finding, ..reason }),
            (_, true) => remarks.push(Reason { next: "An operator ignored it.".to_owned(), ..reason }),
            (Severity::Warning, false) => remarks.push(Reason { next: String::new(), ..reason }),
            (Severity::Info, false) => {}
        }
    }
    let compared = facts
        .stages
        .iter()
        .any(|stage| stage.name == StageName::SpecValidate.as_str() && stage.outcome == Some(Outcome::Pass));
    if compared && facts.diffs.is_none() {
        let text = "SpecValidate passed, but no comparison with the spec was stored.".to_owned();
        let stage = Some(StageName::SpecValidate.to_string());
        reasons.push(Reason::of(Cause::Record, stage, text, "Start the run again."));
    }
}

fn evaluation_reason(evaluation: &Evaluation) -> Option<Reason> {
    let Evaluation { rule, stage, key, samples, breaches, .. } = evaluation;
    let (kind, rule_text) = (&rule.kind, evaluation.rule_in_words());
    let (cause, text, next) = if *breaches > 0 {
        let worst = evaluation
            .worst
            .map_or_else(|| "no number".to_owned(), |worst| quantity::in_words(worst, &rule.unit));
        let text = match samples {
            1 => format!("{kind} {key} {rule_text}, but was {worst}."),
            _ => format!(
                "{kind} {key} {rule_text}, but was out of it in {breaches} of {samples} samples, at worst {worst}."
            ),
        };
        if evaluation.is_glitch() {
            let text = format!("{text} It came back each time before that counted.");
            return Some(Reason::of(Cause::Breach, stage.map(|stage| stage.to_string()), text, ""));
        }
        (Cause::Breach, text, advice::after_breach(kind, key))
    } else if evaluation.is_unjudged() {
        let why = evaluation.wrong_unit.as_ref().map_or_else(
            || "none had a value".to_owned(),
            |unit| format!("they came in `{unit}` instead of `{}`", rule.unit),
        );
        let text = format!("{kind} {key} {rule_text}, but none of {samples} samples could be judged: {why}.");
        (Cause::Unjudged, text, "Check the sensor or the tool behind it; unknown is never good.".to_owned())
    } else {
        return None;
    };
    let finding = waiver::of_evaluation(evaluation).filter(|_| evaluation.is_fatal());
    Some(Reason { finding, ..Reason::of(cause, stage.map(|stage| stage.to_string()), text, &next) })
}

/// A rule that must meet a sample and met none, though its stage passed: where that did not, the run fails for it.
fn silent_reason(facts: &RunFacts, rule: &Rule) -> Option<Reason> {
    let passed = |stage: StageName| {
        let mut stages = facts.stages.iter();
        stages.any(|facts| facts.name == stage.as_str() && facts.outcome == Some(Outcome::Pass))
    };
    let met = facts.evaluations.iter().any(|evaluation| evaluation.rule == *rule && evaluation.samples > 0);
    if rule.is_off() || met || !rule.stage.is_none_or(passed) {
        return None;
    }
    let text = format!("{rule}, but no sample of it was taken.");
    let next = "Find out why nothing measured it; what was not measured is never good.";
    let stage = rule.stage.map(|stage| stage.to_string());
    let finding = waiver::of_silence(rule);
    Some(Reason { finding, ..Reason::of(Cause::Unjudged, stage, text, next) })
}

fn outlier_remark(outlier: &Outlier) -> Reason {
    let stage = outlier.stage.parse::<StageName>().ok().map(|stage| stage.to_string());
    let next = "Look what is otherwise in this machine: air flow, paste, cables, firmware.";
    Reason::of(Cause::Outlier, stage, outlier.in_words(), next)
}

fn not_tested_remark(text: String) -> Reason {
    let next =
        "Add the driver, and the firmware that it loads, to the system it is tested in, then vet again.";
    Reason::of(Cause::NotTested, Some(StageName::Inventory.to_string()), text, next)
}

fn host_rule_remark(rule: &Rule) -> Option<Reason> {
    let RuleChange { kind, was, note } = rule.change.as_ref()?;
    let was = was.as_deref().unwrap_or("none");
    let what = match kind {
        Change::Off => format!("The host's own rules switch off: {} {} {was} ({note}).", rule.kind, rule.key),
        Change::Looser => format!("The host's own rules are looser: {rule}, instead of: {was} ({note})."),
        Change::Added | Change::Stricter | Change::Changed => return None,
    };
    Some(Reason::of(Cause::HostRule, rule.stage.map(|stage| stage.to_string()), what, ""))
}

/// Whether other parameters test more or less is not for this program to say; one more stage is more.
fn host_stage_remark(change: &StageChange) -> Option<Reason> {
    match change.kind {
        StageChangeKind::Added => None,
        StageChangeKind::Changed | StageChangeKind::Off => {
            let text = format!("The host's own stages: {change}.");
            Some(Reason::of(Cause::HostStage, Some(change.stage.to_string()), text, ""))
        }
    }
}

#[cfg(test)]
mod tests;
