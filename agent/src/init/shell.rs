//! The shells of `vetting.shell`: one on the screen, one on the serial line, for as long as the live session lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::console::{Console, chain};
use crate::tools::runner::{Leads, RunningTool, Service, SystemRunner, ToolError};

/// Where: the first screen and the first serial line.
const TTYS: [&str; 2] = ["tty1", "ttyS0"];
/// Speed of the serial line, baud.
const SERIAL_SPEED: &str = "115200";
/// Time between the end of a shell and the next one, so that a line that is no terminal does not keep us busy.
const PAUSE: Duration = Duration::from_secs(2);

/// The shells. Each is followed by a new one when it ends, until [`Shells::wait_for_end`].
pub(super) struct Shells {
    threads: Vec<JoinHandle<()>>,
    last: Arc<AtomicBool>,
}

impl Shells {
    /// Starts them.
    pub(super) fn start(runner: &SystemRunner, console: &Arc<dyn Console>) -> Self {
        console.line("vetting.shell: root shells on tty1 and ttyS0, for whoever is at the machine");
        let last = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for tty in TTYS {
            let (runner, shown, last) = (runner.clone(), Arc::clone(console), Arc::clone(&last));
            let thread = std::thread::Builder::new()
                .name(format!("shell {tty}"))
                .spawn(move || keep_a_shell(&runner, &*shown, tty, &last));
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => console.line(&format!("no shell on {tty}: {error}")),
            }
        }
        Self { threads, last }
    }

    /// Waits until the shells that run have ended; no new ones follow.
    pub(super) fn wait_for_end(self, console: &dyn Console) {
        self.last.store(true, Ordering::Relaxed);
        console.line("the shells stay: `reboot` restarts the machine, `poweroff` switches it off");
        for thread in self.threads {
            // a thread that panicked has said so itself
            let _ = thread.join();
        }
    }
}

fn keep_a_shell(runner: &SystemRunner, console: &dyn Console, tty: &str, last: &AtomicBool) {
    loop {
        match start(runner, tty) {
            Ok(shell) => {
                shell.wait(|_, line| console.line(&format!("shell on {tty}: {line}")));
            }
            Err(error) => {
                console.line(&format!("no shell on {tty}: {}", chain(&error)));
                return;
            }
        }
        if last.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

fn start(runner: &SystemRunner, tty: &str) -> Result<RunningTool, ToolError> {
    // -L: a serial line of three wires never says that there is a carrier
    let args = ["getty", "-L", "-n", "-l", "/bin/sh", SERIAL_SPEED, tty, "linux"];
    runner.spawn(&Service {
        program: "busybox".into(),
        args: args.iter().map(Into::into).collect(),
        env: Vec::new(),
        leads: Leads::Session,
    })
}
