//! Tables `run_components` and `run_metrics`: which part was where, and the figures by which siblings are compared.

use rusqlite::{Row, params};
use vetting_protocol::ids::RunId;

use super::{Connection, StoreError};

/// A part with a serial number, in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentRow {
    /// The run.
    pub run: RunId,
    /// `disk`, `dimm`, ….
    pub kind: String,
    /// Serial number.
    pub serial: String,
    /// Model or part number.
    pub model: Option<String>,
    /// Slot or kernel name.
    pub place: String,
}

/// What the samples of a quantity in a stage lie between.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeRow {
    /// `*` between stages.
    pub stage_name: String,
    /// The quantity.
    pub kind: String,
    /// Which one.
    pub key: String,
    /// The least value.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// Its unit.
    pub unit: String,
}

/// A figure of a run: the worst value of a quantity in a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRow {
    /// `*` between stages.
    pub stage_name: String,
    /// The quantity.
    pub kind: String,
    /// Which one.
    pub key: String,
    /// The worst value.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

/// Runs of siblings that are looked at, the newest.
const SIBLINGS: u32 = 40;

const FORGET: &str = "DELETE FROM run_components WHERE run_id = ?1";
const INSERT: &str =
    "INSERT INTO run_components (run_id, kind, serial, model, place) VALUES (?1, ?2, ?3, ?4, ?5)
     ON CONFLICT DO NOTHING";
const BY_SERIAL: &str = "SELECT * FROM run_components WHERE serial = ?1 AND run_id IN
       (SELECT DISTINCT run_id FROM run_components WHERE serial = ?1 AND run_id < ?2 ORDER BY run_id DESC LIMIT ?3)
     ORDER BY run_id DESC, kind";
const EARLIER: &str = "SELECT o.* FROM run_components AS o
     JOIN run_components AS c ON c.serial = o.serial AND c.kind = o.kind
     JOIN runs AS mine ON mine.id = c.run_id JOIN runs AS other ON other.id = o.run_id
     WHERE c.run_id = ?1 AND o.run_id < ?1 AND other.host_id <> mine.host_id ORDER BY o.run_id DESC LIMIT ?2";
const RANGES: &str =
    "SELECT COALESCE(s.name, '*') AS stage_name, m.kind, m.key, MIN(m.value) AS least, MAX(m.value) AS greatest,
       COALESCE(m.unit, '') AS unit
     FROM measurements AS m LEFT JOIN stages AS s ON s.id = m.stage_id
     WHERE m.run_id = ?1 AND m.kind IN (SELECT value FROM json_each(?2)) AND m.value IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM stage_attempts AS a
         WHERE a.run_id = ?1 AND a.stage_name = s.name AND m.id <= a.last_measurement_id)
     GROUP BY s.name, m.kind, m.key, m.unit ORDER BY s.name, m.kind, m.key";
const FORGET_METRICS: &str = "DELETE FROM run_metrics WHERE run_id = ?1";
const INSERT_METRIC: &str = "INSERT INTO run_metrics (run_id, stage_name, kind, key, value, unit)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
const OF_RUN: &str = "SELECT * FROM run_metrics WHERE run_id = ?1";
const SIBLING_RUNS: &str = "SELECT MAX(r.id) AS id FROM runs AS r JOIN run_specs AS s ON s.run_id = r.id
     JOIN runs AS mine ON mine.id = ?1 JOIN run_specs AS own ON own.run_id = mine.id
     WHERE r.host_id <> mine.host_id AND r.profile = mine.profile AND r.result = 'pass'
       AND (s.model = own.model OR (own.model IS NULL AND s.model IS NULL AND s.product = own.product))
     GROUP BY r.host_id ORDER BY id DESC LIMIT ?2";

fn component(row: &Row<'_>) -> Result<ComponentRow, StoreError> {
    Ok(ComponentRow {
        run: RunId(row.get("run_id")?),
        kind: row.get("kind")?,
        serial: row.get("serial")?,
        model: row.get("model")?,
        place: row.get("place")?,
    })
}

fn range(row: &Row<'_>) -> Result<RangeRow, StoreError> {
    Ok(RangeRow {
        stage_name: row.get("stage_name")?,
        kind: row.get("kind")?,
        key: row.get("key")?,
        least: row.get("least")?,
        greatest: row.get("greatest")?,
        unit: row.get("unit")?,
    })
}

fn metric(row: &Row<'_>) -> Result<MetricRow, StoreError> {
    Ok(MetricRow {
        stage_name: row.get("stage_name")?,
        kind: row.get("kind")?,
        key: row.get("key")?,
        value: row.get("value")?,
        unit: row.get("unit")?,
    })
}

/// Writes the parts of a run in place of earlier ones.
pub fn replace(connection: &Connection, run: RunId, parts: &[ComponentRow]) -> Result<(), StoreError> {
    connection.prepare_cached(FORGET)?.execute([run.0])?;
    let mut insert = connection.prepare_cached(INSERT)?;
    for part in parts {
        insert.execute(params![run.0, part.kind, part.serial, part.model, part.place])?;
    }
    Ok(())
}

/// Where parts of a serial number were, in the newest `runs` that saw one and are older than `before`; the newest first.
pub fn by_serial(
    connection: &Connection,
    serial: &str,
    before: Option<RunId>,
    runs: u32,
) -> Result<Vec<ComponentRow>, StoreError> {
    let before = before.map_or(i64::MAX, |run| run.0);
    connection.prepare_cached(BY_SERIAL)?.query_and_then(params![serial, before, runs], component)?.collect()
}

/// Where the parts of a run were before, in other machines, the newest first.
pub fn earlier(connection: &Connection, run: RunId, limit: u32) -> Result<Vec<ComponentRow>, StoreError> {
    connection.prepare_cached(EARLIER)?.query_and_then(params![run.0, limit], component)?.collect()
}

/// What the samples of a run lie between, of these kinds. Those of a stage's attempt that another one followed are left
/// out.
pub fn ranges(connection: &Connection, run: RunId, kinds: &[&str]) -> Result<Vec<RangeRow>, StoreError> {
    let kinds = serde_json::Value::from(kinds).to_string();
    connection.prepare_cached(RANGES)?.query_and_then(params![run.0, kinds], range)?.collect()
}

/// Keeps the figures of a run.
pub fn keep_metrics(connection: &Connection, run: RunId, metrics: &[MetricRow]) -> Result<(), StoreError> {
    connection.prepare_cached(FORGET_METRICS)?.execute([run.0])?;
    let mut insert = connection.prepare_cached(INSERT_METRIC)?;
    for row in metrics {
        insert.execute(params![run.0, row.stage_name, row.kind, row.key, row.value, row.unit])?;
    }
    Ok(())
}

/// The figures of other machines of the same model: of each the newest run of this profile that passed.
pub fn of_siblings(connection: &Connection, run: RunId) -> Result<Vec<Vec<MetricRow>>, StoreError> {
    let runs: Vec<i64> = connection
        .prepare_cached(SIBLING_RUNS)?
        .query_map(params![run.0, SIBLINGS], |row| row.get("id"))?
        .collect::<Result<_, _>>()?;
    let mut statement = connection.prepare_cached(OF_RUN)?;
    runs.into_iter().map(|id| statement.query_and_then([id], metric)?.collect()).collect()
}
