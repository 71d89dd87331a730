//! Table `run_plan_stages`: what a run was ordered with, whatever its profile says later.

use rusqlite::params;
use vetting_protocol::ids::{RunId, StageName};

use super::{Connection, StoreError, row};

/// A stage of a run's plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanStage {
    /// Which.
    pub name: StageName,
    /// Whether the run passes only if this stage does.
    pub required: bool,
}

const INSERT: &str =
    "INSERT INTO run_plan_stages (run_id, stage_name, ordinal, required) VALUES (?1, ?2, ?3, ?4)";
const LIST: &str = "SELECT stage_name, required FROM run_plan_stages WHERE run_id = ?1 ORDER BY ordinal";

/// Notes the stages of a new run, in the order given.
pub fn insert(connection: &Connection, run: RunId, stages: &[PlanStage]) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(INSERT)?;
    for (ordinal, stage) in (0_i64..).zip(stages) {
        statement.execute(params![run.0, stage.name.as_str(), ordinal, stage.required])?;
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
        let plan = [PlanStage { name: StageName::Smart, required: false }];
        assert!(!requires(&plan, StageName::Smart));
        assert!(requires(&plan, StageName::Storage) && requires(&[], StageName::Smart));
    }
}
