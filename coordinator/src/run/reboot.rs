//! Planned reboots: what is noted when a stage announces one, when the machine is back, and what its agent is then
//! told. Owns `runs.next_boot_target` between the two.

use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::memtest::{MemtestEnd, MemtestObservation};
use vetting_protocol::plan::{RebootMade, Resumed};
use vetting_protocol::run::BootTarget;

use super::driver::{Transition, transition};
use super::error::RunError;
use super::facts::latest_document;
use super::ingest::INVENTORY;
use super::stages::running_stage;
use super::state::RunEvent;
use crate::store::{Connection, reboots, runs};

/// A stage announces a reboot. It must be the stage that runs.
pub(super) fn announce(
    connection: &Connection,
    run: RunId,
    planned: (StageName, BootTarget, u64),
    reason: &str,
    now_ms: i64,
) -> Result<Transition, RunError> {
    let (stage, target, _) = planned;
    if running_stage(connection, run)? != Some(stage) {
        return Err(RunError::UnknownStage { stage });
    }
    if reboots::away(connection, run)?.is_none() {
        reboots::announce(connection, run, planned, now_ms)?;
    }
    runs::set_next_boot_target(connection, run, target)?;
    let why = format!("{stage}: {reason}; the machine restarts into {target}");
    transition(connection, now_ms, run, RunEvent::RebootPlanned, &why, None)
}

/// The machine is back in the live image. Nobody sees memtest86+ on it any more: what was seen is final.
pub(super) fn returned(connection: &Connection, run: RunId, now_ms: i64) -> Result<(), RunError> {
    if let Some(mut seen) = reboots::away(connection, run)?.and_then(|reboot| reboot.memtest)
        && seen.end.is_none()
    {
        seen.end = Some(end_unseen(&seen));
        reboots::set_memtest(connection, run, &seen)?;
    }
    reboots::returned(connection, run, now_ms)?;
    runs::set_next_boot_target(connection, run, BootTarget::Linux)?;
    Ok(())
}

/// How memtest86+ ended on a machine that came back from it untold.
fn end_unseen(seen: &MemtestObservation) -> MemtestEnd {
    if seen.program.is_some() { MemtestEnd::Left } else { MemtestEnd::NeverSeen }
}

/// What an agent is told of the stage that goes on; absent where none planned a reboot.
pub(super) fn resumed(connection: &Connection, run: RunId) -> Result<Option<Resumed>, RunError> {
    let Some(stage) = running_stage(connection, run)? else { return Ok(None) };
    let mut made = Vec::new();
    for row in reboots::list(connection, run)? {
        if row.stage != stage {
            continue;
        }
        // one that the machine is away for is no reboot it came back from
        let Some(returned_ms) = row.returned_ms else { continue };
        let away_ms = u64::try_from(returned_ms.saturating_sub(row.announced_ms)).unwrap_or(0);
        made.push(RebootMade { target: row.target, away_ms, memtest: row.memtest, power: row.power });
    }
    if made.is_empty() {
        return Ok(None);
    }
    let first_inventory = if stage == StageName::Reboot {
        latest_document::<Inventory>(connection, run, INVENTORY)?.map(Box::new)
    } else {
        None
    };
    Ok(Some(Resumed { stage, reboots: made, first_inventory }))
}
