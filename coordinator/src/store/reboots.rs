//! Table `planned_reboots`: the reboots that stages of a run announced.

use rusqlite::{Row, params};
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::memtest::MemtestObservation;
use vetting_protocol::plan::PowerCut;
use vetting_protocol::run::BootTarget;

use super::{Connection, StoreError, row};

/// A reboot that a stage announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebootRow {
    /// 0 for the run's first.
    pub ordinal: u32,
    /// The stage.
    pub stage: StageName,
    /// What the machine was to boot.
    pub target: BootTarget,
    /// How long that may take beyond an ordinary restart, ms.
    pub budget_ms: i64,
    /// Ms since the epoch.
    pub announced_ms: i64,
    /// Ms since the epoch; absent while the machine is away.
    pub returned_ms: Option<i64>,
    /// What was seen of memtest86+; absent for other targets.
    pub memtest: Option<MemtestObservation>,
    /// What became of its power; absent where nobody touched it.
    pub power: Option<PowerCut>,
}

const INSERT: &str =
    "INSERT INTO planned_reboots (run_id, ordinal, stage_name, target, budget_ms, announced_ms, memtest_json)
     VALUES (?1, (SELECT COALESCE(MAX(ordinal) + 1, 0) FROM planned_reboots WHERE run_id = ?1), ?2, ?3, ?4, ?5, ?6)";
const LIST: &str = "SELECT * FROM planned_reboots WHERE run_id = ?1 ORDER BY ordinal";
const AWAY: &str =
    "SELECT * FROM planned_reboots WHERE run_id = ?1 AND returned_ms IS NULL ORDER BY ordinal DESC LIMIT 1";
const RETURNED: &str =
    "UPDATE planned_reboots SET returned_ms = ?2 WHERE run_id = ?1 AND returned_ms IS NULL";
const SET_MEMTEST: &str = "UPDATE planned_reboots SET memtest_json = ?2
     WHERE run_id = ?1 AND returned_ms IS NULL AND target = 'memtest'";

const SET_POWER: &str =
    "UPDATE planned_reboots SET power_json = ?2 WHERE run_id = ?1 AND returned_ms IS NULL";
const FORGET: &str = "DELETE FROM planned_reboots WHERE run_id = ?1 AND stage_name = ?2";

fn reboot(row: &Row<'_>) -> Result<RebootRow, StoreError> {
    Ok(RebootRow {
        ordinal: row::integer(row, ("planned_reboots", "ordinal"))?,
        stage: row::parsed(row, ("planned_reboots", "stage_name"))?,
        target: row::parsed(row, ("planned_reboots", "target"))?,
        budget_ms: row.get("budget_ms")?,
        announced_ms: row.get("announced_ms")?,
        returned_ms: row.get("returned_ms")?,
        memtest: row::json_or_null(row, ("planned_reboots", "memtest_json"))?,
        power: row::json_or_null(row, ("planned_reboots", "power_json"))?,
    })
}

fn text(seen: &MemtestObservation) -> String {
    // texts and numbers always have a JSON form
    serde_json::to_string(seen).unwrap_or_default()
}

/// Notes that a stage announced a reboot.
pub fn announce(
    connection: &Connection,
    run: RunId,
    (stage, target, budget_ms): (StageName, BootTarget, u64),
    now_ms: i64,
) -> Result<(), StoreError> {
    let memtest = (target == BootTarget::Memtest).then(|| text(&MemtestObservation::nothing()));
    connection.prepare_cached(INSERT)?.execute(params![
        run.0,
        stage.as_str(),
        target.as_str(),
        i64::try_from(budget_ms).unwrap_or(i64::MAX),
        now_ms,
        memtest
    ])?;
    Ok(())
}

/// The reboots of a run, in order.
pub fn list(connection: &Connection, run: RunId) -> Result<Vec<RebootRow>, StoreError> {
    connection.prepare_cached(LIST)?.query_and_then([run.0], reboot)?.collect()
}

/// The reboot that the machine has not come back from.
pub fn away(connection: &Connection, run: RunId) -> Result<Option<RebootRow>, StoreError> {
    connection.prepare_cached(AWAY)?.query_and_then([run.0], reboot)?.next().transpose()
}

/// Notes that the machine is back.
pub fn returned(connection: &Connection, run: RunId, now_ms: i64) -> Result<(), StoreError> {
    connection.prepare_cached(RETURNED)?.execute(params![run.0, now_ms])?;
    Ok(())
}

/// Notes what was seen of memtest86+ so far. Of a machine that is back nothing is noted any more.
pub fn set_memtest(connection: &Connection, run: RunId, seen: &MemtestObservation) -> Result<(), StoreError> {
    connection.prepare_cached(SET_MEMTEST)?.execute(params![run.0, text(seen)])?;
    Ok(())
}

/// Notes what became of the power of a machine that is away.
pub fn set_power(connection: &Connection, run: RunId, power: &PowerCut) -> Result<(), StoreError> {
    // texts always have a JSON form
    let text = serde_json::to_string(power).unwrap_or_default();
    connection.prepare_cached(SET_POWER)?.execute(params![run.0, text])?;
    Ok(())
}

/// Forgets the reboots of a stage that begins anew: those of its earlier attempt are none of this one's.
pub fn forget(connection: &Connection, run: RunId, stage: StageName) -> Result<(), StoreError> {
    connection.prepare_cached(FORGET)?.execute(params![run.0, stage.as_str()])?;
    Ok(())
}
