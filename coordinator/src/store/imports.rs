//! Table `imported_runs`: which runs came from machines that worked without a coordinator.

use rusqlite::{OptionalExtension as _, params};
use vetting_protocol::ids::RunId;

use super::{Connection, StoreError};
use crate::clock::timestamp_text;

const INSERT: &str = "INSERT INTO imported_runs (uuid, run_id, imported_at) VALUES (?1, ?2, ?3)";
const FIND: &str = "SELECT run_id FROM imported_runs WHERE uuid = ?1";

/// Notes that a run was imported.
pub fn insert(connection: &Connection, uuid: &str, run: RunId, now_ms: i64) -> Result<(), StoreError> {
    connection.prepare_cached(INSERT)?.execute(params![uuid, run.0, timestamp_text(now_ms)?])?;
    Ok(())
}

/// The run that was imported under this uuid.
pub fn find(connection: &Connection, uuid: &str) -> Result<Option<RunId>, StoreError> {
    let mut statement = connection.prepare_cached(FIND)?;
    Ok(statement.query_row([uuid], |row| row.get(0).map(RunId)).optional()?)
}

const IS_IMPORTED: &str = "SELECT EXISTS (SELECT 1 FROM imported_runs WHERE run_id = ?1)";

/// Whether a run was imported.
pub fn is_imported(connection: &Connection, run: RunId) -> Result<bool, StoreError> {
    Ok(connection.prepare_cached(IS_IMPORTED)?.query_row([run.0], |row| row.get(0))?)
}
