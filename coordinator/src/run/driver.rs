//! Carries out what `step()` decides: stores state and event in one transaction, then performs the effects.
//!
//! Restart-safe: all that a run needs to go on is in the database. What is only in memory (progress, what the rules
//! said so far) is rebuilt or does without. A write and what follows it run in a task of their own: a client that goes
//! away cannot come between.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use vetting_judge::facts::Ending;
use vetting_judge::profile::Registry;
use vetting_protocol::agent_api::{AfterRun, EventLevel};
use vetting_protocol::ids::{MacAddress, RunId, Sha256Hex};
use vetting_protocol::operator_api::RunDetail;
use vetting_protocol::run::{BootTarget, RunState};

use super::budget::Budget;
use super::deadline::Limits;
use super::error::RunError;
use super::hold;
use super::janitor::Retention;
use super::live::{Glance, Live};
use super::memtest::Watched;
use super::patience::Since;
use super::stages::close_stages;
use super::state::{Effect, RunEvent, Step, step};
use super::turns::{LastLook, turn_views};
use super::views;
use super::wake::{LastWake, waits_for_machine};
use crate::clock::Clock;
use crate::enrolment::uuid::SystemUuid;
use crate::metrics::Metrics;
use crate::power::{Means, Power};
use crate::serial_console::IpmiSecrets;
use crate::store::events::{self, EventValues};
use crate::store::runs::{self, RunChange};
use crate::store::sessions;
use crate::store::tokens::{self, TokenRow};
use crate::store::{Connection, Store, StoreError, holds, turns};

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
    /// Where the key is that reports are signed with.
    pub signing_dir: PathBuf,
    /// How long before its end a hold's end is announced, ms.
    pub hold_warning_ms: i64,
    /// What becomes of a machine that passed.
    pub after_pass: AfterRun,
    /// What becomes of a machine that failed and is not held: not `Stay`.
    pub after_fail: AfterRun,
    /// `<state_dir>/artifacts`.
    pub artifacts_dir: PathBuf,
    /// What power is controlled with.
    pub means: Means,
    /// How long files are kept.
    pub retention: Retention,
    /// Machines that nobody registered.
    pub enrolment: EnrolmentSettings,
    /// Who the machines' BMCs know this box as.
    pub ipmi: IpmiSecrets,
    /// Last values of sensors are among the metrics.
    pub sensor_metrics: bool,
    /// What stages may draw at once; `None`: none waits for another.
    pub budget: Option<Budget>,
    /// Between two machines that are switched on, ms; 0: none waits for another.
    pub boot_spacing_ms: i64,
}

/// What becomes of machines that nobody registered.
#[derive(Debug, Clone)]
pub struct EnrolmentSettings {
    /// They may boot the live image from the network to ask to be taken in.
    pub unknown_may_netboot: bool,
    /// How long a code is good, and how long is remembered what was decided, ms.
    pub code_valid_ms: i64,
    /// UUIDs that several machines of this lab have.
    pub ignored_uuids: Vec<SystemUuid>,
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
    /// What is counted.
    pub metrics: Metrics,
    pub(super) memory: Mutex<Memory>,
    pub(super) changed: Notify,
    pub(super) waiving: tokio::sync::Mutex<()>,
}

/// What a restart may lose.
#[derive(Default)]
pub(super) struct Memory {
    /// What the rules said so far, and how far the stages are; by run.
    pub live: HashMap<RunId, Arc<Mutex<Live>>>,
    /// Runs whose report is being made.
    judging: HashSet<RunId>,
    /// When machines that are waited for were last asked to come up.
    pub woken: HashMap<RunId, LastWake>,
    /// What deadlines are counted from.
    pub since: Since,
    /// Unknown machines, and when they were last told of.
    pub unknown: HashMap<MacAddress, i64>,
    /// Machines in memtest86+.
    pub watched: HashMap<RunId, Watched>,
    /// Runs whose machine's power is being switched.
    pub powering: HashSet<RunId>,
    /// Runs whose machine is being asked to come up.
    pub waking: HashSet<RunId>,
    /// When the next machine may be switched on, by the steady clock.
    pub next_power_on_ms: i64,
    /// Who waits for a turn.
    pub turns: LastLook,
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
    moved: bool,
    effects: Vec<Effect>,
}

impl Transition {
    /// Whether the event changed the state; otherwise it was as the event wants it.
    pub fn moved(&self) -> bool {
        self.moved
    }
}

