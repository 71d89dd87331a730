//! Asks machines to come up, and again while they do not: a magic packet may be lost, or come before the switch port is up.

use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::RunId;
use vetting_protocol::run::{RunPlace, RunState};

use super::driver::{Driver, of_run, transition};
use super::error::RunError;
use super::state::RunEvent;
use crate::error_chain;
use crate::power::WakeTarget;
use crate::store::hosts::HostRow;
use crate::store::sessions::{self, TimelineEntry};
use crate::store::{StoreError, bmcs, events, hosts, runs};

/// Between two magic packets to a machine that does not come.
pub(super) const AGAIN_MS: i64 = 30_000;

/// What became of the last magic packet of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastWake {
    /// By the steady clock.
    at_ms: i64,
    failed: bool,
}

/// Whether a run of this state waits for its machine to switch on.
pub(super) fn waits_for_machine(state: RunState) -> bool {
    match state {
        RunState::Queued | RunState::Waking => true,
        RunState::Booting
        | RunState::Running
        | RunState::Rebooting
        | RunState::Reporting
        | RunState::Completed
        | RunState::FailedHolding
        | RunState::Released
        | RunState::Aborted => false,
    }
}

/// Where a machine listens for its magic packet.
pub(super) fn target(host: &HostRow) -> WakeTarget {
    WakeTarget { mac: host.mac, broadcast_ip: host.wol_broadcast_ip, port: host.wol_port }
}

impl Driver {
    /// Sends the magic packet of a waiting run, unless one has just left. That it does not leave is told in the events
    /// and ends nothing: it is tried again, and a person can press the button.
    pub(super) async fn wake(&self, run: RunId) {
        // two tasks may want the same packet at the same time; the second finds that it has left
        let _one_at_a_time = self.waking.lock().await;
        let (now_ms, at_ms) = (self.clock.now_ms(), self.clock.steady_ms());
        let before = self.memory().woken.get(&run).copied();
        if before.is_some_and(|last| at_ms < last.at_ms.saturating_add(AGAIN_MS)) {
            return;
        }
        let told = before.is_some_and(|last| last.failed);
        self.memory().woken.insert(run, LastWake { at_ms, failed: told });
        match self.try_wake(run, now_ms, told).await {
            Ok(failed) => {
                // it is forgotten when the machine came meanwhile
                if let Some(last) = self.memory().woken.get_mut(&run) {
                    last.failed = failed;
                }
            }
            Err(error) => {
                tracing::warn!(%run, error = %error_chain(&error), "the wake-up was not noted; it is repeated");
            }
        }
    }

    /// [`Driver::wake`] when the last packet is long enough ago; returns when the next one is due, by the steady
    /// clock.
    pub(super) async fn wake_if_due(&self, run: RunId, state: RunState) -> Option<i64> {
        if !waits_for_machine(state) {
            return None;
        }
        self.wake(run).await;
        self.memory().woken.get(&run).map(|last| last.at_ms.saturating_add(AGAIN_MS))
    }

    /// Returns whether the packet could not be sent; `told` when the events say so already.
    async fn try_wake(&self, run: RunId, now_ms: i64, told: bool) -> Result<bool, RunError> {
        let (host, bmc, state, place) = self
            .store
            .read(move |connection| {
                let row = runs::get(connection, run)?;
                let host = hosts::get(connection, row.host_id)?;
                let bmc = bmcs::get(connection, host.id)?;
                Ok::<_, StoreError>((host, bmc, row.state, row.override_flags.place))
            })
            .await?;
        // an agent on the installed system asks for its run by itself
        if !waits_for_machine(state) || place == RunPlace::InstalledSystem {
            return Ok(false);
        }
        let by_bmc = match bmc {
            // a machine that was told to restart must not be told again while it does
            Some(settings) => Some(self.boot_by_bmc(settings, state == RunState::Queued).await),
            None => None,
        };
        let (failure, why) = match by_bmc {
            Some(Ok(())) => (None, "its BMC boots it from the network".to_owned()),
            Some(Err(error)) => {
                // its card may hear what its BMC does not
                let packet = self.power.wake(target(&host)).await;
                let packet = packet
                    .map_or_else(|error| error_chain(&error), |()| "a magic packet was sent".to_owned());
                (Some(format!("{}; {packet}", error_chain(&error))), String::new())
            }
            None => match self.power.wake(target(&host)).await {
                Ok(()) => (None, format!("magic packet to {}:{}", host.wol_broadcast_ip, host.wol_port)),
                Err(error) => (Some(error_chain(&error)), String::new()),
            },
        };
        if let Some(failure) = failure {
            if !told {
                let again_s = AGAIN_MS / 1_000;
                let message = format!(
                    "{failure}; it is tried again every {again_s} s, or switch the machine on by hand"
                );
                let line = of_run(run, now_ms, EventLevel::Warning, "wake_failed", message);
                self.store.write(move |connection| events::insert(connection, &line)).await?;
            }
            return Ok(true);
        }
        if state == RunState::Queued {
            let done = self
                .store
                .write(move |connection| {
                    sessions::note(connection, run, TimelineEntry::Woken(now_ms))?;
                    transition(connection, now_ms, run, RunEvent::WakeSent, &why, None)
                })
                .await?;
            self.perform(done);
        }
        Ok(false)
    }
}
