//! Sections on what happened: stages with their sub-steps over time, events, files.

use maud::{Markup, html};
use serde_json::Value;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::operator_api::BootView;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::profile::{StageChange, StageChangeKind};

use super::format;
use super::html::{Tone, badge, or_dash, scroll, section};
use crate::facts::{EventFacts, RunFacts, StageFacts, SubStepFacts};

/// Most events shown; the rest is in the JSON.
const MOST_EVENTS: usize = 500;

/// How a stage or sub-step ended.
pub(super) fn outcome(outcome: Option<&Outcome>) -> Markup {
    match outcome {
        Some(Outcome::Pass) => badge(Tone::Good, "pass"),
        Some(Outcome::Fail { .. }) => badge(Tone::Bad, "fail"),
        Some(Outcome::Error { .. }) => badge(Tone::Warn, "error"),
        Some(Outcome::Skip { .. }) => badge(Tone::Quiet, "skip"),
        None => badge(Tone::Quiet, "not finished"),
    }
}

/// The time that the bars are drawn in.
struct Window {
    from_ms: i64,
    to_ms: i64,
}

impl Window {
    /// The bar of a piece of time, as a style; absent if its begin or end is not known.
    fn bar(&self, from_ms: Option<i64>, to_ms: Option<i64>) -> Option<String> {
        let whole = self.to_ms.saturating_sub(self.from_ms).max(1) as f64;
        let at = |ms: i64| (ms.saturating_sub(self.from_ms) as f64 / whole * 100.0).clamp(0.0, 100.0);
        let (left, right) = (at(from_ms?), at(to_ms?));
        Some(format!("left:{left:.2}%;width:{:.2}%", (right - left).max(0.4)))
    }
}

/// The stages, with the time before them.
pub(super) fn stages(facts: &RunFacts) -> Markup {
    let begins = facts.stages.iter().filter_map(|stage| stage.started_ms);
    let ends = facts.stages.iter().filter_map(|stage| stage.ended_ms);
    let window = Window {
        from_ms: begins.min().unwrap_or(facts.run.started_ms),
        to_ms: ends.max().unwrap_or(facts.run.ended_ms),
    };
    let body = html! {
        (boot(&facts.boot))
        (host_stages(&facts.stage_changes))
        (scroll("Stages", &html! { table.stages {
            thead { tr { th { "Stage" } th { "Result" } th.num { "Took" } th { "Began" } th.time { "When" } } }
            tbody { @for stage in &facts.stages { (stage_rows(stage, &window)) } }
        } }))
    };
    section("stages", "Stages", &facts.run.profile_description, &body)
}

/// The stages that are not as the profile has them.
fn host_stages(changes: &[StageChange]) -> Markup {
    html! {
        @if !changes.is_empty() {
            h3 { "Stages of this host" }
            (scroll("Stages of this host", &html! { table {
                thead { tr { th { "Beside the profile" } th { "Stage" } th { "Here" } th { "In the profile" } th { "Why" } } }
                tbody { @for change in changes { tr {
                    td { (badge(if change.kind == StageChangeKind::Added { Tone::Quiet } else { Tone::Warn }, change.kind.as_str())) }
                    td { (change.stage) }
                    td { (or_dash(change.now.as_deref())) }
                    td { (or_dash(change.was.as_deref())) }
                    td { (change.note) }
                } } }
            } }))
        }
    }
}

fn boot(boot: &BootView) -> Markup {
    let between = |from: Option<i64>, to: Option<i64>| format::span(from, to);
    let took = |from: Option<u64>, to: Option<u64>| {
        to?.checked_sub(from?).and_then(|ms| i64::try_from(ms).ok()).map(format::duration)
    };
    // an agent that did not set up the network itself tells nothing of it
    let ready = boot.kernel_to_network_ms.or(boot.kernel_to_init_ms);
    let steps = [
        ("Firmware to boot script", between(boot.woken_ms, boot.script_served_ms)),
        ("Image download", between(boot.script_served_ms, boot.image_served_ms)),
        ("Kernel to PID 1", took(Some(0), boot.kernel_to_init_ms)),
        ("Network", took(boot.kernel_to_init_ms, boot.kernel_to_network_ms)),
        ("Agent to claim", took(ready, boot.kernel_to_claim_ms)),
    ];
    html! {
        @if steps.iter().any(|(_, took)| took.is_some()) {
            dl.facts.boot {
                @for (name, took) in &steps { div { dt { (name) } dd { (or_dash(took.as_deref())) } } }
            }
        }
    }
}