/// Moves a run inside the caller's transaction: state, event row, and what must be stored with them.
/// `ending` is what the report will say of the end, for events that close the pipeline.
pub(super) fn transition(
    connection: &Connection,
    now_ms: i64,
    run: RunId,
    event: RunEvent,
    why: &str,
    ending: Option<&Ending>,
) -> Result<Transition, RunError> {
    let row = runs::get(connection, run)?;
    let (to, effects) = match step(row.state, event) {
        Step::Stay => return Ok(Transition { run, state: row.state, moved: false, effects: Vec::new() }),
        Step::Refused { why } => return Err(RunError::NotNow { run, state: row.state, why }),
        Step::Move { to, effects } => (to, effects),
    };
    let mut change = RunChange::to(to, now_ms);
    for effect in &effects {
        match effect {
            Effect::Complete { result } => {
                change.result = Some(*result);
                // whatever restarts the machine now, nothing waits for it here
                change.next_boot_target = Some(BootTarget::Disk);
                change.completed_at_ms = Some(now_ms);
            }
            Effect::NoteHoldAddress => {
                let heard_from = sessions::timeline(connection, run)?.last_contact_ip;
                change.hold_ip = heard_from.map(|ip| ip.to_string());
            }
            Effect::RevokeClaim => sessions::revoke_claim(connection, run)?,
            Effect::Reopen => holds::reopen(connection, run, now_ms)?,
            Effect::Judge { ended_by } => {
                let data = ending.map(serde_json::to_value).transpose().map_err(|error| {
                    RunError::Corrupt { run, what: format!("its ending has no text: {error}") }
                })?;
                runs::set_ending(connection, run, *ended_by, data.as_ref())?;
                close_stages(connection, run, *ended_by, why, now_ms)?;
            }
            Effect::ForgetHoldKey | Effect::SetDeadline => {}
        }
    }
    runs::set_state(connection, run, &change)?;
    let under_way = |state| matches!(state, RunState::Running | RunState::Rebooting);
    if !(under_way(row.state) && under_way(to)) {
        turns::give_back(connection, run)?;
    }
    let level = match to {
        RunState::FailedHolding | RunState::Aborted => EventLevel::Warning,
        RunState::Queued
        | RunState::Waking
        | RunState::Booting
        | RunState::Running
        | RunState::Rebooting
        | RunState::Reporting
        | RunState::Completed
        | RunState::Released => EventLevel::Info,
    };
    let line = EventValues {
        data: Some(json!({"from": row.state, "to": to, "result": change.result})),
        ..of_run(run, now_ms, level, "run_state", format!("{} → {to}: {why}", row.state))
    };
    events::insert(connection, &line)?;
    Ok(Transition { run, state: to, moved: true, effects })
}

/// A line of a run's log.
pub(super) fn of_run(
    run: RunId,
    ts_ms: i64,
    level: EventLevel,
    kind: &str,
    message: impl Into<String>,
) -> EventValues {
    EventValues {
        run_id: Some(run),
        host_id: None,
        ts_ms,
        level,
        kind: kind.to_owned(),
        message: message.into(),
        data: None,
    }
}

/// Runs `work` to its end, also when whoever waits for it goes away: what a commit leaves to do must be done.
pub(super) async fn to_its_end<T, E>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<tokio::task::JoinError> + Send + 'static,
{
    tokio::spawn(work).await?
}

