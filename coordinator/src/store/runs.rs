//! Table `runs`, and `run_verdicts`: why a run ended as it did.

use rusqlite::{OptionalExtension as _, Row, named_params, params};
use serde::{Deserialize, Serialize};
use vetting_protocol::agent_api::AfterRun;
use vetting_protocol::ids::{HostId, RunId, Sha256Hex};
use vetting_protocol::plan::DiskConsent;
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::{BootTarget, RunPlace, RunResult, RunState};

use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;
use crate::run::state::EndedBy;

/// `runs.override_flags_json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideFlags {
    /// Disks with content may be overwritten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wipe: bool,
    /// Every disk is erased at the end of Storage.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erase: bool,
    /// On which system.
    #[serde(default = "RunPlace::live_image", skip_serializing_if = "is_live_image")]
    pub place: RunPlace,
    /// What becomes of the machine if it passes; absent: as the config says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_pass: Option<AfterRun>,
    /// What becomes of the machine if it fails; absent: as the config says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_fail: Option<AfterRun>,
}

impl OverrideFlags {
    /// Nothing out of the ordinary.
    pub const NONE: Self =
        Self { wipe: false, erase: false, place: RunPlace::LiveImage, after_pass: None, after_fail: None };
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_live_image(place: &RunPlace) -> bool {
    *place == RunPlace::LiveImage
}

/// One vetting of one host.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Key.
    pub id: RunId,
    /// The host.
    pub host_id: HostId,
    /// Its name.
    pub host_name: String,
    /// Where it stands.
    pub state: RunState,
    /// Once it has one.
    pub result: Option<RunResult>,
    /// The stage that halted the pipeline.
    pub failed_stage: Option<String>,
    /// What the machine boots next.
    pub next_boot_target: Option<BootTarget>,
    /// Of the agent's token; absent until the run is claimed.
    pub agent_token_hash: Option<Sha256Hex>,
    /// Ms since the epoch.
    pub started_at_ms: i64,
    /// Ms since the epoch.
    pub completed_at_ms: Option<i64>,
    /// report.json on disk.
    pub report_path: Option<String>,
    /// The machine's address while it is held.
    pub hold_ip: Option<String>,
    /// What the operator allowed.
    pub override_flags: OverrideFlags,
    /// No write to any disk.
    pub non_destructive: bool,
    /// The profile.
    pub profile: ProfileName,
}

impl RunRow {
    /// What the run may do to disks.
    pub fn consent(&self) -> DiskConsent {
        match (self.non_destructive, self.override_flags) {
            (true, _) | (false, OverrideFlags { place: RunPlace::InstalledSystem, .. }) => {
                DiskConsent::NonDestructive
            }
            (false, OverrideFlags { wipe: true, erase: true, .. }) => DiskConsent::EraseDisks,
            (false, OverrideFlags { wipe: true, erase: false, .. }) => DiskConsent::WipeAllowed,
            (false, OverrideFlags { wipe: false, .. }) => DiskConsent::EmptyDisksOnly,
        }
    }
}

/// A new run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunValues {
    /// The host.
    pub host_id: HostId,
    /// The profile.
    pub profile: ProfileName,
    /// No write to any disk.
    pub non_destructive: bool,
    /// What the operator allowed.
    pub override_flags: OverrideFlags,
    /// What the machine boots.
    pub next_boot_target: BootTarget,
}

/// A new state, and what else changes with it; absent stays as it was. `hold_ip` is forgotten in every state but
/// `FailedHolding`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunChange {
    /// The new state.
    pub state: RunState,
    /// Since when, ms since the epoch.
    pub now_ms: i64,
    /// The result.
    pub result: Option<RunResult>,
    /// When the run was over, ms since the epoch.
    pub completed_at_ms: Option<i64>,
    /// The stage that halted the pipeline.
    pub failed_stage: Option<String>,
    /// What the machine boots next.
    pub next_boot_target: Option<BootTarget>,
    /// The machine's address.
    pub hold_ip: Option<String>,
    /// report.json on disk.
    pub report_path: Option<String>,
}

