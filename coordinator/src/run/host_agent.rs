//! Agents on installed systems: their tokens, their heartbeats, what their machines are made of, and the runs they take.

use serde_json::json;
use vetting_judge::parts;
use vetting_protocol::PROTOCOL_VERSION;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::host_mode::{self, HostDirective, HostHeartbeat, HostInventory, HostRun};
use vetting_protocol::ids::{HostId, Sha256Hex};
use vetting_protocol::run::{RunPlace, RunState};
use vetting_protocol::secret::Secret;

use super::driver::Driver;
use super::error::RunError;
use super::secrets;
use crate::store::events::{self, EventValues};
use crate::store::{Connection, StoreError, host_agents, hosts, runs};

/// When an agent is to be heard from again, ms.
const HEARTBEAT_MS: u64 = 60_000;

impl Driver {
    /// Makes the token of a host's agent. An earlier one is good no more. `line` says who ordered it.
    ///
    /// # Errors
    /// No such host.
    pub async fn make_host_agent(&self, host: String, line: EventValues) -> Result<Secret, RunError> {
        let (token, now_ms) = (secrets::fresh()?, self.clock.now_ms());
        let hash = token.sha256();
        self.store
            .write(move |connection| {
                let host = hosts::require_by_name(connection, &host)?;
                host_agents::set_token(connection, host.id, hash, now_ms)?;
                events::insert(connection, &EventValues { host_id: Some(host.id), ..line })?;
                Ok::<_, RunError>(())
            })
            .await?;
        Ok(token)
    }

    /// Makes it worthless. False if there was none. `line` says who ordered it.
    ///
    /// # Errors
    /// No such host.
    pub async fn revoke_host_agent(&self, host: String, mut line: EventValues) -> Result<bool, RunError> {
        self.store
            .write(move |connection| {
                let host = hosts::require_by_name(connection, &host)?;
                let was = host_agents::revoke(connection, host.id)?;
                if !was {
                    line.message += ", which had none";
                }
                events::insert(connection, &EventValues { host_id: Some(host.id), ..line })?;
                Ok::<_, RunError>(was)
            })
            .await
    }

    /// The host whose agent has this token.
    pub async fn host_of_agent(&self, token: Sha256Hex) -> Result<Option<HostId>, RunError> {
        let found: Result<_, StoreError> =
            self.store.read(move |connection| host_agents::by_token(connection, token)).await;
        Ok(found?)
    }

    /// An agent shows itself. It may take a run that was ordered for the installed system.
    ///
    /// # Errors
    /// Another protocol version.
    pub async fn host_heartbeat(
        &self,
        host: HostId,
        heartbeat: HostHeartbeat,
    ) -> Result<HostDirective, RunError> {
        if heartbeat.protocol_version != PROTOCOL_VERSION {
            return Err(RunError::ProtocolVersion {
                agent: heartbeat.protocol_version,
                coordinator: PROTOCOL_VERSION,
            });
        }
        let now_ms = self.clock.now_ms();
        let (known, run) = self
            .store
            .write(move |connection| {
                hosts::seen(connection, host, now_ms)?;
                let HostHeartbeat { boot_id, agent_version, .. } = &heartbeat;
                host_agents::heard(connection, host, boot_id, agent_version)?;
                let stored = host_agents::inventory_digest(connection, host)?;
                let run = runs::active_of_host(connection, host)?;
                let waiting = run
                    .filter(|run| run.override_flags.place == RunPlace::InstalledSystem && waits(run.state));
                Ok::<_, RunError>((stored == Some(heartbeat.inventory_sha256), waiting.map(|run| run.id)))
            })
            .await?;
        let run = match run {
            None => None,
            Some(run_id) => {
                let why = "offered to the agent on the installed system".to_owned();
                let secret = self.offer(run_id, why, now_ms).await?;
                secret.map(|claim_secret| HostRun { run_id, claim_secret })
            }
        };
        Ok(HostDirective { send_inventory: !known, run, next_ms: HEARTBEAT_MS })
    }

    /// What a machine is made of now. A change is an event.
    pub async fn host_inventory(&self, host: HostId, told: HostInventory) -> Result<(), RunError> {
        let now_ms = self.clock.now_ms();
        let no_text =
            |error: serde_json::Error| RunError::Invalid { what: format!("the inventory: {error}") };
        let digest = host_mode::digest(&told.inventory).map_err(no_text)?;
        let text = serde_json::to_string(&told.inventory).map_err(no_text)?;
        self.store
            .write(move |connection| {
                let before = host_agents::inventory(connection, host)?;
                host_agents::set_inventory(connection, host, digest, &text, now_ms)?;
                let changed = before.map(|before| parts::changes(&before, &told.inventory));
                let Some(lines) = changed.filter(|lines| !lines.is_empty()) else { return Ok(()) };
                let name = hosts::name_of(connection, host)?;
                let message = format!("host {name} is made of other parts than before: {}", lines.join("; "));
                let data = Some(json!({ "changes": lines }));
                of_host(connection, host, now_ms, EventLevel::Warning, "inventory_changed", message, data)
            })
            .await
    }
}

/// Whether a run of this state is still to be claimed.
fn waits(state: RunState) -> bool {
    match state {
        RunState::Queued | RunState::Waking | RunState::Booting => true,
        RunState::Running
        | RunState::Rebooting
        | RunState::Reporting
        | RunState::Completed
        | RunState::FailedHolding
        | RunState::Released
        | RunState::Aborted => false,
    }
}

fn of_host(
    connection: &Connection,
    host: HostId,
    ts_ms: i64,
    level: EventLevel,
    kind: &str,
    message: String,
    data: Option<serde_json::Value>,
) -> Result<(), RunError> {
    let kind = kind.to_owned();
    let values = EventValues { run_id: None, host_id: Some(host), ts_ms, level, kind, message, data };
    events::insert(connection, &values)?;
    Ok(())
}