fn stage_rows(stage: &StageFacts, window: &Window) -> Markup {
    html! {
        tr.stage {
            th scope="row" { (stage.name) @if !stage.required { span.muted { " (not required)" } } }
            (timed_cells(stage.outcome.as_ref(), stage.started_ms, stage.ended_ms, window))
        }
        (reason_row(stage.outcome.as_ref()))
        @if let (Some(Outcome::Pass), Some(said)) = (&stage.outcome, stage.reported.as_ref().and_then(Outcome::reason)) {
            tr.reason { td colspan="5" { "Failed by what is waived: " (said) } }
        }
        (details_row(&stage.details))
        @for step in &stage.sub_steps { (sub_step_rows(step, window)) }
    }
}

fn sub_step_rows(step: &SubStepFacts, window: &Window) -> Markup {
    html! {
        tr.step {
            td { (step.name) }
            (timed_cells(step.outcome.as_ref(), step.started_ms, step.ended_ms, window))
        }
        (reason_row(step.outcome.as_ref()))
        (details_row(&step.details))
    }
}

fn timed_cells(result: Option<&Outcome>, from: Option<i64>, to: Option<i64>, window: &Window) -> Markup {
    let class = match result {
        Some(Outcome::Pass) => "bar good",
        Some(Outcome::Fail { .. }) => "bar bad",
        Some(Outcome::Error { .. }) => "bar warn",
        Some(Outcome::Skip { .. }) | None => "bar quiet",
    };
    html! {
        td { (outcome(result)) }
        td.num { (or_dash(format::span(from, to).as_deref())) }
        td { (or_dash(from.map(format::clock).as_deref())) }
        td.time { @if let Some(style) = window.bar(from, to) { div.track { div class=(class) style=(style) {} } } }
    }
}

fn reason_row(outcome: Option<&Outcome>) -> Markup {
    html! { @if let Some(reason) = outcome.and_then(Outcome::reason) { tr.reason { td colspan="5" { (reason) } } } }
}

fn details_row(details: &Value) -> Markup {
    let is_empty = match details {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    html! {
        @if !is_empty {
            tr.details { td colspan="5" {
                @if let Some(line) = in_a_line(details) { (line) } @else {
                    details { summary { "Details" } pre { (pretty(details)) } }
                }
            } }
        }
    }
}

/// A few plain fields as `zones 32 · zone mib 32`; absent for what needs more room.
fn in_a_line(details: &Value) -> Option<String> {
    let fields = details.as_object().filter(|fields| fields.len() <= 6)?;
    let plain: Option<Vec<String>> = fields
        .iter()
        .map(|(name, value)| {
            let text = match value {
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::String(text) if text.chars().count() <= 60 => text.clone(),
                Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => return None,
            };
            Some(format!("{} {text}", name.replace('_', " ")))
        })
        .collect();
    plain.map(|plain| plain.join(" · "))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// The event log.
pub(super) fn events(facts: &RunFacts) -> Markup {
    let left_out = facts.events.len().saturating_sub(MOST_EVENTS);
    let rows = html! {
        (scroll("Event log", &html! { table.events {
            thead { tr { th { "When" } th { "Level" } th { "Kind" } th { "What" } } }
            tbody { @for event in facts.events.iter().take(MOST_EVENTS) { (event_row(event)) } }
        } }))
        @if left_out > 0 { p.note { (left_out) " more are in report.json." } }
    };
    let body = html! {
        @if facts.events.is_empty() {
            p.empty { "Nothing was logged." }
        } @else {
            details { summary { (format::count(facts.events.len() as u64, "event", "events")) } (rows) }
        }
    };
    section("events", "Event log", "", &body)
}

fn event_row(event: &EventFacts) -> Markup {
    let tone = match event.level {
        EventLevel::Info => Tone::Quiet,
        EventLevel::Warning => Tone::Warn,
        EventLevel::Error => Tone::Bad,
    };
    html! {
        tr {
            td.nowrap { (format::clock(event.ts_ms)) }
            td { (badge(tone, event.level.as_str())) }
            td { code { (event.kind) } }
            td { (event.message) }
        }
    }
}

/// Files of the run with their digests.
pub(super) fn artifacts(facts: &RunFacts) -> Markup {
    let body = html! {
        (scroll("Files", &html! { table {
            thead { tr { th { "Kind" } th { "Path" } th.num { "Size" } th { "SHA-256" } } }
            tbody { @for artifact in &facts.artifacts { tr {
                td { (artifact.kind) }
                td { code { (artifact.path) } }
                td.num { (format::size(artifact.size_bytes)) }
                td { code.digest { (artifact.sha256) } }
            } } }
        } }))
    };
    html! { @if !facts.artifacts.is_empty() { (section("artifacts", "Files", "", &body)) } }
}
