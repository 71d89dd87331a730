//! Table `artifacts`: files of a run. The files themselves are not the store's.

use rusqlite::{Row, params};
use vetting_protocol::ids::{RunId, Sha256Hex};

use super::{Connection, StoreError, row};

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactValues {
    /// Key of the stage it is from.
    pub stage_id: Option<i64>,
    /// `report`, `report_html`, `inventory`, ….
    pub kind: String,
    /// Absolute.
    pub path: String,
    /// Digest.
    pub sha256: Sha256Hex,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// A file of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactRow {
    /// Key.
    pub id: i64,
    /// The file.
    pub values: ArtifactValues,
}

const FORGET: &str = "DELETE FROM artifacts WHERE run_id = ?1 AND path = ?2";
const INSERT: &str = "INSERT INTO artifacts (run_id, stage_id, kind, path, sha256, size_bytes)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const LIST: &str = "SELECT * FROM artifacts WHERE run_id = ?1 ORDER BY id";
const FIRST: &str = "SELECT * FROM artifacts WHERE run_id = ?1 AND kind = ?2 ORDER BY id LIMIT 1";
const FORGET_KIND: &str = "DELETE FROM artifacts WHERE run_id = ?1 AND kind = ?2";
const LATEST: &str = "SELECT * FROM artifacts WHERE run_id = ?1 AND kind = ?2 ORDER BY id DESC LIMIT 1";

pub(super) fn artifact(row: &Row<'_>) -> Result<ArtifactRow, StoreError> {
    Ok(ArtifactRow {
        id: row.get("id")?,
        values: ArtifactValues {
            stage_id: row.get("stage_id")?,
            kind: row.get("kind")?,
            path: row.get("path")?,
            sha256: row::parsed(row, ("artifacts", "sha256"))?,
            size_bytes: row::integer(row, ("artifacts", "size_bytes"))?,
        },
    })
}

/// Notes a file that is on disk. One that was written to the same path before is replaced, as it is on disk.
pub fn insert(connection: &Connection, run: RunId, artifact: &ArtifactValues) -> Result<i64, StoreError> {
    connection.prepare_cached(FORGET)?.execute(params![run.0, artifact.path])?;
    Ok(connection.prepare_cached(INSERT)?.insert(params![
        run.0,
        artifact.stage_id,
        artifact.kind,
        artifact.path,
        artifact.sha256.to_string(),
        row::signed(artifact.size_bytes, "artifacts.size_bytes")?
    ])?)
}

/// The files of a run, oldest first.
pub fn list(connection: &Connection, run: RunId) -> Result<Vec<ArtifactRow>, StoreError> {
    connection.prepare_cached(LIST)?.query_and_then([run.0], artifact)?.collect()
}

/// The oldest file of a kind.
pub fn first(connection: &Connection, run: RunId, kind: &str) -> Result<Option<ArtifactRow>, StoreError> {
    connection.prepare_cached(FIRST)?.query_and_then(params![run.0, kind], artifact)?.next().transpose()
}

/// Forgets the files of a kind, which are no longer on disk.
pub fn forget(connection: &Connection, run: RunId, kind: &str) -> Result<(), StoreError> {
    connection.prepare_cached(FORGET_KIND)?.execute(params![run.0, kind])?;
    Ok(())
}

/// The newest file of a kind.
pub fn latest(connection: &Connection, run: RunId, kind: &str) -> Result<Option<ArtifactRow>, StoreError> {
    connection.prepare_cached(LATEST)?.query_and_then(params![run.0, kind], artifact)?.next().transpose()
}
