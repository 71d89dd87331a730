//! Tables `measurements` and `threshold_evaluations`: samples, what the rules said of them, and what charts and
//! reports ask of both.

use std::collections::BTreeMap;
use std::ops::Range;

use rusqlite::{Row, params};
use vetting_protocol::diff::Severity;
use vetting_protocol::ids::RunId;
use vetting_protocol::measurement::Measurement;

use super::thresholds::ThresholdOp;
use super::{Connection, StoreError, row};
use crate::clock::{timestamp_ms, timestamp_text};

/// A new sample.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasurementValues {
    /// Key of its stage; absent between stages.
    pub stage_id: Option<i64>,
    /// Ms since the epoch.
    pub ts_ms: i64,
    /// The quantity.
    pub kind: String,
    /// Which one.
    pub key: String,
    /// The value; absent when the sensor gave none.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: String,
}

/// What a rule said of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationValues {
    /// The rule.
    pub threshold_id: i64,
    /// The stage it happened in; empty between stages.
    pub stage_name: String,
    /// The quantity.
    pub kind: String,
    /// Which one.
    pub key: String,
    /// Ms since the epoch.
    pub ts_ms: i64,
    /// The value.
    pub observed: f64,
    /// Within the rule.
    pub passed: bool,
}

/// A rule's breaches by one key in one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct BreachRow {
    /// The rule's key.
    pub threshold_id: i64,
    /// The stage they happened in.
    pub stage_name: String,
    /// The quantity.
    pub kind: String,
    /// Which one.
    pub key: String,
    /// What the value had to be.
    pub op: ThresholdOp,
    /// The limit.
    pub threshold: f64,
    /// For `within_pct`.
    pub nominal: f64,
    /// Of the rule.
    pub unit: String,
    /// How much it weighs.
    pub severity: Severity,
    /// The value farthest from where it had to be.
    pub worst: f64,
    /// How many.
    pub samples: u64,
    /// When the first was, ms since the epoch.
    pub first_ts_ms: i64,
}

/// The course of one quantity for a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Which one.
    pub key: String,
    /// Its unit.
    pub unit: String,
    /// In order of time; spans without a sample are left out.
    pub points: Vec<SeriesPoint>,
}

/// The samples of one span of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeriesPoint {
    /// The first sample's, ms since the epoch.
    pub ts_ms: i64,
    /// The least value.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

