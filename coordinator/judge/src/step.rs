//! How a stage or sub-step ended, by agent and judge together, and whether the pipeline may go on after it.
//!
//! The one place that decides it: the coordinator asks it for each stage of a run it drives, [`crate::course`] for each
//! stage of a run without a coordinator.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::diff::{Severity, SpecDiff};
use vetting_protocol::ids::StageName;
use vetting_protocol::outcome::{Outcome, StepState};

use crate::facts::{DiffFacts, StageFacts};
use crate::tally::Evaluation;
use crate::verdict::{Reason, reasons_to_halt};

/// Kind of the event that says the machine was compared with its spec.
pub const SPEC_COMPARED: &str = "spec_compared";
/// Kind of the event that a stage began.
pub const STAGE_STARTED: &str = "stage_started";
/// Kind of the event that a stage is over.
pub const STAGE_FINISHED: &str = "stage_finished";

/// Why a stage that ran, or waited, when the agent finished did not end.
pub const FINISHED_WITHOUT_IT: &str = "the agent finished without it";
/// The same where the record of the run breaks off.
pub const BROKE_OFF: &str = "the run did not come to its end";

/// What is kept of a stage or sub-step that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSummary {
    /// How it ended, by agent and judge together; absent if it was never reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why it was never reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_reached: Option<String>,
    /// What the agent had said, where the judge found otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Outcome>,
    /// What the agent told of it.
    #[serde(default)]
    pub details: Value,
}

impl StepSummary {
    /// It ended so.
    pub fn ended(outcome: Outcome, details: Value) -> Self {
        Self { outcome: Some(outcome), not_reached: None, reported: None, details }
    }

    /// It was never begun.
    pub fn not_reached(why: impl Into<String>) -> Self {
        Self { outcome: None, not_reached: Some(why.into()), reported: None, details: Value::Null }
    }

    /// It was never begun, because the pipeline halted after `stage`.
    pub fn halted_after(stage: StageName) -> Self {
        Self::not_reached(format!("the pipeline halted after {stage}"))
    }

    /// A sub-step that was still open when its stage ended.
    pub fn outlived() -> Self {
        Self::ended(Outcome::error("the stage ended before it"), Value::Null)
    }

    /// Reads what was stored: `None` while the step is not over.
    ///
    /// # Errors
    /// One that no version of this program wrote.
    pub fn read(stored: Option<&Value>) -> Result<Option<Self>, serde_json::Error> {
        match stored {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) if fields.is_empty() => Ok(None),
            Some(stored) => Self::deserialize(stored).map(Some),
        }
    }

    /// As stored.
    pub fn stored(&self) -> Value {
        // texts and JSON values always have a JSON form
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The state that goes with it.
    pub fn state(&self) -> StepState {
        self.outcome.as_ref().map_or(StepState::Skipped, Outcome::step_state)
    }

    /// Why it is not a pass.
    pub fn reason(&self) -> Option<&str> {
        self.outcome.as_ref().and_then(Outcome::reason).or(self.not_reached.as_deref())
    }
}

/// The words in which an agent is told that the pipeline halts after `stage`.
pub fn halt_words(stage: StageName, summary: Option<&StepSummary>) -> String {
    format!("{stage}: {}", summary.and_then(StepSummary::reason).unwrap_or("did not pass"))
}

/// The words in which the event log tells that a machine was compared with its spec. Without that event there was no
/// comparison: it tells a machine without differences from one that was never compared.
pub fn compared_words(diffs: &[SpecDiff]) -> String {
    format!("{} differences from the spec", diffs.len())
}

/// A stage that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct StageEnd {
    /// What is kept of it.
    pub summary: StepSummary,
    /// Why no further stage may start; empty if it may.
    pub reasons_to_halt: Vec<String>,
}

