//! Tables `hardware_limits` and `hardware_limit_evaluations`: limits that the machine gave for its own sensors, and what
//! they said of samples. And `fallback_thresholds`: rules that stand back behind them.

use rusqlite::{Row, params};
use vetting_protocol::diff::Severity;
use vetting_protocol::ids::RunId;

use super::measurements::{BREACHES_OF_LIMITS, BreachRow, EvaluationValues, breach, insert_evaluations_into};
use super::thresholds::ThresholdOp;
use super::{Connection, StoreError, row};

/// A limit.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitValues {
    /// The quantity.
    pub kind: String,
    /// The sensor.
    pub key: String,
    /// What the value must be; never `within_pct`.
    pub op: ThresholdOp,
    /// The limit.
    pub threshold: f64,
    /// Of the quantity.
    pub unit: String,
    /// `Critical` or `Warning`.
    pub severity: Severity,
    /// Where the machine holds it.
    pub origin: String,
    /// What the sensor said when it was read.
    pub observed: Option<f64>,
    /// Why it is not believed; absent if it judges.
    pub ignored: Option<String>,
}

/// A limit of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitRow {
    /// Key.
    pub id: i64,
    /// The limit.
    pub values: LimitValues,
}

const INSERT: &str = "INSERT INTO hardware_limits
     (run_id, kind, key, op, threshold, unit, severity, origin, observed, ignored)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING RETURNING id";
const LIST: &str = "SELECT * FROM hardware_limits WHERE run_id = ?1 ORDER BY id";
const INSERT_EVALUATION: &str = "INSERT INTO hardware_limit_evaluations
     (run_id, limit_id, stage_name, kind, key, ts, observed, passed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

fn limit(row: &Row<'_>) -> Result<LimitRow, StoreError> {
    Ok(LimitRow {
        id: row.get("id")?,
        values: LimitValues {
            kind: row.get("kind")?,
            key: row.get("key")?,
            op: row::parsed(row, ("hardware_limits", "op"))?,
            threshold: row.get("threshold")?,
            unit: row.get("unit")?,
            severity: row::parsed(row, ("hardware_limits", "severity"))?,
            origin: row.get("origin")?,
            observed: row.get("observed")?,
            ignored: row.get("ignored")?,
        },
    })
}

/// Writes a limit and gives its key; none if the run has it already, from an earlier boot.
pub fn insert(connection: &Connection, run: RunId, limit: &LimitValues) -> Result<Option<i64>, StoreError> {
    let mut statement = connection.prepare_cached(INSERT)?;
    let mut rows = statement.query(params![
        run.0,
        limit.kind,
        limit.key,
        limit.op.as_str(),
        limit.threshold,
        limit.unit,
        limit.severity.as_str(),
        limit.origin,
        limit.observed,
        limit.ignored
    ])?;
    Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
}

/// The limits of a run, in the order they came.
pub fn list(connection: &Connection, run: RunId) -> Result<Vec<LimitRow>, StoreError> {
    connection.prepare_cached(LIST)?.query_and_then([run.0], limit)?.collect()
}

/// Writes what limits said; `threshold_id` is the limit's key.
///
/// # Errors
/// [`StoreError::Time`] for a sample of a year without four digits.
pub fn insert_evaluations(
    connection: &Connection,
    run: RunId,
    evaluations: &[EvaluationValues],
) -> Result<(), StoreError> {
    insert_evaluations_into(INSERT_EVALUATION, connection, run, evaluations)
}

/// The breaches of a run's limits, one entry a limit, stage and key, in the order they began.
pub fn breaches(connection: &Connection, run: RunId) -> Result<Vec<BreachRow>, StoreError> {
    connection.prepare_cached(BREACHES_OF_LIMITS)?.query_and_then([run.0], breach)?.collect()
}
