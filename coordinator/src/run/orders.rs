//! What operators order: a run, and its abort.

use vetting_judge::facts::Ending;
use vetting_judge::host_rules;
use vetting_judge::profile::{Profile, host_stages};
use vetting_protocol::agent_api::{AfterRun, EventLevel};
use vetting_protocol::host_mode;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::RunCreate;
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::{BootTarget, RunPlace, RunState};

use super::driver::{Driver, of_run, to_its_end};
use super::error::RunError;
use super::state::RunEvent;
use super::{rules, specs};
use crate::store::events::EventValues;
use crate::store::hosts::HostRow;
use crate::store::plans::{self, PlanStage};
use crate::store::runs::{self, OverrideFlags, RunValues};
use crate::store::thresholds::ThresholdValues;
use crate::store::{Connection, StoreError, events, host_agents, hosts, models, thresholds};

/// What a run is made with.
pub(super) struct Recipe {
    /// Before the machine's own rules and stages.
    profile: Profile,
    non_destructive: bool,
    override_flags: OverrideFlags,
}

/// Creates a run inside the caller's transaction.
///
/// # Errors
/// An active run; a host without an expected spec, whose run could not pass; one whose spec has a stage that the profile
/// cannot have so.
pub(super) fn place(
    connection: &Connection,
    host: &HostRow,
    recipe: &Recipe,
    now_ms: i64,
) -> Result<RunId, RunError> {
    let Recipe { profile, non_destructive, override_flags } = recipe;
    if host.expected_spec_yaml.trim().is_empty() {
        let what = format!(
            "host {name} has no expected spec yet, and a machine that nobody described cannot pass; \
             `host edit {name} --spec FILE` describes it",
            name = host.name
        );
        return Err(RunError::Invalid { what });
    }
    let spec = specs::resolve(connection, &host.expected_spec_yaml)?;
    let profile = profile
        .clone()
        .with_host_rules(&host_rules::of_spec(&spec.expected_spec_yaml))
        .with_host_stages(&host_stages::of_spec(&spec.expected_spec_yaml))
        .map_err(|error| {
            let name = &host.name;
            RunError::Invalid {
                what: format!("{error}; `host edit {name} --spec FILE` gives {name} another spec"),
            }
        })?;
    let profile = match override_flags.place {
        RunPlace::LiveImage => profile,
        RunPlace::InstalledSystem => profile.keep_stages(host_mode::allows),
    };
    let values = RunValues {
        host_id: host.id,
        profile: profile.name,
        non_destructive: *non_destructive,
        override_flags: *override_flags,
        next_boot_target: BootTarget::Linux,
    };
    let run = runs::create(connection, &values, now_ms)?;
    store_profile(connection, run, &profile)?;
    models::insert_run(connection, run, &spec)?;
    let mut message = vec![format!("run {run} of {} ordered, profile {}", host.name, profile.name)];
    message.extend(profile.stage_changes().iter().map(ToString::to_string));
    let message = message.join("; ");
    events::insert(connection, &of_run(run, now_ms, EventLevel::Info, "run_created", message))?;
    Ok(run)
}

/// Notes the stages and the rules that a run begins with.
pub(super) fn store_profile(
    connection: &Connection,
    run: RunId,
    profile: &Profile,
) -> Result<(), StoreError> {
    let required = profile.stages.iter().map(|stage| stage.required);
    let plan: Vec<PlanStage> = profile
        .planned_stages()
        .into_iter()
        .zip(required)
        .map(|(planned, required)| PlanStage { name: planned.work.name(), required, planned: Some(planned) })
        .collect();
    plans::insert(connection, run, &plan)?;
    plans::insert_changes(connection, run, profile.stage_changes())?;
    let rules: Vec<ThresholdValues> = profile.rules().filter_map(rules::stored).collect();
    thresholds::seed(connection, run, &rules)
}

impl Driver {
    /// Creates a run with the rules of its profile, and sends the magic packet. `line` says who ordered it.
    ///
    /// # Errors
    /// No such host, an active run, or wishes that exclude each other.
    pub async fn start_run(&self, order: RunCreate, line: EventValues) -> Result<RunId, RunError> {
        let driver = self.clone();
        to_its_end(async move { driver.take_order(order, line).await }).await
    }

    async fn take_order(&self, order: RunCreate, line: EventValues) -> Result<RunId, RunError> {
        if order.wipe && order.non_destructive {
            return Err(RunError::WipeNonDestructive);
        }
        if order.erase && !order.wipe {
            return Err(RunError::EraseWithoutWipe);
        }
        let installed = order.place == RunPlace::InstalledSystem;
        if order.wipe && installed {
            return Err(RunError::WipeInstalledSystem);
        }
        if order.after_fail == Some(AfterRun::Stay) && self.settings.limits.hold_ms == 0 {
            return Err(RunError::NoHold);
        }
        let now_ms = self.clock.now_ms();
        let flags = OverrideFlags {
            wipe: order.wipe,
            erase: order.erase,
            place: order.place,
            after_pass: order.after_pass,
            after_fail: order.after_fail,
        };
        let recipe = self.recipe(order.profile, order.non_destructive || installed, flags);
        let run = self
            .store
            .write(move |connection| {
                let host = hosts::require_by_name(connection, &order.host)?;
                if installed && !host_agents::is_known(connection, host.id)? {
                    let what = format!(
                        "host {name} has no agent on its installed system; `host agent-token {name}` makes its token",
                        name = host.name
                    );
                    return Err(RunError::Invalid { what });
                }
                let run = place(connection, &host, &recipe, now_ms)?;
                events::insert(connection, &EventValues { run_id: Some(run), ..line })?;
                Ok(run)
            })
            .await?;
        // the run is stored: whatever becomes of the packet, it was started
        self.placed(run).await;
        Ok(run)
    }

    /// What a run of a profile is made with.
    pub(super) fn recipe(
        &self,
        profile: ProfileName,
        non_destructive: bool,
        override_flags: OverrideFlags,
    ) -> Recipe {
        Recipe { profile: self.profiles.get(profile).clone(), non_destructive, override_flags }
    }

    /// What follows a run that was placed and is durable.
    pub(super) async fn placed(&self, run: RunId) {
        self.memory().since.entered(run, RunState::Queued, self.clock.steady_ms());
        self.changed.notify_one();
        self.wake(run).await;
    }

    /// Ends a run before its verdict. `line` says who ordered it.
    pub async fn abort(&self, run: RunId, line: EventValues) -> Result<RunState, RunError> {
        let reason = "an operator aborted the run".to_owned();
        let ending = Ending::Aborted { reason: reason.clone() };
        self.apply(run, RunEvent::AbortRequested, reason, Some(ending), Some(line)).await
    }
}
