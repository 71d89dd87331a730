//! Work for GPUs, with checked answers: DCGM's diagnostics for those of NVIDIA where the image has them, else `gpu-load`, which
//! also gets those that DCGM left out.
//! Meanwhile their links are looked at, since an idle link goes down.

mod dcgm;
mod vulkan;

use std::collections::BTreeMap;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use serde_json::{Map, Value};
use vetting_protocol::inventory::PciDevice;
use vetting_protocol::outcome::Outcome;

use super::cards::{Card, Cards};
use crate::clock;
use crate::sensors::pcie;
use crate::stages::StageContext;
use crate::stages::sub_steps::Found;

pub(super) use dcgm::expected;

/// How often links are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The least time that is worth beginning another load for.
const LEAST_REST: Duration = Duration::from_secs(20);
/// What a stage needs after its load, and `gpu-load` beyond its time, to do each part of its work once.
const AFTER: Duration = Duration::from_secs(40);

/// What became of the load.
pub(super) struct Load {
    pub(super) found: Found,
    /// Whether a GPU was worked.
    pub(super) worked: bool,
}

/// What became of working some GPUs in one way.
struct Part {
    outcome: Outcome,
    details: Value,
    /// Whether they were worked, whatever came of it.
    worked: bool,
}

impl Part {
    fn crashed(card: &Card) -> Self {
        let outcome = Outcome::error(format!("{}: its load crashed", card.name()));
        Self { outcome, details: Value::Null, worked: false }
    }

    fn not_loaded(reason: &str) -> Self {
        Self { outcome: Outcome::skip(format!("not loaded: {reason}")), details: Value::Null, worked: false }
    }
}

/// For how long GPUs are worked, and by which diagnostics where there are any.
#[derive(Clone, Copy)]
enum Extent {
    /// By DCGM's diagnostics of this level, or as long as those would take.
    Level(u8),
    /// For this long.
    Time(Duration),
}

impl Extent {
    fn duration(self) -> Duration {
        match self {
            Self::Level(level) => expected(level),
            Self::Time(duration) => duration,
        }
    }

    /// For how long GPUs are worked that the diagnostics left out: as long as the others, or what is left after these took their
    /// time; absent where that is too little.
    fn rest(self, taken: Duration, left_to_stage: Duration) -> Option<Duration> {
        let rest = match self {
            Self::Level(level) => expected(level),
            Self::Time(duration) => duration.saturating_sub(taken),
        };
        let rest = rest.min(left_to_stage.saturating_sub(AFTER));
        (rest >= LEAST_REST).then_some(rest)
    }
}

/// Works the GPUs among these functions beside other loads, for this long.
pub(in crate::stages) fn beside(
    context: &StageContext<'_>,
    functions: &[PciDevice],
    duration: Duration,
) -> Found {
    let gpus = Cards::of(functions).gpus;
    let (parts, details) = work(context, &gpus, Extent::Time(duration));
    Found::new(Outcome::worst_of(parts.into_iter().map(|(_, part)| part.outcome), ""), details)
}

/// Whether there is a GPU that may be worked.
pub(in crate::stages) fn can_work_any(functions: &[PciDevice]) -> bool {
    Cards::of(functions).gpus.iter().any(Card::is_worked)
}

/// Works the GPUs.
pub(super) fn run(context: &StageContext<'_>, gpus: &[Card], level: u8) -> Load {
    let ((parts, details), links) = watched(context, gpus, || work(context, gpus, Extent::Level(level)));
    let mut outcomes = Vec::new();
    let mut worked = false;
    for (cards, part) in parts {
        if part.worked {
            worked = true;
            let unread: Vec<Outcome> =
                cards.iter().filter_map(|card| link(context, card, links.get(&card.address))).collect();
            if part.outcome == Outcome::Pass {
                outcomes.extend(unread);
            }
        }
        outcomes.push(part.outcome);
    }
    Load { found: Found::new(Outcome::worst_of(outcomes, ""), details), worked }
}

