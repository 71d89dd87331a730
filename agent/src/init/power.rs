//! The end of the machine's session: restart or off. Only PID 1 comes here.

use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, sync};

use super::console::TtyConsole;
use crate::console::Console as _;

/// Time for the consoles to show the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);
/// Time for programs to end by themselves.
const GOODBYE: Duration = Duration::from_millis(500);

/// What becomes of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    /// Off.
    Off,
    /// Through the firmware again.
    Restart,
}

impl Power {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Off => "switches itself off",
            Self::Restart => "restarts",
        }
    }
}

/// Asks the kernel to send ctrl-alt-del as SIGINT instead of restarting at once.
pub(super) fn take_ctrl_alt_del(console: &TtyConsole) {
    if let Err(error) = set_cad_enabled(false) {
        console.line(&format!("ctrl-alt-del restarts at once: {error}"));
    }
}

/// Ends every process, writes what waits to the disks, and goes. Never returns: if the kernel refuses, it says so
/// and tries again.
pub(super) fn go(power: Power, console: &TtyConsole) -> ! {
    console.line(&format!("the machine {}", power.words()));
    let everyone = Pid::from_raw(-1);
    // nobody left to end is no failure
    let _ = kill(everyone, Signal::SIGTERM);
    std::thread::sleep(GOODBYE);
    let _ = kill(everyone, Signal::SIGKILL);
    sync();
    console.drain(LAST_LINES);
    loop {
        let mode = match power {
            Power::Off => RebootMode::RB_POWER_OFF,
            Power::Restart => RebootMode::RB_AUTOBOOT,
        };
        let Err(error) = reboot(mode);
        console.line(&format!("the kernel refuses: {error}"));
        std::thread::sleep(Duration::from_secs(30));
    }
}
