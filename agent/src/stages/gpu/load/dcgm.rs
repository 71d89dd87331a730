//! GPUs of NVIDIA worked by DCGM's diagnostics.

use std::time::Duration;

use serde_json::json;
use vetting_protocol::outcome::Outcome;

use super::{Extent, Part};
use crate::cancel::Cancel;
use crate::clock;
use crate::stages::StageContext;
use crate::stages::gpu::cards::{Card, Maker};
use crate::tools::dcgmi::{self, Diagnosis};
use crate::tools::runner::{Invocation, ToolError};

/// How many times as long as expected the diagnostics may take.
const PATIENCE: u32 = 4;
/// How long DCGM's daemon may take until it answers: it looks at every GPU first.
const ENGINE_PATIENCE: Duration = Duration::from_mins(1);
/// How often it is asked whether it does.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The shortest level that works GPUs.
const SHORTEST: u8 = 2;

/// What became of asking for diagnostics.
pub(super) enum Answer {
    /// There are none here, or they would take too long: in words.
    Not(String),
    /// There are.
    Worked(Part),
    /// There are, they found nothing wrong, and left GPUs out: how many and why, in words.
    LeftOut { part: Part, reason: String },
}

/// How long a level takes (DCGM's documentation: about 2 minutes, about 15, hours).
pub(in crate::stages::gpu) fn expected(level: u8) -> Duration {
    match level {
        0..=2 => Duration::from_secs(130),
        3 => Duration::from_mins(15),
        _ => Duration::from_hours(2),
    }
}

pub(super) fn can_work(card: &Card) -> bool {
    card.maker == Maker::Nvidia && card.driver.as_deref() == Some("nvidia")
}

/// Works these GPUs by the diagnostics of the level; or for the time, by the shortest as often as they fit.
pub(super) fn work(context: &StageContext<'_>, gpus: &[&Card], extent: Extent) -> Answer {
    let (level, rounds) = match extent {
        Extent::Level(level) => (level, 1),
        Extent::Time(duration) => (SHORTEST, duration.as_secs() / expected(SHORTEST).as_secs()),
    };
    if rounds == 0 {
        return Answer::Not("the time is too short for DCGM's shortest load".to_owned());
    }
    let (mut outcomes, mut at_work, mut counts) = (Vec::new(), false, Some((0, 0)));
    let mut details = json!({});
    let mut left_out = None;
    for round in 1..=rounds {
        let diagnosis = match diagnose(context, level) {
            Ok(diagnosis) => diagnosis,
            Err(ToolError::Missing { tool }) => {
                return Answer::Not(format!("DCGM ({tool}) is not installed here"));
            }
            Err(error) => {
                outcomes.push(Outcome::error(format!("load: {}", error.reason())));
                counts = None;
                break;
            }
        };
        at_work |= !diagnosis.passed.is_empty() || !diagnosis.failed.is_empty();
        counts =
            counts.map(|(failed, warned)| (failed + diagnosis.failed.len(), warned + diagnosis.warned.len()));
        left_out = shortfall(&diagnosis, gpus.len());
        let outcome = outcome(&diagnosis, left_out.as_deref());
        details = json!({
            "level": level,
            "rounds": round,
            "passed": diagnosis.passed,
            "software_passed": diagnosis.software_passed,
            "failed": diagnosis.failed,
            "warned": diagnosis.warned,
            "skipped": diagnosis.skipped,
        });
        let passed = outcome == Outcome::Pass;
        outcomes.push(outcome);
        if !passed {
            break;
        }
    }
    context.measure("gpu", "dcgm/failed", counts.map(|counts| counts.0 as f64), "count");
    context.measure("gpu", "dcgm/warnings", counts.map(|counts| counts.1 as f64), "count");
    let part = Part { outcome: Outcome::worst_of(outcomes, ""), details, worked: at_work };
    let found_nothing_wrong = matches!(part.outcome, Outcome::Skip { .. });
    match left_out {
        Some(reason) if found_nothing_wrong => Answer::LeftOut { part, reason },
        Some(_) | None => Answer::Worked(part),
    }
}

fn outcome(diagnosis: &Diagnosis, left_out: Option<&str>) -> Outcome {
    if !diagnosis.failed.is_empty() {
        return Outcome::fail(format!("DCGM: {}", diagnosis.failed.join("; ")));
    }
    left_out.map_or(Outcome::Pass, |reason| Outcome::skip(format!("not loaded: {reason}")))
}

/// That GPUs were left out, in words. `gpus` is how many should have been worked; DCGM numbers them by itself.
fn shortfall(diagnosis: &Diagnosis, gpus: usize) -> Option<String> {
    let worked = diagnosis.worked.len();
    if worked >= gpus {
        return None;
    }
    let why = if diagnosis.skipped.is_empty() {
        String::new()
    } else {
        format!(": {}", diagnosis.skipped.join("; "))
    };
    Some(format!("DCGM worked {worked} of {gpus} GPUs{why}"))
}

/// Runs the diagnostics. DCGM's daemon is started for them and ended after them; where one runs already, the new one finds its
/// port taken and gives up, and the diagnostics ask the other.
fn diagnose(context: &StageContext<'_>, level: u8) -> Result<Diagnosis, ToolError> {
    let limit = expected(level) * PATIENCE;
    let ask =
        |invocation: &Invocation, cancel: &Cancel| context.tools.run(invocation, cancel, &mut |_, _| {});
    let over = Cancel::new();
    std::thread::scope(|scope| {
        let engine = scope.spawn(|| ask(&dcgmi::engine(ENGINE_PATIENCE + limit), &over));
        let answers = || ask(&dcgmi::discovery(), &context.cancel)?.code(dcgmi::TOOL).map(|code| code == 0);
        let answer = wait_until(context, answers, || engine.is_finished())
            .and_then(|()| ask(&dcgmi::invocation(level, limit), &context.cancel))
            .and_then(|finished| dcgmi::parse(&finished));
        over.raise();
        match (answer, engine.join()) {
            // nobody to ask: that is why
            (Err(ToolError::Failed { .. }), Ok(Err(missing @ ToolError::Missing { .. }))) => Err(missing),
            (answer, _) => answer,
        }
    })
}

/// Waits for the daemon to answer, as long as it may take and is not `over`. What it does not answer the diagnostics tell.
fn wait_until(
    context: &StageContext<'_>,
    answers: impl Fn() -> Result<bool, ToolError>,
    over: impl Fn() -> bool,
) -> Result<(), ToolError> {
    let end = clock::monotonic() + ENGINE_PATIENCE;
    while !answers()? && !over() && clock::monotonic() < end && context.wait(ASK_EVERY) {}
    Ok(())
}