/// Works all GPUs side by side: who was worked in which way, and what came of it.
fn work<'c>(
    context: &StageContext<'_>,
    gpus: &'c [Card],
    extent: Extent,
) -> (Vec<(Vec<&'c Card>, Part)>, Value) {
    let (diagnosable, others): (Vec<&Card>, Vec<&Card>) = gpus.iter().partition(|card| dcgm::can_work(card));
    let duration = extent.duration();
    let begin = clock::monotonic();
    let parts: Vec<(Vec<&Card>, Part)> = std::thread::scope(|scope| {
        let start = |cards: Vec<&'c Card>, time: Duration, without: String| {
            let one = |card: &'c Card| {
                let without = without.clone();
                (card, scope.spawn(move || vulkan::work(context, card, time, &without)))
            };
            cards.into_iter().map(one).collect::<Vec<_>>()
        };
        let mut by_vulkan = start(others, duration, String::new());
        let mut parts = Vec::new();
        if !diagnosable.is_empty() {
            match dcgm::work(context, &diagnosable, extent) {
                dcgm::Answer::Worked(part) => parts.push((diagnosable, part)),
                dcgm::Answer::Not(reason) => by_vulkan.extend(start(diagnosable, duration, reason)),
                dcgm::Answer::LeftOut { part, reason } => {
                    match extent.rest(begin.elapsed(), context.time_left()) {
                        Some(rest) => {
                            let again = start(diagnosable.clone(), rest, reason);
                            parts.extend(of_both(diagnosable, part, again.into_iter().map(joined).collect()));
                        }
                        None => parts.push((diagnosable, part)),
                    }
                }
            }
        }
        parts.extend(by_vulkan.into_iter().map(joined));
        parts
    });
    let mut details = Map::new();
    for (cards, part) in &parts {
        let names = cards.iter().map(|card| card.address.as_str()).collect::<Vec<_>>().join(" ");
        // the only one of DCGM's, which left it out
        let names = if details.contains_key(&names) { format!("{names} after DCGM") } else { names };
        details.insert(names, part.details.clone());
    }
    (parts, Value::Object(details))
}

fn joined<'c>((card, thread): (&'c Card, ScopedJoinHandle<'_, Part>)) -> (Vec<&'c Card>, Part) {
    (vec![card], thread.join().unwrap_or_else(|_| Part::crashed(card)))
}

/// What became of GPUs of which DCGM left some out, and that `gpu-load` was given: each is judged by what `gpu-load` says of it,
/// since nobody knows which ones DCGM worked. Where it could work none, DCGM's word stays.
fn of_both<'c>(
    cards: Vec<&'c Card>,
    by_dcgm: Part,
    again: Vec<(Vec<&'c Card>, Part)>,
) -> Vec<(Vec<&'c Card>, Part)> {
    if again.iter().all(|(_, part)| matches!(part.outcome, Outcome::Skip { .. })) {
        return vec![(cards, by_dcgm)];
    }
    // an idle link says nothing, so only those of GPUs that are known to have been worked are told
    let by_dcgm = Part { outcome: Outcome::Pass, worked: false, ..by_dcgm };
    std::iter::once((cards, by_dcgm)).chain(again).collect()
}

/// Tells the best that a GPU's link showed under load; an error where it shows nothing.
fn link(context: &StageContext<'_>, card: &Card, best: Option<&(f64, f64)>) -> Option<Outcome> {
    for (key, best) in [("width", best.map(|best| best.0)), ("speed", best.map(|best| best.1))] {
        context.measure("gpu", format!("{}/loaded_{key}", card.address), best, "percent");
    }
    best.is_none().then(|| Outcome::error(format!("load: the link cannot be read of {}", card.name())))
}

/// Best width and speed of each link, percent of what both ends can.
type Links = BTreeMap<String, (f64, f64)>;

/// Does the work, and keeps the best that each link shows meanwhile.
fn watched<T>(context: &StageContext<'_>, gpus: &[Card], work: impl FnOnce() -> T) -> (T, Links) {
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
        let answer = work();
        drop(over);
        (answer, watch.join().unwrap_or_default())
    })
}
