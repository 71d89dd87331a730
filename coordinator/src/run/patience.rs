//! The patience with machines: ends every waiting that has lasted long enough, and wakes again who sleeps on. One
//! task drives all of it from stored times, so that a restart loses nothing.

use std::time::Duration;

use tokio::sync::watch;
use vetting_judge::facts::Ending;
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::run::RunState;

use super::deadline::{Times, deadline};
use super::driver::Driver;
use super::error::RunError;
use super::stages::running_stage;
use super::state::RunEvent;
use crate::store::{Connection, StoreError, runs, sessions};

/// Longest sleep of the task, so that a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// After a look that failed.
const RETRY: Duration = Duration::from_secs(10);

impl Driver {
    /// Ends every waiting that has lasted long enough, and wakes machines again that did not come; returns when there
    /// is something to do next, ms since the epoch.
    pub async fn check_deadlines(&self) -> Result<Option<i64>, RunError> {
        let waiting = self.store.read(waiting).await?;
        let now_ms = self.clock.now_ms();
        let mut next: Option<i64> = None;
        for row in waiting {
            let times = Times {
                entered_ms: row.entered_ms,
                last_contact_ms: row.last_contact_ms,
                listening_since_ms: self.listening_since_ms,
            };
            let Some((due_ms, event)) = deadline(row.state, times, self.settings.limits) else { continue };
            if due_ms > now_ms {
                let wake_ms = self.wake_if_due(row.id, row.state).await;
                let due_ms = wake_ms.map_or(due_ms, |wake_ms| wake_ms.min(due_ms));
                next = Some(next.map_or(due_ms, |next| next.min(due_ms)));
                continue;
            }
            let (why, ending) = overdue(event, &row, times, now_ms);
            match self.apply(row.id, event, why, ending).await {
                // it moved on between the look and the event
                Ok(_) | Err(RunError::NotNow { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(next)
    }

    /// Drives the deadlines until `stop` turns true.
    pub async fn watch_deadlines(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let sleep = match self.check_deadlines().await {
                Ok(Some(due_ms)) => {
                    let left_ms = u64::try_from(due_ms - self.clock.now_ms()).unwrap_or(0);
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
struct Waiting {
    id: RunId,
    state: RunState,
    entered_ms: i64,
    last_contact_ms: Option<i64>,
    running_stage: Option<StageName>,
}

fn waiting(connection: &Connection) -> Result<Vec<Waiting>, StoreError> {
    let mut rows = runs::active(connection)?;
    rows.extend(runs::in_state(connection, RunState::FailedHolding)?);
    rows.into_iter()
        .map(|row| {
            let timeline = sessions::timeline(connection, row.id)?;
            Ok(Waiting {
                id: row.id,
                state: row.state,
                entered_ms: timeline.state_since_ms.unwrap_or(row.started_at_ms),
                last_contact_ms: timeline.last_contact_ms,
                running_stage: running_stage(connection, row.id)?,
            })
        })
        .collect()
}

/// Why a run ran out of time, for the event and for the report.
fn overdue(event: RunEvent, row: &Waiting, times: Times, now_ms: i64) -> (String, Option<Ending>) {
    let since = |from_ms: i64| u64::try_from(now_ms - from_ms.max(times.listening_since_ms)).unwrap_or(0);
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
        let waited_ms = since(row.entered_ms);
        let why = format!("the machine never appeared in {} s: {last_seen}", waited_ms / 1_000);
        return (why, Some(Ending::NeverAppeared { waited_ms, last_seen: last_seen.to_owned() }));
    }
    if event == RunEvent::WentSilent {
        let silent_ms = since(row.last_contact_ms.unwrap_or(row.entered_ms).max(row.entered_ms));
        let why = format!("no word from the agent for {} s", silent_ms / 1_000);
        return (why, Some(Ending::WentSilent { stage: row.running_stage, silent_ms }));
    }
    ("the time to look at the machine is over".to_owned(), None)
}
