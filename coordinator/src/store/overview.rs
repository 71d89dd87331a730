//! What the web page shows of many machines at once: one statement for all of them, however many there are.

use rusqlite::{Row, params};
use vetting_protocol::ids::{HostId, MacAddress, RunId};
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::{RunResult, RunState};

use super::{Connection, StoreError, row};

/// A machine in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLine {
    /// Key.
    pub id: HostId,
    /// Unique.
    pub name: String,
    /// The card it boots from.
    pub mac: MacAddress,
    /// Operator's.
    pub notes: String,
    /// The model its newest run was ordered with, or else what the machine calls itself.
    pub model: Option<String>,
    /// Its newest run.
    pub run: Option<RunLine>,
}

/// The newest run of a machine in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLine {
    /// Key.
    pub id: RunId,
    /// Where it stands.
    pub state: RunState,
    /// Its result, once it has one.
    pub result: Option<RunResult>,
    /// The profile.
    pub profile: ProfileName,
    /// The stage that halted the pipeline.
    pub failed_stage: Option<String>,
    /// Ms since the epoch.
    pub started_at_ms: i64,
    /// Ms since the epoch.
    pub completed_at_ms: Option<i64>,
    /// The stage under way.
    pub stage: Option<String>,
    /// Stages that are over.
    pub stages_over: u32,
    /// Stages of its plan.
    pub stages: u32,
}

const HOSTS: &str = "SELECT h.id AS host_id, h.name, h.mac, h.notes, COALESCE(p.model, p.product) AS model,
       r.id AS run_id, r.state, r.result, r.profile, r.failed_stage, r.started_at, r.completed_at,
       (SELECT name FROM stages WHERE run_id = r.id AND state = 'running' ORDER BY ordinal LIMIT 1) AS stage,
       (SELECT COUNT(*) FROM stages WHERE run_id = r.id AND state NOT IN ('pending', 'running')) AS stages_over,
       (SELECT COUNT(*) FROM stages WHERE run_id = r.id) AS stages
     FROM hosts AS h
     LEFT JOIN runs AS r ON r.id = (SELECT MAX(id) FROM runs WHERE host_id = h.id)
     LEFT JOIN run_specs AS p ON p.run_id = r.id
     ORDER BY h.name";

fn run_line(row: &Row<'_>) -> Result<Option<RunLine>, StoreError> {
    let Some(id) = row.get::<_, Option<i64>>("run_id")? else { return Ok(None) };
    Ok(Some(RunLine {
        id: RunId(id),
        state: row::parsed(row, ("runs", "state"))?,
        result: row::parsed_or_null(row, ("runs", "result"))?,
        profile: row::parsed(row, ("runs", "profile"))?,
        failed_stage: row.get("failed_stage")?,
        started_at_ms: row::time(row, ("runs", "started_at"))?,
        completed_at_ms: row::time_or_null(row, ("runs", "completed_at"))?,
        stage: row.get("stage")?,
        stages_over: row::integer(row, ("stages", "stages_over"))?,
        stages: row::integer(row, ("stages", "stages"))?,
    }))
}

/// Every machine by name, each with its newest run.
pub fn hosts(connection: &Connection) -> Result<Vec<HostLine>, StoreError> {
    let line = |row: &Row<'_>| {
        Ok(HostLine {
            id: HostId(row.get("host_id")?),
            name: row.get("name")?,
            mac: row::parsed(row, ("hosts", "mac"))?,
            notes: row.get("notes")?,
            model: row.get("model")?,
            run: run_line(row)?,
        })
    };
    connection.prepare_cached(HOSTS)?.query_and_then([], line)?.collect()
}

/// The newest finished run of a machine of one model, with one of its figures.
#[derive(Debug, Clone, PartialEq)]
pub struct SiblingFigure {
    /// The machine.
    pub host: String,
    /// The run.
    pub run: RunId,
    /// Its result.
    pub result: Option<RunResult>,
    /// `*` between stages.
    pub stage: String,
    /// The quantity.
    pub kind: String,
    /// Which one.
    pub key: String,
    /// The largest value.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

/// Most machines that are compared, the newest runs.
pub const MOST_COMPARED: u32 = 60;

const NEWEST_OF_MODEL: &str =
    "SELECT h.name AS host, r.id AS run_id, r.result, f.stage_name, f.kind, f.key, f.value, f.unit
     FROM (SELECT MAX(r.id) AS id FROM run_specs AS s JOIN runs AS r ON r.id = s.run_id
           WHERE COALESCE(s.model, s.product) = ?1 AND r.result IS NOT NULL
           GROUP BY r.host_id ORDER BY id DESC LIMIT ?2) AS newest
     JOIN runs AS r ON r.id = newest.id JOIN hosts AS h ON h.id = r.host_id
     JOIN run_metrics AS f ON f.run_id = r.id
     ORDER BY h.name, f.stage_name, f.kind, f.key";

/// The figures of all machines of a model, each by its newest run with a result.
pub fn figures_of_model(connection: &Connection, model: &str) -> Result<Vec<SiblingFigure>, StoreError> {
    let figure = |row: &Row<'_>| {
        Ok(SiblingFigure {
            host: row.get("host")?,
            run: RunId(row.get("run_id")?),
            result: row::parsed_or_null(row, ("runs", "result"))?,
            stage: row.get("stage_name")?,
            kind: row.get("kind")?,
            key: row.get("key")?,
            value: row.get("value")?,
            unit: row.get("unit")?,
        })
    };
    connection
        .prepare_cached(NEWEST_OF_MODEL)?
        .query_and_then(params![model, MOST_COMPARED], figure)?
        .collect()
}

/// A part of a machine's newest inventory, with where else it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartLine {
    /// `disk`, `dimm`, ….
    pub kind: String,
    /// Serial number.
    pub serial: String,
    /// Model or part number.
    pub model: Option<String>,
    /// Slot or kernel name.
    pub place: String,
    /// The first run of this machine that saw it.
    pub since: RunId,
    /// Another machine that had it, the newest.
    pub before_in: Option<String>,
}

const PARTS: &str = "SELECT c.kind, c.serial, c.model, c.place,
       (SELECT MIN(o.run_id) FROM run_components AS o JOIN runs AS r ON r.id = o.run_id
        WHERE o.serial = c.serial AND o.kind = c.kind AND r.host_id = ?1) AS since,
       (SELECT h.name FROM run_components AS o JOIN runs AS r ON r.id = o.run_id JOIN hosts AS h ON h.id = r.host_id
        WHERE o.serial = c.serial AND o.kind = c.kind AND r.host_id <> ?1 ORDER BY o.run_id DESC LIMIT 1) AS before_in
     FROM run_components AS c
     WHERE c.run_id = (SELECT MAX(o.run_id) FROM run_components AS o JOIN runs AS r ON r.id = o.run_id WHERE r.host_id = ?1)
     ORDER BY c.kind, c.place, c.serial";

/// The parts with serial numbers that a machine's newest inventory told.
pub fn parts(connection: &Connection, host: HostId) -> Result<Vec<PartLine>, StoreError> {
    let part = |row: &Row<'_>| {
        Ok(PartLine {
            kind: row.get("kind")?,
            serial: row.get("serial")?,
            model: row.get("model")?,
            place: row.get("place")?,
            since: RunId(row.get("since")?),
            before_in: row.get("before_in")?,
        })
    };
    connection.prepare_cached(PARTS)?.query_and_then([host.0], part)?.collect()
}
