//! Power of registered machines: by the BMC where a host has one, or else by its outlet; for operators and for runs.

use std::time::Duration;

use vetting_judge::crash::EventLog;
use vetting_protocol::ids::{HostId, RunId};
use vetting_protocol::power::{
    BmcSettings, MediaOrder, PduSettings, PduView, PowerAction, PowerState, PowerView,
};
use vetting_protocol::run::RunState;

use super::driver::Driver;
use super::error::RunError;
use crate::error_chain;
use crate::power::{self, ControlError, Controls, PowerControl};
use crate::store::events::{self, EventValues};
use crate::store::hosts::HostRow;
use crate::store::runs::RunRow;
use crate::store::{Connection, StoreError, bmcs, hosts, runs};

/// How long is waited for a BMC to say whether a machine that went away is on: its report waits for it.
const GLANCE: Duration = Duration::from_secs(20);
/// The same for its event log, which comes entry by entry.
const READING: Duration = Duration::from_mins(1);

/// What is known of a machine whose power is to be controlled.
struct Facts {
    host: HostRow,
    controls: Controls,
    active: Option<RunRow>,
}

/// How a machine's power may be controlled.
pub(super) fn controls(connection: &Connection, host: HostId) -> Result<Controls, StoreError> {
    Ok(Controls { bmc: bmcs::get(connection, host)?, pdu: bmcs::pdu(connection, host)? })
}

/// Refuses what would break the run that is at work on a machine.
fn undisturbed(host: &HostRow, active: Option<&RunRow>) -> Result<(), RunError> {
    let Some(run) = active.filter(|run| !matches!(run.state, RunState::Queued | RunState::Waking)) else {
        return Ok(());
    };
    let what = format!(
        "run {} is {} on {}, and would fail by it; `run abort {}` first",
        run.id, run.state, host.name, run.id
    );
    Err(RunError::Invalid { what })
}

/// A machine's state, or why it is not known.
async fn state_or_problem(
    control: Result<Option<Box<dyn PowerControl>>, ControlError>,
) -> (Option<PowerState>, Option<String>) {
    let state = match control {
        Ok(None) => return (None, None),
        Ok(Some(control)) => control.state().await,
        Err(error) => Err(error),
    };
    state.map_or_else(|error| (None, Some(error_chain(&error))), |state| (Some(state), None))
}

impl Driver {
    async fn power_facts(&self, name: String) -> Result<Facts, RunError> {
        let read = self.store.read(move |connection| {
            let host = hosts::require_by_name(connection, &name)?;
            let controls = controls(connection, host.id)?;
            let active = runs::active_of_host(connection, host.id)?;
            Ok::<_, StoreError>(Facts { host, controls, active })
        });
        Ok(read.await?)
    }

    /// How a machine's power is controlled, and whether it is on.
    pub async fn power_of(&self, name: String) -> Result<PowerView, RunError> {
        let controls = self.power_facts(name).await?.controls;
        let (state, problem) = state_or_problem(controls.clone().control(&self.settings.means)).await;
        Ok(PowerView { bmc: controls.bmc, pdu: controls.pdu, state, problem })
    }

    /// How a machine's outlet is switched, and whether it is on.
    pub async fn pdu_of(&self, name: String) -> Result<PduView, RunError> {
        let pdu = self.power_facts(name).await?.controls.pdu;
        let by_pdu = Controls { bmc: None, pdu: pdu.clone() };
        let (state, problem) = state_or_problem(by_pdu.control(&self.settings.means)).await;
        Ok(PduView { pdu, state, problem })
    }

    /// Notes how a machine's BMC is reached; `None` takes it away. `line` says who ordered it.
    ///
    /// # Errors
    /// A word that is no host, user or secret.
    pub async fn set_bmc(
        &self,
        name: String,
        settings: Option<BmcSettings>,
        line: EventValues,
    ) -> Result<(), RunError> {
        if let Some(what) = settings.as_ref().and_then(power::mistake) {
            return Err(RunError::Invalid { what });
        }
        let now_ms = self.clock.now_ms();
        let write = self.store.write(move |connection| {
            let host = hosts::require_by_name(connection, &name)?;
            bmcs::set(connection, host.id, settings.as_ref(), now_ms)?;
            events::insert(connection, &EventValues { host_id: Some(host.id), ..line }).map(drop)
        });
        Ok(write.await?)
    }

