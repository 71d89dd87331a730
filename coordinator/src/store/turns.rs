//! Tables `turns` and `host_burn_watts`: runs that wait for their turn in a stage that draws much power, those that have
//! it, and what machines draw.

use rusqlite::{OptionalExtension as _, Row, params};
use vetting_protocol::ids::{HostId, RunId, StageName};

use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;
use crate::run::budget::Measured;

/// A run that waits or has its turn.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnRow {
    /// The run.
    pub run: RunId,
    /// The stage.
    pub stage: StageName,
    /// Of its machine's earlier runs, when it asked.
    pub measured: Option<Measured>,
    /// Ms since the epoch.
    pub asked_at_ms: i64,
    /// That it waits is in the event log.
    pub told: bool,
    /// Since when it has its turn, ms since the epoch; absent while it waits.
    pub granted_at_ms: Option<i64>,
}

/// A run under way, as the queue sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct UnderWayRow {
    /// The run.
    pub run: RunId,
    /// Name of its host.
    pub host: String,
    /// What an operator said of its power, watts.
    pub told_watts: Option<u32>,
    /// The stage that runs, and since when, ms since the epoch.
    pub running: Option<(StageName, Option<i64>)>,
    /// Its row, in the order they asked.
    pub turn: Option<TurnRow>,
}

// an agent that asks again keeps its place; asking for another stage it has none yet
const ASK: &str = "INSERT INTO turns (run_id, stage_name, measured_watts, measured_whole, asked_at)
     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (run_id) DO NOTHING";
const FORGET_OTHERS: &str = "DELETE FROM turns WHERE run_id = ?1 AND stage_name <> ?2";
const GET: &str = "SELECT * FROM turns WHERE run_id = ?1";
const GIVE_BACK: &str = "DELETE FROM turns WHERE run_id = ?1";
const END: &str = "DELETE FROM turns WHERE run_id = ?1 AND stage_name = ?2";
const GRANT: &str = "UPDATE turns SET granted_at = ?2 WHERE run_id = ?1 AND granted_at IS NULL";
const TELL: &str = "UPDATE turns SET told = 1 WHERE run_id = ?1";
const UNDER_WAY: &str =
    "SELECT r.id AS of_run, h.name AS host_name, w.watts AS told_watts, s.name AS running_stage,
            s.started_at AS running_since, t.*
     FROM runs AS r JOIN hosts AS h ON h.id = r.host_id
     LEFT JOIN turns AS t ON t.run_id = r.id
     LEFT JOIN stages AS s ON s.run_id = r.id AND s.state = 'running'
     LEFT JOIN host_burn_watts AS w ON w.host_id = h.id
     WHERE r.state IN ('Running', 'Rebooting') ORDER BY t.number, r.id";
const EARLIER: &str = "SELECT m.key, MAX(m.value) AS value FROM run_metrics AS m
     JOIN runs AS r ON r.id = m.run_id JOIN runs AS mine ON mine.host_id = r.host_id
     WHERE mine.id = ?1 AND m.kind = 'power' AND m.unit = 'watts' GROUP BY m.key";
const WATTS: &str = "SELECT watts FROM host_burn_watts WHERE host_id = ?1";
const SET_WATTS: &str = "INSERT INTO host_burn_watts (host_id, watts) VALUES (?1, ?2)
     ON CONFLICT (host_id) DO UPDATE SET watts = excluded.watts";
const CLEAR_WATTS: &str = "DELETE FROM host_burn_watts WHERE host_id = ?1";

fn turn(row: &Row<'_>) -> Result<TurnRow, StoreError> {
    let watts: Option<f64> = row.get("measured_watts")?;
    let whole: bool = row.get("measured_whole")?;
    Ok(TurnRow {
        run: RunId(row.get("run_id")?),
        stage: row::parsed(row, ("turns", "stage_name"))?,
        measured: watts.map(|watts| Measured { watts, whole }),
        asked_at_ms: row::time(row, ("turns", "asked_at"))?,
        told: row.get("told")?,
        granted_at_ms: row::time_or_null(row, ("turns", "granted_at"))?,
    })
}

