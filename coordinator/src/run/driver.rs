//! Carries out what `step()` decides: stores state and event in one transaction, then performs the effects.
//!
//! Restart-safe: all that a run needs to go on is in the database. What is only in memory (progress, what the rules
//! said so far) is rebuilt or does without. One task drives all deadlines from stored times.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Notify, watch};
use vetting_judge::facts::Ending;
use vetting_judge::profile::Registry;
use vetting_protocol::agent_api::{AfterRun, EventLevel};
use vetting_protocol::ids::{MacAddress, RunId};
use vetting_protocol::run::{RunResult, RunState};

use super::deadline::{Limits, Times, deadline};
use super::error::RunError;
use super::live::Live;
use super::state::{Effect, EndedBy, RunEvent, Step, step};
use super::stages::close_stages;
use crate::clock::Clock;
use crate::power::{Power, WakeTarget};
use crate::store::{self, Store, Tx};

/// Longest sleep of the deadline task, so that a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// After a report that could not be written.
const REPORT_RETRY: Duration = Duration::from_secs(10);

/// What the driver is told by the config.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Patience.
    pub limits: Limits,
    /// How long a claim secret is good, ms.
    pub claim_valid_ms: i64,
    /// Keep failed machines up.
    pub hold_failed: bool,
    /// What becomes of a machine that passed.
    pub after_pass: AfterRun,
    /// What becomes of a machine that failed and is not held.
    pub after_fail: AfterRun,
    /// `<state_dir>/artifacts`.
    pub artifacts_dir: PathBuf,
}

/// Runs. Cheap to clone.
#[derive(Clone)]
pub struct Driver(pub(super) Arc<Parts>);

/// What a driver works with.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The one clock.
    pub clock: Clock,
    /// What switches machines on.
    pub power: Arc<dyn Power>,
    /// The profiles.
    pub profiles: Registry,
    /// From the config.
    pub settings: Settings,
    pub(super) listening_since_ms: i64,
    pub(super) memory: Mutex<Memory>,
    changed: Notify,
}

/// What a restart may lose.
#[derive(Default)]
pub(super) struct Memory {
    /// What the rules said so far, and how far the stages are; by run.
    pub live: HashMap<RunId, Arc<Mutex<Live>>>,
    /// Runs whose report is being made.
    judging: HashSet<RunId>,
    /// Unknown machines, and when they were last told of.
    pub unknown: HashMap<MacAddress, i64>,
}

impl std::ops::Deref for Driver {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What a transition left to do once it is durable.
#[derive(Debug)]
#[must_use = "the effects must be performed after the commit"]
pub(super) struct Transition {
    /// Which run.
    pub run: RunId,
    /// Where it stands now.
    pub state: RunState,
    effects: Vec<Effect>,
}

/// Moves a run inside the caller's transaction: state, event row, and what must be stored with them.
/// `ending` is what the report will say of the end, for events that close the pipeline.
pub(super) fn transition(
    tx: &Tx<'_>,
    now_ms: i64,
    run: RunId,
    event: RunEvent,
    why: &str,
    ending: Option<&Ending>,
) -> Result<Transition, RunError> {
    let row = store::runs::get(tx, run)?.ok_or(RunError::NoRun { run })?;
    let (to, effects) = match step(row.state, event) {
        Step::Stay => return Ok(Transition { run, state: row.state, effects: Vec::new() }),
        Step::Refused { why } => return Err(RunError::NotNow { run, state: row.state, why }),
        Step::Move { to, effects } => (to, effects),
    };
    store::runs::set_state(tx, run, to, now_ms)?;
    for effect in &effects {
        match effect {
            Effect::Complete { result } => store::runs::complete(tx, run, *result, now_ms)?,
            Effect::NoteHoldAddress => store::runs::note_hold_address(tx, run)?,
            Effect::RevokeClaim => store::sessions::revoke_claim(tx, run)?,
            Effect::Judge { ended_by } => {
                store::sessions::set_ending(tx, run, *ended_by, ending)?;
                close_stages(tx, run, *ended_by, why, now_ms)?;
            }
            Effect::SetDeadline => {}
        }
    }
    let level = match to {
        RunState::Queued
        | RunState::Waking
        | RunState::Booting
        | RunState::Running
        | RunState::Rebooting
        | RunState::Reporting
        | RunState::Completed
        | RunState::Released => EventLevel::Info,
        RunState::FailedHolding | RunState::Aborted => EventLevel::Warning,
    };
    let data = json!({"from": row.state, "to": to});
    let message = format!("{} → {to}: {why}", row.state);
    store::events::of_run(tx, now_ms, run, level, "run_state", &message, Some(&data))?;
    Ok(Transition { run, state: to, effects })
}
