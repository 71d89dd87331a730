//! A machine that started from a stick: its settings say whether there is a coordinator. If not, or if they cannot be
//! read, the machine works alone, with the menu at its console.

use std::path::Path;
use std::time::Duration;

use vetting_protocol::stick::{Mode, StickSettings};

use crate::alone::medium::{self, MEDIUM_DIRECTORY};
use crate::alone::papers::Papers;
use crate::clock;
use crate::console::{Console, chain};
use crate::host::Host;
use crate::tools::runner::ToolRunner;

/// Longest wait for the stick's own drivers.
const PATIENCE: Duration = Duration::from_mins(1);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// Mounts the stick and reads its settings: those of a machine that is to find a coordinator. `None` where it is to work
/// alone, and where the settings cannot be read: then the console's menu says what is wrong with them.
pub(super) fn coordinator_settings(
    host: &Host,
    tools: &dyn ToolRunner,
    label: &str,
    console: &dyn Console,
    devices_ready: &Path,
) -> Option<StickSettings> {
    let begin = clock::monotonic();
    let found = medium::wait_for(tools, label, console, || {
        let ready = devices_ready.exists() || begin.elapsed() >= PATIENCE;
        std::thread::sleep(LOOK);
        !ready
    });
    if let Err(error) = found {
        console.line(&format!("the stick this machine started from cannot be read: {}", chain(&error)));
        return None;
    }
    Papers::read(host, MEDIUM_DIRECTORY)
        .settings
        .filter(|settings| settings.mode == Mode::Auto && settings.coordinator.is_some())
}
