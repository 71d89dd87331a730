//! What PID 1 tells the coordinator when the agent died: told until it is heard, for a bounded time; then it does
//! the heartbeats that the agent cannot do any more.

use std::time::Duration;

use vetting_protocol::agent_api::{Acknowledgement, AfterRun, AgentCrash, Directive, Heartbeat};

use super::backoff::Backoff;
use super::client::{Client, RequestError};
use super::{Session, Timing, UplinkError};
use crate::console::{Console, spoken};

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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| UplinkError::Start { why: error.to_string() })?;
    runtime.block_on(async {
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
    })
}

async fn patiently<F>(
    send: impl Fn() -> F,
    timing: Timing,
    patience: Duration,
    console: &dyn Console,
) -> Result<Acknowledgement, UplinkError>
where
    F: Future<Output = Result<Acknowledgement, RequestError>>,
{
    let mut backoff = Backoff::new(timing.first_retry, timing.longest_retry);
    let give_up_at = tokio::time::Instant::now() + patience;
    loop {
        let error = match send().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let wait = backoff.next();
        if !error.is_transient() || tokio::time::Instant::now() + wait > give_up_at {
            return Err(UplinkError::Request(error));
        }
        console.line(&format!("{error}; next try in {}", spoken(wait)));
        tokio::time::sleep(wait).await;
    }
}
