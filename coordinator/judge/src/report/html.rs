//! The page around the sections: head, style sheet, title, footer. All text goes through maud, which escapes it;
//! the style sheet is the only text that does not, and it is ours.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use vetting_protocol::plan::DiskConsent;
use vetting_protocol::run::{RunPlace, RunResult};

use super::{Report, chart, format, hardware, judgement, stages};
use crate::facts::RunFacts;

const STYLE: &str = include_str!("style.css");

/// What a badge tells; each has its colour and its sign, so that colour alone never carries it.
#[derive(Clone, Copy)]
pub(super) enum Tone {
    Good,
    Bad,
    Warn,
    Quiet,
}

/// A word with its colour and sign.
pub(super) fn badge(tone: Tone, text: &str) -> Markup {
    let (class, sign) = match tone {
        Tone::Good => ("badge good", "✓"),
        Tone::Bad => ("badge bad", "✕"),
        Tone::Warn => ("badge warn", "!"),
        Tone::Quiet => ("badge quiet", "–"),
    };
    html! { span class=(class) { span aria-hidden="true" { (sign) } " " (text) } }
}

/// A text, or a dash where there is none.
pub(super) fn or_dash(text: Option<&str>) -> Markup {
    html! {
        @match text.filter(|text| !text.is_empty()) {
            Some(text) => { (text) }
            None => { span.none title="not told" { "–" } }
        }
    }
}

/// A section with its heading.
pub(super) fn section(id: &str, title: &str, note: &str, body: &Markup) -> Markup {
    html! {
        section id=(id) {
            header { h2 { (title) } @if !note.is_empty() { p.note { (note) } } }
            (body)
        }
    }
}

/// What is wider than the page scrolls by itself, by keyboard, too.
pub fn scroll(label: &str, content: &Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(label) { (content) } }
}

/// A self-contained page: no script, no network, no font.
pub(super) fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(chart::STYLE)) }
            }
            body { (body) }
        }
    }
}

/// The whole page.
pub(super) fn page(report: &Report) -> Markup {
    let facts = &report.facts;
    let title = format!("{} · {} · {}", word(report.verdict.result), facts.host.name, run_words(facts));
    let body = html! {
        (banner(report))
        main {
            (judgement::reasons(&report.verdict))
            (judgement::waivers(facts))
            (stages::stages(facts))
            (judgement::diffs(facts))
            (judgement::rules(facts))
            (chart::temperatures(facts))
            (hardware::hardware(facts))
            (hardware::firmware(facts))
            (hardware::parts_before(facts))
            (stages::events(facts))
            (stages::artifacts(facts))
        }
        footer {
            "vetting · report schema " (report.schema_version) " · judged by " (facts.run.judged_by)
            " · times are UTC"
        }
    };
    document(&title, &body)
}

fn word(result: RunResult) -> &'static str {
    match result {
        RunResult::Pass => "PASS",
        RunResult::Fail => "FAIL",
    }
}

fn banner(report: &Report) -> Markup {
    let (facts, verdict) = (&report.facts, &report.verdict);
    let (class, sign) = match verdict.result {
        RunResult::Pass => ("verdict good", "✓"),
        RunResult::Fail => ("verdict bad", "✕"),
    };
    let machine = facts.inventory.as_ref().map(|inventory| {
        let parts = [inventory.system.manufacturer.as_deref(), inventory.system.product.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    });
    let consent = match facts.run.consent {
        DiskConsent::NonDestructive => "read only",
        DiskConsent::EmptyDisksOnly => "empty disks may be overwritten",
        DiskConsent::WipeAllowed => "every disk may be overwritten",
        DiskConsent::EraseDisks => "every disk is erased",
    };
    html! {
        header.banner {
            div.title {
                p.eyebrow { "Vetting report · " (run_words(facts)) }
                h1 { (facts.host.name) }
                p.machine { (or_dash(machine.as_deref())) }
            }
            div class=(class) {
                span.sign aria-hidden="true" { (sign) }
                div {
                    strong { (word(verdict.result)) }
                    @if let Some(stage) = &verdict.failed_stage { span { "in " (stage) } }
                    @else if facts.waivers.iter().any(|waiver| waiver.withdrawn.is_none()) { span { "with waivers" } }
                }
            }
            dl.facts {
                (fact("Profile", &profile_words(facts)))
                (fact("Started", &format::time(facts.run.started_ms)))
                (fact("Took", &format::span(Some(facts.run.started_ms), Some(facts.run.ended_ms)).unwrap_or_default()))
                (fact("MAC", &facts.host.mac.map_or_else(|| "no network card".to_owned(), |mac| mac.to_string())))
                (fact("Disks", consent))
                (fact("Samples", &facts.sample_count.to_string()))
                @if facts.run.report_version > 1 { (fact("Report", &format!("version {}", facts.run.report_version))) }
            }
            @if !facts.host.notes.is_empty() { p.notes { (facts.host.notes) } }
        }
    }
}

pub(super) fn run_words(facts: &RunFacts) -> String {
    match (&facts.run.id, &facts.run.uuid) {
        (Some(id), _) => format!("run {id}"),
        (None, Some(uuid)) => format!("run without a coordinator {uuid}"),
        (None, None) => "run without a coordinator".to_owned(),
    }
}

fn profile_words(facts: &RunFacts) -> String {
    let own = if facts.run.own_profile { " (changed: not the shipped one)" } else { "" };
    let place = match facts.run.place {
        RunPlace::LiveImage => "",
        RunPlace::InstalledSystem => " (only what an installed system bears)",
    };
    format!("{}{own}{place}", facts.run.profile)
}

pub(super) fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}
