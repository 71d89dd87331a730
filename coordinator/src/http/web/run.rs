//! The page of a run: where it stands, its stages as they go, why it passed or failed, charts, what was found, files, log.

use std::time::Duration;

use maud::{Markup, html};
use vetting_judge::quantity;
use vetting_judge::report::format;
use vetting_judge::waiver::author;
use vetting_protocol::diff::Severity;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{
    ArtifactView, BreachView, EventView, ReasonView, RunDetail, StageView, SubStepView, VerdictView,
};
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::{RunResult, RunState};
use warp::reply::Response;

use super::dashboard::{bar, left_in_words};
use super::layout::{Place, Region, Tone, badge, or_dash, page as whole_page, run_badge, scroll, step_badge};
use super::visitor::Visitor;
use super::{charts, live, log, output};
use crate::http::problem::ApiError;
use crate::run::views;
use crate::store::events::{self, Of};

struct Shown {
    run: RunDetail,
    verdict: VerdictView,
    events: Vec<EventView>,
}

async fn look(visitor: &Visitor, run: RunId) -> Result<Shown, ApiError> {
    let driver = &visitor.app.driver;
    let detail = driver.detail(run).await?;
    let verdict = driver.verdict(run).await?;
    let rows = driver
        .store
        .read(move |connection| events::newest(connection, Of::Run(run), "*", None, log::MOST_LINES))
        .await?;
    let events = rows.into_iter().map(views::event).collect::<Result<_, _>>()?;
    Ok(Shown { run: detail, verdict, events })
}

/// `GET /runs/{id}`.
pub(super) async fn page(visitor: &Visitor, run: RunId) -> Result<Response, ApiError> {
    let regions = regions(visitor, run, charts::PAGE_PATIENCE).await?;
    let title = format!("Run {run}");
    let body = html! { @for region in &regions { (region.markup()) } };
    let live = live::path(&["runs", &run.to_string()]);
    Ok(whole_page(visitor, Place::Runs, &title, Some(&live), &body))
}

/// The parts of the page, each replaced when it changes.
pub(super) async fn regions(
    visitor: &Visitor,
    run: RunId,
    patience: Duration,
) -> Result<Vec<Region>, ApiError> {
    let shown = look(visitor, run).await?;
    let charts = charts::charts(visitor, run, shown.run.summary.state, patience).await?;
    Ok(vec![
        Region::new("run-head", &head(visitor, &shown)),
        Region::new("run-reasons", &reasons(visitor, &shown)),
        Region::new("run-stages", &stages(&shown.run)),
        Region::new("run-findings", &findings(&shown.run)),
        Region::new("run-charts", &html! { section { h2 { "Charts" } div.charts { (charts) } } }),
        Region::new("run-log", &log::tail(&shown.run, &shown.events)),
        Region::new("run-files", &files(visitor, &shown.run)),
    ])
}

fn head(visitor: &Visitor, shown: &Shown) -> Markup {
    let (run, summary) = (&shown.run, &shown.run.summary);
    let over = run.stages.iter().filter(|stage| stage.state.is_finished()).count();
    let running = run.stages.iter().find(|stage| stage.state == StepState::Running);
    html! {
        header.title {
            div {
                p.note { "Run " (summary.id) " · " (summary.profile)
                    @if run.non_destructive { " · non-destructive" }
                    @if run.wipe { " · disks may be overwritten" }
                    @if run.erase { " · disks are erased" } }
                h1 { a href=(format!("/hosts/{}", summary.host)) { (summary.host) } }
            }
            p.verdict { (run_badge(summary.state, summary.result)) }
        }
        @if !summary.state.is_terminal() {
            div.progress {
                (bar(u32::try_from(over).unwrap_or(u32::MAX), u32::try_from(run.stages.len()).unwrap_or(u32::MAX),
                     running.and_then(|stage| stage.percent)))
                p { @match running {
                    Some(stage) => { (stage.name) @if let Some(left) = stage.eta_ms { ", " (left_in_words(left)) " left" } }
                    None => { "waiting for the machine" }
                } }
            }
        }
        dl.facts {
            (fact("Started", &format!("{} UTC", summary.started_at)))
            @if let Some(ended) = &summary.completed_at { (fact("Ended", &format!("{ended} UTC"))) }
            (fact("Samples", &run.measurement_count.to_string()))
            @if let Some(stage) = &summary.failed_stage { (fact("Halted in", stage)) }
            @if shown.verdict.report_version > 0 { (fact("Report", &format!("version {}", shown.verdict.report_version))) }
        }
        @if let Some(hold) = &run.hold {
            p.hold { "Held until " (hold.until) " UTC. "
                @if let Some(ssh) = &hold.ssh { "On the coordinator's box: " code { (ssh.command) } }
                @if let Some(problem) = &hold.problem { (problem) } }
        }
        @if visitor.is_operator() { (buttons(shown)) }
        @if has_report(run) {
            p.links { a href=(format!("/runs/{}/report", summary.id)) { "Report" }
                " · " a href=(format!("/runs/{}/files/report", summary.id)) { "report.json" } }
        }
    }
}

