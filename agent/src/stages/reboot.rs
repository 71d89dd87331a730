//! Stage Reboot: restarts the machine again and again, and compares its inventory with the first one each time. Finds
//! what only a start shows: parts that are not always there, memory or links that train badly. Cold starts need power
//! control and are not made here.

use std::time::Duration;

use serde_json::json;
use vetting_judge::losses::{Losses, losses};
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::StageWork;
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
            StageWork::Reboot { restarts } => ONE_RESTART.saturating_mul(*restarts),
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
        let StageWork::Reboot { restarts } = *work else {
            return Err(StageError::WrongWork { stage: StageName::Reboot });
        };
        let Some(made) = made(context) else { return Ok(not_here()) };
        let count = u32::try_from(made.len()).unwrap_or(u32::MAX);
        if let Some(last) = made.last() {
            let away_s = Duration::from_millis(last.away_ms).as_secs_f64();
            context.measure("reboot", format!("{count}/time_to_claim"), Some(away_s), "seconds");
            context.measure("reboot", "restarts", Some(f64::from(count)), "count");
            let outcome = compared(context)?;
            context.sub_step_finished(count - 1, outcome.clone(), json!({"away_ms": last.away_ms}));
            if outcome != Outcome::Pass {
                return Ok(over(outcome));
            }
        }
        if count >= restarts {
            return Ok(over(Outcome::Pass));
        }
        let name = format!("restart {}", count + 1);
        context.sub_step_started(count, &name);
        context.progress(None, 100.0 * f64::from(count) / f64::from(restarts.max(1)), None);
        let reason = format!("{name} of {restarts}");
        Ok(BootEnd::Reboot(PlannedReboot { target: BootTarget::Linux, budget: Duration::ZERO, reason }))
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
