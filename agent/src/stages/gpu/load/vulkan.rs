//! One GPU worked by `gpu-load`, whoever made it, where its driver speaks Vulkan.

use std::time::Duration;

use serde_json::json;
use vetting_gpu_load::{Gpu, Load, Work, Wrong};
use vetting_protocol::outcome::Outcome;

use super::Part;
use crate::stages::StageContext;
use crate::stages::gpu::cards::Card;
use crate::tools::gpu_load::{self, TOOL};
use crate::tools::runner::ToolError;

/// The least memory that is worth the name of a test, bytes.
const LEAST_BYTES: u64 = 256 << 20;

/// Works it for this long. `without` says why nothing better did.
pub(super) fn work(context: &StageContext<'_>, card: &Card, duration: Duration, without: &str) -> Part {
    let not_loaded = |reason: &str| {
        let words = [without, reason].into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>();
        Part::not_loaded(&format!("{}: {}", card.name(), words.join(", and ")))
    };
    if !card.is_worked() {
        return not_loaded("no driver is bound to it");
    }
    let answer =
        context.tools.run(&gpu_load::invocation(&card.address, duration), &context.cancel, &mut |_, _| {});
    let load = match answer.and_then(|finished| gpu_load::parse(&finished)) {
        Ok(load) => load,
        Err(ToolError::Missing { tool }) => return not_loaded(&format!("{tool} is not installed here")),
        Err(error) => return failed(card, &error.reason()),
    };
    match load {
        Load::NoGpu { others } => match alike(context, card, &others) {
            Some(other) => failed(card, &format!("its driver offers {other} by Vulkan, and not this one")),
            None => not_loaded("its driver does not offer it by Vulkan here"),
        },
        Load::Failed { message } => failed(card, &message),
        Load::Lost { message, .. } => Part {
            outcome: Outcome::fail(format!("{}: {message}", card.name())),
            details: json!({ "lost": message }),
            worked: true,
        },
        Load::Worked(work) if work.gpu.address != card.address => {
            failed(card, &format!("another GPU was worked: {} ({})", work.gpu.address, work.gpu.name))
        }
        Load::Worked(work) => {
            let known = memory_bytes(context, card);
            measure(context, card, &work, known);
            let outcome = outcome(card, &work, duration, known);
            Part { outcome, details: json!(work), worked: true }
        }
    }
}

fn failed(card: &Card, message: &str) -> Part {
    let outcome = Outcome::error(format!("load of {}: {message}", card.name()));
    Part { outcome, details: json!({ "tool": TOOL, "error": message }), worked: false }
}

/// A GPU among `others` that the same driver has.
fn alike<'o>(context: &StageContext<'_>, card: &Card, others: &'o [Gpu]) -> Option<&'o str> {
    let functions = &context.inventory().ok()?.pci;
    let same_driver = |other: &&Gpu| {
        functions.iter().any(|function| function.address == other.address && function.driver == card.driver)
    };
    others.iter().find(same_driver).map(|other| other.address.as_str())
}

/// The size of its memory, where it is known.
fn memory_bytes(context: &StageContext<'_>, card: &Card) -> Option<u64> {
    let gpus = &context.inventory().ok()?.gpus;
    gpus.iter().find(|gpu| gpu.pci_address == card.address)?.memory_bytes.filter(|bytes| *bytes > 0)
}

fn outcome(card: &Card, work: &Work, duration: Duration, known_bytes: Option<u64>) -> Outcome {
    let faults: Vec<String> = [
        ("words of its memory were not what was written", &work.memory.wrong),
        ("elements of matrix products were wrong", &work.products.wrong),
        ("whole numbers were calculated wrong", &work.chains.wrong),
        ("words came over its link wrong", &work.link.wrong),
    ]
    .into_iter()
    .filter(|(_, wrong)| wrong.count > 0)
    .map(|(what, wrong)| format!("{} {what}{}", wrong.count, first(wrong)))
    .collect();
    if !faults.is_empty() {
        return Outcome::fail(format!("{}: {}", card.name(), faults.join("; ")));
    }
    match fell_short(work, duration, known_bytes) {
        Some(reason) => Outcome::error(format!("load of {}: {reason}", card.name())),
        None => Outcome::Pass,
    }
}

/// Why the work was too little to say that the GPU is good.
fn fell_short(work: &Work, duration: Duration, known_bytes: Option<u64>) -> Option<String> {
    let Work { seconds, memory, products, chains, link, .. } = work;
    if *seconds < duration.as_secs() as f64 {
        return Some(format!("it was worked for {seconds:.0} s instead of {} s", duration.as_secs()));
    }
    if memory.rounds == 0 || products.results == 0 || chains.results == 0 || link.bytes == 0 {
        return Some("a part of the work was not done".to_owned());
    }
    let least = known_bytes.map_or(LEAST_BYTES, |bytes| bytes / 2);
    let tested = memory.tested_bytes;
    (tested < least).then(|| format!("its driver gave only {} MiB of its memory to test", tested >> 20))
}

/// The first of what was wrong, bit by bit.
fn first(wrong: &Wrong) -> String {
    wrong.first.first().map_or_else(String::new, |first| {
        format!(" (the first at {}: {:08x} instead of {:08x})", first.place, first.found, first.expected)
    })
}

fn measure(context: &StageContext<'_>, card: &Card, work: &Work, known_bytes: Option<u64>) {
    let tell = |key: &str, value: f64, unit: &'static str| {
        context.measure("gpu", format!("{}/{key}", card.address), Some(value), unit);
    };
    for (key, wrong) in [
        ("memory_errors", &work.memory.wrong),
        ("product_errors", &work.products.wrong),
        ("chain_errors", &work.chains.wrong),
        ("link_errors", &work.link.wrong),
    ] {
        tell(key, wrong.count as f64, "count");
    }
    let coverage = known_bytes.map(|bytes| work.memory.tested_bytes as f64 * 100.0 / bytes as f64);
    context.measure("gpu", format!("{}/memory_coverage", card.address), coverage, "percent");
    tell("memory_bandwidth", work.memory.bytes_per_second, "bytes_per_second");
    tell("product_operations", work.products.operations_per_second, "per_second");
    tell("chain_operations", work.chains.operations_per_second, "per_second");
    tell("to_gpu_bandwidth", work.link.to_gpu_bytes_per_second, "bytes_per_second");
    tell("from_gpu_bandwidth", work.link.from_gpu_bytes_per_second, "bytes_per_second");
}
