//! For tests: another process at the coordinator's database, and what a coordinator that died may have left in it.

use std::path::Path;

use rusqlite::Connection;
use vetting_protocol::ids::RunId;
use vetting_protocol::run::RunState;

/// Holds the write lock, as a backup tool or a second coordinator would, until it is dropped.
#[derive(Debug)]
pub(crate) struct WriteLock {
    _connection: Connection,
}

impl WriteLock {
    pub(crate) fn take(path: &Path) -> Self {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self { _connection: connection }
    }
}

/// Does `sql` behind the coordinator's back.
pub(crate) fn execute(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(std::time::Duration::from_mins(1)).unwrap();
    connection.execute_batch(sql).unwrap();
}

/// The state of a run that is in the database.
pub(crate) fn run_state(path: &Path, run: RunId) -> RunState {
    let connection = Connection::open(path).unwrap();
    let state: String =
        connection.query_row("SELECT state FROM runs WHERE id = ?1", [run.0], |row| row.get(0)).unwrap();
    state.parse().unwrap()
}
