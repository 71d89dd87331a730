//! What happens when `run` dies instead of ending well: told on the console and at the coordinator, then what the
//! coordinator says, or a restart.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use vetting_protocol::agent_api::{AfterRun, AgentCrash};

use super::session::SessionFile;
use crate::console::{Console, chain};
use crate::tools::runner::Exit;
use crate::uplink::{self, Client, Timing};

/// How long the coordinator is asked to take the crash report.
const REPORT_PATIENCE: Duration = Duration::from_mins(10);
/// Lines of the agent that are shown again in the report.
const LAST_LINES_SHOWN: usize = 8;

/// How a process ended, in words: `exit code 101`, `signal SIGSEGV`.
pub(super) fn exit_words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(number) => Signal::try_from(number)
            .map_or_else(|_| format!("signal {number}"), |signal| format!("signal {signal}")),
        Exit::TimedOut => "ended at a time limit".to_owned(),
        Exit::Cancelled => "cancelled".to_owned(),
    }
}

/// Shows the death of the agent in a frame.
pub(super) fn show_death(console: &dyn Console, how: &str, last_lines: &[String]) {
    let frame = "!".repeat(72);
    console.line(&frame);
    console.line(&format!("  THE AGENT DIED ({how}): this run cannot go on"));
    let shown = last_lines.len().saturating_sub(LAST_LINES_SHOWN);
    for line in last_lines.iter().skip(shown) {
        console.line(&format!("    | {line}"));
    }
    console.line(&frame);
}

/// Tells the coordinator, if the agent had a session, and gives what it says of the machine; `None` when there was
/// no session or no answer.
pub(super) fn report(
    console: &dyn Console,
    session_file: &Path,
    how: &str,
    last_lines: Vec<String>,
) -> Option<AfterRun> {
    let (coordinator, ca, proxy, session) = match SessionFile::read(session_file) {
        Ok(session) => session,
        Err(error) => {
            console.line(&format!("the coordinator is not told: {}", chain(&error)));
            return None;
        }
    };
    let client = match Client::new(coordinator, ca, proxy.as_ref()) {
        Ok(client) => client,
        Err(error) => {
            console.line(&format!("the coordinator is not told: {}", chain(&error)));
            return None;
        }
    };
    let crash = AgentCrash { boot_id: session.boot_id.clone(), how: how.to_owned(), last_lines };
    match uplink::report_crash(&client, &session, &crash, Timing::NORMAL, REPORT_PATIENCE, console) {
        Ok(then) => Some(then),
        Err(error) => {
            console.line(&format!("the coordinator did not take the report: {}", chain(&error)));
            None
        }
    }
}

/// Waits in sight of everybody.
pub(super) fn count_down(console: &dyn Console, seconds: u64) {
    let mut left = seconds;
    while left > 0 {
        console.line(&format!("the machine restarts in {left} s"));
        let step = if left > 10 { 10 } else { left.min(5) };
        std::thread::sleep(Duration::from_secs(step));
        left -= step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(exit_words(Exit::Code(101)), "exit code 101");
        assert_eq!(exit_words(Exit::Signal(11)), "signal SIGSEGV");
        assert_eq!(exit_words(Exit::Signal(99)), "signal 99");
    }
}
