//! What PID 1 tells the coordinator when the agent died: told until it is heard, for a bounded time; then it does
//! the heartbeats that the agent cannot do any more.

use std::time::Duration;

use vetting_protocol::agent_api::{AfterRun, AgentCrash, Directive, Heartbeat};

use super::ask::{block_on, patiently};
use super::client::Client;
use super::{Session, Timing, UplinkError};
use crate::console::Console;

/// Reports a crash and waits until the coordinator lets the machine go; gives how. While the coordinator holds the
/// machine this stays.
///
/// # Errors
/// The coordinator refuses, did not answer within `patience`, or did not decide within it.
pub fn report_crash(
    client: &Client,
    session: &Session,
    crash: &AgentCrash,
    timing: Timing,
    patience: Duration,
    console: &dyn Console,
) -> Result<AfterRun, UplinkError> {
    block_on(async {
        let told = || client.crash(session.run, &session.token, crash);
        let mut answer = patiently(told, timing, patience, console).await?;
        console.line("the coordinator knows of it");
        let heartbeat = Heartbeat { boot_id: session.boot_id.clone() };
        let decided_by = tokio::time::Instant::now() + patience;
        loop {
            let held = match answer.directive {
                Directive::Abort { then, .. } | Directive::Finished { then, .. } => match then {
                    AfterRun::PowerOff | AfterRun::Reboot => return Ok(then),
                    AfterRun::Stay => true,
                },
                Directive::Continue
                | Directive::AwaitTurn { .. }
                | Directive::HaltPipeline { .. }
                | Directive::EndStage { .. }
                | Directive::AwaitVerdict => false,
            };
            if !held && tokio::time::Instant::now() > decided_by {
                return Err(UplinkError::Undecided);
            }
            tokio::time::sleep(timing.heartbeat).await;
            let beat = || client.heartbeat(session.run, &session.token, &heartbeat);
            answer = patiently(beat, timing, patience, console).await?;
        }
    })?
}
