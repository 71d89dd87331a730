//! What PID 1 tells the coordinator when the agent died: told until it is heard, for a bounded time.

use std::time::Duration;

use vetting_protocol::agent_api::{Acknowledgement, AgentCrash};

use super::backoff::Backoff;
use super::client::{Client, RequestError};
use super::{Session, Timing, UplinkError};
use crate::console::{Console, spoken};

/// Reports a crash and gives the coordinator's answer. Gives up after `patience`.
pub fn report_crash(
    client: &Client,
    session: &Session,
    crash: &AgentCrash,
    timing: Timing,
    patience: Duration,
    console: &dyn Console,
) -> Result<Acknowledgement, UplinkError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| UplinkError::Start { why: error.to_string() })?;
    runtime.block_on(async {
        let mut backoff = Backoff::new(timing.first_retry, timing.longest_retry);
        let give_up_at = tokio::time::Instant::now() + patience;
        loop {
            let error: RequestError = match client.crash(session.run, &session.token, crash).await {
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
    })
}
