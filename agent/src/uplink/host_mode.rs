//! Showing oneself to the coordinator from an installed system, until it has a run for it.

use std::time::Duration;

use vetting_protocol::PROTOCOL_VERSION;
use vetting_protocol::host_mode::{HostHeartbeat, HostInventory, HostRun, digest};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::secret::Secret;

use super::backoff::Backoff;
use super::client::{Client, RequestError};
use super::{Timing, raised};
use crate::cancel::Cancel;
use crate::clock;
use crate::console::{Console, spoken};

/// The machine is looked at anew after this, for parts that can be changed while it runs.
const LOOK_AGAIN: Duration = Duration::from_mins(10);
/// Whatever the coordinator says, it is asked again within these.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);

/// Why no more is asked.
#[derive(Debug, thiserror::Error)]
pub enum HostModeError {
    /// The coordinator refuses for good, or is not the one that the settings mean.
    #[error("the coordinator does not take this machine's agent")]
    Refused(#[source] RequestError),
    /// The inventory has no text.
    #[error("the inventory cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The runtime cannot be made.
    #[error("the network cannot be used")]
    Runtime(#[source] std::io::Error),
}

/// Sends heartbeats until there is a run; `None` when `cancel` is raised. While the coordinator is away this goes on
/// asking; a failure is shown when it is new.
///
/// # Errors
/// See [`HostModeError`].
pub fn attend(
    client: &Client,
    timing: Timing,
    console: &dyn Console,
    cancel: &Cancel,
    token: &Secret,
    boot_id: &str,
    look: impl Fn() -> Inventory,
) -> Result<Option<HostRun>, HostModeError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(HostModeError::Runtime)?;
    runtime.block_on(async {
        let mut backoff = Backoff::new(timing.first_retry, timing.longest_retry);
        let mut told = String::new();
        let (mut inventory, mut looked) = (look(), clock::monotonic());
        while !cancel.is_raised() {
            if looked.elapsed() >= LOOK_AGAIN {
                (inventory, looked) = (look(), clock::monotonic());
            }
            let heartbeat = HostHeartbeat {
                protocol_version: PROTOCOL_VERSION,
                agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                boot_id: boot_id.to_owned(),
                inventory_sha256: digest(&inventory)?,
            };
            let pause = match exchange(client, token, &heartbeat, &inventory).await {
                Ok((Some(run), _)) => return Ok(Some(run)),
                Ok((None, pause)) => {
                    backoff = Backoff::new(timing.first_retry, timing.longest_retry);
                    if !told.is_empty() {
                        console.line(&format!("coordinator {} answers again", client.endpoint()));
                        told.clear();
                    }
                    pause.clamp(*PAUSE.start(), *PAUSE.end())
                }
                Err(error) if !error.is_transient() => return Err(HostModeError::Refused(error)),
                Err(error) => {
                    let wait = backoff.next();
                    if told != error.to_string() {
                        told = error.to_string();
                        console.line(&format!("{error}; next try in {}", spoken(wait)));
                    }
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = raised(cancel) => {}
            }
        }
        Ok(None)
    })
}

async fn exchange(
    client: &Client,
    token: &Secret,
    heartbeat: &HostHeartbeat,
    inventory: &Inventory,
) -> Result<(Option<HostRun>, Duration), RequestError> {
    let directive = client.host_heartbeat(token, heartbeat).await?;
    if directive.send_inventory {
        client.host_inventory(token, &HostInventory { inventory: inventory.clone() }).await?;
    }
    Ok((directive.run, Duration::from_millis(directive.next_ms)))
}
