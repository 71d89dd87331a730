//! Tables `stages` and `sub_steps`.

use rusqlite::{Row, params};
use serde_json::Value;
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::outcome::StepState;

use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;

/// A stage with its sub-steps.
#[derive(Debug, Clone, PartialEq)]
pub struct StageRow {
    /// Key.
    pub id: i64,
    /// Name.
    pub name: StageName,
    /// 0-based.
    pub ordinal: u32,
    /// Where it stands.
    pub state: StepState,
    /// Ms since the epoch.
    pub started_at_ms: Option<i64>,
    /// Ms since the epoch.
    pub completed_at_ms: Option<i64>,
    /// What was said of it.
    pub summary: Option<Value>,
    /// In order.
    pub sub_steps: Vec<SubStepRow>,
}

/// A sub-step.
#[derive(Debug, Clone, PartialEq)]
pub struct SubStepRow {
    /// Its stage.
    pub stage: StageName,
    /// 0-based in the stage.
    pub ordinal: u32,
    /// `sda badblocks`.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// Ms since the epoch.
    pub started_at_ms: Option<i64>,
    /// Ms since the epoch.
    pub completed_at_ms: Option<i64>,
    /// What was said of it.
    pub summary: Value,
}

const COUNT: &str = "SELECT COUNT(*) FROM stages WHERE run_id = ?1";
const SEED: &str = "INSERT INTO stages (run_id, name, ordinal, state) VALUES (?1, ?2, ?3, 'pending')";
const BY_NAME: &str = "SELECT * FROM stages WHERE run_id = ?1 AND name = ?2";
const LIST: &str = "SELECT * FROM stages WHERE run_id = ?1 ORDER BY ordinal";
const START: &str =
    "UPDATE stages SET state = 'running', started_at = COALESCE(started_at, ?2) WHERE id = ?1";
const FINISH: &str =
    "UPDATE stages SET state = ?2, started_at = COALESCE(started_at, ?3), completed_at = ?3, summary_json = ?4
     WHERE id = ?1";
const SET_SUMMARY: &str = "UPDATE stages SET state = ?2, summary_json = ?3 WHERE id = ?1";
const CLOSE: &str = "UPDATE stages SET state = ?3, completed_at = ?4, summary_json = ?5
     WHERE run_id = ?1 AND state = ?2";

const SUB_STEP: &str = "SELECT * FROM sub_steps WHERE run_id = ?1 AND stage_name = ?2 AND ordinal = ?3";
const SUB_STEPS: &str = "SELECT * FROM sub_steps WHERE run_id = ?1 ORDER BY stage_name, ordinal";
const START_SUB_STEP: &str = "INSERT INTO sub_steps (run_id, stage_name, ordinal, name, state, started_at)
     VALUES (?1, ?2, ?3, ?4, 'running', ?5)
     ON CONFLICT (run_id, stage_name, ordinal) DO UPDATE SET
       name = excluded.name, state = 'running', started_at = COALESCE(started_at, excluded.started_at)";
const FINISH_SUB_STEP: &str = "UPDATE sub_steps SET state = ?4, completed_at = ?5, summary_json = ?6
     WHERE run_id = ?1 AND stage_name = ?2 AND ordinal = ?3";
const CLOSE_SUB_STEPS: &str = "UPDATE sub_steps SET state = ?3, completed_at = ?4, summary_json = ?5
     WHERE run_id = ?1 AND state = ?2";

fn stage(row: &Row<'_>) -> Result<StageRow, StoreError> {
    Ok(StageRow {
        id: row.get("id")?,
        name: row::parsed(row, ("stages", "name"))?,
        ordinal: row::integer(row, ("stages", "ordinal"))?,
        state: row::parsed(row, ("stages", "state"))?,
        started_at_ms: row::time_or_null(row, ("stages", "started_at"))?,
        completed_at_ms: row::time_or_null(row, ("stages", "completed_at"))?,
        summary: row::json_or_null(row, ("stages", "summary_json"))?,
        sub_steps: Vec::new(),
    })
}