impl Driver {
    /// A driver over an open database. Nothing runs until [`Driver::resume`].
    pub fn new(
        store: Store,
        clock: Clock,
        power: Arc<dyn Power>,
        profiles: Registry,
        settings: Settings,
    ) -> Self {
        Self(Arc::new(Parts {
            store,
            clock,
            power,
            profiles,
            metrics: Metrics::new(settings.sensor_metrics),
            settings,
            memory: Mutex::new(Memory::default()),
            changed: Notify::new(),
            waiving: tokio::sync::Mutex::new(()),
        }))
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        // what is in there can be rebuilt, so a panic while it was held does no harm
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many agents of runs were heard within `timeouts.silence`.
    pub fn connected_agents(&self) -> usize {
        let since_ms = self.clock.steady_ms().saturating_sub(self.settings.limits.silence_ms);
        self.memory().since.heard_since(since_ms)
    }

    /// Feeds one event to a run: durable when this returns. `order` is the line of who caused it, where somebody did; it
    /// is written also where another's order came first and nothing changes.
    ///
    /// # Errors
    /// `NotNow` when the run's state does not allow it.
    pub async fn apply(
        &self,
        run: RunId,
        event: RunEvent,
        why: impl Into<String>,
        ending: Option<Ending>,
        order: Option<EventValues>,
    ) -> Result<RunState, RunError> {
        let (now_ms, why, driver) = (self.clock.now_ms(), why.into(), self.clone());
        to_its_end(async move {
            let job = move |tx: &Connection| {
                let done = transition(tx, now_ms, run, event, &why, ending.as_ref())?;
                order.map(|line| events::insert(tx, &line)).transpose()?;
                Ok::<_, RunError>(done)
            };
            let done = driver.store.write(job).await?;
            let state = done.state;
            driver.perform(done);
            Ok(state)
        })
        .await
    }

    /// What follows a stored transition.
    pub(super) fn perform(&self, transition: Transition) {
        let Transition { run, state, effects, moved: _ } = transition;
        for effect in effects {
            match effect {
                Effect::Judge { .. } => self.start_judging(run),
                Effect::ForgetHoldKey => self.start_forgetting_hold_key(run),
                // these were stored with the state
                Effect::Complete { .. }
                | Effect::NoteHoldAddress
                | Effect::Reopen
                | Effect::SetDeadline
                | Effect::RevokeClaim => {}
            }
        }
        let mut memory = self.memory();
        memory.since.entered(run, state, self.clock.steady_ms());
        memory.turns.changed();
        if !waits_for_machine(state) {
            memory.woken.remove(&run);
        }
        if state.is_terminal() {
            memory.live.remove(&run);
        }
        if state.is_terminal() && state != RunState::FailedHolding {
            memory.since.forget(run);
        }
        drop(memory);
        if state == RunState::Rebooting {
            self.watch_memtest(run);
        }
        self.changed.notify_one();
    }

    /// Makes the report of a run, unless that is under way. One that fails is made again by the next look at the
    /// deadlines, some time later.
    pub(super) fn start_judging(&self, run: RunId) {
        if !self.memory().judging.insert(run) {
            return;
        }
        let driver = self.clone();
        tokio::spawn(async move {
            let reporting = driver.clone();
            let outcome = to_its_end(async move { reporting.report(run).await }).await;
            if let Err(error) = outcome {
                let error = crate::error_chain(&error);
                tracing::error!(%run, %error, "the report could not be made; it is tried again");
                tokio::time::sleep(REPORT_RETRY).await;
            }
            driver.memory().judging.remove(&run);
            driver.changed.notify_one();
        });
    }

    /// What there is to see at a glance of every run of which something is in memory.
    pub fn glances(&self) -> HashMap<RunId, Glance> {
        let live: Vec<_> = self.memory().live.iter().map(|(run, live)| (*run, Arc::clone(live))).collect();
        live.into_iter()
            .map(|(run, live)| (run, live.lock().unwrap_or_else(PoisonError::into_inner).glance()))
            .collect()
    }

    /// A run with all that hangs from it but the samples.
    pub async fn detail(&self, run: RunId) -> Result<RunDetail, RunError> {
        let live = self.memory().live.get(&run).cloned();
        let (budget, now_ms) = (self.settings.budget.clone(), self.clock.now_ms());
        let (folder, hold_ms) = (self.run_dir(run), self.settings.limits.hold_ms);
        self.store
            .read(move |connection| {
                let live = live.as_ref().map(|live| live.lock().unwrap_or_else(PoisonError::into_inner));
                let mut detail = views::detail(connection, run, live.as_deref())?;
                detail.hold = hold::view(connection, &runs::get(connection, run)?, &folder, hold_ms)?;
                detail.summary.turn = turn_views(connection, budget.as_ref(), now_ms)?.remove(&run);
                Ok(detail)
            })
            .await
    }

    /// An operator's token, if it is good. Its use is noted now and then.
    pub async fn token_of(&self, hash: Sha256Hex) -> Result<Option<TokenRow>, RunError> {
        let now_ms = self.clock.now_ms();
        let found: Result<_, StoreError> =
            self.store.read(move |connection| tokens::find_valid(connection, hash, now_ms)).await;
        let Some(token) = found? else { return Ok(None) };
        if token.wants_touch(now_ms) {
            let id = token.id;
            let touched: Result<(), StoreError> =
                self.store.write(move |connection| tokens::touch(connection, id, now_ms)).await;
            if let Err(error) = touched {
                // the token is good, whether or not the disk takes the note
                tracing::warn!(error = %crate::error_chain(&error), "a token's use was not noted");
            }
        }
        Ok(Some(token))
    }

    /// Takes up every run that is not over: wakes what was not woken, makes the reports that were not made.
    pub async fn resume(&self) -> Result<(), RunError> {
        self.sweep_hold_keys().await?;
        let (active, held) = self
            .store
            .read(|connection| {
                let mut held = Vec::new();
                for row in runs::in_state(connection, RunState::FailedHolding)? {
                    let since_ms = sessions::timeline(connection, row.id)?.state_since_ms;
                    held.push((row.id, since_ms.unwrap_or(row.started_at_ms)));
                }
                Ok::<_, StoreError>((runs::active(connection)?, held))
            })
            .await?;
        let (now_ms, steady_ms) = (self.clock.now_ms(), self.clock.steady_ms());
        for (run, since_ms) in held {
            // a held machine is let go in time also when the coordinator was away
            let held_ms = now_ms.saturating_sub(since_ms).max(0);
            let at_ms = steady_ms.saturating_sub(held_ms);
            self.memory().since.entered(run, RunState::FailedHolding, at_ms);
        }
        for row in active {
            // nobody could have been heard while the coordinator was away: each waiting begins anew
            self.memory().since.entered(row.id, row.state, steady_ms);
            tracing::info!(run = %row.id, state = %row.state, "taken up again");
            match row.state {
                RunState::Queued => self.wake(row.id).await,
                RunState::Reporting => self.start_judging(row.id),
                RunState::Rebooting => self.watch_memtest(row.id),
                RunState::Waking
                | RunState::Booting
                | RunState::Running
                | RunState::Completed
                | RunState::FailedHolding
                | RunState::Released
                | RunState::Aborted => {}
            }
        }
        Ok(())
    }
}
