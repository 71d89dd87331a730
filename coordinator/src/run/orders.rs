//! What operators order: a run, its abort, the release of a held machine.

use vetting_judge::facts::Ending;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::RunCreate;
use vetting_protocol::run::RunState;

use super::driver::Driver;
use super::error::RunError;
use super::state::RunEvent;
use crate::store;

impl Driver {
    /// Creates a run with the rules of its profile, and sends the magic packet.
    ///
    /// # Errors
    /// No such host, an active run, or wishes that exclude each other.
    pub async fn start_run(&self, order: RunCreate) -> Result<RunId, RunError> {
        if order.wipe && order.non_destructive {
            return Err(RunError::WipeNonDestructive);
        }
        let now_ms = self.clock.now_ms();
        let rules: Vec<_> = self.profiles.get(order.profile).rules().cloned().collect();
        let run = self
            .store
            .write(move |tx| {
                let host = store::hosts::by_name(tx, &order.host)?
                    .ok_or_else(|| RunError::NoHost { name: order.host.clone() })?;
                if let Some(active) = store::runs::active_of_host(tx, host.id)? {
                    return Err(RunError::ActiveRun { host: host.id, run: active.id });
                }
                let run = store::runs::create(
                    tx,
                    &store::runs::NewRun {
                        host_id: host.id,
                        profile: order.profile,
                        non_destructive: order.non_destructive,
                        wipe: order.wipe,
                        now_ms,
                    },
                )?;
                store::thresholds::seed(tx, run, &rules)?;
                let message = format!("run {run} of {} ordered, profile {}", host.name, order.profile);
                store::events::of_run(tx, now_ms, run, EventLevel::Info, "run_created", &message, None)?;
                Ok(run)
            })
            .await?;
        self.wake(run).await?;
        Ok(run)
    }

    /// Ends a run before its verdict.
    pub async fn abort(&self, run: RunId) -> Result<RunState, RunError> {
        let reason = "an operator aborted the run".to_owned();
        let ending = Ending::Aborted { reason: reason.clone() };
        self.apply(run, RunEvent::AbortRequested, reason, Some(ending)).await
    }

    /// Lets a held machine go.
    pub async fn release(&self, run: RunId) -> Result<RunState, RunError> {
        self.apply(run, RunEvent::ReleaseRequested, "an operator released the machine", None).await
    }
}
