//! The patience with machines: ends every waiting that has lasted long enough, wakes again who sleeps on, and takes up
//! what was left undone. One task drives all of it from the stored states.
//!
//! Times are measured by a clock that nobody sets: a corrected time of day fails no run. Stored times count only for
//! what began before this coordinator did.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use vetting_judge::facts::Ending;
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::run::{BootTarget, RunPlace, RunState};

use super::crash;
use super::deadline::{Times, deadline};
use super::driver::{Driver, to_its_end, transition};
use super::error::RunError;
use super::power::controls;
use super::stages::running_stage;
use super::state::{RunEvent, Step};
use crate::store::reboots::RebootRow;
use crate::store::{Connection, StoreError, reboots, runs};

/// Longest sleep of the task: how long something left undone may wait.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// Times a look's own length until the next one: with thousands of runs it takes its time, and something changes all
/// the while.
const REST: u32 = 9;
/// After a look that failed.
const RETRY: Duration = Duration::from_secs(10);

/// When runs came into their states and when their agents were heard, by [`crate::clock::Clock::steady_ms`].
#[derive(Default)]
pub(super) struct Since {
    entered: HashMap<RunId, Entered>,
    heard: HashMap<RunId, i64>,
    /// How often something was entered.
    count: u64,
}

/// A state that a run is in.
#[derive(Clone, Copy)]
struct Entered {
    state: RunState,
    at_ms: i64,
    /// [`Since::count`] then.
    number: u64,
}

impl Since {
    /// A run is in `state` since `at_ms`, unless it was before.
    pub fn entered(&mut self, run: RunId, state: RunState, at_ms: i64) {
        if self.entered.get(&run).is_none_or(|before| before.state != state) {
            self.restart(run, state, at_ms);
        }
    }

    /// A run is in `state` since `at_ms`, also if it was before: what it waited for until then was not its machine.
    pub fn restart(&mut self, run: RunId, state: RunState, at_ms: i64) {
        self.count += 1;
        self.entered.insert(run, Entered { state, at_ms, number: self.count });
    }

    /// Whether a run came into its state after so many were entered: what was read before then is not so any more.
    fn moved_after(&self, run: RunId, count: u64) -> bool {
        self.entered.get(&run).is_some_and(|entered| entered.number > count)
    }

    /// The agent of a run said something. What it says after the end is not waited for.
    pub fn heard(&mut self, run: RunId, at_ms: i64) {
        if self.entered.contains_key(&run) {
            self.heard.insert(run, at_ms);
        }
    }

    /// How many agents were heard at `at_ms` or later.
    pub fn heard_since(&self, at_ms: i64) -> usize {
        self.heard.values().filter(|heard_ms| **heard_ms >= at_ms).count()
    }

    /// Nothing is waited for any more.
    pub fn forget(&mut self, run: RunId) {
        self.entered.remove(&run);
        self.heard.remove(&run);
    }

    /// What is known; a state that nobody told of begins now.
    fn times(&mut self, run: RunId, state: RunState, now_ms: i64) -> Times {
        self.entered(run, state, now_ms);
        let entered_ms = self.entered.get(&run).map_or(now_ms, |entered| entered.at_ms);
        Times { entered_ms, last_contact_ms: self.heard.get(&run).copied(), away_ms: 0 }
    }
}

