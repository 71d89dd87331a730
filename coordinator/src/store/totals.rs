//! Counts over whole tables, for those who watch the coordinator.

use std::collections::HashMap;

use rusqlite::params;
use vetting_protocol::ids::RunId;
use vetting_protocol::run::{RunResult, RunState};

use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;

const RUNS: &str = "SELECT state, result, COUNT(*) AS count FROM runs GROUP BY state, result";
const HOSTS: &str = "SELECT COUNT(*) AS count FROM hosts";
const HOST_AGENTS: &str =
    "SELECT COUNT(*) AS count FROM host_agents JOIN hosts ON hosts.id = host_agents.host_id
     WHERE hosts.last_seen_at >= ?1";
const UNDER_WAY: &str =
    "SELECT runs.id AS id, hosts.name AS name FROM runs JOIN hosts ON hosts.id = runs.host_id
     WHERE runs.state = 'Running'";

/// What there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Runs by state and result; what is zero is left out.
    pub runs: HashMap<(RunState, Option<RunResult>), u64>,
    /// Registered machines.
    pub hosts: u64,
    /// Agents in host mode that were heard since the given moment.
    pub host_agents: u64,
    /// Runs in the state Running, with their hosts' names.
    pub under_way: Vec<(RunId, String)>,
}

/// Counts all there is; agents in host mode as far as they were heard since `since_ms`.
pub fn of_all(connection: &Connection, since_ms: i64) -> Result<Totals, StoreError> {
    let count = |sql: &'static str| -> Result<u64, StoreError> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query_and_then([], |row| row::integer(row, ("hosts", "count")))?;
        rows.next().unwrap_or(Ok(0))
    };
    let mut runs = connection.prepare_cached(RUNS)?;
    let runs = runs.query_and_then([], |row| {
        let state = row::parsed(row, ("runs", "state"))?;
        let result = row::parsed_or_null(row, ("runs", "result"))?;
        Ok::<_, StoreError>(((state, result), row::integer(row, ("runs", "count"))?))
    })?;
    let mut host_agents = connection.prepare_cached(HOST_AGENTS)?;
    let host_agents: i64 =
        host_agents.query_row(params![timestamp_text(since_ms)?], |row| row.get("count"))?;
    let mut under_way = connection.prepare_cached(UNDER_WAY)?;
    let under_way = under_way.query_and_then([], |row| {
        Ok::<_, StoreError>((RunId(row.get("id")?), row.get::<_, String>("name")?))
    })?;
    Ok(Totals {
        runs: runs.collect::<Result<_, _>>()?,
        hosts: count(HOSTS)?,
        host_agents: host_agents.unsigned_abs(),
        under_way: under_way.collect::<Result<_, _>>()?,
    })
}