    /// Notes how a machine's outlet is switched; `None` takes it away. `line` says who ordered it.
    ///
    /// # Errors
    /// A word that is no host, outlet or secret; a hook that the configuration does not have.
    pub async fn set_pdu(
        &self,
        name: String,
        settings: Option<PduSettings>,
        line: EventValues,
    ) -> Result<(), RunError> {
        if let Some(what) = settings.as_ref().and_then(power::mistake_in_pdu) {
            return Err(RunError::Invalid { what });
        }
        if let Some(PduSettings::Hook { hook, .. }) = &settings
            && !self.settings.means.hooks.contains_key(hook)
        {
            let what = format!("the coordinator's configuration has no `power.hooks.{hook}`");
            return Err(RunError::Invalid { what });
        }
        let now_ms = self.clock.now_ms();
        let write = self.store.write(move |connection| {
            let host = hosts::require_by_name(connection, &name)?;
            bmcs::set_pdu(connection, host.id, settings.as_ref(), now_ms)?;
            events::insert(connection, &EventValues { host_id: Some(host.id), ..line }).map(drop)
        });
        Ok(write.await?)
    }

    /// Switches a machine on or off. Without a BMC and an outlet it can only be asked to come up. `line` says who did it,
    /// and is written once it is done: a device knows no transactions.
    ///
    /// # Errors
    /// A run is at work on it, or the BMC or outlet does not do it.
    pub async fn switch_power(
        &self,
        name: String,
        action: PowerAction,
        line: EventValues,
    ) -> Result<(), RunError> {
        let Facts { host, controls, active } = self.power_facts(name).await?;
        if action != PowerAction::On {
            undisturbed(&host, active.as_ref())?;
        }
        let control = controls.control(&self.settings.means)?;
        if matches!(action, PowerAction::On | PowerAction::Cycle) {
            self.wait_to_switch_on().await;
        }
        let Some(control) = control else {
            if action == PowerAction::On {
                let woken = self.power.wake(super::wake::target(&host)).await;
                woken.map_err(|error| RunError::power(&error))?;
                let message = format!("{} (Wake-on-LAN)", line.message);
                return self.note_done(&host, EventValues { message, ..line }).await;
            }
            let what = format!(
                "{0} has no BMC and no outlet here, so it can only be asked to come up; `host bmc {0}` or `host pdu {0} set` \
                 tells of one",
                host.name
            );
            return Err(RunError::Invalid { what });
        };
        control.switch(action).await?;
        self.note_done(&host, line).await
    }

    /// Switches a machine's outlet, whether or not it has a BMC. `line` as in [`Driver::switch_power`].
    ///
    /// # Errors
    /// A run is at work on it; it has none here, or the outlet does not do it.
    pub async fn switch_outlet(
        &self,
        name: String,
        action: PowerAction,
        line: EventValues,
    ) -> Result<(), RunError> {
        let Facts { host, controls, active } = self.power_facts(name).await?;
        if action != PowerAction::On {
            undisturbed(&host, active.as_ref())?;
        }
        let Some(settings) = controls.pdu else {
            let what = format!("{0} has no outlet here; `host pdu {0} set` tells of one", host.name);
            return Err(RunError::Invalid { what });
        };
        let control = power::by_pdu(settings, &self.settings.means)?;
        if matches!(action, PowerAction::On | PowerAction::Cycle) {
            self.wait_to_switch_on().await;
        }
        control.switch(action).await?;
        self.note_done(&host, line).await
    }

    /// Writes the line of what a device did.
    async fn note_done(&self, host: &HostRow, line: EventValues) -> Result<(), RunError> {
        let line = EventValues { host_id: Some(host.id), ts_ms: self.clock.now_ms(), ..line };
        self.store.write(move |connection| events::insert(connection, &line)).await?;
        Ok(())
    }

