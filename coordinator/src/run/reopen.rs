//! Runs that go on after their verdict: one stage again, or everything that did not pass.
//!
//! What a stage that is run again had found stays as its earlier attempt, in the report too, and no longer decides. The
//! machine must be the one that was tested before: each boot's inventory is compared with the run's first.

use vetting_judge::parts;
use vetting_judge::step::StepSummary;
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::{Outcome, StepState};
use vetting_protocol::run::{RunResult, RunState};

use super::driver::{Driver, Transition, to_its_end, transition};
use super::error::RunError;
use super::facts::document;
use super::ingest::INVENTORY;
use super::stages::read_summary;
use super::state::RunEvent;
use crate::store::events::{self, EventValues};
use crate::store::plans::{self, PlanStage};
use crate::store::runs::{self, RunRow};
use crate::store::stages::{self, StageRow};
use crate::store::{Connection, StoreError, artifacts, attempts, holds, imports};

impl Driver {
    /// Runs one stage of a held machine again, and none of the others. `line` says who ordered it.
    ///
    /// # Errors
    /// The run holds no machine, or has no such stage.
    pub async fn retry(&self, run: RunId, stage: StageName, line: EventValues) -> Result<RunState, RunError> {
        self.take_up(run, RunEvent::RetryRequested, line, move |connection| {
            stages::by_name(connection, run, stage)?;
            let again = stages::list(connection, run)?.into_iter().filter(|row| row.name == stage).collect();
            Ok((again, format!("an operator has {stage} run again")))
        })
        .await
    }

    /// Has a failed run go on with every stage that did not pass. One whose machine is not held boots it anew. `line` says
    /// who ordered it.
    ///
    /// # Errors
    /// The run is not a failed one of a machine that can be had, or every stage of it passed.
    pub async fn resume_run(&self, run: RunId, line: EventValues) -> Result<RunState, RunError> {
        self.take_up(run, RunEvent::ResumeRequested, line, move |connection| {
            let row = runs::get(connection, run)?;
            refuse_unresumable(connection, &row)?;
            let plan = plans::list(connection, run)?;
            let rows = stages::list(connection, run)?;
            let seeded = !rows.is_empty();
            let mut again = Vec::new();
            for row in rows {
                if did_not_pass(run, &plan, &row)? {
                    again.push(row);
                }
            }
            if seeded && again.is_empty() {
                let what = format!(
                    "every stage of run {run} passed, so there is none to go on with; start a new run, or have one \
                     run again by `run retry {run} STAGE` while the machine is held"
                );
                return Err(RunError::Invalid { what });
            }
            let names: Vec<&str> = again.iter().map(|row| row.name.as_str()).collect();
            let why = format!("an operator has the run go on: {}", names.join(", "));
            Ok((again, why))
        })
        .await
    }

    async fn take_up(
        &self,
        run: RunId,
        event: RunEvent,
        line: EventValues,
        choose: impl FnOnce(&Connection) -> Result<(Vec<StageRow>, String), RunError> + Send + 'static,
    ) -> Result<RunState, RunError> {
        let (now_ms, driver) = (self.clock.now_ms(), self.clone());
        to_its_end(async move {
            let done = driver
                .store
                .write(move |connection| {
                    let state = runs::get(connection, run)?.state;
                    // a run that cannot be taken up says so before its stages are looked at
                    super::state::refusal(state, event)
                        .map_or(Ok(()), |why| Err(RunError::NotNow { run, state, why }))?;
                    let (again, why) = choose(connection)?;
                    let done: Transition = transition(connection, now_ms, run, event, &why, None)?;
                    for row in &again {
                        attempts::begin_again(connection, run, row)?;
                    }
                    events::insert(connection, &line)?;
                    Ok::<_, RunError>(done)
                })
                .await?;
            let state = done.state;
            // what the rules said of the attempt before is no longer what counts
            driver.memory().live.remove(&run);
            driver.perform(done);
            if state == RunState::Queued {
                driver.wake(run).await;
            }
            Ok(state)
        })
        .await
    }
}

/// Whether a stage is to be gone through when its run goes on.
fn did_not_pass(run: RunId, plan: &[PlanStage], row: &StageRow) -> Result<bool, RunError> {
    let summary = read_summary(run, row.name.as_str(), row.summary.as_ref())?;
    Ok(match row.state {
        StepState::Passed => false,
        StepState::Pending | StepState::Running | StepState::Failed => true,
        // one that does not apply to the machine is left out again, unless the run needs it
        StepState::Skipped => {
            let skipped_itself = summary
                .as_ref()
                .is_some_and(|StepSummary { outcome, .. }| matches!(outcome, Some(Outcome::Skip { .. })));
            !skipped_itself || plans::requires(plan, row.name)
        }
    })
}

fn refuse_unresumable(connection: &Connection, row: &RunRow) -> Result<(), RunError> {
    let run = row.id;
    if row.result != Some(RunResult::Fail) {
        let what = format!("run {run} passed; start a new one to test the machine again");
        return Err(RunError::Invalid { what });
    }
    if imports::is_imported(connection, run)? {
        let what =
            format!("run {run} was worked through without a coordinator and imported; start a new one");
        return Err(RunError::Invalid { what });
    }
    if row.state == RunState::Completed {
        runs::refuse_second(connection, row.host_id)?;
    }
    Ok(())
}

/// Why what was tested before may not be what was tested later; empty if all inventories of the run name the same parts.
pub(super) fn parts_in_doubt(connection: &Connection, run: RunId) -> Result<Vec<String>, RunError> {
    let first = artifacts::first(connection, run, INVENTORY)?;
    let latest = artifacts::latest(connection, run, INVENTORY)?;
    let reopened_after = holds::last_artifact_before_reopening(connection, run)?;
    let mut doubts = Vec::new();
    if let Some(before) = reopened_after
        && latest.as_ref().is_none_or(|row| row.id <= before)
    {
        doubts.push("no inventory was taken after the run went on".to_owned());
    }
    if let (Some(first), Some(latest)) = (first, latest)
        && first.id != latest.id
    {
        let (before, after): (Inventory, Inventory) =
            (document(run, INVENTORY, first)?, document(run, INVENTORY, latest)?);
        doubts.extend(parts::changes(&before, &after));
    }
    Ok(doubts)
}

/// The stages that were run again, for the operator.
pub(super) fn earlier_attempts(
    connection: &Connection,
    run: RunId,
) -> Result<Vec<(attempts::AttemptRow, Option<StepSummary>)>, RunError> {
    let rows: Result<Vec<_>, StoreError> = attempts::list(connection, run);
    rows?
        .into_iter()
        .map(|row| {
            let summary = read_summary(run, row.stage.as_str(), row.summary.as_ref())?;
            Ok((row, summary))
        })
        .collect()
}
