//! Machines that come back from a planned reboot by their power: cold starts, and those that memtest86+ does not let go.
//! What was done is noted with the reboot before the machine is switched on, so that a restarted coordinator goes on from
//! there.

use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::RunId;
use vetting_protocol::memtest::MemtestEnd;
use vetting_protocol::plan::PowerCut;
use vetting_protocol::power::{PowerAction, PowerState};
use vetting_protocol::run::BootTarget;

use super::driver::{Driver, of_run};
use super::error::RunError;
use super::patience::Waiting;
use super::power::controls;
use crate::error_chain;
use crate::power::{self, ControlError, PowerControl};
use crate::store::{Connection, StoreError, events, reboots, runs};

/// After a switch that did not work.
const AGAIN_MS: i64 = 30_000;

impl Driver {
    /// Switches the power of a machine that is away, when it is time; gives when to look again.
    pub(super) fn power_if_due(&self, row: &Waiting, entered_ms: i64, due_ms: i64, now_ms: i64) -> i64 {
        let Some(reboot) = &row.away else { return due_ms };
        let from_ms = match (reboot.target, &reboot.power) {
            (BootTarget::LinuxCold, _) => entered_ms,
            (BootTarget::Memtest, None | Some(PowerCut::Failed { .. })) => {
                entered_ms.saturating_add(reboot.budget_ms).saturating_add(self.settings.limits.reboot_ms)
            }
            (BootTarget::Memtest, Some(PowerCut::Off | PowerCut::Restarted))
            | (BootTarget::Linux | BootTarget::MemtestKernel | BootTarget::Disk, _) => return due_ms,
        };
        if from_ms > now_ms {
            return from_ms.min(due_ms);
        }
        if self.memory().powering.insert(row.id) {
            let (driver, run, target) = (self.clone(), row.id, reboot.target);
            tokio::spawn(async move {
                if let Err(error) = driver.bring_back(run, target).await {
                    tracing::error!(%run, error = %error_chain(&error), "what became of a machine's power was not noted");
                }
                driver.memory().powering.remove(&run);
            });
        }
        now_ms.saturating_add(AGAIN_MS).min(due_ms)
    }

    async fn bring_back(&self, run: RunId, target: BootTarget) -> Result<(), RunError> {
        let read = self.store.read(move |connection: &Connection| {
            let away = reboots::away(connection, run)?;
            Ok::<_, StoreError>((away, controls(connection, runs::get(connection, run)?.host_id)?))
        });
        let (away, controls) = read.await?;
        let Some(reboot) = away.filter(|reboot| reboot.target == target) else { return Ok(()) };
        let switched = match controls.control(&self.settings.means) {
            Ok(Some(control)) if target == BootTarget::LinuxCold => {
                self.cold_start(run, &*control, reboot.power == Some(PowerCut::Off)).await
            }
            Ok(Some(control)) => {
                self.wait_to_switch_on().await;
                restart(&*control).await.map_err(RunError::from)
            }
            Ok(None) => return Ok(()),
            Err(error) => Err(RunError::from(error)),
        };
        let already_failed = matches!(reboot.power, Some(PowerCut::Failed { .. }));
        match switched {
            Ok(()) if target == BootTarget::LinuxCold => Ok(()),
            Ok(()) => {
                let what = "memtest86+ did not let the machine go in time; its power was cycled".to_owned();
                self.note_cut(run, PowerCut::Restarted, EventLevel::Warning, Some(what)).await
            }
            Err(RunError::Power { what }) => {
                // tried again every 30 s, told once
                let told = (!already_failed).then(|| format!("its power cannot be switched: {what}"));
                self.note_cut(run, PowerCut::Failed { why: what }, EventLevel::Error, told).await
            }
            Err(error) => Err(error),
        }
    }

    /// Sees a machine off, and switches it on. `seen_off`: an earlier coordinator did the first half.
    async fn cold_start(
        &self,
        run: RunId,
        control: &dyn PowerControl,
        seen_off: bool,
    ) -> Result<(), RunError> {
        if seen_off {
            if control.state().await? == PowerState::On {
                return Ok(());
            }
        } else {
            let patience = self.settings.means.shutdown_wait;
            power::off_after_shutdown(control, patience).await?;
            let what = "the machine is off for its cold start".to_owned();
            self.note_cut(run, PowerCut::Off, EventLevel::Info, Some(what)).await?;
            tokio::time::sleep(self.settings.means.off_pause).await;
        }
        self.wait_to_switch_on().await;
        from_network(control).await?;
        control.switch(PowerAction::On).await.map_err(RunError::from)
    }

    async fn note_cut(
        &self,
        run: RunId,
        cut: PowerCut,
        level: EventLevel,
        told: Option<String>,
    ) -> Result<(), RunError> {
        let now_ms = self.clock.now_ms();
        self.store
            .write(move |connection| {
                if let Some(reboot) = reboots::away(connection, run)?
                    // a machine that was seen off stays so, though it cannot be switched on
                    && !(reboot.power == Some(PowerCut::Off) && matches!(cut, PowerCut::Failed { .. }))
                {
                    reboots::set_power(connection, run, &cut)?;
                    if let (PowerCut::Restarted, Some(mut seen)) = (&cut, reboot.memtest)
                        && seen.end.is_none()
                    {
                        seen.end = Some(MemtestEnd::NoLine);
                        seen.note = Some("nobody saw it, and its power was cycled after its time".to_owned());
                        reboots::set_memtest(connection, run, &seen)?;
                    }
                }
                if cut == PowerCut::Restarted {
                    runs::set_next_boot_target(connection, run, BootTarget::Linux)?;
                }
                if let Some(message) = told {
                    events::insert(connection, &of_run(run, now_ms, level, "power_cut", message))?;
                }
                Ok::<_, RunError>(())
            })
            .await
    }
}

/// Restarts a machine that does nothing that could be lost.
async fn restart(control: &dyn PowerControl) -> Result<(), ControlError> {
    from_network(control).await?;
    match control.state().await? {
        PowerState::On => control.switch(PowerAction::Cycle).await,
        PowerState::Off => control.switch(PowerAction::On).await,
    }
}

/// The next boot from the network, where that can be said; else the firmware's order has it, as in warm restarts.
async fn from_network(control: &dyn PowerControl) -> Result<(), ControlError> {
    match control.boot_from_network_once().await {
        Err(ControlError::NotPossible { .. }) => Ok(()),
        other => other,
    }
}