fn sub_step(row: &Row<'_>) -> Result<SubStepRow, StoreError> {
    Ok(SubStepRow {
        stage: row::parsed(row, ("sub_steps", "stage_name"))?,
        ordinal: row::integer(row, ("sub_steps", "ordinal"))?,
        name: row.get("name")?,
        state: row::parsed(row, ("sub_steps", "state"))?,
        started_at_ms: row::time_or_null(row, ("sub_steps", "started_at"))?,
        completed_at_ms: row::time_or_null(row, ("sub_steps", "completed_at"))?,
        summary: row::json(row, ("sub_steps", "summary_json"))?,
    })
}

/// Makes the stages of a run, pending, in the order given. Does nothing for a run that has its stages, so that the
/// claim after a planned reboot may call it too.
pub fn seed(connection: &Connection, run: RunId, stages: &[StageName]) -> Result<(), StoreError> {
    let present: i64 = connection.prepare_cached(COUNT)?.query_row([run.0], |row| row.get(0))?;
    if present > 0 {
        return Ok(());
    }
    let mut insert = connection.prepare_cached(SEED)?;
    for (ordinal, stage) in (0_i64..).zip(stages) {
        insert.execute(params![run.0, stage.as_str(), ordinal])?;
    }
    Ok(())
}

/// A stage, without its sub-steps.
///
/// # Errors
/// [`StoreError::NotFound`] if it is not one of the run's.
pub fn by_name(connection: &Connection, run: RunId, name: StageName) -> Result<StageRow, StoreError> {
    let mut statement = connection.prepare_cached(BY_NAME)?;
    statement
        .query_and_then(params![run.0, name.as_str()], stage)?
        .next()
        .unwrap_or_else(|| Err(StoreError::not_found(format!("stage {name} in run {run}"))))
}

/// The same, and it must not be over.
fn unfinished(connection: &Connection, run: RunId, name: StageName) -> Result<StageRow, StoreError> {
    let found = by_name(connection, run, name)?;
    if found.state.is_finished() {
        return Err(StoreError::conflict(format!("stage {name} of run {run} is over ({})", found.state)));
    }
    Ok(found)
}

/// A stage begins. Once more is no error: it keeps its first start.
///
/// # Errors
/// [`StoreError::NotFound`]; [`StoreError::Conflict`] if it is over.
pub fn start(connection: &Connection, run: RunId, name: StageName, ts_ms: i64) -> Result<(), StoreError> {
    let found = unfinished(connection, run, name)?;
    connection.prepare_cached(START)?.execute(params![found.id, timestamp_text(ts_ms)?])?;
    Ok(())
}

/// A stage is over; `state` is one of the finished ones.
///
/// # Errors
/// [`StoreError::NotFound`]; [`StoreError::Conflict`] if it is over already.
pub fn finish(
    connection: &Connection,
    run: RunId,
    name: StageName,
    state: StepState,
    ts_ms: i64,
    summary: &Value,
) -> Result<(), StoreError> {
    let found = unfinished(connection, run, name)?;
    connection.prepare_cached(FINISH)?.execute(params![
        found.id,
        state.as_str(),
        timestamp_text(ts_ms)?,
        summary.to_string()
    ])?;
    Ok(())
}

/// Replaces what is said of a stage, also of a finished one: the judge may find breaches where the agent saw none.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn judge(
    connection: &Connection,
    run: RunId,
    name: StageName,
    state: StepState,
    summary: &Value,
) -> Result<(), StoreError> {
    let found = by_name(connection, run, name)?;
    connection.prepare_cached(SET_SUMMARY)?.execute(params![
        found.id,
        state.as_str(),
        summary.to_string()
    ])?;
    Ok(())
}