fn has_report(run: &RunDetail) -> bool {
    run.artifacts.iter().any(|file| file.kind == "report_html")
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// What can be ordered now: links to a page each that asks first.
fn buttons(shown: &Shown) -> Markup {
    let summary = &shown.run.summary;
    let link = |order: &str, word: &str| html! { a.button href=(format!("/runs/{}/{order}", summary.id)) { (word) } };
    let held = summary.state == RunState::FailedHolding;
    let failed_for_good = summary.state == RunState::Completed && summary.result == Some(RunResult::Fail);
    html! {
        p.buttons {
            @if !summary.state.is_terminal() { (link("abort", "Abort…")) }
            @if held { (link("retry", "Retry a stage…")) }
            @if held || failed_for_good { (link("resume", "Resume…")) }
            @if held { (link("release", "Release…")) }
            @if summary.state.is_terminal() && !held {
                a.button href=(format!("/hosts/{}/start", summary.host)) { "Start another run…" }
            }
        }
    }
}

fn reasons(visitor: &Visitor, shown: &Shown) -> Markup {
    let (verdict, summary) = (&shown.verdict, &shown.run.summary);
    let waivable = visitor.is_operator() && summary.state.is_terminal();
    html! {
        @if !verdict.reasons.is_empty() || !verdict.remarks.is_empty() {
            section {
                h2 { @match summary.result { Some(RunResult::Pass) => { "Why it passed" } _ => { "Why it failed" } } }
                ul.reasons.(if summary.result == Some(RunResult::Pass) { "pass" } else { "fail" }) {
                    @for one in &verdict.reasons { (reason(one, summary.id, waivable)) }
                }
                @if !verdict.remarks.is_empty() {
                    h3 { "Remarks" }
                    ul.reasons.remarks { @for one in &verdict.remarks { (reason(one, summary.id, waivable)) } }
                }
            }
        }
        @if !verdict.waivers.is_empty() {
            section {
                h2 { "Waivers" }
                (scroll("Waivers", &html! { table {
                    thead { tr { th { "Nr" } th { "What does not count" } th { "Why" } th { "By" } th { "Given" } th { "Withdrawn" } } }
                    tbody { @for waiver in &verdict.waivers { tr {
                        td { (waiver.id) } td { (waiver.found) } td { (waiver.reason) } td { (author(&waiver.by, waiver.caller.as_deref())) } td.nowrap { (waiver.given_at) }
                        td { @match &waiver.withdrawn {
                            Some(back) => { (back.at) " by " (author(&back.by, back.caller.as_deref())) ": " (back.reason) }
                            None => { @if waivable { a href=(format!("/runs/{}/withdraw?waiver={}", summary.id, waiver.id)) { "Withdraw…" } } }
                        } }
                    } } }
                } }))
            }
        }
    }
}

fn reason(reason: &ReasonView, run: RunId, waivable: bool) -> Markup {
    html! {
        li {
            p.what { (reason.text) }
            @if !reason.next.is_empty() { p.next { (reason.next) } }
            @if let Some(waiver) = reason.waiver { p.note { "Waived: waiver " (waiver) } }
            @if waivable && reason.waiver.is_none() && let Some(finding) = &reason.finding {
                p { a href=(format!("/runs/{run}/waive?{}", query(&[("finding", &finding.to_string())]))) { "Waive…" } }
            }
        }
    }
}

/// A query string.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    serde_urlencoded::to_string(pairs).unwrap_or_default()
}

fn stages(run: &RunDetail) -> Markup {
    html! {
        section {
            h2 { "Stages" }
            @if run.stages.is_empty() { p.empty { "The plan is made when the machine claims its run." } } @else {
                ol.pipeline { @for one in &run.stages { (stage(one)) } }
            }
            @if !run.stage_changes.is_empty() {
                h3 { "Otherwise than the profile" }
                ul.plain { @for change in &run.stage_changes { li { (change) } } }
            }
            @if !run.attempts.is_empty() {
                details { summary { (format::count(run.attempts.len() as u64, "earlier attempt", "earlier attempts")) }
                    ul.plain { @for attempt in &run.attempts {
                        li { (attempt.stage) " " (step_badge(attempt.state)) " " (or_dash(attempt.reason.as_deref())) }
                    } }
                }
            }
        }
    }
}

