//! Power of registered machines: by the BMC where a host has one, for operators and for runs.

use std::time::Duration;

use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::RunId;
use vetting_protocol::power::{BmcSettings, PowerAction, PowerState, PowerView};
use vetting_protocol::run::RunState;

use super::driver::Driver;
use super::error::RunError;
use crate::error_chain;
use crate::power::{self, ControlError, PowerControl};
use crate::store::events::{self, EventValues};
use crate::store::{Connection, StoreError, bmcs, hosts, runs};

/// How long is waited for a BMC to say whether a machine that fell silent is on: others may wait for the same task.
const GLANCE: Duration = Duration::from_secs(20);

impl Driver {
    /// How a machine's power is controlled, and whether it is on.
    pub async fn power_of(&self, name: String) -> Result<PowerView, RunError> {
        let bmc = self.bmc_of(name).await?;
        let Some(settings) = bmc.clone() else { return Ok(PowerView { bmc, state: None, problem: None }) };
        Ok(match self.ask_state(settings).await {
            Ok(state) => PowerView { bmc, state: Some(state), problem: None },
            Err(error) => PowerView { bmc, state: None, problem: Some(error_chain(&error)) },
        })
    }

    async fn ask_state(&self, settings: BmcSettings) -> Result<PowerState, ControlError> {
        power::control(settings, &self.settings.power_secrets)?.state().await
    }

    async fn bmc_of(&self, name: String) -> Result<Option<BmcSettings>, RunError> {
        let read = self.store.read(move |connection| {
            let host = hosts::require_by_name(connection, &name)?;
            bmcs::get(connection, host.id)
        });
        Ok(read.await?)
    }

    /// Notes how a machine's BMC is reached; `None` takes it away.
    ///
    /// # Errors
    /// A word that is no host, user or secret.
    pub async fn set_bmc(&self, name: String, settings: Option<BmcSettings>) -> Result<(), RunError> {
        if let Some(what) = settings.as_ref().and_then(power::mistake) {
            return Err(RunError::Invalid { what });
        }
        let now_ms = self.clock.now_ms();
        self.store
            .write(move |connection| {
                let host = hosts::require_by_name(connection, &name)?;
                bmcs::set(connection, host.id, settings.as_ref(), now_ms)
            })
            .await?;
        Ok(())
    }

    /// Switches a machine on or off. Without a BMC it can only be asked to come up.
    ///
    /// # Errors
    /// A run is at work on it, or the BMC does not do it.
    pub async fn switch_power(&self, name: String, action: PowerAction) -> Result<(), RunError> {
        let (host, bmc, active) = self
            .store
            .read(move |connection| {
                let host = hosts::require_by_name(connection, &name)?;
                let bmc = bmcs::get(connection, host.id)?;
                let active = runs::active_of_host(connection, host.id)?;
                Ok::<_, StoreError>((host, bmc, active))
            })
            .await?;
        if let Some(run) = active
            && action != PowerAction::On
            && run.state != RunState::Queued
            && run.state != RunState::Waking
        {
            let what = format!(
                "run {} is {} on {}, and would fail by it; `run abort {}` first",
                run.id, run.state, host.name, run.id
            );
            return Err(RunError::Invalid { what });
        }
        let Some(settings) = bmc else {
            if action == PowerAction::On {
                let target = super::wake::target(&host);
                return self.power.wake(target).await.map_err(|error| RunError::power(&error));
            }
            let what = format!(
                "{} has no BMC here, so it can only be asked to come up; `host bmc {} --ipmi HOST` tells of one",
                host.name, host.name
            );
            return Err(RunError::Invalid { what });
        };
        let control = power::control(settings, &self.settings.power_secrets)
            .map_err(|error| RunError::power(&error))?;
        control.switch(action).await.map_err(|error| RunError::power(&error))?;
        let (now_ms, message) = (self.clock.now_ms(), format!("an operator switched its power: {action}"));
        let line = EventValues {
            run_id: None,
            host_id: Some(host.id),
            ts_ms: now_ms,
            level: EventLevel::Info,
            kind: "power".to_owned(),
            message,
            data: None,
        };
        self.store.write(move |connection| events::insert(connection, &line)).await?;
        Ok(())
    }

    /// Has a machine's BMC boot it from the network: one that is off is switched on, one that is on is restarted, but only
    /// `for_the_first_time` for its run. Says whether there is a BMC that did it.
    pub(super) async fn boot_by_bmc(
        &self,
        settings: BmcSettings,
        for_the_first_time: bool,
    ) -> Result<(), ControlError> {
        let control: Box<dyn PowerControl> = power::control(settings, &self.settings.power_secrets)?;
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

    /// Whether the machine of a run is on, as its BMC says; absent without one, or without an answer in time.
    pub(super) async fn glance_at_power(&self, run: RunId) -> Option<bool> {
        let read = self.store.read(move |connection: &Connection| {
            let host = runs::get(connection, run)?.host_id;
            bmcs::get(connection, host)
        });
        let settings: Result<_, StoreError> = read.await;
        let settings = settings.ok().flatten()?;
        let state = tokio::time::timeout(GLANCE, self.ask_state(settings)).await.ok()?;
        match state {
            Ok(state) => Some(state == PowerState::On),
            Err(error) => {
                tracing::warn!(%run, error = %error_chain(&error), "the BMC of a silent machine was not heard");
                None
            }
        }
    }
}
