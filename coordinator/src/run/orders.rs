//! What operators order: a run, its abort, the release of a held machine.

use vetting_judge::facts::Ending;
use vetting_protocol::agent_api::{AfterRun, EventLevel};
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::RunCreate;
use vetting_protocol::run::{BootTarget, RunState};

use super::driver::{Driver, of_run, to_its_end};
use super::error::RunError;
use super::rules;
use super::state::RunEvent;
use crate::store::plans::{self, PlanStage};
use crate::store::runs::{self, OverrideFlags, RunValues};
use crate::store::{events, hosts, thresholds};

impl Driver {
    /// Creates a run with the rules of its profile, and sends the magic packet.
    ///
    /// # Errors
    /// No such host, an active run, or wishes that exclude each other.
    pub async fn start_run(&self, order: RunCreate) -> Result<RunId, RunError> {
        let driver = self.clone();
        to_its_end(async move { driver.take_order(order).await }).await
    }

    async fn take_order(&self, order: RunCreate) -> Result<RunId, RunError> {
        if order.wipe && order.non_destructive {
            return Err(RunError::WipeNonDestructive);
        }
        if order.after_fail == Some(AfterRun::Stay) && self.settings.limits.hold_ms == 0 {
            return Err(RunError::NoHold);
        }
        let now_ms = self.clock.now_ms();
        let rules: Vec<_> = self.profiles.get(order.profile).rules().map(rules::stored).collect();
        let plan: Vec<_> = self
            .profiles
            .get(order.profile)
            .stages
            .iter()
            .map(|stage| PlanStage { name: stage.work.name(), required: stage.required })
            .collect();
        let run = self
            .store
            .write(move |connection| {
                let host = hosts::require_by_name(connection, &order.host)?;
                let values = RunValues {
                    host_id: host.id,
                    profile: order.profile,
                    non_destructive: order.non_destructive,
                    override_flags: OverrideFlags {
                        wipe: order.wipe,
                        after_pass: order.after_pass,
                        after_fail: order.after_fail,
                    },
                    next_boot_target: BootTarget::Linux,
                };
                let run = runs::create(connection, &values, now_ms)?;
                plans::insert(connection, run, &plan)?;
                thresholds::seed(connection, run, &rules)?;
                let message = format!("run {run} of {} ordered, profile {}", host.name, order.profile);
                events::insert(connection, &of_run(run, now_ms, EventLevel::Info, "run_created", message))?;
                Ok::<_, RunError>(run)
            })
            .await?;
        self.memory().since.entered(run, RunState::Queued, self.clock.steady_ms());
        // the run is stored: whatever becomes of the packet, it was started
        self.wake(run).await;
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