impl RunChange {
    /// To `state`, and nothing else.
    pub fn to(state: RunState, now_ms: i64) -> Self {
        Self {
            state,
            now_ms,
            result: None,
            completed_at_ms: None,
            failed_stage: None,
            next_boot_target: None,
            hold_ip: None,
            report_path: None,
        }
    }
}

/// What is known of a run's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictRow {
    /// What closed the pipeline.
    pub ending: EndedBy,
    /// What the report says of it, as the caller wrote it.
    pub ending_data: Option<serde_json::Value>,
    /// Absent while it is being judged.
    pub result: Option<RunResult>,
    /// In sentences.
    pub reasons: Vec<String>,
}

// `''` is the hash of no token: it stands in the contract's NOT NULL column until the run is claimed
const INSERT: &str =
    "INSERT INTO runs (host_id, state, next_boot_target, agent_token_hash, started_at, override_flags_json,
                       non_destructive, profile)
     VALUES (:host, :state, :target, '', :now, :flags, :non_destructive, :profile)";
const GET: &str = "SELECT runs.*, hosts.name AS host_name FROM runs JOIN hosts ON hosts.id = runs.host_id
     WHERE runs.id = ?1";
const LIST: &str = "SELECT runs.*, hosts.name AS host_name FROM runs JOIN hosts ON hosts.id = runs.host_id
     WHERE runs.id < ?2 ORDER BY runs.id DESC LIMIT ?1";
const LIST_OF_HOST: &str =
    "SELECT runs.*, hosts.name AS host_name FROM runs JOIN hosts ON hosts.id = runs.host_id
     WHERE runs.host_id = ?3 AND runs.id < ?2 ORDER BY runs.id DESC LIMIT ?1";
const ACTIVE: &str = "SELECT runs.*, hosts.name AS host_name FROM runs JOIN hosts ON hosts.id = runs.host_id
     WHERE runs.state NOT IN ('Completed', 'FailedHolding', 'Released', 'Aborted') ORDER BY runs.id";
const ACTIVE_OF_HOST: &str =
    "SELECT runs.*, hosts.name AS host_name FROM runs JOIN hosts ON hosts.id = runs.host_id
     WHERE runs.host_id = ?1 AND runs.state NOT IN ('Completed', 'FailedHolding', 'Released', 'Aborted')
     ORDER BY runs.id DESC LIMIT 1";
const HELD_OF_HOST: &str =
    "SELECT id FROM runs WHERE host_id = ?1 AND state = 'FailedHolding' ORDER BY id DESC LIMIT 1";
const IN_STATE: &str =
    "SELECT runs.*, hosts.name AS host_name FROM runs JOIN hosts ON hosts.id = runs.host_id
     WHERE runs.state = ?1 ORDER BY runs.id";
const CHANGE: &str = "UPDATE runs SET state = :state,
     result = COALESCE(:result, result),
     completed_at = COALESCE(:completed_at, completed_at),
     failed_stage = COALESCE(:failed_stage, failed_stage),
     next_boot_target = COALESCE(:target, next_boot_target),
     hold_ip = CASE WHEN :state = 'FailedHolding' THEN COALESCE(:hold_ip, hold_ip) END,
     report_path = COALESCE(:report_path, report_path)
     WHERE id = :id";
const SET_FAILED_STAGE: &str = "UPDATE runs SET failed_stage = COALESCE(failed_stage, ?2) WHERE id = ?1";
const SET_REPORT: &str = "UPDATE runs SET report_path = ?2 WHERE id = ?1";
const SET_JUDGED: &str = "UPDATE runs SET result = ?2, failed_stage = ?3 WHERE id = ?1";
const SET_TARGET: &str = "UPDATE runs SET next_boot_target = ?2 WHERE id = ?1";
const SET_TOKEN: &str = "UPDATE runs SET agent_token_hash = ?2 WHERE id = ?1";
const SINCE: &str = "INSERT INTO run_timeline (run_id, state_since_ms) VALUES (?1, ?2)
     ON CONFLICT (run_id) DO UPDATE SET state_since_ms = excluded.state_since_ms";
