//! Table `artifact_removals`: files that are no longer on disk, of rows that stay; and which files are old enough.

use rusqlite::{OptionalExtension as _, params};
use vetting_protocol::ids::RunId;

use super::artifacts::{ArtifactRow, artifact};
use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;

/// A file of a run that ended some time ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgedFile {
    /// Whose.
    pub run: RunId,
    /// When the run got its result, ms since the epoch.
    pub completed_at_ms: i64,
    /// The file.
    pub artifact: ArtifactRow,
}

const RUNS: &str = "SELECT DISTINCT run_id FROM artifacts JOIN runs ON runs.id = artifacts.run_id
     WHERE runs.state IN ('Completed', 'Released', 'Aborted') AND runs.completed_at < ?1
     AND NOT EXISTS (SELECT 1 FROM artifact_removals WHERE artifact_id = artifacts.id) ORDER BY run_id";
const OF_RUN: &str =
    "SELECT artifacts.*, runs.completed_at FROM artifacts JOIN runs ON runs.id = artifacts.run_id
     WHERE artifacts.run_id = ?1 AND runs.state IN ('Completed', 'Released', 'Aborted')
     AND runs.completed_at IS NOT NULL
     AND NOT EXISTS (SELECT 1 FROM artifact_removals WHERE artifact_id = artifacts.id) ORDER BY artifacts.id";
const NOTE: &str = "INSERT INTO artifact_removals (artifact_id, removed_at) VALUES (?1, ?2)
     ON CONFLICT (artifact_id) DO NOTHING";
const AT: &str = "SELECT removed_at FROM artifact_removals WHERE artifact_id = ?1";
const OVER: &str = "SELECT state IN ('Completed', 'Released', 'Aborted') FROM runs WHERE id = ?1";

/// Runs that are over since before `before_ms` and whose files are not all removed, oldest first. A held one is not over.
pub fn runs_before(connection: &Connection, before_ms: i64) -> Result<Vec<RunId>, StoreError> {
    let mut statement = connection.prepare_cached(RUNS)?;
    let found = statement.query_map([timestamp_text(before_ms)?], |row| Ok(RunId(row.get(0)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// The files of a run that were not removed; none while the run is not over.
pub fn files(connection: &Connection, run: RunId) -> Result<Vec<AgedFile>, StoreError> {
    let mut statement = connection.prepare_cached(OF_RUN)?;
    let found = statement.query_and_then([run.0], |row| {
        let completed_at_ms = row::time(row, ("runs", "completed_at"))?;
        Ok::<_, StoreError>(AgedFile { run, completed_at_ms, artifact: artifact(row)? })
    })?;
    found.collect()
}

/// Whether a run is over, and not held; absent where there is no such run.
pub fn is_over(connection: &Connection, run: RunId) -> Result<Option<bool>, StoreError> {
    Ok(connection.prepare_cached(OVER)?.query_row([run.0], |row| row.get(0)).optional()?)
}

/// The file of an artifact is no longer on disk.
pub fn note(connection: &Connection, artifact: i64, now_ms: i64) -> Result<(), StoreError> {
    connection.prepare_cached(NOTE)?.execute(params![artifact, timestamp_text(now_ms)?])?;
    Ok(())
}

/// When the file of an artifact was removed, ms since the epoch; absent while it is there.
pub fn removed_at(connection: &Connection, artifact: i64) -> Result<Option<i64>, StoreError> {
    let mut statement = connection.prepare_cached(AT)?;
    statement
        .query_and_then([artifact], |row| row::time(row, ("artifact_removals", "removed_at")))?
        .next()
        .transpose()
}
