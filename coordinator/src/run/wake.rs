//! Asks machines to come up, and again while they do not: a magic packet may be lost, or come before the switch port is up.
//! Where the configuration says so, some time lies between two machines that are switched on: a rack must not draw the
//! current of all its supplies at once.

use std::time::Duration;

use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::RunId;
use vetting_protocol::run::{RunPlace, RunState};

use super::driver::{Driver, of_run, transition};
use super::error::RunError;
use super::power::controls;
use super::state::RunEvent;
use crate::error_chain;
use crate::power::{Controls, WakeTarget};
use crate::store::hosts::HostRow;
use crate::store::sessions::{self, TimelineEntry};
use crate::store::{StoreError, events, hosts, runs};

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
        if self.settings.boot_spacing_ms > 0 {
            // who is next is decided in one place, by the order of the runs
            self.changed.notify_one();
            return;
        }
        if let Some(told) = self.begin_waking(run) {
            self.carry_out_waking(run, told).await;
        }
    }

    /// Begins a wake-up if the last one is long enough ago, and over; says whether that one's failure was told.
    fn begin_waking(&self, run: RunId) -> Option<bool> {
        let at_ms = self.clock.steady_ms();
        let mut memory = self.memory();
        let before = memory.woken.get(&run).copied();
        let early = before.is_some_and(|last| at_ms < last.at_ms.saturating_add(AGAIN_MS));
        // two tasks may want the same packet at the same time; the second finds that it has left
        if early || !memory.waking.insert(run) {
            return None;
        }
        let told = before.is_some_and(|last| last.failed);
        memory.woken.insert(run, LastWake { at_ms, failed: told });
        Some(told)
    }

    async fn carry_out_waking(&self, run: RunId, told: bool) {
        let outcome = self.try_wake(run, self.clock.now_ms(), told).await;
        let mut memory = self.memory();
        memory.waking.remove(&run);
        match outcome {
            Ok(failed) => {
                // it is forgotten when the machine came meanwhile
                if let Some(last) = memory.woken.get_mut(&run) {
                    last.failed = failed;
                }
            }
            Err(error) => {
                tracing::warn!(%run, error = %error_chain(&error), "the wake-up was not noted; it is repeated");
            }
        }
    }

    /// [`Driver::wake`] when the last packet is long enough ago and the machine may be switched on; returns when to look
    /// again, by the steady clock. A BMC takes its time: nothing else waits for it.
    pub(super) fn wake_if_due(&self, run: RunId, state: RunState) -> Option<i64> {
        if !waits_for_machine(state) {
            return None;
        }
        if let Some(due_ms) = self.waits_to_be_switched_on(run) {
            return Some(due_ms);
        }
        if let Some(told) = self.begin_waking(run) {
            let driver = self.clone();
            tokio::spawn(async move { driver.carry_out_waking(run, told).await });
        }
        self.memory().woken.get(&run).map(|last| last.at_ms.saturating_add(AGAIN_MS))
    }

    /// When a machine may be switched on, where that is later; else it is its turn, and that of the next one comes after
    /// the pause. One that was asked to come up before has had its turn.
    fn waits_to_be_switched_on(&self, run: RunId) -> Option<i64> {
        let now_ms = self.clock.steady_ms();
        let mut memory = self.memory();
        if self.settings.boot_spacing_ms == 0 || memory.woken.contains_key(&run) {
            return None;
        }
        if memory.next_power_on_ms > now_ms {
            return Some(memory.next_power_on_ms);
        }
        memory.next_power_on_ms = now_ms.saturating_add(self.settings.boot_spacing_ms);
        None
    }

    /// Whether the time that a machine has to come up does not begin yet.
    pub(super) fn is_still_to_be_woken(&self, run: RunId, state: RunState) -> bool {
        self.settings.boot_spacing_ms > 0
            && waits_for_machine(state)
            && !self.memory().woken.contains_key(&run)
    }

    /// Waits until a machine may be switched on that no run waits for.
    pub(super) async fn wait_to_switch_on(&self) {
        let spacing_ms = self.settings.boot_spacing_ms;
        let now_ms = self.clock.steady_ms();
        let pause_ms = {
            let mut memory = self.memory();
            let at_ms = memory.next_power_on_ms.max(now_ms);
            memory.next_power_on_ms = at_ms.saturating_add(spacing_ms);
            u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0)
        };
        if spacing_ms > 0 && pause_ms > 0 {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    /// By its BMC, or else by a magic packet, after its outlet was switched on where it has one; says what went wrong, or else
    /// what was done.
    async fn ask_to_come_up(
        &self,
        host: &HostRow,
        controls: Controls,
        for_the_first_time: bool,
    ) -> (Option<String>, String) {
        if let Some(settings) = controls.bmc {
            // a machine that was told to restart must not be told again while it does
            let Err(error) = self.boot_by_bmc(settings, for_the_first_time).await else {
                return (None, "its BMC boots it from the network".to_owned());
            };
            // its card may hear what its BMC does not
            let packet = self.power.wake(target(host)).await;
            let packet =
                packet.map_or_else(|error| error_chain(&error), |()| "a magic packet was sent".to_owned());
            return (Some(format!("{}; {packet}", error_chain(&error))), String::new());
        }
        let outlet = match controls.pdu {
            Some(settings) => self.switch_outlet_on(settings).await,
            None => Ok(()),
        };
        let packet = self.power.wake(target(host)).await;
        match (outlet, packet) {
            (Ok(()), Ok(())) => {
                (None, format!("magic packet to {}:{}", host.wol_broadcast_ip, host.wol_port))
            }
            (Err(error), Ok(())) => {
                (Some(format!("{}; a magic packet was sent", error_chain(&error))), String::new())
            }
            (_, Err(error)) => (Some(error_chain(&error)), String::new()),
        }
    }

    /// Returns whether the packet could not be sent; `told` when the events say so already.
    async fn try_wake(&self, run: RunId, now_ms: i64, told: bool) -> Result<bool, RunError> {
        let (host, controls, state, place) = self
            .store
            .read(move |connection| {
                let row = runs::get(connection, run)?;
                let host = hosts::get(connection, row.host_id)?;
                let controls = controls(connection, host.id)?;
                Ok::<_, StoreError>((host, controls, row.state, row.override_flags.place))
            })
            .await?;
        // an agent on the installed system asks for its run by itself
        if !waits_for_machine(state) || place == RunPlace::InstalledSystem {
            return Ok(false);
        }
        let (failure, why) = self.ask_to_come_up(&host, controls, state == RunState::Queued).await;
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