const SET_ENDING: &str = "INSERT INTO run_verdicts (run_id, ending, ending_json) VALUES (?1, ?2, ?3)
     ON CONFLICT (run_id) DO UPDATE SET ending = excluded.ending, ending_json = excluded.ending_json";
const SET_VERDICT: &str = "UPDATE run_verdicts SET result = ?2, reasons_json = ?3 WHERE run_id = ?1";
const GET_VERDICT: &str = "SELECT * FROM run_verdicts WHERE run_id = ?1";

fn run(row: &Row<'_>) -> Result<RunRow, StoreError> {
    let token: String = row.get("agent_token_hash")?;
    Ok(RunRow {
        id: RunId(row.get("id")?),
        host_id: HostId(row.get("host_id")?),
        host_name: row.get("host_name")?,
        state: row::parsed(row, ("runs", "state"))?,
        result: row::parsed_or_null(row, ("runs", "result"))?,
        failed_stage: row.get("failed_stage")?,
        next_boot_target: row::parsed_or_null(row, ("runs", "next_boot_target"))?,
        agent_token_hash: if token.is_empty() {
            None
        } else {
            Some(row::parsed(row, ("runs", "agent_token_hash"))?)
        },
        started_at_ms: row::time(row, ("runs", "started_at"))?,
        completed_at_ms: row::time_or_null(row, ("runs", "completed_at"))?,
        report_path: row.get("report_path")?,
        hold_ip: row.get("hold_ip")?,
        override_flags: row::json_or_null(row, ("runs", "override_flags_json"))?
            .unwrap_or(OverrideFlags::NONE),
        non_destructive: row.get("non_destructive")?,
        profile: row::parsed(row, ("runs", "profile"))?,
    })
}

fn unknown_id(id: RunId) -> StoreError {
    StoreError::not_found(format!("run {id}"))
}

fn changed_one(changed: usize, id: RunId) -> Result<(), StoreError> {
    if changed == 0 { Err(unknown_id(id)) } else { Ok(()) }
}

/// Starts a run in `Queued`.
///
/// # Errors
/// [`StoreError::Conflict`] while another run of the host is active, or holds its machine; [`StoreError::NotFound`]
/// without the host.
pub fn create(connection: &Connection, values: &RunValues, now_ms: i64) -> Result<RunId, StoreError> {
    refuse_second(connection, values.host_id)?;
    // truth values and words always have a JSON form
    let flags = serde_json::to_string(&values.override_flags).unwrap_or_default();
    connection.prepare_cached(INSERT)?.execute(named_params! {
        ":host": values.host_id.0,
        ":state": RunState::Queued.as_str(),
        ":target": values.next_boot_target.as_str(),
        ":now": timestamp_text(now_ms)?,
        ":flags": flags,
        ":non_destructive": values.non_destructive,
        ":profile": values.profile.as_str(),
    })?;
    let id = RunId(connection.last_insert_rowid());
    connection.prepare_cached(SINCE)?.execute(params![id.0, now_ms])?;
    Ok(id)
}

/// Refuses a host that has a run already.
///
/// # Errors
/// [`StoreError::Conflict`] while a run of the host is active, or holds its machine; [`StoreError::NotFound`] without
/// the host.
pub fn refuse_second(connection: &Connection, host_id: HostId) -> Result<(), StoreError> {
    let host = super::hosts::name_of(connection, host_id)?;
    if let Some(active) = active_of_host(connection, host_id)? {
        return Err(StoreError::conflict(format!(
            "run {} of host {host} is active ({}); abort it or wait for its end",
            active.id, active.state
        )));
    }
    if let Some(held) = held_of_host(connection, host_id)? {
        return Err(StoreError::conflict(format!(
            "host {host} is held since run {held} failed; look at it, then `run release {held}` and start again"
        )));
    }
    Ok(())
}

