//! Work for GPUs, with checked answers: DCGM's diagnostics, where the image has them. Meanwhile their links are looked at, since
//! an idle link goes down.

use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use serde_json::json;
use vetting_protocol::inventory::PciDevice;
use vetting_protocol::outcome::Outcome;

use super::cards::{Card, Cards, Maker};
use crate::cancel::Cancel;
use crate::clock;
use crate::sensors::pcie;
use crate::stages::StageContext;
use crate::stages::sub_steps::Found;
use crate::tools::dcgmi::{self, Diagnosis};
use crate::tools::runner::{Invocation, ToolError};

/// How often links are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many times as long as expected the diagnostics may take.
const PATIENCE: u32 = 4;
/// How long DCGM's daemon may take until it answers: it looks at every GPU first.
const ENGINE_PATIENCE: Duration = Duration::from_mins(1);
/// How often it is asked whether it does.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What became of the load.
pub(super) struct Load {
    pub(super) found: Found,
    /// Whether a GPU was worked.
    pub(super) worked: bool,
}

/// How long a level takes (DCGM's documentation: about 2 minutes, about 15, hours).
pub(super) fn expected(level: u8) -> Duration {
    match level {
        0..=2 => Duration::from_secs(130),
        3 => Duration::from_mins(15),
        _ => Duration::from_hours(2),
    }
}

/// The shortest level that works GPUs.
const SHORTEST: u8 = 2;

/// Works the GPUs among these functions beside other loads, as often as the shortest diagnostics fit into the time.
pub(in crate::stages) fn beside(
    context: &StageContext<'_>,
    functions: &[PciDevice],
    duration: Duration,
) -> Found {
    let gpus = Cards::of(functions).gpus;
    let (worked, others): (Vec<&Card>, Vec<&Card>) = gpus.iter().partition(|card| can_be_worked(card));
    let mut done = Vec::new();
    for _ in 0..duration.as_secs() / expected(SHORTEST).as_secs() {
        let outcome = match diagnose(context, SHORTEST) {
            Ok(diagnosis) => outcome(&diagnosis, worked.len(), &others),
            Err(ToolError::Missing { tool }) => {
                Outcome::skip(format!("GPUs: DCGM ({tool}) is not installed here"))
            }
            Err(error) => Outcome::error(format!("GPUs: {}", error.reason())),
        };
        let passed = outcome == Outcome::Pass;
        done.push(outcome);
        if !passed {
            break;
        }
    }
    let rounds = done.len();
    let outcome = Outcome::worst_of(done, "GPUs: the time is too short for DCGM's shortest load");
    Found::new(outcome, json!({ "rounds": rounds }))
}

/// Whether there is a GPU that diagnostics can work.
pub(in crate::stages) fn can_work_any(functions: &[PciDevice]) -> bool {
    Cards::of(functions).gpus.iter().any(can_be_worked)
}

fn can_be_worked(card: &Card) -> bool {
    card.maker == Maker::Nvidia && card.driver.as_deref() == Some("nvidia")
}

/// Works the GPUs.
pub(super) fn run(context: &StageContext<'_>, gpus: &[Card], level: u8) -> Load {
    let skipped =
        |reason: String| Load { found: Found::new(Outcome::skip(reason), json!({})), worked: false };
    let (worked, others): (Vec<&Card>, Vec<&Card>) = gpus.iter().partition(|card| can_be_worked(card));
    if worked.is_empty() {
        return skipped("not loaded: nothing here works a GPU that NVIDIA's driver does not have".to_owned());
    }
    let (answer, links) = watched(context, &worked, level);
    let diagnosis = match answer {
        Ok(diagnosis) => diagnosis,
        Err(ToolError::Missing { tool }) => {
            return skipped(format!(
                "not loaded: DCGM ({tool}) is not installed here, and nothing else works GPUs"
            ));
        }
        Err(error) => {
            let found = Found::new(Outcome::error(format!("load: {}", error.reason())), json!({}));
            return Load { found, worked: false };
        }
    };
    let at_work = !diagnosis.passed.is_empty() || !diagnosis.failed.is_empty();
    let mut unread = Vec::new();
    if at_work {
        for card in &worked {
            let link = links.get(&card.address);
            for (key, best) in [("width", link.map(|link| link.0)), ("speed", link.map(|link| link.1))] {
                context.measure("gpu", format!("{}/loaded_{key}", card.address), best, "percent");
            }
            if link.is_none() {
                unread.push(card.name());
            }
        }
    }
    context.measure("gpu", "dcgm/failed", Some(diagnosis.failed.len() as f64), "count");
    context.measure("gpu", "dcgm/warnings", Some(diagnosis.warned.len() as f64), "count");
    let details = json!({
        "level": level,
        "passed": diagnosis.passed,
        "software_passed": diagnosis.software_passed,
        "failed": diagnosis.failed,
        "warned": diagnosis.warned,
        "skipped": diagnosis.skipped,
    });
    let outcome = match outcome(&diagnosis, worked.len(), &others) {
        Outcome::Pass if !unread.is_empty() => {
            Outcome::error(format!("load: the link cannot be read of {}", unread.join(", ")))
        }
        outcome => outcome,
    };
    Load { found: Found::new(outcome, details), worked: at_work }
}

/// `gpus` is how many should have been worked; DCGM numbers them by itself.
fn outcome(diagnosis: &Diagnosis, gpus: usize, others: &[&Card]) -> Outcome {
    if !diagnosis.failed.is_empty() {
        return Outcome::fail(format!("DCGM: {}", diagnosis.failed.join("; ")));
    }
    let worked = diagnosis.worked.len();
    if worked < gpus {
        let why = if diagnosis.skipped.is_empty() {
            String::new()
        } else {
            format!(": {}", diagnosis.skipped.join("; "))
        };
        return Outcome::skip(format!("not loaded: DCGM worked {worked} of {gpus} GPUs{why}"));
    }
    if !others.is_empty() {
        let names: Vec<String> = others.iter().map(|card| card.name()).collect();
        return Outcome::skip(format!("not loaded: {}, which DCGM cannot work", names.join(", ")));
    }
    Outcome::Pass
}

/// Best width and speed of each link, percent of what both ends can.
type Links = BTreeMap<String, (f64, f64)>;

/// Runs the diagnostics, and keeps the best that each link shows meanwhile.
fn watched(context: &StageContext<'_>, gpus: &[&Card], level: u8) -> (Result<Diagnosis, ToolError>, Links) {
    std::thread::scope(|scope| {
        let (over, wait) = bounded::<()>(0);
        let watch = scope.spawn(move || {
            let mut links = Links::new();
            loop {
                for card in gpus {
                    if let Some((width, speed)) = pcie::parts_of_best(context.host, &card.address) {
                        let best = links.entry(card.address.clone()).or_default();
                        *best = (best.0.max(width), best.1.max(speed));
                    }
                }
                if wait.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return links;
                }
            }
        });
        let answer = diagnose(context, level);
        drop(over);
        (answer, watch.join().unwrap_or_default())
    })
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
