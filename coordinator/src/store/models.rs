//! Tables `models` and `run_specs`: specs that hosts share, and the spec that each run was ordered with.

use rusqlite::{OptionalExtension as _, Row, params};
use vetting_protocol::ids::RunId;

use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;

/// A model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRow {
    /// Unique.
    pub name: String,
    /// YAML, as it was saved.
    pub expected_spec_yaml: String,
    /// Ms since the epoch.
    pub created_at_ms: i64,
    /// Ms since the epoch.
    pub updated_at_ms: i64,
}

/// What a run was ordered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSpec {
    /// The model behind it.
    pub model: Option<String>,
    /// YAML, with the model's taken in.
    pub expected_spec_yaml: String,
}

const INSERT: &str =
    "INSERT INTO models (name, expected_spec_yaml, created_at, updated_at) VALUES (?1, ?2, ?3, ?3)";
const UPDATE: &str = "UPDATE models SET expected_spec_yaml = ?2, updated_at = ?3 WHERE name = ?1";
const GET: &str = "SELECT * FROM models WHERE name = ?1";
const PAGE: &str = "SELECT * FROM models WHERE name > ?1 ORDER BY name LIMIT ?2";
const DELETE: &str = "DELETE FROM models WHERE name = ?1";
const INSERT_RUN: &str = "INSERT INTO run_specs (run_id, model, expected_spec_yaml) VALUES (?1, ?2, ?3)";
const OF_RUN: &str = "SELECT model, expected_spec_yaml FROM run_specs WHERE run_id = ?1";
const SET_PRODUCT: &str = "UPDATE run_specs SET product = ?2 WHERE run_id = ?1";

fn model(row: &Row<'_>) -> Result<ModelRow, StoreError> {
    Ok(ModelRow {
        name: row.get("name")?,
        expected_spec_yaml: row.get("expected_spec_yaml")?,
        created_at_ms: row::time(row, ("models", "created_at"))?,
        updated_at_ms: row::time(row, ("models", "updated_at"))?,
    })
}

/// What is said of a model that does not exist.
pub fn unknown(name: &str) -> StoreError {
    StoreError::not_found(format!("model {name}; `model add {name} --spec FILE` makes it"))
}

/// Notes a new model.
///
/// # Errors
/// [`StoreError::Conflict`] if there is one of that name.
pub fn insert(connection: &Connection, name: &str, yaml: &str, now_ms: i64) -> Result<(), StoreError> {
    if get(connection, name)?.is_some() {
        return Err(StoreError::conflict(format!(
            "a model named {name} exists already; `model edit` changes it"
        )));
    }
    connection.prepare_cached(INSERT)?.execute(params![name, yaml, timestamp_text(now_ms)?])?;
    Ok(())
}

/// Replaces the spec of a model.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn update(connection: &Connection, name: &str, yaml: &str, now_ms: i64) -> Result<(), StoreError> {
    let changed = connection.prepare_cached(UPDATE)?.execute(params![name, yaml, timestamp_text(now_ms)?])?;
    if changed == 0 { Err(unknown(name)) } else { Ok(()) }
}

/// A model.
pub fn get(connection: &Connection, name: &str) -> Result<Option<ModelRow>, StoreError> {
    connection.prepare_cached(GET)?.query_and_then([name], model)?.next().transpose()
}

/// Every model, by name.
pub fn list(connection: &Connection) -> Result<Vec<ModelRow>, StoreError> {
    page(connection, None, None)
}

/// Models by name after this name; at most `limit`.
pub fn page(
    connection: &Connection,
    after: Option<&str>,
    limit: Option<u32>,
) -> Result<Vec<ModelRow>, StoreError> {
    // a negative limit is none
    let values = params![after.unwrap_or_default(), limit.map_or(-1, i64::from)];
    connection.prepare_cached(PAGE)?.query_and_then(values, model)?.collect()
}

/// Forgets a model. What runs were ordered with stays.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn delete(connection: &Connection, name: &str) -> Result<(), StoreError> {
    if connection.prepare_cached(DELETE)?.execute([name])? == 0 { Err(unknown(name)) } else { Ok(()) }
}

/// Notes what a new run is ordered with.
pub fn insert_run(connection: &Connection, run: RunId, spec: &RunSpec) -> Result<(), StoreError> {
    connection.prepare_cached(INSERT_RUN)?.execute(params![run.0, spec.model, spec.expected_spec_yaml])?;
    Ok(())
}

/// What a run was ordered with; absent for one that is older than this table.
pub fn of_run(connection: &Connection, run: RunId) -> Result<Option<RunSpec>, StoreError> {
    let mut statement = connection.prepare_cached(OF_RUN)?;
    let found = statement.query_row([run.0], |row| {
        Ok(RunSpec { model: row.get("model")?, expected_spec_yaml: row.get("expected_spec_yaml")? })
    });
    Ok(found.optional()?)
}

/// Notes what the machine of a run calls itself.
pub fn set_product(connection: &Connection, run: RunId, product: &str) -> Result<(), StoreError> {
    connection.prepare_cached(SET_PRODUCT)?.execute(params![run.0, product])?;
    Ok(())
}
