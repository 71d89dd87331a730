//! Table `run_holds`: who is let in to a held machine, and how.

use rusqlite::{OptionalExtension as _, params};
use vetting_protocol::agent_api::{AfterRun, SshAccess};
use vetting_protocol::ids::RunId;

use super::{Connection, StoreError, row};

/// A held machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRow {
    /// The only key that is let in: a line of `authorized_keys`.
    pub public_key: String,
    /// What became of its SSH server; absent until the machine told.
    pub access: Option<SshAccess>,
    /// It was told that the hold ends soon.
    pub warned: bool,
    /// What an operator wants of it at its release.
    pub release_to: Option<AfterRun>,
}

const BEGIN: &str = "INSERT OR REPLACE INTO run_holds (run_id, public_key) VALUES (?1, ?2)";
const GET: &str = "SELECT * FROM run_holds WHERE run_id = ?1";
const SET_ACCESS: &str =
    "UPDATE run_holds SET ssh_port = ?2, ssh_host_key = ?3, ssh_problem = ?4 WHERE run_id = ?1";
const SET_WARNED: &str = "UPDATE run_holds SET warned = 1 WHERE run_id = ?1";
const SET_RELEASE: &str = "UPDATE run_holds SET release_to = ?2 WHERE run_id = ?1";

/// A machine is held from now on, and lets this key in. What was known of an earlier hold of the run is forgotten.
pub fn begin(connection: &Connection, run: RunId, public_key: &str) -> Result<(), StoreError> {
    connection.prepare_cached(BEGIN)?.execute(params![run.0, public_key])?;
    Ok(())
}

/// What is known of a hold; absent for a run that was never held.
pub fn get(connection: &Connection, run: RunId) -> Result<Option<HoldRow>, StoreError> {
    connection
        .prepare_cached(GET)?
        .query_and_then([run.0], |row| {
            let port = row::integer_or_null(row, ("run_holds", "ssh_port"))?;
            let host_key: Option<String> = row.get("ssh_host_key")?;
            let problem: Option<String> = row.get("ssh_problem")?;
            let access = match (port, host_key, problem) {
                (Some(port), Some(host_key), _) => Some(SshAccess::Open { port, host_key }),
                (_, _, Some(reason)) => Some(SshAccess::Closed { reason }),
                (_, _, None) => None,
            };
            Ok(HoldRow {
                public_key: row.get("public_key")?,
                access,
                warned: row.get("warned")?,
                release_to: row::parsed_or_null(row, ("run_holds", "release_to"))?,
            })
        })?
        .next()
        .transpose()
}

/// Notes what became of the machine's SSH server.
pub fn set_access(connection: &Connection, run: RunId, access: &SshAccess) -> Result<(), StoreError> {
    let values = match access {
        SshAccess::Open { port, host_key } => (Some(*port), Some(host_key), None),
        SshAccess::Closed { reason } => (None, None, Some(reason)),
    };
    connection.prepare_cached(SET_ACCESS)?.execute(params![run.0, values.0, values.1, values.2])?;
    Ok(())
}

/// Notes that the end of the hold was announced.
pub fn set_warned(connection: &Connection, run: RunId) -> Result<(), StoreError> {
    connection.prepare_cached(SET_WARNED)?.execute([run.0])?;
    Ok(())
}

/// Notes what becomes of the machine at its release.
pub fn set_release(connection: &Connection, run: RunId, then: AfterRun) -> Result<(), StoreError> {
    connection.prepare_cached(SET_RELEASE)?.execute(params![run.0, then.as_str()])?;
    Ok(())
}

const KEYS_LEFT: &str = "SELECT artifacts.run_id FROM artifacts JOIN runs ON runs.id = artifacts.run_id
     WHERE artifacts.kind = ?1 AND runs.state <> 'FailedHolding'";

/// Runs that have a file of this kind though their machines are not held any more.
pub fn keys_left(connection: &Connection, kind: &str) -> Result<Vec<RunId>, StoreError> {
    let mut statement = connection.prepare_cached(KEYS_LEFT)?;
    Ok(statement.query_map([kind], |row| row.get(0).map(RunId))?.collect::<Result<_, _>>()?)
}

const REOPENED: &str = "SELECT MAX(last_artifact_id) FROM run_reopenings WHERE run_id = ?1";
const REOPEN: &str = "INSERT INTO run_reopenings (run_id, ts, ending, result, reasons_json, last_artifact_id)
     SELECT v.run_id, ?2, v.ending, v.result, v.reasons_json,
       COALESCE((SELECT MAX(id) FROM artifacts WHERE run_id = v.run_id), 0)
     FROM run_verdicts AS v WHERE v.run_id = ?1";
const FORGET_VERDICT: &str = "DELETE FROM run_verdicts WHERE run_id = ?1";
const FORGET_RESULT: &str = "UPDATE runs SET result = NULL, completed_at = NULL, failed_stage = NULL,
     next_boot_target = 'linux' WHERE id = ?1";

/// Takes the verdict of a run back, and keeps it as the one before. The state is the caller's to change.
///
/// # Errors
/// [`StoreError::NotFound`] without a verdict.
pub fn reopen(connection: &Connection, run: RunId, now_ms: i64) -> Result<(), StoreError> {
    let time = crate::clock::timestamp_text(now_ms)?;
    if connection.prepare_cached(REOPEN)?.execute(params![run.0, time])? == 0 {
        return Err(StoreError::not_found(format!("verdict of run {run}")));
    }
    connection.prepare_cached(FORGET_VERDICT)?.execute([run.0])?;
    connection.prepare_cached(FORGET_RESULT)?.execute([run.0])?;
    Ok(())
}

/// The key of the last file that a run had when it was last taken up again; absent if it never was.
pub fn last_artifact_before_reopening(
    connection: &Connection,
    run: RunId,
) -> Result<Option<i64>, StoreError> {
    Ok(connection.prepare_cached(REOPENED)?.query_row([run.0], |row| row.get(0)).optional()?.flatten())
}
