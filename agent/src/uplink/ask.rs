//! Single questions to the coordinator outside the stream: asked until they are answered, for a bounded time.

use std::time::Duration;

use vetting_protocol::agent_api::{Acknowledgement, HoldReport, PlanAnswer, SshAccess};

use super::backoff::Backoff;
use super::client::{Client, RequestError};
use super::{Session, Timing, UplinkError};
use crate::console::{Console, spoken};

/// Tells how a person gets in to this held machine.
///
/// # Errors
/// The coordinator refuses, or did not answer within `patience`.
pub fn report_hold(
    client: &Client,
    session: &Session,
    access: &SshAccess,
    timing: Timing,
    patience: Duration,
    console: &dyn Console,
) -> Result<Acknowledgement, UplinkError> {
    let report = HoldReport { boot_id: session.boot_id.clone(), access: access.clone() };
    let ask = || client.hold(session.run, &session.token, &report);
    block_on(patiently(ask, timing, patience, console))?
}

/// Asks what is left to do in a run that goes on after a hold.
///
/// # Errors
/// The coordinator refuses, or did not answer within `patience`.
pub fn ask_for_plan(
    client: &Client,
    session: &Session,
    timing: Timing,
    patience: Duration,
    console: &dyn Console,
) -> Result<PlanAnswer, UplinkError> {
    let ask = || client.plan(session.run, &session.token);
    block_on(patiently(ask, timing, patience, console))?
}

/// Runs on a runtime of its own: the caller is a plain thread.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, UplinkError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| UplinkError::Start { why: error.to_string() })?;
    Ok(runtime.block_on(work))
}

/// Sends until there is an answer, the coordinator refuses, or `patience` is over.
pub(super) async fn patiently<T, F>(
    send: impl Fn() -> F,
    timing: Timing,
    patience: Duration,
    console: &dyn Console,
) -> Result<T, UplinkError>
where
    F: Future<Output = Result<T, RequestError>>,
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