/// A run asks for its turn in a stage; once more is no error.
pub fn ask(
    connection: &Connection,
    run: RunId,
    stage: StageName,
    measured: Option<Measured>,
    now_ms: i64,
) -> Result<(), StoreError> {
    connection.prepare_cached(FORGET_OTHERS)?.execute(params![run.0, stage.as_str()])?;
    connection.prepare_cached(ASK)?.execute(params![
        run.0,
        stage.as_str(),
        measured.map(|measured| measured.watts),
        measured.is_some_and(|measured| measured.whole),
        timestamp_text(now_ms)?
    ])?;
    Ok(())
}

/// The row of a run, if it waits or has its turn.
pub fn get(connection: &Connection, run: RunId) -> Result<Option<TurnRow>, StoreError> {
    connection.prepare_cached(GET)?.query_and_then([run.0], turn)?.next().transpose()
}

/// A run neither waits nor has its turn any more.
pub fn give_back(connection: &Connection, run: RunId) -> Result<(), StoreError> {
    connection.prepare_cached(GIVE_BACK)?.execute([run.0])?;
    Ok(())
}

/// A stage is over, and with it the turn that it had.
pub fn end(connection: &Connection, run: RunId, stage: StageName) -> Result<(), StoreError> {
    connection.prepare_cached(END)?.execute(params![run.0, stage.as_str()])?;
    Ok(())
}

/// A run has its turn now.
pub fn grant(connection: &Connection, run: RunId, now_ms: i64) -> Result<(), StoreError> {
    connection.prepare_cached(GRANT)?.execute(params![run.0, timestamp_text(now_ms)?])?;
    Ok(())
}

/// That a run waits was told.
pub fn set_told(connection: &Connection, run: RunId) -> Result<(), StoreError> {
    connection.prepare_cached(TELL)?.execute([run.0])?;
    Ok(())
}

/// Every run whose machine is under test or restarts, those that asked first in the order they did.
pub fn under_way(connection: &Connection) -> Result<Vec<UnderWayRow>, StoreError> {
    connection
        .prepare_cached(UNDER_WAY)?
        .query_and_then([], |row| {
            let asked: Option<i64> = row.get("run_id")?;
            let running = row::parsed_or_null(row, ("stages", "running_stage"))?;
            let since = row::time_or_null(row, ("stages", "running_since"))?;
            Ok(UnderWayRow {
                run: RunId(row.get("of_run")?),
                host: row.get("host_name")?,
                told_watts: row.get("told_watts")?,
                running: running.map(|stage| (stage, since)),
                turn: asked.map(|_| turn(row)).transpose()?,
            })
        })?
        .collect()
}

/// The largest power by key, watts, over all runs of the machine of this run that are judged.
pub fn largest_power(connection: &Connection, run: RunId) -> Result<Vec<(String, f64)>, StoreError> {
    let mut statement = connection.prepare_cached(EARLIER)?;
    Ok(statement
        .query_map([run.0], |row| Ok((row.get("key")?, row.get("value")?)))?
        .collect::<Result<_, _>>()?)
}

/// What an operator said that a machine draws, watts.
pub fn told_watts(connection: &Connection, host: HostId) -> Result<Option<u32>, StoreError> {
    Ok(connection.prepare_cached(WATTS)?.query_row([host.0], |row| row.get(0)).optional()?)
}

/// Notes what an operator says that a machine draws; `None` takes it away.
pub fn set_told_watts(connection: &Connection, host: HostId, watts: Option<u32>) -> Result<(), StoreError> {
    match watts {
        Some(watts) => connection.prepare_cached(SET_WATTS)?.execute(params![host.0, watts])?,
        None => connection.prepare_cached(CLEAR_WATTS)?.execute([host.0])?,
    };
    Ok(())
}
