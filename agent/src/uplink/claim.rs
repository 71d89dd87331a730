//! Asking for the run: again and again while the coordinator is away, once and for all when it refuses.

use vetting_protocol::agent_api::{ClaimRequest, ClaimResponse};

use super::backoff::Backoff;
use super::client::{Client, RequestError};
use super::{Timing, raised};
use crate::cancel::Cancel;
use crate::console::{Console, spoken};

/// A run that was not given.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The coordinator refuses, or is not the one that the boot script means.
    #[error("the run cannot be claimed")]
    Refused(#[source] RequestError),
    /// The plan is of another run.
    #[error("the coordinator gave the plan of run {given} when {asked} was claimed")]
    OtherRun {
        /// The run asked for.
        asked: vetting_protocol::ids::RunId,
        /// The run given.
        given: vetting_protocol::ids::RunId,
    },
    /// The runtime cannot be made.
    #[error("the network cannot be used")]
    Runtime(#[source] std::io::Error),
    /// The work was cancelled.
    #[error("interrupted")]
    Interrupted,
}

/// Claims the run. `request` is made anew for each try, as it carries the time. Every failure is shown.
pub fn claim(
    client: &Client,
    timing: Timing,
    console: &dyn Console,
    cancel: &Cancel,
    request: impl Fn() -> ClaimRequest,
) -> Result<ClaimResponse, ClaimError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ClaimError::Runtime)?;
    runtime.block_on(async {
        let mut backoff = Backoff::new(timing.first_retry, timing.longest_retry);
        loop {
            let asked = request();
            let attempt = tokio::select! {
                attempt = client.claim(&asked) => attempt,
                () = raised(cancel) => return Err(ClaimError::Interrupted),
            };
            match attempt {
                Ok(answer) if answer.plan.run_id == asked.run_id => return Ok(answer),
                Ok(answer) => {
                    return Err(ClaimError::OtherRun { asked: asked.run_id, given: answer.plan.run_id });
                }
                Err(error) if !error.is_transient() => return Err(ClaimError::Refused(error)),
                Err(error) => {
                    let wait = backoff.next();
                    console.line(&format!("{error}; next try in {}", spoken(wait)));
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = raised(cancel) => return Err(ClaimError::Interrupted),
                    }
                }
            }
        }
    })
}
