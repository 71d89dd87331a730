//! Table `unexplained_crashes`: what was known of a crash when it was noticed, until it is explained.

use rusqlite::params;
use serde_json::Value;
use vetting_protocol::ids::RunId;

use super::{Connection, StoreError, row};

const GET: &str = "SELECT traces_json FROM unexplained_crashes WHERE run_id = ?1";
const SET: &str = "INSERT INTO unexplained_crashes (run_id, traces_json) VALUES (?1, ?2)
     ON CONFLICT (run_id) DO UPDATE SET traces_json = excluded.traces_json";
const REMOVE: &str = "DELETE FROM unexplained_crashes WHERE run_id = ?1";

/// What is known of the crash of a run, while it is not explained.
pub fn get(connection: &Connection, run: RunId) -> Result<Option<Value>, StoreError> {
    connection
        .prepare_cached(GET)?
        .query_and_then([run.0], |found| row::json(found, ("unexplained_crashes", "traces_json")))?
        .next()
        .transpose()
}

/// Notes what is known of a crash.
pub fn set(connection: &Connection, run: RunId, traces: &Value) -> Result<(), StoreError> {
    connection.prepare_cached(SET)?.execute(params![run.0, traces.to_string()])?;
    Ok(())
}

/// A crash is explained.
pub fn remove(connection: &Connection, run: RunId) -> Result<(), StoreError> {
    connection.prepare_cached(REMOVE)?.execute([run.0])?;
    Ok(())
}