fn stage(stage: &StageView) -> Markup {
    let tone = match stage.state {
        StepState::Pending => "quiet",
        StepState::Running => "busy",
        StepState::Passed => "good",
        StepState::Failed => "bad",
        StepState::Skipped => "warn",
    };
    html! {
        li.stage.(tone) {
            div.line {
                strong { (stage.name) }
                (step_badge(stage.state))
                span.took { (or_dash(took(stage.started_at.as_deref(), stage.completed_at.as_deref()).as_deref())) }
            }
            @if stage.state == StepState::Running {
                @match stage.percent {
                    Some(percent) => {
                        progress max="100" value=(format!("{percent:.0}")) aria-label=(format!("Progress of {}", stage.name)) {}
                        p.note { (format!("{percent:.0} %")) @if let Some(left) = stage.eta_ms { ", " (left_in_words(left)) " left" } }
                    }
                    None => { progress aria-label=(format!("Progress of {}", stage.name)) {} }
                }
            }
            @if let Some(reason) = &stage.reason { p.why { (reason) } }
            @if !stage.sub_steps.is_empty() { ul.steps { @for step in &stage.sub_steps { (sub_step(step)) } } }
        }
    }
}

fn sub_step(step: &SubStepView) -> Markup {
    html! {
        li {
            span.name { (step.name) } " " (step_badge(step.state))
            span.took { (or_dash(took(step.started_at.as_deref(), step.completed_at.as_deref()).as_deref())) }
            @if let Some(reason) = &step.reason { p.why { (reason) } }
        }
    }
}

/// From one time of the API to another.
fn took(from: Option<&str>, to: Option<&str>) -> Option<String> {
    let ms = |text: &str| crate::clock::timestamp_ms(text).ok();
    Some(format::duration(ms(to?)?.checked_sub(ms(from?)?)?))
}

pub(super) fn severity_badge(severity: Severity) -> Markup {
    let tone = match severity {
        Severity::Critical => Tone::Bad,
        Severity::Warning => Tone::Warn,
        Severity::Info => Tone::Quiet,
    };
    badge(tone, severity.as_str())
}

fn findings(run: &RunDetail) -> Markup {
    html! {
        @if !run.diffs.is_empty() {
            section {
                h2 { "Not as ordered" }
                (scroll("Not as ordered", &html! { table {
                    thead { tr { th { "Field" } th { "Expected" } th { "Found" } th { "Severity" } } }
                    tbody { @for diff in &run.diffs { tr {
                        th scope="row" { code { (diff.field) } }
                        td { (or_dash(diff.expected.as_deref())) }
                        td { (or_dash(diff.actual.as_deref())) }
                        td { (severity_badge(diff.severity)) }
                    } } }
                } }))
            }
        }
        @if !run.breaches.is_empty() {
            section {
                h2 { "Limits that were breached" }
                (scroll("Limits that were breached", &html! { table {
                    thead { tr { th { "Stage" } th { "What" } th { "Rule" } th.num { "Worst" } th.num { "Samples" } th { "First" } th { "Severity" } } }
                    tbody { @for breach in &run.breaches { (breach_row(breach)) } }
                } }))
            }
        }
    }
}

fn breach_row(breach: &BreachView) -> Markup {
    html! {
        tr {
            td { (breach.stage) }
            th scope="row" { (breach.kind) " " code { (breach.key) } }
            td { (breach.rule) }
            td.num { (quantity::trimmed(breach.worst)) }
            td.num { (breach.samples) }
            td.nowrap { (breach.first_at) }
            td { (severity_badge(breach.severity)) }
        }
    }
}

fn files(visitor: &Visitor, run: &RunDetail) -> Markup {
    let may_have = |file: &&ArtifactView| visitor.is_operator() || file.kind != crate::run::upload::HOLD_KEY;
    html! {
        @if !run.artifacts.is_empty() {
            section {
                h2 { "Files" }
                (scroll("Files", &html! { table {
                    thead { tr { th { "Kind" } th.num { "Size" } th { "SHA-256" } } }
                    tbody { @for file in run.artifacts.iter().filter(may_have) { tr {
                        th scope="row" { (file_link(run, file)) }
                        td.num { (format::size(file.size_bytes)) }
                        td { code.digest { (file.sha256) } }
                    } } }
                } }))
            }
        }
    }
}

/// Of a kind that the run has several of, each by its name.
fn file_link(run: &RunDetail, file: &ArtifactView) -> Markup {
    let path = format!("/runs/{}/files/{}", run.summary.id, file.kind);
    let is_one_of_several = run.artifacts.iter().filter(|other| other.kind == file.kind).nth(1).is_some();
    html! {
        @match output::name_of(&file.path).filter(|_| is_one_of_several) {
            Some(name) => { a href=(format!("{path}/{name}")) { (file.kind) " " (name) } }
            None => { a href=(path) { (file.kind) } }
        }
    }
}
