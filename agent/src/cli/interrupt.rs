//! Ctrl-C and SIGTERM: the first asks the work to end and leaves time for its results, the second ends at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::CliError;
use crate::cancel::Cancel;
use crate::console::{Console as _, Terminal};

/// Exit code of a program that a signal ended, as shells say it.
const INTERRUPTED: i32 = 130;

/// Watches for signals; each of `raised` is raised by the first one.
pub(super) fn watch(raised: Vec<Cancel>) -> Result<(), CliError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Signals)?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(CliError::Signals)?,
            signal(SignalKind::terminate()).map_err(CliError::Signals)?,
        )
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let mut next = async || {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                };
                next().await;
                Terminal::Stderr.line("interrupted: ending what runs; once more to end at once");
                for cancel in raised {
                    cancel.raise();
                }
                next().await;
                // tools lead groups of their own and are killed with their handles: give those a moment
                tokio::time::sleep(Duration::from_millis(100)).await;
                std::process::exit(INTERRUPTED);
            });
        })
        .map_err(CliError::Signals)?;
    Ok(())
}
