//! Sections on what was judged: the verdict's reasons, differences from the spec, rules.

use maud::{Markup, html};
use vetting_protocol::diff::Severity;
use vetting_protocol::ids::StageName;
use vetting_protocol::run::RunResult;

use super::format;
use super::html::{Tone, badge, or_dash, scroll, section};
use crate::facts::{DiffFacts, RunFacts};
use crate::quantity;
use crate::tally::Evaluation;
use crate::threshold::{Change, Rule, RuleChange};
use crate::verdict::{Cause, Reason, Verdict};
use crate::waiver::{Waiver, Withdrawn, author};

/// Why the verdict is what it is, and what should be read beside it.
pub(super) fn reasons(verdict: &Verdict) -> Markup {
    let title = match verdict.result {
        RunResult::Pass => "Why it passed",
        RunResult::Fail => "Why it failed",
    };
    let body = html! {
        ol.reasons.{ (verdict.result.as_str()) } { @for reason in &verdict.reasons { (entry(reason)) } }
        @if !verdict.remarks.is_empty() {
            h3 { "Also worth a look" }
            ul.reasons.remarks { @for remark in &verdict.remarks { (entry(remark)) } }
        }
    };
    section("reasons", title, "", &body)
}

fn entry(reason: &Reason) -> Markup {
    let cause = match reason.cause {
        Cause::AllGood => "all good",
        Cause::Ending => "how it ended",
        Cause::StageFailed => "stage failed",
        Cause::StageNotJudged => "not judged",
        Cause::SpecDiff => "differs from spec",
        Cause::Breach => "rule breached",
        Cause::Unjudged => "rule not judged",
        Cause::PartsChanged => "other parts",
        Cause::RunAgain => "run again",
        Cause::Record => "record",
        Cause::NotTested => "not tested",
        Cause::Outlier => "unlike its siblings",
        Cause::HostRule => "rule of the host",
        Cause::HostStage => "stage of the host",
        Cause::Waiver => "waiver",
    };
    html! {
        li {
            p.cause {
                (cause) @if let Some(stage) = &reason.stage { " · " (stage) }
                @if reason.waiver.is_some() && reason.finding.is_some() { " · waived" }
            }
            p.what { (reason.text) }
            @if !reason.next.is_empty() { p.next { (reason.next) } }
        }
    }
}

/// What operators decided not to count; nothing where there is no waiver.
pub(super) fn waivers(facts: &RunFacts) -> Markup {
    if facts.waivers.is_empty() {
        return html! {};
    }
    let body = html! {
        (scroll("Waivers", &html! { table {
            thead { tr { th { "State" } th { "What was found" } th { "Why it does not count" } th { "By" } th { "Given" } } }
            tbody { @for waiver in &facts.waivers { (waiver_row(waiver)) } }
        } }))
    };
    section("waivers", "Waivers", "What an operator decided not to count against the machine.", &body)
}

fn waiver_row(waiver: &Waiver) -> Markup {
    html! {
        tr.ignored[waiver.withdrawn.is_some()] {
            td { @if waiver.withdrawn.is_some() { (badge(Tone::Quiet, "taken back")) } @else { (badge(Tone::Warn, "waived")) } }
            td { (waiver.found) }
            td {
                (waiver.reason)
                @if let Some(Withdrawn { reason, by, caller, at_ms }) = &waiver.withdrawn {
                    " Taken back by " (author(by, caller.as_deref())) " on " (format::time(*at_ms)) ": " (reason)
                }
            }
            td { (waiver.author()) }
            td { (format::time(waiver.given_ms)) }
        }
    }
}

fn severity(severity: Severity) -> Markup {
    let tone = match severity {
        Severity::Critical => Tone::Bad,
        Severity::Warning => Tone::Warn,
        Severity::Info => Tone::Quiet,
    };
    badge(tone, severity.as_str())
}

/// What differs from the spec.
pub(super) fn diffs(facts: &RunFacts) -> Markup {
    let body = match &facts.diffs {
        None => html! { p.empty { "The machine was not compared with its spec." } },
        Some(diffs) if diffs.is_empty() => {
            html! { p.empty { (badge(Tone::Good, "no difference")) " The machine is what its spec asks for." } }
        }
        Some(diffs) => html! {
            (scroll("Differences from the spec", &html! { table {
                thead { tr { th { "Severity" } th { "Field" } th { "Expected" } th { "Found" } } }
                tbody { @for diff in diffs { (diff_row(diff)) } }
            } }))
        },
    };
    section("diffs", "Differences from the spec", "", &body)
}