/// A run.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn get(connection: &Connection, id: RunId) -> Result<RunRow, StoreError> {
    let mut statement = connection.prepare_cached(GET)?;
    statement.query_and_then([id.0], run)?.next().unwrap_or_else(|| Err(unknown_id(id)))
}

/// The newest `limit` runs, of one host or of all, newest first.
pub fn list(connection: &Connection, host: Option<HostId>, limit: u32) -> Result<Vec<RunRow>, StoreError> {
    list_before(connection, host, None, limit)
}

/// The newest `limit` runs that are older than `before`, of one host or of all, newest first.
pub fn list_before(
    connection: &Connection,
    host: Option<HostId>,
    before: Option<RunId>,
    limit: u32,
) -> Result<Vec<RunRow>, StoreError> {
    let before = before.map_or(i64::MAX, |run| run.0);
    match host {
        Some(host) => {
            let mut statement = connection.prepare_cached(LIST_OF_HOST)?;
            statement.query_and_then(params![limit, before, host.0], run)?.collect()
        }
        None => connection.prepare_cached(LIST)?.query_and_then(params![limit, before], run)?.collect(),
    }
}

const IDS_OF_HOST: &str = "SELECT id FROM runs WHERE host_id = ?1 ORDER BY id";

/// The keys of all runs of a host, oldest first.
pub fn ids_of_host(connection: &Connection, host: HostId) -> Result<Vec<RunId>, StoreError> {
    let mut statement = connection.prepare_cached(IDS_OF_HOST)?;
    Ok(statement.query_map([host.0], |row| row.get(0).map(RunId))?.collect::<Result<_, _>>()?)
}

/// The newest run of a host.
pub fn latest_of_host(connection: &Connection, host: HostId) -> Result<Option<RunRow>, StoreError> {
    Ok(list(connection, Some(host), 1)?.pop())
}

/// Every run without a result, oldest first.
pub fn active(connection: &Connection) -> Result<Vec<RunRow>, StoreError> {
    connection.prepare_cached(ACTIVE)?.query_and_then([], run)?.collect()
}

/// The run of a host that has no result yet.
pub fn active_of_host(connection: &Connection, host: HostId) -> Result<Option<RunRow>, StoreError> {
    connection.prepare_cached(ACTIVE_OF_HOST)?.query_and_then([host.0], run)?.next().transpose()
}

/// The failed run that keeps a machine up for a person.
pub fn held_of_host(connection: &Connection, host: HostId) -> Result<Option<RunId>, StoreError> {
    let mut statement = connection.prepare_cached(HELD_OF_HOST)?;
    Ok(statement.query_row([host.0], |row| row.get(0).map(RunId)).optional()?)
}

/// Every run in `state`, oldest first.
pub fn in_state(connection: &Connection, state: RunState) -> Result<Vec<RunRow>, StoreError> {
    connection.prepare_cached(IN_STATE)?.query_and_then([state.as_str()], run)?.collect()
}

/// Changes a run's state, and since when it is in it.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn set_state(connection: &Connection, id: RunId, change: &RunChange) -> Result<(), StoreError> {
    let changed = connection.prepare_cached(CHANGE)?.execute(named_params! {
        ":id": id.0,
        ":state": change.state.as_str(),
        ":result": change.result.map(RunResult::as_str),
        ":completed_at": row::time_text(change.completed_at_ms)?,
        ":failed_stage": change.failed_stage,
        ":target": change.next_boot_target.map(BootTarget::as_str),
        ":hold_ip": change.hold_ip,
        ":report_path": change.report_path,
    })?;
    changed_one(changed, id)?;
    connection.prepare_cached(SINCE)?.execute(params![id.0, change.now_ms])?;
    Ok(())
}

