//! What an operator decided not to count against a machine, with a name and a reason.
//!
//! A waiver is for one finding, which is told by all that was found: once a rule is breached further, a disk differs in
//! another way or a stage fails for another reason, that is another finding, and the waiver meets nothing. Differences
//! from the spec, breaches and stages that ran can be waived. How a run ended, stages that never ran and records that
//! contradict themselves cannot.

use serde::{Deserialize, Serialize};
use vetting_protocol::diff::{Severity, SpecDiff};
use vetting_protocol::ids::{FindingId, StageName};
use vetting_protocol::outcome::Outcome;

use crate::facts::RunFacts;
use crate::tally::Evaluation;
use crate::threshold::Rule;
use crate::verdict::{Cause, Reason};

/// A waiver of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// Key of its row.
    pub id: i64,
    /// What it is for.
    pub finding: FindingId,
    /// The same in words, as the operator saw it.
    pub found: String,
    /// Why it does not count.
    pub reason: String,
    /// Who said so, as it was typed.
    pub by: String,
    /// The token or user that sent it; absent where that was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// When, ms since the epoch.
    pub given_ms: i64,
    /// Taken back; absent while it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Withdrawn>,
}

/// How a waiver was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    /// Why.
    pub reason: String,
    /// Who said so, as it was typed.
    pub by: String,
    /// The token or user that sent it; absent where that was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// When, ms since the epoch.
    pub at_ms: i64,
}

/// Who waived something, or took a waiver back: what was typed can be any name, so who sent it stands beside it where
/// that is another.
pub fn author(by: &str, caller: Option<&str>) -> String {
    match caller.filter(|caller| *caller != by) {
        Some(caller) => format!("{by} (sent as {caller})"),
        None => by.to_owned(),
    }
}

impl Waiver {
    /// Who gave it.
    pub fn author(&self) -> String {
        author(&self.by, self.caller.as_deref())
    }
}

fn id_of(what: &impl Serialize) -> Option<FindingId> {
    // texts and numbers always have a JSON form
    serde_json::to_vec(what).ok().map(|bytes| FindingId::of(&bytes))
}

/// The finding that a machine differs from its spec.
pub fn of_diff(diff: &SpecDiff) -> Option<FindingId> {
    id_of(&("diff", &diff.field, &diff.expected, &diff.actual, diff.severity))
}

/// The finding that a rule was breached or could judge nothing. Words are left out: another version of this program may
/// find others for the same.
pub fn of_evaluation(evaluation: &Evaluation) -> Option<FindingId> {
    let Evaluation { rule, stage, key, samples, breaches, without_value, in_wrong_unit, worst, .. } =
        evaluation;
    let rule =
        (rule.stage, &rule.kind, &rule.key, rule.op, rule.threshold, rule.nominal, &rule.unit, rule.severity);
    id_of(&("evaluation", rule, stage, key, (samples, breaches, without_value, in_wrong_unit, worst)))
}

/// The finding that a rule which must meet a sample met none.
pub fn of_silence(rule: &Rule) -> Option<FindingId> {
    id_of(&("silence", rule.stage, &rule.kind, &rule.key, rule.op, rule.threshold, rule.nominal, &rule.unit))
}

/// The finding that a stage did not pass.
pub fn of_stage(stage: StageName, outcome: &Outcome) -> Option<FindingId> {
    id_of(&("stage", stage, outcome))
}

/// Takes what is waived out of the reasons; gives it back as remarks, with those of waivers that meet nothing.
pub(crate) fn set_aside(facts: &RunFacts, reasons: &mut Vec<Reason>) -> Vec<Reason> {
    let standing: Vec<&Waiver> = facts.waivers.iter().filter(|waiver| waiver.withdrawn.is_none()).collect();
    let mut aside = Vec::new();
    reasons.retain_mut(|reason| {
        let waiver = standing.iter().find(|waiver| reason.finding.as_ref() == Some(&waiver.finding));
        let Some(waiver) = waiver else { return true };
        let next = format!("Waived by {}: {}", waiver.author(), sentence(&waiver.reason));
        aside.push(Reason { next, waiver: Some(waiver.id), ..reason.clone() });
        false
    });
    let explained: Vec<String> = facts
        .stages
        .iter()
        .filter(|stage| stage.failed_by_judge() && is_set_aside(facts, &stage.name, reasons, &aside))
        .map(|stage| stage.name.clone())
        .collect();
    reasons.retain(|reason| {
        let counts = reason.cause != Cause::StageFailed
            || !reason.stage.as_ref().is_some_and(|stage| explained.contains(stage));
        if !counts {
            aside.push(Reason { next: "All that failed it is waived.".to_owned(), ..reason.clone() });
        }
        counts
    });
    let met: Vec<Option<i64>> = aside.iter().map(|reason| reason.waiver).collect();
    for waiver in standing.iter().filter(|waiver| !met.contains(&Some(waiver.id))) {
        aside.push(Reason {
            cause: Cause::Waiver,
            stage: None,
            text: format!(
                "{} waived what is not found any more: {}",
                waiver.author(),
                sentence(&waiver.found)
            ),
            next: "Look whether something else was found in its place.".to_owned(),
            finding: None,
            waiver: Some(waiver.id),
        });
    }
    aside
}

/// Whether everything that made the judge fail a stage is waived: something is, and nothing is left.
fn is_set_aside(facts: &RunFacts, stage: &str, reasons: &[Reason], aside: &[Reason]) -> bool {
    let speaks_of = |reason: &&Reason| {
        reason.stage.as_deref() == Some(stage)
            && matches!(reason.cause, Cause::SpecDiff | Cause::Breach | Cause::Unjudged)
    };
    let is_ignored = stage == StageName::SpecValidate.as_str()
        && facts.diffs.iter().flatten().any(|diff| diff.ignored && diff.diff.severity == Severity::Critical);
    let something = is_ignored || aside.iter().any(|reason| speaks_of(&reason));
    something && !reasons.iter().any(|reason| speaks_of(&reason))
}

fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.ends_with(['.', '!', '?']) { text.to_owned() } else { format!("{text}.") }
}

#[cfg(test)]
mod tests;