fn diff_row(DiffFacts { diff, ignored }: &DiffFacts) -> Markup {
    html! {
        tr.ignored[*ignored] {
            td { @if *ignored { (badge(Tone::Quiet, "ignored")) } @else { (severity(diff.severity)) } }
            td { code { (diff.field) } }
            td { (or_dash(diff.expected.as_deref())) }
            td { (or_dash(diff.actual.as_deref())) }
        }
    }
}

/// Breaches, rules that could not judge, and all checks.
pub(super) fn rules(facts: &RunFacts) -> Markup {
    let (mut bad, good): (Vec<&Evaluation>, Vec<&Evaluation>) =
        facts.evaluations.iter().partition(|evaluation| evaluation.breaches > 0 || evaluation.is_unjudged());
    bad.sort_by_key(|evaluation| evaluation.rule.severity);
    let never: Vec<String> = facts
        .rules
        .iter()
        .filter(|rule| !rule.is_off())
        .filter(|rule| !facts.evaluations.iter().any(|evaluation| evaluation.rule == **rule))
        .map(ToString::to_string)
        .collect();
    let body = html! {
        (host_rules(facts))
        @if bad.is_empty() {
            p.empty { (badge(Tone::Good, "no breach")) " Every rule that met samples was kept." }
        } @else {
            (table("Rules that were not kept", &bad))
        }
        @if !good.is_empty() {
            details { summary { (format::count(good.len() as u64, "check", "checks")) " within their rules" } (table("Checks within their rules", &good)) }
        }
        @if !never.is_empty() {
            details {
                summary { (format::count(never.len() as u64, "rule", "rules")) " met no sample" }
                ul.plain { @for rule in &never { li { code { (rule) } } } }
            }
        }
    };
    section("rules", "Rules", "A rule states what is good; the worst sample of each part is shown.", &body)
}

/// The rules that are not as the profile has them.
fn host_rules(facts: &RunFacts) -> Markup {
    let changed: Vec<(&Rule, &RuleChange)> =
        facts.rules.iter().filter_map(|rule| Some((rule, rule.change.as_ref()?))).collect();
    if changed.is_empty() {
        return html! {};
    }
    html! {
        h3 { "Rules of this host" }
        (scroll("Rules of this host", &html! { table {
            thead { tr { th { "Beside the profile" } th { "What" } th { "Rule" } th { "In the profile" } th { "Why" } } }
            tbody { @for (rule, change) in changed { (host_rule_row(rule, change)) } }
        } }))
    }
}

fn host_rule_row(rule: &Rule, change: &RuleChange) -> Markup {
    let tone = match change.kind {
        Change::Off | Change::Looser => Tone::Warn,
        Change::Added | Change::Stricter | Change::Changed => Tone::Quiet,
    };
    html! {
        tr {
            td { (badge(tone, change.kind.as_str())) }
            td { span.muted { (rule.kind) } " " code { (rule.key) } " " (rule.stage.map_or("", StageName::as_str)) }
            td { @if rule.is_off() { (or_dash(None)) } @else { (rule.describe()) " · " (rule.severity) } }
            td { (or_dash(change.was.as_deref())) }
            td { (change.note) }
        }
    }
}

fn table(label: &str, evaluations: &[&Evaluation]) -> Markup {
    html! {
        (scroll(label, &html! { table {
            thead { tr {
                th { "Result" } th { "What" } th { "Stage" } th { "Rule" } th.num { "Worst" } th.num { "Out of rule" } th { "First" }
            } }
            tbody { @for evaluation in evaluations { (evaluation_row(evaluation)) } }
        } }))
    }
}

fn evaluation_row(evaluation: &Evaluation) -> Markup {
    let result = if evaluation.is_unjudged() {
        badge(Tone::Warn, "not judged")
    } else if evaluation.is_glitch() {
        badge(Tone::Quiet, "glitch")
    } else if evaluation.breaches > 0 {
        severity(evaluation.rule.severity.into())
    } else {
        badge(Tone::Good, "within")
    };
    let worst = evaluation.worst.map(|worst| quantity::in_words(worst, &evaluation.rule.unit));
    html! {
        tr {
            td { (result) }
            td { span.muted { (evaluation.rule.kind) } " " code { (evaluation.key) } }
            td { (or_dash(evaluation.stage.map(StageName::as_str))) }
            td { (evaluation.rule_in_words()) }
            td.num { (or_dash(worst.as_deref())) }
            td.num { (evaluation.breaches) " of " (evaluation.samples) }
            td { (or_dash(evaluation.first_breach_ms.map(format::clock).as_deref())) }
        }
    }
}
