//! Table `firmware_snapshots`: firmware versions seen in a run.

use rusqlite::{Row, params};
use vetting_protocol::firmware::FirmwareVersion;
use vetting_protocol::ids::RunId;

use super::{Connection, StoreError, row};

const FORGET: &str = "DELETE FROM firmware_snapshots WHERE run_id = ?1";
const INSERT: &str =
    "INSERT INTO firmware_snapshots (run_id, component, identifier, version, vendor, raw_json)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const LIST: &str = "SELECT * FROM firmware_snapshots WHERE run_id = ?1 ORDER BY id";

fn version(row: &Row<'_>) -> Result<FirmwareVersion, StoreError> {
    Ok(FirmwareVersion {
        component: row::parsed(row, ("firmware_snapshots", "component"))?,
        identifier: row.get("identifier")?,
        version: row.get("version")?,
        vendor: row.get("vendor")?,
        raw: row::json(row, ("firmware_snapshots", "raw_json"))?,
    })
}

/// Writes all versions of a run in place of earlier ones.
pub fn replace(connection: &Connection, run: RunId, versions: &[FirmwareVersion]) -> Result<(), StoreError> {
    connection.prepare_cached(FORGET)?.execute([run.0])?;
    let mut insert = connection.prepare_cached(INSERT)?;
    for version in versions {
        insert.execute(params![
            run.0,
            version.component.as_str(),
            version.identifier,
            version.version,
            version.vendor,
            version.raw.to_string()
        ])?;
    }
    Ok(())
}

/// The versions of a run, in the order they were found.
pub fn list(connection: &Connection, run: RunId) -> Result<Vec<FirmwareVersion>, StoreError> {
    connection.prepare_cached(LIST)?.query_and_then([run.0], version)?.collect()
}
