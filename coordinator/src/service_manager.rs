//! What systemd is told: ready, stopping, alive (sd_notify(3)). Without it (no `NOTIFY_SOCKET`) nothing is said.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::store::{Store, StoreError};

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Everything listens.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("requests under way are being finished")]);
}

/// Tells the watchdog of the service manager, where there is one, that the coordinator is alive: its tasks turn, and the
/// one that writes to the database answers. An answer that something failed is an answer.
pub fn keep_watchdog_quiet(store: &Store, stopped: &watch::Receiver<bool>) -> Option<JoinHandle<()>> {
    let patience = sd_notify::watchdog_enabled()?;
    // half of it leaves room for one that comes late
    let pause = (patience / 2).max(Duration::from_millis(1));
    let (store, mut stopped) = (store.clone(), stopped.clone());
    Some(tokio::spawn(async move {
        loop {
            let answer: Result<(), StoreError> = store.write(|_| Ok(())).await;
            if let Err(error) = answer {
                tracing::debug!(error = %crate::error_chain(&error), "the database answered the watchdog");
            }
            tell(&[NotifyState::Watchdog]);
            let stop = stopped.wait_for(|stop| *stop);
            if tokio::time::timeout(pause, stop).await.is_ok() {
                break;
            }
        }
    }))
}
