//! Table `spec_diffs`: expected against actual.

use rusqlite::{Row, params};
use vetting_protocol::diff::SpecDiff;
use vetting_protocol::ids::RunId;

use super::{Connection, StoreError, row};

/// A diff of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffRow {
    /// Key.
    pub id: i64,
    /// The diff.
    pub diff: SpecDiff,
    /// The operator chose to ignore it.
    pub ignored: bool,
}

const FORGET: &str = "DELETE FROM spec_diffs WHERE run_id = ?1";
const INSERT: &str =
    "INSERT INTO spec_diffs (run_id, field, expected, actual, severity) VALUES (?1, ?2, ?3, ?4, ?5)";
const SET_IGNORED: &str = "UPDATE spec_diffs SET ignored = ?2 WHERE id = ?1";
const LIST: &str = "SELECT * FROM spec_diffs WHERE run_id = ?1 ORDER BY id";

fn diff(row: &Row<'_>) -> Result<DiffRow, StoreError> {
    Ok(DiffRow {
        id: row.get("id")?,
        diff: SpecDiff {
            field: row.get("field")?,
            expected: row.get("expected")?,
            actual: row.get("actual")?,
            severity: row::parsed(row, ("spec_diffs", "severity"))?,
        },
        ignored: row.get("ignored")?,
    })
}

/// Writes all diffs of a run in place of earlier ones.
pub fn replace(connection: &Connection, run: RunId, diffs: &[SpecDiff]) -> Result<(), StoreError> {
    connection.prepare_cached(FORGET)?.execute([run.0])?;
    let mut insert = connection.prepare_cached(INSERT)?;
    for diff in diffs {
        insert.execute(params![run.0, diff.field, diff.expected, diff.actual, diff.severity.as_str()])?;
    }
    Ok(())
}

/// The diffs of a run, in the order they were found.
pub fn list(connection: &Connection, run: RunId) -> Result<Vec<DiffRow>, StoreError> {
    connection.prepare_cached(LIST)?.query_and_then([run.0], diff)?.collect()
}

/// Notes whether an operator chose to ignore a diff.
pub fn set_ignored(connection: &Connection, id: i64, ignored: bool) -> Result<(), StoreError> {
    connection.prepare_cached(SET_IGNORED)?.execute(params![id, ignored])?;
    Ok(())
}
