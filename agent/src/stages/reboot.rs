//! Stage Reboot: restarts the machine again and again, and compares its inventory with the first one each time. Finds
//! what only a start shows: parts that are not always there, memory or links that train badly. After the warm ones come cold
//! ones, for which the machine switches itself off and the coordinator switches it on: where it cannot, they are left out.

use std::time::Duration;

use serde_json::json;
use vetting_judge::losses::{Losses, losses};
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::{PowerCut, RebootMade, StageWork};
use vetting_protocol::run::BootTarget;

use super::restarts::{made, not_here, over};
use super::{BootEnd, Effect, PlannedReboot, Stage, StageContext, StageDescription, StageError, StageReport};

/// A server's firmware takes minutes.
const ONE_RESTART: Duration = Duration::from_mins(4);

pub(super) struct RebootStage;

impl Stage for RebootStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Reboot,
            effect: Effect::Load,
            applies_to: "every machine whose run a coordinator leads",
            finds: "parts that are gone after a restart, and machines that do not come back",
        }
    }

    fn estimate(&self, work: &StageWork, _inventory: Option<&Inventory>) -> Duration {
        match work {
            StageWork::Reboot { restarts, cold } => {
                ONE_RESTART.saturating_mul(restarts.saturating_add(*cold))
            }
            _ => Duration::ZERO,
        }
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        self.run_in_this_boot(context, work)?.in_one_boot()
    }

    fn run_in_this_boot(
        &self,
        context: &mut StageContext<'_>,
        work: &StageWork,
    ) -> Result<BootEnd, StageError> {
        let StageWork::Reboot { restarts, cold } = *work else {
            return Err(StageError::WrongWork { stage: StageName::Reboot });
        };
        let Some(made) = made(context) else { return Ok(not_here()) };
        let count = u32::try_from(made.len()).unwrap_or(u32::MAX);
        if let Some(last) = made.last() {
            let away_s = Duration::from_millis(last.away_ms).as_secs_f64();
            context.measure("reboot", format!("{count}/time_to_claim"), Some(away_s), "seconds");
            context.measure("reboot", "restarts", Some(f64::from(count)), "count");
            let was_cold = count > restarts;
            let outcome = match was_as_planned(last, was_cold) {
                Ok(()) => compared(context)?,
                Err(why) => Outcome::error(why),
            };
            context.sub_step_finished(
                count - 1,
                outcome.clone(),
                json!({"away_ms": last.away_ms, "power": last.power}),
            );
            if outcome != Outcome::Pass {
                return Ok(over(outcome));
            }
        }
        if count >= restarts.saturating_add(cold) {
            return Ok(over(Outcome::Pass));
        }
        let is_cold = count >= restarts;
        let name = if is_cold {
            format!("cold start {} of {cold}", count - restarts + 1)
        } else {
            format!("restart {} of {restarts}", count + 1)
        };
        context.sub_step_started(count, &name);
        if is_cold && !context.reboots.power_control {
            let reason =
                "the coordinator does not control this machine's power; `host bmc` or `host pdu` tells how";
            context.sub_step_finished(count, Outcome::skip(reason), json!({}));
            return Ok(BootEnd::Finished(StageReport {
                outcome: Outcome::Pass,
                details: json!({"cold_starts_left_out": reason}),
            }));
        }
        let all = f64::from(restarts.saturating_add(cold).max(1));
        context.progress(None, 100.0 * f64::from(count) / all, None);
        let target = if is_cold { BootTarget::LinuxCold } else { BootTarget::Linux };
        Ok(BootEnd::Reboot(PlannedReboot { target, budget: Duration::ZERO, reason: name }))
    }
}

/// Whether a restart was the one that was wanted; why not.
fn was_as_planned(made: &RebootMade, cold: bool) -> Result<(), String> {
    match (made.target, cold, &made.power) {
        (BootTarget::Linux, false, _) | (BootTarget::LinuxCold, true, Some(PowerCut::Off)) => Ok(()),
        (BootTarget::LinuxCold, true, Some(PowerCut::Failed { why })) => {
            Err(format!("its power could not be switched: {why}"))
        }
        (BootTarget::LinuxCold, true, Some(PowerCut::Restarted) | None) => {
            Err("the machine is back, and nobody saw its power off".to_owned())
        }
        (target, ..) => Err(format!("the machine was sent to {target} instead")),
    }
}

/// The inventory of this boot against the run's first one.
fn compared(context: &StageContext<'_>) -> Result<Outcome, StageError> {
    let first = context.reboots.resumed.as_ref().and_then(|resumed| resumed.first_inventory.as_deref());
    let first = first.ok_or(StageError::Prerequisite {
        missing: "the inventory from before the restart",
        stage: StageName::Inventory,
    })?;
    let Losses { gone, unread } = losses(first, context.inventory()?);
    Ok(if !gone.is_empty() {
        Outcome::fail(format!("after the restart: {}", gone.join("; ")))
    } else if !unread.is_empty() {
        Outcome::error(format!("after the restart there is no reading {}", unread.join("; ")))
    } else {
        Outcome::Pass
    })
}

#[cfg(test)]
mod tests;