    /// Has a machine's BMC put an image into its virtual drive, or take out what is in there. `line` as in
    /// [`Driver::switch_power`].
    ///
    /// # Errors
    /// An address that a BMC cannot fetch; a run at work whose next boot would come from it; the BMC does not do it.
    pub async fn set_media(
        &self,
        name: String,
        order: Option<MediaOrder>,
        line: EventValues,
    ) -> Result<(), RunError> {
        if let Some(what) = order.as_ref().and_then(|order| power::mistake_in_media(&order.url)) {
            return Err(RunError::Invalid { what });
        }
        let Facts { host, controls, active } = self.power_facts(name).await?;
        if order.as_ref().is_some_and(|order| order.boot_once) {
            undisturbed(&host, active.as_ref())?;
        }
        let Some(settings) = controls.bmc else {
            let what = format!(
                "{0} has no BMC here; `host bmc {0} --redfish HOST` tells of one with virtual media",
                host.name
            );
            return Err(RunError::Invalid { what });
        };
        let control = power::by_bmc(settings, &self.settings.means)?;
        control.media(order).await?;
        self.note_done(&host, line).await
    }

    /// Has a machine's BMC boot it from the network: one that is off is switched on, one that is on is restarted, but only
    /// `for_the_first_time` for its run.
    pub(super) async fn boot_by_bmc(
        &self,
        settings: BmcSettings,
        for_the_first_time: bool,
    ) -> Result<(), ControlError> {
        let control = power::by_bmc(settings, &self.settings.means)?;
        match control.state().await? {
            PowerState::Off => {
                control.boot_from_network_once().await?;
                control.switch(PowerAction::On).await
            }
            PowerState::On if for_the_first_time => {
                control.boot_from_network_once().await?;
                control.switch(PowerAction::Cycle).await
            }
            // it is on its way
            PowerState::On => Ok(()),
        }
    }

    /// Gives a machine its mains. One that has them is not touched: what runs on it would lose its disks' caches.
    pub(super) async fn switch_outlet_on(&self, settings: PduSettings) -> Result<(), ControlError> {
        let control = power::by_pdu(settings, &self.settings.means)?;
        match control.state().await? {
            PowerState::Off => control.switch(PowerAction::On).await,
            PowerState::On => Ok(()),
        }
    }

    /// What the BMC of a run's machine says: whether the machine is on, and what its event log has since `since_ms`. An
    /// outlet does not know: a machine that is off may hang on one that is on.
    pub(super) async fn ask_bmc(
        &self,
        run: RunId,
        since_ms: i64,
    ) -> Result<(Option<bool>, EventLog), RunError> {
        let read = self.store.read(move |connection: &Connection| {
            let host = runs::get(connection, run)?.host_id;
            bmcs::get(connection, host)
        });
        let settings: Result<_, StoreError> = read.await;
        let Some(settings) = settings? else { return Ok((None, EventLog::NoBmc)) };
        let unread = |error: &ControlError| EventLog::Unread { why: error_chain(error) };
        let control = match power::by_bmc(settings, &self.settings.means) {
            Ok(control) => control,
            Err(error) => return Ok((None, unread(&error))),
        };
        let late = |patience: Duration| EventLog::Unread {
            why: format!("its BMC gave no answer within {} s", patience.as_secs()),
        };
        let power_on = match tokio::time::timeout(GLANCE, control.state()).await {
            Ok(Ok(state)) => state == PowerState::On,
            Ok(Err(error)) => return Ok((None, unread(&error))),
            Err(_) => return Ok((None, late(GLANCE))),
        };
        let log = match tokio::time::timeout(READING, control.event_log(since_ms, self.clock.now_ms())).await
        {
            Ok(Ok(entries)) => EventLog::Read { entries },
            Ok(Err(error)) => unread(&error),
            Err(_) => late(READING),
        };
        Ok((Some(power_on), log))
    }
}
