//! Table `events`: the event log.

use rusqlite::{Row, params};
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::{HostId, RunId};

use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;

/// A new line.
#[derive(Debug, Clone, PartialEq)]
pub struct EventValues {
    /// The run it belongs to.
    pub run_id: Option<RunId>,
    /// The host it belongs to; a line of a run is stored with the run's.
    pub host_id: Option<HostId>,
    /// Ms since the epoch.
    pub ts_ms: i64,
    /// How grave.
    pub level: EventLevel,
    /// A stable word.
    pub kind: String,
    /// In words.
    pub message: String,
    /// More of it.
    pub data: Option<serde_json::Value>,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// Key; rises with each line.
    pub id: i64,
    /// The line.
    pub values: EventValues,
}

const INSERT: &str = "INSERT INTO events (run_id, host_id, ts, level, kind, message, data_json)
     VALUES (?1, COALESCE(?2, (SELECT host_id FROM runs WHERE id = ?1)), ?3, ?4, ?5, ?6, ?7)";
const AFTER: &str = "SELECT * FROM events WHERE id > ?1 AND kind GLOB ?2 ORDER BY id LIMIT ?3";
const LATEST: &str = "SELECT * FROM (SELECT * FROM events ORDER BY id DESC LIMIT ?1) ORDER BY id";
const LAST_ID: &str = "SELECT COALESCE(max(id), 0) FROM events";
const OF_RUN: &str =
    "SELECT * FROM events WHERE run_id = ?4 AND id > ?1 AND kind GLOB ?2 ORDER BY id LIMIT ?3";
const OF_HOST: &str =
    "SELECT * FROM events WHERE host_id = ?4 AND id > ?1 AND kind GLOB ?2 ORDER BY id LIMIT ?3";

/// Whose lines are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// All there are.
    All,
    /// Those of a run.
    Run(RunId),
    /// Those of a host, its runs' among them.
    Host(HostId),
}

/// A line that is no run's and no host's.
pub fn of_box(level: EventLevel, kind: &str, message: String, ts_ms: i64) -> EventValues {
    EventValues { run_id: None, host_id: None, ts_ms, level, kind: kind.to_owned(), message, data: None }
}

/// Adds a line about what an operator did that is no run's.
pub fn note(connection: &Connection, ts_ms: i64, kind: &str, message: String) -> Result<(), StoreError> {
    insert(connection, &of_box(EventLevel::Info, kind, message, ts_ms)).map(drop)
}

fn event(row: &Row<'_>) -> Result<EventRow, StoreError> {
    Ok(EventRow {
        id: row.get("id")?,
        values: EventValues {
            run_id: row.get::<_, Option<i64>>("run_id")?.map(RunId),
            host_id: row.get::<_, Option<i64>>("host_id")?.map(HostId),
            ts_ms: row::time(row, ("events", "ts"))?,
            level: row::parsed(row, ("events", "level"))?,
            kind: row.get("kind")?,
            message: row.get("message")?,
            data: row::json_or_null(row, ("events", "data_json"))?,
        },
    })
}

/// Adds a line and gives its key.
pub fn insert(connection: &Connection, event: &EventValues) -> Result<i64, StoreError> {
    connection.prepare_cached(INSERT)?.execute(params![
        event.run_id.map(|id| id.0),
        event.host_id.map(|id| id.0),
        timestamp_text(event.ts_ms)?,
        event.level.as_str(),
        event.kind,
        event.message,
        event.data.as_ref().map(serde_json::Value::to_string),
    ])?;
    Ok(connection.last_insert_rowid())
}

/// The first `limit` lines after the line `after`, in order; 0 for the beginning. `kind` is a glob of SQLite.
pub fn select(
    connection: &Connection,
    of: Of,
    kind: &str,
    after: i64,
    limit: u32,
) -> Result<Vec<EventRow>, StoreError> {
    let (sql, key) = match of {
        Of::All => {
            let mut statement = connection.prepare_cached(AFTER)?;
            return statement.query_and_then(params![after, kind, limit], event)?.collect();
        }
        Of::Run(run) => (OF_RUN, run.0),
        Of::Host(host) => (OF_HOST, host.0),
    };
    connection.prepare_cached(sql)?.query_and_then(params![after, kind, limit, key], event)?.collect()
}

/// The first `limit` lines after the line `after`, in order; 0 for the beginning.
pub fn after(connection: &Connection, after: i64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
    select(connection, Of::All, "*", after, limit)
}

/// The key of the newest line; 0 while there is none.
pub fn last_id(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.prepare_cached(LAST_ID)?.query_row([], |row| row.get(0))?)
}

const NEWEST: &str = "SELECT * FROM events WHERE id < ?1 AND kind GLOB ?2 ORDER BY id DESC LIMIT ?3";
const NEWEST_OF_RUN: &str =
    "SELECT * FROM events WHERE run_id = ?4 AND id < ?1 AND kind GLOB ?2 ORDER BY id DESC LIMIT ?3";
const NEWEST_OF_HOST: &str =
    "SELECT * FROM events WHERE host_id = ?4 AND id < ?1 AND kind GLOB ?2 ORDER BY id DESC LIMIT ?3";

/// The last `limit` lines before the line `before`, the newest first. `kind` is a glob of SQLite.
pub fn newest(
    connection: &Connection,
    of: Of,
    kind: &str,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<EventRow>, StoreError> {
    let before = before.unwrap_or(i64::MAX);
    let (sql, key) = match of {
        Of::All => {
            let mut statement = connection.prepare_cached(NEWEST)?;
            return statement.query_and_then(params![before, kind, limit], event)?.collect();
        }
        Of::Run(run) => (NEWEST_OF_RUN, run.0),
        Of::Host(host) => (NEWEST_OF_HOST, host.0),
    };
    connection.prepare_cached(sql)?.query_and_then(params![before, kind, limit, key], event)?.collect()
}

/// The last `limit` lines, in order.
pub fn latest(connection: &Connection, limit: u32) -> Result<Vec<EventRow>, StoreError> {
    connection.prepare_cached(LATEST)?.query_and_then([limit], event)?.collect()
}

/// The first `limit` lines of a run after the line `after`, in order.
pub fn of_run(
    connection: &Connection,
    run: RunId,
    after: i64,
    limit: u32,
) -> Result<Vec<EventRow>, StoreError> {
    select(connection, Of::Run(run), "*", after, limit)
}
