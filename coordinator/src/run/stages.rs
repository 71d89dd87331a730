//! How stages and sub-steps end, and what their rows say of it.

use serde_json::Value;
use vetting_judge::step::{FINISHED_WITHOUT_IT, StepSummary};
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::outcome::StepState;

use super::error::RunError;
use super::memtest::outcome_of_lost;
use super::state::EndedBy;
use crate::store::stages::{self, StageRow};
use crate::store::{Connection, StoreError, runs};

/// Reads the `summary_json` of a stage or sub-step: `None` while the step is not over.
///
/// # Errors
/// One that no version of this program wrote.
pub fn read_summary(run: RunId, step: &str, stored: Option<&Value>) -> Result<Option<StepSummary>, RunError> {
    StepSummary::read(stored).map_err(|error| RunError::Corrupt {
        run,
        what: format!("the summary of {step} cannot be read: {error}"),
    })
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
        EndedBy::PipelineFinished => FINISHED_WITHOUT_IT,
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
    let summary = StepSummary::outlived();
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
    let summary = StepSummary::halted_after(stage);
    stages::skip_remaining(connection, run, now_ms, &summary.stored())?;
    runs::set_failed_stage(connection, run, stage.as_str())?;
    Ok(())
}