const INSERT: &str = "INSERT INTO measurements (run_id, stage_id, ts, kind, key, value, unit)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const INSERT_EVALUATION: &str = "INSERT INTO threshold_evaluations
     (run_id, threshold_id, stage_name, kind, key, ts, observed, passed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const EVERY: &str = "SELECT m.ts, m.kind, m.key, m.value, m.unit, s.name
     FROM measurements AS m LEFT JOIN stages AS s ON s.id = m.stage_id WHERE m.run_id = ?1
       AND NOT EXISTS (SELECT 1 FROM stage_attempts AS a
         WHERE a.run_id = ?1 AND a.stage_name = s.name AND m.id <= a.last_measurement_id)
     ORDER BY m.id";
const PAGE: &str = "SELECT m.id, m.ts, m.kind, m.key, m.value, m.unit, s.name
     FROM measurements AS m LEFT JOIN stages AS s ON s.id = m.stage_id
     WHERE m.run_id = ?1 AND m.id > ?2 ORDER BY m.id LIMIT ?3";
/// How far back [`last_of_each`] looks: sensors are sampled far more often.
const LAST_SPAN_MS: i64 = 120_000;
// of a group with MAX (here the row that came last), SQLite takes the other columns from the row that has it
const LAST_OF_EACH: &str = "SELECT key, value, unit, ts, MAX(id) FROM measurements
     WHERE run_id = ?1 AND kind = ?2 AND ts >= ?3 AND value IS NOT NULL GROUP BY key ORDER BY key";
const ADD_TO_COUNT: &str = "INSERT INTO run_sample_counts (run_id, samples) VALUES (?1, ?2)
     ON CONFLICT (run_id) DO UPDATE SET samples = samples + excluded.samples";
const COUNT: &str = "SELECT COALESCE(SUM(samples), 0) FROM run_sample_counts WHERE run_id = ?1";
const COUNT_EVALUATIONS: &str = "SELECT COUNT(*) FROM threshold_evaluations WHERE run_id = ?1";
/// Two questions, since SQLite looks up one end of an index, but reads all of it for both at once.
pub(super) const SPAN: &str = "SELECT
       (SELECT MIN(ts) FROM measurements WHERE run_id = ?1 AND kind = ?2),
       (SELECT MAX(ts) FROM measurements WHERE run_id = ?1 AND kind = ?2)";
const SERIES: &str = "SELECT ts, key, value, unit FROM measurements
     WHERE run_id = ?1 AND kind = ?2 AND value IS NOT NULL ORDER BY ts, id";
const BREACHES: &str =
    "SELECT e.threshold_id, e.stage_name, e.kind, e.key, t.op, t.threshold, t.nominal, t.unit,
       t.severity, MIN(e.observed) AS least, MAX(e.observed) AS greatest, COUNT(*) AS samples, MIN(e.ts) AS ts
     FROM threshold_evaluations AS e JOIN thresholds AS t ON t.id = e.threshold_id
     WHERE e.run_id = ?1 AND e.passed = 0
       AND NOT EXISTS (SELECT 1 FROM stage_attempts AS a
         WHERE a.run_id = ?1 AND a.stage_name = e.stage_name AND e.id <= a.last_evaluation_id)
     GROUP BY e.threshold_id, e.stage_name, e.kind, e.key ORDER BY ts, e.threshold_id, e.key";
pub(super) const BREACHES_OF_LIMITS: &str =
    "SELECT e.limit_id AS threshold_id, e.stage_name, e.kind, e.key, t.op, t.threshold, 0.0 AS nominal, t.unit,
       t.severity, MIN(e.observed) AS least, MAX(e.observed) AS greatest, COUNT(*) AS samples, MIN(e.ts) AS ts
     FROM hardware_limit_evaluations AS e JOIN hardware_limits AS t ON t.id = e.limit_id
     WHERE e.run_id = ?1 AND e.passed = 0
       AND NOT EXISTS (SELECT 1 FROM stage_attempts AS a
         WHERE a.run_id = ?1 AND a.stage_name = e.stage_name AND e.id <= a.last_limit_evaluation_id)
     GROUP BY e.limit_id, e.stage_name, e.kind, e.key ORDER BY ts, e.limit_id, e.key";

/// Samples of one moment come together: their time is written once.
struct TimeText {
    ms: i64,
    text: String,
}

impl TimeText {
    fn new() -> Result<Self, StoreError> {
        Ok(Self { ms: 0, text: timestamp_text(0)? })
    }

    fn of(&mut self, ms: i64) -> Result<&str, StoreError> {
        if ms != self.ms {
            self.text = timestamp_text(ms)?;
            self.ms = ms;
        }
        Ok(&self.text)
    }
}

/// Writes samples and gives their keys, which follow each other in the order of `samples`.
///
/// # Errors
/// [`StoreError::Time`] for a sample of a year without four digits.
pub fn insert(
    connection: &Connection,
    run: RunId,
    samples: &[MeasurementValues],
) -> Result<Range<i64>, StoreError> {
    let mut statement = connection.prepare_cached(INSERT)?;
    let mut time = TimeText::new()?;
    let mut ids = 0..0;
    for sample in samples {
        let id = statement.insert(params![
            run.0,
            sample.stage_id,
            time.of(sample.ts_ms)?,
            sample.kind,
            sample.key,
            sample.value,
            sample.unit
        ])?;
        if ids.is_empty() {
            ids.start = id;
        }
        ids.end = id + 1;
    }
    if !samples.is_empty() {
        let added = row::signed(samples.len() as u64, "run_sample_counts.samples")?;
        connection.prepare_cached(ADD_TO_COUNT)?.execute(params![run.0, added])?;
    }
    Ok(ids)
}

/// Writes what the rules said.
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

/// The same for any table of evaluations.
pub(super) fn insert_evaluations_into(
    sql: &'static str,
    connection: &Connection,
    run: RunId,
    evaluations: &[EvaluationValues],
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut time = TimeText::new()?;
    for evaluation in evaluations {
        statement.execute(params![
            run.0,
            evaluation.threshold_id,
            evaluation.stage_name,
            evaluation.kind,
            evaluation.key,
            time.of(evaluation.ts_ms)?,
            evaluation.observed,
            evaluation.passed
        ])?;
    }
    Ok(())
}

/// Gives every sample of a run to `take`, in the order they came, but for those of stages that were run again later.
pub fn for_each(
    connection: &Connection,
    run: RunId,
    mut take: impl FnMut(Measurement),
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(EVERY)?;
    let mut rows = statement.query([run.0])?;
    while let Some(row) = rows.next()? {
        take(sample(row)?);
    }
    Ok(())
}

fn sample(row: &Row<'_>) -> Result<Measurement, StoreError> {
    Ok(Measurement {
        ts_ms: row::time(row, ("measurements", "ts"))?,
        stage: row::parsed_or_null(row, ("stages", "name"))?,
        kind: row.get("kind")?,
        key: row.get("key")?,
        value: row.get("value")?,
        unit: row.get::<_, Option<String>>("unit")?.unwrap_or_default(),
    })
}

/// The samples of a run with a greater key than `after`, at most `limit`, those of earlier attempts among them.
pub fn page(
    connection: &Connection,
    run: RunId,
    after: i64,
    limit: u32,
) -> Result<Vec<(i64, Measurement)>, StoreError> {
    connection
        .prepare_cached(PAGE)?
        .query_and_then(params![run.0, after, limit], |row| Ok((row.get("id")?, sample(row)?)))?
        .collect()
}

/// The newest sample of a sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct LastSample {
    /// When it was taken, ms since the epoch.
    pub ts_ms: i64,
    /// The quantity.
    pub kind: String,
    /// Which one.
    pub key: String,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

/// The newest sample with a value of each sensor of these kinds, as far as it was taken within `LAST_SPAN_MS` of the
/// kind's newest.
pub fn last_of_each(
    connection: &Connection,
    run: RunId,
    kinds: &[&str],
) -> Result<Vec<LastSample>, StoreError> {
    let mut newest = Vec::new();
    for kind in kinds {
        let end: (Option<String>, Option<String>) = connection
            .prepare_cached(SPAN)?
            .query_row(params![run.0, kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (_, Some(end)) = end else { continue };
        let since = timestamp_text(stored_time(end)?.saturating_sub(LAST_SPAN_MS))?;
        let mut statement = connection.prepare_cached(LAST_OF_EACH)?;
        let found = statement.query_and_then(params![run.0, kind, since], |row| {
            Ok::<_, StoreError>(LastSample {
                ts_ms: row::time(row, ("measurements", "ts"))?,
                kind: (*kind).to_owned(),
                key: row.get("key")?,
                value: row.get("value")?,
                unit: row.get::<_, Option<String>>("unit")?.unwrap_or_default(),
            })
        })?;
        newest.extend(found.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(newest)
}

/// How many samples a run has.
pub fn count(connection: &Connection, run: RunId) -> Result<u64, StoreError> {
    counted(connection, COUNT, run)
}

/// How many evaluations a run has.
pub fn count_evaluations(connection: &Connection, run: RunId) -> Result<u64, StoreError> {
    counted(connection, COUNT_EVALUATIONS, run)
}

fn counted(connection: &Connection, sql: &'static str, run: RunId) -> Result<u64, StoreError> {
    let count: i64 = connection.prepare_cached(sql)?.query_row([run.0], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

fn stored_time(text: String) -> Result<i64, StoreError> {
    timestamp_ms(&text).map_err(|_| StoreError::UnknownText {
        table: "measurements",
        column: "ts",
        found: text,
    })
}

/// The course of every key of a quantity such as `temp`, by key. The run's time is cut into `spans` equal spans;
/// of each the extremes are kept, so that no peak is lost.
pub fn series(
    connection: &Connection,
    run: RunId,
    kind: &str,
    spans: u32,
) -> Result<Vec<Series>, StoreError> {
    let ends: (Option<String>, Option<String>) = connection
        .prepare_cached(SPAN)?
        .query_row(params![run.0, kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = ends else { return Ok(Vec::new()) };
    let (first, last) = (stored_time(first)?, stored_time(last)?);
    let length = i128::from(last - first) + 1;
    let span_of = |ms: i64| i128::from(ms - first) * i128::from(spans.max(1)) / length;

    let mut by_key: BTreeMap<String, (i128, Series)> = BTreeMap::new();
    let mut statement = connection.prepare_cached(SERIES)?;
    let mut rows = statement.query(params![run.0, kind])?;
    while let Some(row) = rows.next()? {
        let ts_ms = row::time(row, ("measurements", "ts"))?;
        let key: String = row.get("key")?;
        let value: f64 = row.get("value")?;
        let (span, point) = (span_of(ts_ms), SeriesPoint { ts_ms, min: value, max: value });
        if let Some((current, series)) = by_key.get_mut(&key) {
            match series.points.last_mut() {
                Some(last) if *current == span => {
                    last.min = last.min.min(value);
                    last.max = last.max.max(value);
                }
                Some(_) | None => {
                    series.points.push(point);
                    *current = span;
                }
            }
        } else {
            let unit = row.get::<_, Option<String>>("unit")?.unwrap_or_default();
            by_key.insert(key.clone(), (span, Series { key, unit, points: vec![point] }));
        }
    }
    Ok(by_key.into_values().map(|(_, series)| series).collect())
}

pub(super) fn breach(row: &Row<'_>) -> Result<BreachRow, StoreError> {
    let op = row::parsed(row, ("thresholds", "op"))?;
    let nominal: f64 = row.get("nominal")?;
    let (least, greatest): (f64, f64) = (row.get("least")?, row.get("greatest")?);
    Ok(BreachRow {
        threshold_id: row.get("threshold_id")?,
        stage_name: row.get("stage_name")?,
        kind: row.get("kind")?,
        key: row.get("key")?,
        op,
        threshold: row.get("threshold")?,
        nominal,
        unit: row.get("unit")?,
        severity: row::parsed(row, ("thresholds", "severity"))?,
        worst: match op {
            ThresholdOp::Gt | ThresholdOp::Gte => least,
            ThresholdOp::WithinPct if (least - nominal).abs() > (greatest - nominal).abs() => least,
            ThresholdOp::Lt | ThresholdOp::Lte | ThresholdOp::WithinPct => greatest,
        },
        samples: row::integer(row, ("threshold_evaluations", "samples"))?,
        first_ts_ms: row::time(row, ("threshold_evaluations", "ts"))?,
    })
}

/// The breaches of a run that count (not those of stages that were run again later), one entry a rule, stage and key, in the order they began.
pub fn breaches(connection: &Connection, run: RunId) -> Result<Vec<BreachRow>, StoreError> {
    connection.prepare_cached(BREACHES)?.query_and_then([run.0], breach)?.collect()
}