impl StageEnd {
    /// Judges a stage that the agent reported as over. `evaluations` are those of the run so far, `diffs` what was
    /// found to differ from the spec so far. SpecValidate fails by critical differences alone: where each of them is
    /// waived it has passed, and what the agent said of it is kept. No other stage passes by a waiver.
    pub fn judge<'a>(
        stage: StageName,
        required: bool,
        reported: Outcome,
        details: Value,
        evaluations: impl IntoIterator<Item = &'a Evaluation>,
        diffs: &[DiffFacts],
    ) -> Self {
        let ended = |outcome: &Outcome| StageFacts {
            name: stage.to_string(),
            required,
            outcome: Some(outcome.clone()),
            reported: None,
            started_ms: None,
            ended_ms: None,
            details: Value::Null,
            sub_steps: Vec::new(),
        };
        let in_words = |reasons: Vec<Reason>| reasons.into_iter().map(|reason| reason.text);
        let mut found: Vec<String> = in_words(reasons_to_halt(&ended(&Outcome::Pass), evaluations)).collect();
        let is_critical =
            |diff: &&DiffFacts| stage == StageName::SpecValidate && diff.diff.severity == Severity::Critical;
        let critical: Vec<&DiffFacts> = diffs.iter().filter(is_critical).collect();
        found.extend(critical.iter().filter(|diff| !diff.ignored).map(|DiffFacts { diff, .. }| {
            let expected = diff.expected.as_deref().unwrap_or("nothing");
            let actual = diff.actual.as_deref().unwrap_or("nothing");
            format!("{}: expected {expected}, found {actual}.", diff.field)
        }));
        let all_waived = !critical.is_empty() && found.is_empty() && matches!(reported, Outcome::Fail { .. });
        let outcome = match &reported {
            Outcome::Fail { .. } if all_waived => Outcome::Pass,
            Outcome::Pass if !found.is_empty() => Outcome::fail(found.join(" ")),
            as_said => as_said.clone(),
        };
        let mut reasons = Vec::new();
        if !all_waived {
            reasons.extend(in_words(reasons_to_halt(&ended(&reported), [])));
            reasons.extend(found);
        }
        let mut summary = StepSummary::ended(outcome, details);
        summary.reported = Some(reported).filter(|reported| summary.outcome.as_ref() != Some(reported));
        Self { summary, reasons_to_halt: reasons }
    }

    /// The line of the event log.
    pub fn event(&self, stage: StageName) -> (EventLevel, String) {
        let level = match self.summary.outcome {
            Some(Outcome::Pass | Outcome::Skip { .. }) if self.reasons_to_halt.is_empty() => EventLevel::Info,
            Some(_) | None => EventLevel::Warning,
        };
        let ended = self.summary.state();
        let waived = self.summary.reported.as_ref().and_then(Outcome::reason);
        let message = match (self.summary.reason(), waived) {
            (Some(reason), _) => format!("{stage} {ended}: {reason}"),
            (None, Some(reason)) => format!("{stage} {ended}, as all that failed it is waived: {reason}"),
            (None, None) => format!("{stage} {ended}"),
        };
        (level, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_reads_as_it_was_written() {
        for summary in [
            StepSummary::ended(Outcome::fail("sda bad"), serde_json::json!({"blocks": [1, 2]})),
            StepSummary::not_reached("halted"),
        ] {
            assert_eq!(StepSummary::read(Some(&summary.stored())).unwrap(), Some(summary));
        }
        assert_eq!(StepSummary::read(Some(&serde_json::json!({}))).unwrap(), None);
        assert!(StepSummary::read(Some(&serde_json::json!("garbage"))).is_err());
    }

    fn differs(field: &str, severity: Severity, ignored: bool) -> DiffFacts {
        let (expected, actual) = (Some("32".to_owned()), Some("16".to_owned()));
        DiffFacts { diff: SpecDiff { field: field.to_owned(), expected, actual, severity }, ignored }
    }

    #[test]
    fn a_spec_stage_passes_once_each_critical_difference_is_waived() {
        let said = Outcome::fail("memory.total_gib: expected 32, found 16");
        let judge = |stage, outcome: &Outcome, diffs: &[DiffFacts]| {
            StageEnd::judge(stage, true, outcome.clone(), Value::Null, [], diffs)
        };
        let waived = differs("memory.total_gib", Severity::Critical, true);
        let warning = differs("cpu.model", Severity::Warning, false);
        let end = judge(StageName::SpecValidate, &said, &[waived.clone(), warning.clone()]);
        assert_eq!(
            (&end.summary.outcome, &end.summary.reported),
            (&Some(Outcome::Pass), &Some(said.clone()))
        );
        assert!(end.reasons_to_halt.is_empty());
        let (level, message) = end.event(StageName::SpecValidate);
        assert_eq!(level, EventLevel::Info);
        assert!(message.contains("waived: memory.total_gib"), "{message}");

        let other = differs("disks", Severity::Critical, false);
        for (stage, outcome, diffs) in [
            // one that nobody waived
            (StageName::SpecValidate, &said, vec![waived.clone(), other]),
            // nothing explains it
            (StageName::SpecValidate, &said, Vec::new()),
            (StageName::SpecValidate, &said, vec![warning]),
            (StageName::SpecValidate, &Outcome::error("no spec"), vec![waived.clone()]),
            (StageName::SpecValidate, &Outcome::skip("no spec"), vec![waived.clone()]),
            (StageName::Smart, &said, vec![waived]),
        ] {
            let end = judge(stage, outcome, &diffs);
            assert_eq!((&end.summary.outcome, &end.summary.reported), (&Some(outcome.clone()), &None));
            assert!(!end.reasons_to_halt.is_empty(), "{stage}: {diffs:?}");
        }
    }

    #[test]
    fn what_was_never_reached_is_no_pass() {
        assert_eq!(StepSummary::not_reached("x").state(), StepState::Skipped);
        assert_eq!(StepSummary::ended(Outcome::error("x"), Value::Null).state(), StepState::Failed);
    }
}
