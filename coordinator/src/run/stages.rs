//! How stages and sub-steps end, and what their rows say of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::outcome::{Outcome, StepState};

use super::error::RunError;
use super::memtest::outcome_of_lost;
use super::state::EndedBy;
use crate::store::stages::{self, StageRow};
use crate::store::{Connection, StoreError, runs};

/// `summary_json` of a stage or sub-step that is over.
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

    /// Reads a row's summary: `None` while the step is not over.
    ///
    /// # Errors
    /// One that no version of this program wrote.
    pub fn read(run: RunId, step: &str, stored: Option<&Value>) -> Result<Option<Self>, RunError> {
        match stored {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) if fields.is_empty() => Ok(None),
            Some(stored) => Self::deserialize(stored).map(Some).map_err(|error| RunError::Corrupt {
                run,
                what: format!("the summary of {step} cannot be read: {error}"),
            }),
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

/// The stage a run is in.
pub(super) fn running_stage(connection: &Connection, run: RunId) -> Result<Option<StageName>, StoreError> {
    let rows = stages::list(connection, run)?;
    Ok(rows.into_iter().find(|row| row.state == StepState::Running).map(|row| row.name))
}

/// Ends what is still open when the pipeline closes: what ran ends as an error, what waited was not reached.
pub(super) fn close_stages(
    connection: &Connection,
    run: RunId,
    ended_by: EndedBy,
    why: &str,
    now_ms: i64,
) -> Result<(), RunError> {
    let why = match ended_by {
        EndedBy::PipelineFinished => "the agent finished without it",
        EndedBy::NeverAppeared
        | EndedBy::WentSilent
        | EndedBy::UnplannedReboot
        | EndedBy::AgentCrashed
        | EndedBy::Aborted => why,
    };
    if let Some(stage) = running_stage(connection, run)? {
        runs::set_failed_stage(connection, run, stage.as_str())?;
    }
    let ended = StepSummary::ended(outcome_of_lost(connection, run, why)?, Value::Null);
    stages::fail_running(connection, run, now_ms, &ended.stored())?;
    stages::skip_remaining(connection, run, now_ms, &StepSummary::not_reached(why).stored())?;
    Ok(())
}

/// Ends the sub-steps of a stage that are still open.
pub(super) fn close_sub_steps(
    connection: &Connection,
    run: RunId,
    row: &StageRow,
    now_ms: i64,
) -> Result<(), RunError> {
    let summary = StepSummary::ended(Outcome::error("the stage ended before it"), Value::Null);
    for open in row.sub_steps.iter().filter(|sub_step| !sub_step.state.is_finished()) {
        let (state, stored) = (summary.state(), summary.stored());
        stages::finish_sub_step(connection, run, row.name, open.ordinal, state, now_ms, &stored)?;
    }
    Ok(())
}

/// Marks what has not begun as never reached, after `stage` halted the pipeline.
pub(super) fn halt_after(
    connection: &Connection,
    run: RunId,
    stage: StageName,
    now_ms: i64,
) -> Result<(), RunError> {
    let summary = StepSummary::not_reached(format!("the pipeline halted after {stage}"));
    stages::skip_remaining(connection, run, now_ms, &summary.stored())?;
    runs::set_failed_stage(connection, run, stage.as_str())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_reads_as_it_was_written() {
        let run = RunId(1);
        for summary in [
            StepSummary::ended(Outcome::fail("sda bad"), serde_json::json!({"blocks": [1, 2]})),
            StepSummary::not_reached("halted"),
        ] {
            assert_eq!(StepSummary::read(run, "Storage", Some(&summary.stored())).unwrap(), Some(summary));
        }
        assert_eq!(StepSummary::read(run, "Storage", Some(&serde_json::json!({}))).unwrap(), None);
        assert!(StepSummary::read(run, "Storage", Some(&serde_json::json!("garbage"))).is_err());
    }

    #[test]
    fn what_was_never_reached_is_no_pass() {
        assert_eq!(StepSummary::not_reached("x").state(), StepState::Skipped);
        assert_eq!(StepSummary::ended(Outcome::error("x"), Value::Null).state(), StepState::Failed);
    }
}
