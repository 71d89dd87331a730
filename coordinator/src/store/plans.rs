//! Tables `run_plan_stages` and `run_stage_changes`: what a run was ordered with, whatever its profile says later.

use rusqlite::params;
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::plan::PlannedStage;
use vetting_protocol::profile::StageChange;

use super::{Connection, StoreError, row};

/// A stage of a run's plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanStage {
    /// Which.
    pub name: StageName,
    /// Whether the run passes only if this stage does.
    pub required: bool,
    /// Its limit and parameters; absent in runs from before they were kept.
    pub planned: Option<PlannedStage>,
}

const INSERT: &str = "INSERT INTO run_plan_stages (run_id, stage_name, ordinal, required, planned_json)
     VALUES (?1, ?2, ?3, ?4, ?5)";
const LIST: &str = "SELECT * FROM run_plan_stages WHERE run_id = ?1 ORDER BY ordinal";
const INSERT_CHANGE: &str =
    "INSERT INTO run_stage_changes (run_id, stage_name, ordinal, change, now, was, note)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const CHANGES: &str = "SELECT * FROM run_stage_changes WHERE run_id = ?1 ORDER BY ordinal";

/// Notes the stages of a new run, in the order given.
pub fn insert(connection: &Connection, run: RunId, stages: &[PlanStage]) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(INSERT)?;
    for (ordinal, stage) in (0_i64..).zip(stages) {
        // names and numbers always have a JSON form
        let planned =
            stage.planned.as_ref().map(|planned| serde_json::to_string(planned).unwrap_or_default());
        statement.execute(params![run.0, stage.name.as_str(), ordinal, stage.required, planned])?;
    }
    Ok(())
}

/// The stages of a run's plan, in order.
pub fn list(connection: &Connection, run: RunId) -> Result<Vec<PlanStage>, StoreError> {
    connection
        .prepare_cached(LIST)?
        .query_and_then([run.0], |row| {
            Ok(PlanStage {
                name: row::parsed(row, ("run_plan_stages", "stage_name"))?,
                required: row.get("required")?,
                planned: row::json_or_null(row, ("run_plan_stages", "planned_json"))?,
            })
        })?
        .collect()
}

/// Notes what the machine's spec made of the profile's stages.
pub fn insert_changes(
    connection: &Connection,
    run: RunId,
    changes: &[StageChange],
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(INSERT_CHANGE)?;
    for (ordinal, change) in (0_i64..).zip(changes) {
        let StageChange { stage, kind, now, was, note } = change;
        statement.execute(params![run.0, stage.as_str(), ordinal, kind.as_str(), now, was, note])?;
    }
    Ok(())
}

/// What the machine's spec made of the profile's stages when the run was ordered.
pub fn changes(connection: &Connection, run: RunId) -> Result<Vec<StageChange>, StoreError> {
    connection
        .prepare_cached(CHANGES)?
        .query_and_then([run.0], |row| {
            Ok(StageChange {
                stage: row::parsed(row, ("run_stage_changes", "stage_name"))?,
                kind: row::parsed(row, ("run_stage_changes", "change"))?,
                now: row.get("now")?,
                was: row.get("was")?,
                note: row.get("note")?,
            })
        })?
        .collect()
}

/// Whether a stage must pass. One that the plan does not tell of must.
pub fn requires(plan: &[PlanStage], name: StageName) -> bool {
    plan.iter().find(|stage| stage.name == name).is_none_or(|stage| stage.required)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_the_plan_does_not_tell_of_is_required() {
        let plan = [PlanStage { name: StageName::Smart, required: false, planned: None }];
        assert!(!requires(&plan, StageName::Smart));
        assert!(requires(&plan, StageName::Storage) && requires(&[], StageName::Smart));
    }
}
