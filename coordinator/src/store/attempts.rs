//! Table `stage_attempts`: stages that were run again, and how they had ended.

use rusqlite::params;
use serde_json::{Value, json};
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::outcome::StepState;

use super::stages::{self, StageRow};
use super::{Connection, StoreError, diffs, reboots, row};

/// An attempt at a stage that another one followed.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptRow {
    /// The stage.
    pub stage: StageName,
    /// 1 for the first.
    pub attempt: u32,
    /// How it ended.
    pub state: StepState,
    /// Ms since the epoch.
    pub started_at_ms: Option<i64>,
    /// Ms since the epoch.
    pub completed_at_ms: Option<i64>,
    /// What was said of it.
    pub summary: Option<Value>,
}

const INSERT: &str = "INSERT INTO stage_attempts
     (run_id, stage_name, attempt, state, started_at, completed_at, summary_json, sub_steps_json,
      last_measurement_id, last_evaluation_id, last_limit_evaluation_id, last_event_id)
     SELECT run_id, name,
       1 + (SELECT COUNT(*) FROM stage_attempts WHERE run_id = ?1 AND stage_name = ?2),
       state, started_at, completed_at, summary_json, ?3,
       COALESCE((SELECT MAX(id) FROM measurements), 0),
       COALESCE((SELECT MAX(id) FROM threshold_evaluations), 0),
       COALESCE((SELECT MAX(id) FROM hardware_limit_evaluations), 0),
       COALESCE((SELECT MAX(id) FROM events), 0)
     FROM stages WHERE run_id = ?1 AND name = ?2";
const LIST: &str = "SELECT * FROM stage_attempts WHERE run_id = ?1 ORDER BY id";
const RESET: &str = "UPDATE stages SET state = 'pending', started_at = NULL, completed_at = NULL,
     summary_json = NULL WHERE run_id = ?1 AND name = ?2";
const FORGET_SUB_STEPS: &str = "DELETE FROM sub_steps WHERE run_id = ?1 AND stage_name = ?2";

const TOLD: &str = "SELECT EXISTS (SELECT 1 FROM events WHERE run_id = ?1 AND kind = ?2 AND id > COALESCE(
     (SELECT MAX(last_event_id) FROM stage_attempts WHERE run_id = ?1 AND stage_name = ?3), 0))";

/// Makes a stage pending again. How it had ended is kept, if it had begun; its samples no longer decide, nor do the
/// differences that SpecValidate found: a waiver stands for those that are found again.
pub fn begin_again(connection: &Connection, run: RunId, stage: &StageRow) -> Result<(), StoreError> {
    let name = stage.name.as_str();
    if stage.started_at_ms.is_some() {
        let sub_steps: Vec<Value> = stage.sub_steps.iter().map(sub_step_json).collect();
        let sub_steps = Value::from(sub_steps).to_string();
        connection.prepare_cached(INSERT)?.execute(params![run.0, name, sub_steps])?;
    }
    connection.prepare_cached(FORGET_SUB_STEPS)?.execute(params![run.0, name])?;
    connection.prepare_cached(RESET)?.execute(params![run.0, name])?;
    if stage.name == StageName::SpecValidate {
        diffs::replace(connection, run, &[])?;
    }
    reboots::forget(connection, run, stage.name)
}

fn sub_step_json(sub_step: &stages::SubStepRow) -> Value {
    json!({
        "ordinal": sub_step.ordinal,
        "name": sub_step.name,
        "state": sub_step.state,
        "started_at_ms": sub_step.started_at_ms,
        "completed_at_ms": sub_step.completed_at_ms,
        "summary": sub_step.summary,
    })
}

/// Whether the log has a line of that kind from the attempt that counts.
pub fn told_since(
    connection: &Connection,
    run: RunId,
    stage: StageName,
    kind: &str,
) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached(TOLD)?;
    Ok(statement.query_row(params![run.0, kind, stage.as_str()], |row| row.get(0))?)
}

/// Every earlier attempt of a run's stages, oldest first.
pub fn list(connection: &Connection, run: RunId) -> Result<Vec<AttemptRow>, StoreError> {
    connection
        .prepare_cached(LIST)?
        .query_and_then([run.0], |row| {
            Ok(AttemptRow {
                stage: row::parsed(row, ("stage_attempts", "stage_name"))?,
                attempt: row::integer(row, ("stage_attempts", "attempt"))?,
                state: row::parsed(row, ("stage_attempts", "state"))?,
                started_at_ms: row::time_or_null(row, ("stage_attempts", "started_at"))?,
                completed_at_ms: row::time_or_null(row, ("stage_attempts", "completed_at"))?,
                summary: row::json_or_null(row, ("stage_attempts", "summary_json"))?,
            })
        })?
        .collect()
}
