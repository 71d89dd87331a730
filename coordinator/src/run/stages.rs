//! How stages and sub-steps end, and what their rows say of it.

use serde::{Deserialize, Serialize};
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::outcome::{Outcome, StepState};

use super::error::RunError;
use super::state::EndedBy;
use crate::store::{self, Tx};

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
    pub details: serde_json::Value,
}

impl StepSummary {
    /// It ended so.
    pub fn ended(outcome: Outcome, details: serde_json::Value) -> Self {
        Self { outcome: Some(outcome), not_reached: None, reported: None, details }
    }

    /// It was never begun.
    pub fn not_reached(why: impl Into<String>) -> Self {
        Self { outcome: None, not_reached: Some(why.into()), reported: None, details: serde_json::Value::Null }
    }

    /// Reads a row's text: `None` while the step is not over.
    ///
    /// # Errors
    /// A text that no version of this program wrote.
    pub fn read(run: RunId, step: &str, text: Option<&str>) -> Result<Option<Self>, RunError> {
        match text {
            None | Some("" | "{}") => Ok(None),
            Some(text) => serde_json::from_str(text).map(Some).map_err(|error| RunError::Corrupt {
                run,
                what: format!("the summary of {step} cannot be read: {error}"),
            }),
        }
    }

    /// As stored.
    pub fn text(&self) -> String {
        // an object of strings and JSON values always has a text
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
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

/// Ends what is still open when the pipeline closes: what ran ends as an error, what waited was not reached.
pub(super) fn close_stages(
    tx: &Tx<'_>,
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
    for row in store::stages::of_run(tx, run)? {
        match row.state {
            StepState::Running => {
                let summary = StepSummary::ended(Outcome::error(why), serde_json::Value::Null);
                close_sub_steps(tx, run, &row.name, why, now_ms)?;
                store::stages::finish(tx, row.id, summary.state(), &summary.text(), now_ms)?;
                store::runs::set_failed_stage(tx, run, &row.name)?;
            }
            StepState::Pending => {
                let summary = StepSummary::not_reached(why);
                store::stages::finish(tx, row.id, summary.state(), &summary.text(), now_ms)?;
            }
            StepState::Passed | StepState::Failed | StepState::Skipped => {}
        }
    }
    Ok(())
}

/// Ends the sub-steps of a stage that are still open.
pub(super) fn close_sub_steps(
    tx: &Tx<'_>,
    run: RunId,
    stage: &str,
    why: &str,
    now_ms: i64,
) -> Result<(), RunError> {
    for row in store::sub_steps::of_stage(tx, run, stage)? {
        if !row.state.is_finished() {
            let summary = StepSummary::ended(Outcome::error(why), serde_json::Value::Null);
            store::sub_steps::finish(tx, row.id, summary.state(), &summary.text(), now_ms)?;
        }
    }
    Ok(())
}

/// Marks what has not begun as never reached, after `stage` halted the pipeline.
pub(super) fn halt_after(tx: &Tx<'_>, run: RunId, stage: StageName, now_ms: i64) -> Result<(), RunError> {
    let summary = StepSummary::not_reached(format!("the pipeline halted after {stage}"));
    for row in store::stages::of_run(tx, run)? {
        if row.state == StepState::Pending {
            store::stages::finish(tx, row.id, summary.state(), &summary.text(), now_ms)?;
        }
    }
    store::runs::set_failed_stage(tx, run, stage.as_str())?;
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
            assert_eq!(StepSummary::read(run, "Storage", Some(&summary.text())).unwrap(), Some(summary));
        }
        assert_eq!(StepSummary::read(run, "Storage", Some("{}")).unwrap(), None);
        assert!(StepSummary::read(run, "Storage", Some("garbage")).is_err());
    }

    #[test]
    fn what_was_never_reached_is_no_pass() {
        assert_eq!(StepSummary::not_reached("x").state(), StepState::Skipped);
        assert_eq!(StepSummary::ended(Outcome::error("x"), serde_json::Value::Null).state(), StepState::Failed);
    }
}
