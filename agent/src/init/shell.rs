//! The rescue shell, only with the kernel parameter `vetting.shell`: one on the screen, one on the serial line.

use crate::console::{Console, chain};
use crate::tools::runner::{RunningTool, Service, SystemRunner, ToolError};

/// Speed of the serial line, baud.
const SERIAL_SPEED: &str = "115200";

/// Starts a shell on each console and waits until all have ended.
pub(super) fn offer(runner: &SystemRunner, console: &dyn Console) {
    console.line("vetting.shell: a shell on tty1 and ttyS0; the machine restarts when they end");
    let shells: Vec<RunningTool> = ["tty1", "ttyS0"]
        .iter()
        .filter_map(|tty| match start(runner, tty) {
            Ok(shell) => Some(shell),
            Err(error) => {
                console.line(&format!("no shell on {tty}: {}", chain(&error)));
                None
            }
        })
        .collect();
    for shell in shells {
        shell.wait(|_, line| console.line(line));
    }
}

fn start(runner: &SystemRunner, tty: &str) -> Result<RunningTool, ToolError> {
    let args = ["getty", "-n", "-l", "/bin/sh", SERIAL_SPEED, tty, "linux"];
    runner.spawn(&Service {
        program: "busybox".into(),
        args: args.iter().map(Into::into).collect(),
        env: Vec::new(),
    })
}