/// Notes the stage that halted the pipeline; the first one stays.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn set_failed_stage(connection: &Connection, id: RunId, stage: &str) -> Result<(), StoreError> {
    changed_one(connection.prepare_cached(SET_FAILED_STAGE)?.execute(params![id.0, stage])?, id)
}

/// Replaces the result of a run that has one, and the stage that it failed in.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn set_judged(
    connection: &Connection,
    id: RunId,
    result: RunResult,
    failed_stage: Option<&str>,
) -> Result<(), StoreError> {
    let changed =
        connection.prepare_cached(SET_JUDGED)?.execute(params![id.0, result.as_str(), failed_stage])?;
    changed_one(changed, id)
}

/// Notes where report.json is.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn set_report_path(connection: &Connection, id: RunId, path: &str) -> Result<(), StoreError> {
    changed_one(connection.prepare_cached(SET_REPORT)?.execute(params![id.0, path])?, id)
}

/// Notes what the machine boots next.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn set_next_boot_target(
    connection: &Connection,
    id: RunId,
    target: BootTarget,
) -> Result<(), StoreError> {
    changed_one(connection.prepare_cached(SET_TARGET)?.execute(params![id.0, target.as_str()])?, id)
}

/// Notes the hash of the agent's token.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn set_agent_token_hash(connection: &Connection, id: RunId, hash: Sha256Hex) -> Result<(), StoreError> {
    changed_one(connection.prepare_cached(SET_TOKEN)?.execute(params![id.0, hash.to_string()])?, id)
}

/// Notes what closed the pipeline, so that a restart judges the same thing; `data` is what the report says of it.
pub fn set_ending(
    connection: &Connection,
    id: RunId,
    ending: EndedBy,
    data: Option<&serde_json::Value>,
) -> Result<(), StoreError> {
    let data = data.map(serde_json::Value::to_string);
    connection.prepare_cached(SET_ENDING)?.execute(params![id.0, ending_text(ending), data])?;
    Ok(())
}

/// Notes the verdict of a run whose ending is noted.
///
/// # Errors
/// [`StoreError::NotFound`] without an ending.
pub fn set_verdict(
    connection: &Connection,
    id: RunId,
    result: RunResult,
    reasons: &[String],
) -> Result<(), StoreError> {
    let reasons = serde_json::Value::from(reasons).to_string();
    let changed = connection.prepare_cached(SET_VERDICT)?.execute(params![id.0, result.as_str(), reasons])?;
    if changed == 0 { Err(StoreError::not_found(format!("ending of run {id}"))) } else { Ok(()) }
}

/// What is known of a run's end; absent while its pipeline goes on.
pub fn verdict(connection: &Connection, id: RunId) -> Result<Option<VerdictRow>, StoreError> {
    connection
        .prepare_cached(GET_VERDICT)?
        .query_and_then([id.0], |row| {
            let ending: String = row.get("ending")?;
            let Some(ending) = EndedBy::ALL.into_iter().find(|known| ending_text(*known) == ending) else {
                return Err(StoreError::UnknownText {
                    table: "run_verdicts",
                    column: "ending",
                    found: ending,
                });
            };
            Ok(VerdictRow {
                ending,
                ending_data: row::json_or_null(row, ("run_verdicts", "ending_json"))?,
                result: row::parsed_or_null(row, ("run_verdicts", "result"))?,
                reasons: row::json(row, ("run_verdicts", "reasons_json"))?,
            })
        })?
        .next()
        .transpose()
}

fn ending_text(ending: EndedBy) -> &'static str {
    match ending {
        EndedBy::PipelineFinished => "pipeline_finished",
        EndedBy::NeverAppeared => "never_appeared",
        EndedBy::WentSilent => "went_silent",
        EndedBy::UnplannedReboot => "unplanned_reboot",
        EndedBy::AgentCrashed => "agent_crashed",
        EndedBy::Aborted => "aborted",
    }
}
