//! Tables `waivers` and `run_judgements`: what operators decided not to count, and each verdict that a run had.

use rusqlite::{OptionalExtension as _, Row, params};
use vetting_protocol::ids::{FindingId, RunId};
use vetting_protocol::run::RunResult;

use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;

/// A new waiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaiverValues {
    /// Counts the run's waivers.
    pub number: i64,
    /// What it is for.
    pub finding: FindingId,
    /// The same in words.
    pub found: String,
    /// Why it does not count.
    pub reason: String,
    /// Who said so, as it was typed.
    pub operator: String,
    /// The token or user that sent it; absent for one from before that was kept.
    pub caller: Option<String>,
    /// Ms since the epoch.
    pub given_at_ms: i64,
}

/// A waiver of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaiverRow {
    /// What was given.
    pub values: WaiverValues,
    /// Taken back; absent while it stands.
    pub withdrawn: Option<WithdrawnValues>,
}

/// How a waiver was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithdrawnValues {
    /// Why.
    pub reason: String,
    /// Who said so, as it was typed.
    pub operator: String,
    /// The token or user that sent it; absent for one from before that was kept.
    pub caller: Option<String>,
    /// Ms since the epoch.
    pub at_ms: i64,
}

/// A verdict of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgementRow {
    /// Counts the run's reports.
    pub version: u32,
    /// Pass or fail.
    pub result: RunResult,
    /// The judge's verdict, as it writes it.
    pub verdict: serde_json::Value,
}

const INSERT: &str =
    "INSERT INTO waivers (run_id, number, finding, found, reason, operator, given_at, caller)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const LIST: &str = "SELECT * FROM waivers WHERE run_id = ?1 ORDER BY number";
const WITHDRAW: &str =
    "UPDATE waivers SET withdrawn_reason = ?3, withdrawn_by = ?4, withdrawn_at = ?5, withdrawn_caller = ?6
     WHERE run_id = ?1 AND number = ?2 AND withdrawn_at IS NULL";
const INSERT_JUDGEMENT: &str =
    "INSERT INTO run_judgements (run_id, version, made_at, result, verdict_json) VALUES (?1, ?2, ?3, ?4, ?5)";
const LATEST_JUDGEMENT: &str = "SELECT * FROM run_judgements WHERE run_id = ?1 ORDER BY version DESC LIMIT 1";

fn waiver(row: &Row<'_>) -> Result<WaiverRow, StoreError> {
    let withdrawn = match row::time_or_null(row, ("waivers", "withdrawn_at"))? {
        None => None,
        Some(at_ms) => Some(WithdrawnValues {
            reason: row.get("withdrawn_reason")?,
            operator: row.get("withdrawn_by")?,
            caller: row.get("withdrawn_caller")?,
            at_ms,
        }),
    };
    Ok(WaiverRow {
        values: WaiverValues {
            number: row.get("number")?,
            finding: row::parsed(row, ("waivers", "finding"))?,
            found: row.get("found")?,
            reason: row.get("reason")?,
            operator: row.get("operator")?,
            caller: row.get("caller")?,
            given_at_ms: row::time(row, ("waivers", "given_at"))?,
        },
        withdrawn,
    })
}

/// Notes a waiver.
///
/// # Errors
/// The number is taken, or another waiver of the same finding stands.
pub fn insert(connection: &Connection, run: RunId, values: &WaiverValues) -> Result<(), StoreError> {
    connection.prepare_cached(INSERT)?.execute(params![
        run.0,
        values.number,
        values.finding.to_string(),
        values.found,
        values.reason,
        values.operator,
        timestamp_text(values.given_at_ms)?,
        values.caller
    ])?;
    Ok(())
}

/// The waivers of a run, the oldest first.
pub fn list(connection: &Connection, run: RunId) -> Result<Vec<WaiverRow>, StoreError> {
    connection.prepare_cached(LIST)?.query_and_then([run.0], waiver)?.collect()
}

/// Takes a waiver back.
///
/// # Errors
/// [`StoreError::NotFound`] if there is none, or it does not stand.
pub fn withdraw(
    connection: &Connection,
    run: RunId,
    number: i64,
    values: &WithdrawnValues,
) -> Result<(), StoreError> {
    let changed = connection.prepare_cached(WITHDRAW)?.execute(params![
        run.0,
        number,
        values.reason,
        values.operator,
        timestamp_text(values.at_ms)?,
        values.caller
    ])?;
    if changed == 0 {
        return Err(StoreError::not_found(format!("standing waiver {number} of run {run}")));
    }
    Ok(())
}

/// Notes a verdict.
///
/// # Errors
/// The run has one of that version.
pub fn insert_judgement(
    connection: &Connection,
    run: RunId,
    judgement: &JudgementRow,
    now_ms: i64,
) -> Result<(), StoreError> {
    connection.prepare_cached(INSERT_JUDGEMENT)?.execute(params![
        run.0,
        judgement.version,
        timestamp_text(now_ms)?,
        judgement.result.as_str(),
        judgement.verdict.to_string()
    ])?;
    Ok(())
}

/// The newest verdict of a run; absent while it has none, and for one that was judged before verdicts were kept.
pub fn latest_judgement(connection: &Connection, run: RunId) -> Result<Option<JudgementRow>, StoreError> {
    connection
        .prepare_cached(LATEST_JUDGEMENT)?
        .query_and_then([run.0], |row| {
            Ok(JudgementRow {
                version: row::integer(row, ("run_judgements", "version"))?,
                result: row::parsed(row, ("run_judgements", "result"))?,
                verdict: row::json(row, ("run_judgements", "verdict_json"))?,
            })
        })?
        .next()
        .transpose()
}

const REPORTS: &str = "SELECT COUNT(*) FROM artifacts WHERE run_id = ?1 AND kind = 'report'";

/// The version that the next report of a run has. One that was judged before verdicts were kept has its first.
pub fn next_version(connection: &Connection, run: RunId) -> Result<u32, StoreError> {
    let reports: Option<u32> =
        connection.prepare_cached(REPORTS)?.query_row([run.0], |row| row.get(0)).optional()?;
    let judged = latest_judgement(connection, run)?.map_or(0, |judgement| judgement.version);
    Ok(judged.max(reports.unwrap_or(0)).saturating_add(1))
}
