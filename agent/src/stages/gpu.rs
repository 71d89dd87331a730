//! Stage GPU: what each graphics processor or accelerator says of its health before and after it worked, what it counted
//! meanwhile, and whether its link was as wide and fast as it can be while it worked.
//!
//! One sub-step a GPU before the load, one for the load, one a GPU after it. Counters are measured, for the thresholds to
//! judge; the stage itself fails what leaves no doubt: a GPU that is lost. What cannot work the GPUs here leaves the load
//! skipped, and with it the whole stage: health alone is no pass. The displays of BMCs, of virtual machines and of CPUs are
//! named and left out.

mod amd;
mod cards;
mod health;
mod intel;
pub(super) mod load;
mod nvidia;

use std::time::Duration;

use serde_json::{Value, json};
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::StageWork;

use super::sub_steps::{Found, SubSteps};
use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};
use cards::{Card, Cards};
use health::{Health, Look};

/// What asking every GPU twice takes at most, where its driver has to start it.
const LOOKS: Duration = Duration::from_secs(20);

pub(super) struct GpuStage;

impl Stage for GpuStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Gpu,
            effect: Effect::Load,
            applies_to: "GPUs whose driver is loaded",
            finds: "GPUs that are lost, hang, answer wrong, lose memory, give up rows or pages, or have a narrow or slow link",
        }
    }

    fn estimate(&self, work: &StageWork, inventory: Option<&Inventory>) -> Duration {
        let StageWork::Gpu { dcgm_level } = work else { return Duration::ZERO };
        let has_gpus = inventory.is_none_or(|inventory| !Cards::of(&inventory.pci).gpus.is_empty());
        if has_gpus { LOOKS + load::expected(*dcgm_level) } else { Duration::ZERO }
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::Gpu { dcgm_level } = work else {
            return Err(StageError::WrongWork { stage: StageName::Gpu });
        };
        let context: &StageContext<'_> = context;
        let Cards { gpus, left_out } = Cards::of(&context.inventory()?.pci);
        if gpus.is_empty() {
            let reason = if left_out.is_empty() {
                "this machine has no GPU".to_owned()
            } else {
                format!("this machine has no GPU but displays that are not vetted: {}", left_out.join(", "))
            };
            return Ok(StageReport {
                outcome: Outcome::skip(reason),
                details: json!({ "left_out": left_out }),
            });
        }
        let count = u32::try_from(gpus.len()).unwrap_or(u32::MAX);
        let sub_steps = SubSteps::new(context, count.saturating_mul(2).saturating_add(1));
        let before = look(context, &gpus);
        let mut outcomes = Vec::new();
        for ((ordinal, card), look) in (0..).zip(&gpus).zip(&before) {
            outcomes
                .push(sub_steps.run(ordinal, &format!("{} health before", card.address), || report(look)));
        }
        let mut loaded = false;
        outcomes.push(sub_steps.run(count, "load", || {
            let load = sub_steps
                .by_time(count, load::expected(*dcgm_level), || load::run(context, &gpus, *dcgm_level));
            loaded = load.worked;
            load.found
        }));
        let after = look(context, &gpus);
        for (((ordinal, card), before), after) in
            (count.saturating_add(1)..).zip(&gpus).zip(&before).zip(&after)
        {
            let outcome = sub_steps.run(ordinal, &format!("{} health after", card.address), || {
                measure(context, card, before, after);
                report(after)
            });
            // one that cannot be asked says so once
            if !matches!((before, after), (Look::Skipped(_), Look::Skipped(_))) {
                outcomes.push(outcome);
            }
        }
        outcomes.push(xids(context, &gpus));
        Ok(StageReport {
            outcome: Outcome::worst_of(outcomes, ""),
            details: json!({
                "gpus": gpus.iter().map(|card| &card.address).collect::<Vec<_>>(),
                "loaded": loaded,
                "left_out": left_out,
            }),
        })
    }
}

/// What every GPU says now, in their order.
fn look(context: &StageContext<'_>, gpus: &[Card]) -> Vec<Look> {
    let mut nvidia = nvidia::Answers::default();
    gpus.iter()
        .map(|card| match card.maker {
            cards::Maker::Nvidia => nvidia.look(context, card),
            cards::Maker::Amd => amd::look(context.host, card),
            cards::Maker::Intel => intel::look(context.host, card),
            cards::Maker::Other => Look::Skipped(format!("{}: no GPU of a maker that is known", card.name())),
        })
        .collect()
}

fn report(look: &Look) -> Found {
    match look {
        Look::Skipped(reason) => Found::new(Outcome::skip(reason), json!({})),
        Look::Lost(reason) => Found::new(Outcome::fail(reason), json!({})),
        Look::Unknown(reason) => Found::new(Outcome::error(reason), json!({})),
        Look::Health(health) => Found::new(health.outcome(), health.details()),
    }
}

/// Counters as they stand after the load, and by how much they grew meanwhile. What was told before and is not any more has
/// no value, so that no rule takes it for a good one.
fn measure(context: &StageContext<'_>, card: &Card, before: &Look, after: &Look) {
    let nothing = Health::default();
    let (before, after) = (before.health().unwrap_or(&nothing), after.health().unwrap_or(&nothing));
    let tell = |key: &str, value: Option<u64>| {
        context.measure("gpu", format!("{}/{key}", card.address), value.map(|value| value as f64), "count");
    };
    for key in before.counts.keys().chain(after.counts.keys().filter(|key| !before.counts.contains_key(*key)))
    {
        tell(key, after.counts.get(key).copied().flatten());
    }
    for key in before.counts.keys().filter(|key| health::GROWING.contains(key)) {
        let grown = |(now, then): (u64, u64)| now.checked_sub(then).unwrap_or(now);
        let both = after.counts.get(key).copied().flatten().zip(before.counts[key]);
        tell(&format!("new_{key}"), both.map(grown));
    }
}

/// Errors that NVIDIA's driver reported since the kernel started, by GPU and code.
fn xids(context: &StageContext<'_>, gpus: &[Card]) -> Outcome {
    if !gpus.iter().any(|card| card.maker == cards::Maker::Nvidia) {
        return Outcome::Pass;
    }
    match context.host.kernel_log_so_far() {
        Ok(messages) => {
            for (key, count) in nvidia::xids(&messages) {
                context.measure("gpu", key, Some(f64::from(count)), "count");
            }
            Outcome::Pass
        }
        Err(error) => {
            Outcome::error(format!("the kernel's reports of GPUs cannot be read: {}", error.reason()))
        }
    }
}

/// For a sub-step's details.
fn text_or_null(text: Option<String>) -> Value {
    text.map_or(Value::Null, Value::String)
}

#[cfg(test)]
pub(super) mod tests;