/// A sub-step begins; it is made if it is new.
///
/// # Errors
/// [`StoreError::NotFound`] without the stage; [`StoreError::Conflict`] if stage or sub-step is over.
pub fn start_sub_step(
    connection: &Connection,
    run: RunId,
    stage: StageName,
    ordinal: u32,
    name: &str,
    ts_ms: i64,
) -> Result<(), StoreError> {
    unfinished(connection, run, stage)?;
    if let Some(found) = find_sub_step(connection, run, stage, ordinal)? {
        refuse_finished(run, &found)?;
    }
    connection.prepare_cached(START_SUB_STEP)?.execute(params![
        run.0,
        stage.as_str(),
        ordinal,
        name,
        timestamp_text(ts_ms)?
    ])?;
    Ok(())
}

/// A sub-step is over; `ended` is one of the finished ones.
///
/// # Errors
/// [`StoreError::NotFound`] if it never began; [`StoreError::Conflict`] if stage or sub-step is over.
pub fn finish_sub_step(
    connection: &Connection,
    run: RunId,
    stage: StageName,
    ordinal: u32,
    ended: StepState,
    ts_ms: i64,
    summary: &Value,
) -> Result<(), StoreError> {
    unfinished(connection, run, stage)?;
    match find_sub_step(connection, run, stage, ordinal)? {
        Some(found) => refuse_finished(run, &found)?,
        None => {
            return Err(StoreError::not_found(format!("sub-step {ordinal} of stage {stage} in run {run}")));
        }
    }
    connection.prepare_cached(FINISH_SUB_STEP)?.execute(params![
        run.0,
        stage.as_str(),
        ordinal,
        ended.as_str(),
        timestamp_text(ts_ms)?,
        summary.to_string()
    ])?;
    Ok(())
}

fn find_sub_step(
    connection: &Connection,
    run: RunId,
    stage: StageName,
    ordinal: u32,
) -> Result<Option<SubStepRow>, StoreError> {
    let mut statement = connection.prepare_cached(SUB_STEP)?;
    statement.query_and_then(params![run.0, stage.as_str(), ordinal], sub_step)?.next().transpose()
}

fn refuse_finished(run: RunId, found: &SubStepRow) -> Result<(), StoreError> {
    if found.state.is_finished() {
        return Err(StoreError::conflict(format!(
            "sub-step {} ({}) of stage {} of run {run} is over ({})",
            found.ordinal, found.name, found.stage, found.state
        )));
    }
    Ok(())
}

/// Every stage of a run with its sub-steps, in order.
pub fn list(connection: &Connection, run: RunId) -> Result<Vec<StageRow>, StoreError> {
    let mut stages: Vec<StageRow> =
        connection.prepare_cached(LIST)?.query_and_then([run.0], stage)?.collect::<Result<_, _>>()?;
    for found in connection.prepare_cached(SUB_STEPS)?.query_and_then([run.0], sub_step)? {
        let found = found?;
        if let Some(stage) = stages.iter_mut().find(|stage| stage.name == found.stage) {
            stage.sub_steps.push(found);
        }
    }
    Ok(stages)
}

/// What never began is skipped, with `summary` for the reason. Gives the number of stages.
pub fn skip_remaining(
    connection: &Connection,
    run: RunId,
    ts_ms: i64,
    summary: &Value,
) -> Result<usize, StoreError> {
    close(connection, run, StepState::Pending, StepState::Skipped, ts_ms, summary)
}

/// What runs is failed, with `summary` for the reason: its agent is gone. Gives the number of stages.
pub fn fail_running(
    connection: &Connection,
    run: RunId,
    ts_ms: i64,
    summary: &Value,
) -> Result<usize, StoreError> {
    close(connection, run, StepState::Running, StepState::Failed, ts_ms, summary)
}

fn close(
    connection: &Connection,
    run: RunId,
    from: StepState,
    to: StepState,
    ts_ms: i64,
    summary: &Value,
) -> Result<usize, StoreError> {
    let (time, summary) = (timestamp_text(ts_ms)?, summary.to_string());
    let values = params![run.0, from.as_str(), to.as_str(), time, summary];
    connection.prepare_cached(CLOSE_SUB_STEPS)?.execute(values)?;
    Ok(connection.prepare_cached(CLOSE)?.execute(values)?)
}