impl Driver {
    /// Ends every waiting that has lasted long enough, wakes machines again that did not come, and makes reports that
    /// were not made; returns when there is something to do next, by the steady clock.
    pub async fn check_deadlines(&self) -> Result<Option<i64>, RunError> {
        let return_by_power_ms = self.settings.limits.reboot_ms;
        let (count, now_ms) = (self.memory().since.count, self.clock.steady_ms());
        let waiting = self.store.read(move |connection| waiting(connection, return_by_power_ms)).await?;
        let mut next: Option<i64> = None;
        for row in waiting {
            // who moved it called for the next look
            if self.memory().since.moved_after(row.id, count) {
                continue;
            }
            if row.state == RunState::Reporting {
                self.start_judging(row.id);
            }
            if row.place == RunPlace::LiveImage && self.is_still_to_be_woken(row.id, row.state) {
                self.memory().since.restart(row.id, row.state, now_ms);
            }
            let times =
                Times { away_ms: row.away_ms, ..self.memory().since.times(row.id, row.state, now_ms) };
            let Some((due_ms, event)) = deadline(row.state, times, self.settings.limits) else { continue };
            if due_ms > now_ms {
                let due_ms = self.hold_warning(&row, due_ms, now_ms).await?;
                let due_ms = self.power_if_due(&row, times.entered_ms, due_ms, now_ms);
                let wake_ms = match row.place {
                    RunPlace::LiveImage => self.wake_if_due(row.id, row.state),
                    // its agent asks for the run by itself
                    RunPlace::InstalledSystem => None,
                };
                let due_ms = wake_ms.map_or(due_ms, |wake_ms| wake_ms.min(due_ms));
                next = Some(next.map_or(due_ms, |next| next.min(due_ms)));
                continue;
            }
            let (why, ending) = overdue(event, &row, times, now_ms);
            match self.end_waiting(row.id, event, why, ending).await {
                // it moved on between the look and the event
                Ok(_) | Err(RunError::NotNow { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(next)
    }

    /// Feeds the event that a deadline brings. Of a machine that fell silent is noted what is known of it: what it was is
    /// found out before the run is judged.
    async fn end_waiting(
        &self,
        run: RunId,
        event: RunEvent,
        why: String,
        ending: Option<Ending>,
    ) -> Result<RunState, RunError> {
        if !matches!(ending, Some(Ending::WentSilent { .. })) {
            return self.apply(run, event, why, ending, None).await;
        }
        let (now_ms, driver) = (self.clock.now_ms(), self.clone());
        to_its_end(async move {
            let done = driver
                .store
                .write(move |connection| {
                    // one that was heard meanwhile has nothing to explain
                    if let Step::Move { .. } = super::state::step(runs::get(connection, run)?.state, event) {
                        let claimed_ms = crash::claimed_ms(connection, run)?;
                        crash::note(connection, run, crash::traces(false, claimed_ms, None))?;
                    }
                    transition(connection, now_ms, run, event, &why, ending.as_ref())
                })
                .await?;
            let state = done.state;
            driver.perform(done);
            Ok(state)
        })
        .await
    }

    /// Announces the end of a hold when it is time; returns when to look again.
    async fn hold_warning(&self, row: &Waiting, due_ms: i64, now_ms: i64) -> Result<i64, RunError> {
        let warn_ms = due_ms.saturating_sub(self.settings.hold_warning_ms);
        match row.state {
            RunState::FailedHolding if warn_ms > now_ms => Ok(warn_ms),
            RunState::FailedHolding => {
                self.warn_of_hold_end(row.id, due_ms - now_ms).await?;
                Ok(due_ms)
            }
            RunState::Queued
            | RunState::Waking
            | RunState::Booting
            | RunState::Running
            | RunState::Rebooting
            | RunState::Reporting
            | RunState::Completed
            | RunState::Released
            | RunState::Aborted => Ok(due_ms),
        }
    }

    /// Drives the deadlines until `stop` turns true.
    pub async fn watch_deadlines(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let begin_ms = self.clock.steady_ms();
            let looked = self.check_deadlines().await;
            let took = Duration::from_millis(u64::try_from(self.clock.steady_ms() - begin_ms).unwrap_or(0));
            tokio::select! {
                () = tokio::time::sleep(took * REST) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let sleep = match looked {
                Ok(Some(due_ms)) => {
                    let left_ms = u64::try_from(due_ms - self.clock.steady_ms()).unwrap_or(0);
                    Duration::from_millis(left_ms).min(LONGEST_SLEEP)
                }
                Ok(None) => LONGEST_SLEEP,
                Err(error) => {
                    tracing::error!(error = %crate::error_chain(&error), "cannot check the deadlines");
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.changed.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }
}

/// A run that waits for something.
#[derive(Debug)]
pub(super) struct Waiting {
    pub id: RunId,
    pub state: RunState,
    place: RunPlace,
    running_stage: Option<StageName>,
    away_ms: i64,
    /// The reboot that it is away for, where its power can be controlled.
    pub away: Option<RebootRow>,
}

fn waiting(connection: &Connection, return_by_power_ms: i64) -> Result<Vec<Waiting>, StoreError> {
    let mut rows = runs::active(connection)?;
    rows.extend(runs::in_state(connection, RunState::FailedHolding)?);
    rows.into_iter()
        .map(|row| {
            let running_stage = running_stage(connection, row.id)?;
            let away = reboots::away(connection, row.id)?;
            let mut away_ms = away.as_ref().map_or(0, |reboot| reboot.budget_ms);
            let away = away.filter(|_| row.state == RunState::Rebooting);
            let away = match away {
                Some(reboot) if controls(connection, row.host_id)?.is_some() => Some(reboot),
                Some(_) | None => None,
            };
            if away.as_ref().is_some_and(|reboot| reboot.target == BootTarget::Memtest) {
                // one that does not come back by itself is brought back, and needs its time again
                away_ms = away_ms.saturating_add(return_by_power_ms);
            }
            Ok(Waiting {
                id: row.id,
                state: row.state,
                place: row.override_flags.place,
                running_stage,
                away_ms,
                away,
            })
        })
        .collect()
}

/// Why a run ran out of time, for the event and for the report.
fn overdue(event: RunEvent, row: &Waiting, times: Times, now_ms: i64) -> (String, Option<Ending>) {
    let since = |from_ms: i64| u64::try_from(now_ms.saturating_sub(from_ms)).unwrap_or(0);
    if event == RunEvent::NeverAppeared {
        let last_seen = match row.state {
            RunState::Booting => "the boot script was fetched, the run never claimed",
            RunState::Queued => "no magic packet could be sent and the boot script was never asked for",
            RunState::Waking
            | RunState::Running
            | RunState::Rebooting
            | RunState::Reporting
            | RunState::Completed
            | RunState::FailedHolding
            | RunState::Released
            | RunState::Aborted => "a magic packet was sent, the boot script never asked for",
        };
        let waited_ms = since(times.entered_ms);
        let why = format!("the machine never appeared in {} s: {last_seen}", waited_ms / 1_000);
        return (why, Some(Ending::NeverAppeared { waited_ms, last_seen: last_seen.to_owned() }));
    }
    if event == RunEvent::WentSilent {
        let silent_ms = since(times.last_contact_ms.unwrap_or(times.entered_ms).max(times.entered_ms));
        let why = format!("no word from the agent for {} s", silent_ms / 1_000);
        return (why, Some(Ending::WentSilent { stage: row.running_stage, silent_ms, evidence: None }));
    }
    ("the time to look at the machine is over".to_owned(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_after_a_look_began_is_not_judged_by_what_the_look_read() {
        let (moved, stays) = (RunId(1), RunId(2));
        let mut since = Since::default();
        since.entered(moved, RunState::Booting, 10);
        since.entered(stays, RunState::Running, 10);
        let count = since.count;
        assert!(!since.moved_after(moved, count) && !since.moved_after(stays, count));
        since.entered(moved, RunState::Running, 20);
        since.entered(stays, RunState::Running, 20);
        assert!(since.moved_after(moved, count) && !since.moved_after(stays, count));
        assert_eq!(since.times(stays, RunState::Running, 30).entered_ms, 10);
    }
}
