//! What every page has: head, navigation, the words and colours of states, and the headers that keep other sites out. All
//! text goes through maud, which escapes it.

use http::{HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, html};
pub(super) use vetting_judge::report::scroll;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::{RunResult, RunState};
use warp::reply::{Reply, Response};

use super::assets;
use super::visitor::Visitor;
use crate::http::problem::ApiError;

/// Nothing from elsewhere, nothing inline; no other page may frame ours or be posted to from ours.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Where in the navigation a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Dashboard,
    Hosts,
    Runs,
    Models,
    Events,
    Settings,
}

const NAVIGATION: [(Place, &str, &str); 6] = [
    (Place::Dashboard, "/", "Dashboard"),
    (Place::Hosts, "/hosts", "Hosts"),
    (Place::Runs, "/runs", "Runs"),
    (Place::Models, "/models", "Models"),
    (Place::Events, "/events", "Events"),
    (Place::Settings, "/settings", "Settings"),
];

/// A page for somebody who is logged in. `live` is the path that its live parts come from.
pub(super) fn page(
    visitor: &Visitor,
    place: Place,
    title: &str,
    live: Option<&str>,
    body: &Markup,
) -> Response {
    let content = html! {
        a.skip href="#main" { "Skip to the content" }
        header.top {
            a.brand href="/" { "vetting" }
            nav aria-label="Pages" {
                @for (at, path, word) in NAVIGATION {
                    a href=(path) aria-current=[(at == place).then_some("page")] { (word) }
                }
            }
            form.who method="post" action="/logout" {
                (csrf_field(visitor))
                span { (visitor.name()) " " span.muted { "(" (visitor.role()) ")" } }
                button.plain type="submit" { "Log out" }
            }
        }
        main #main tabindex="-1" { (body) }
    };
    answer(StatusCode::OK, &document(title, live, &content))
}

/// A page for anybody.
pub(super) fn bare_page(status: StatusCode, title: &str, body: &Markup) -> Response {
    let content = html! {
        header.top { a.brand href="/" { "vetting" } }
        main #main { (body) }
    };
    answer(status, &document(title, None, &content))
}

fn document(title: &str, live: Option<&str>, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · vetting" }
                link rel="icon" href=(assets::url("icon.svg"));
                link rel="stylesheet" href=(assets::url("web.css"));
                link rel="stylesheet" href=(assets::url("chart.css"));
                script src=(assets::url("web.js")) defer {}
            }
            body data-live=[live] { (content) }
        }
    }
}

fn answer(status: StatusCode, page: &Markup) -> Response {
    let response = warp::reply::html(page.0.clone());
    warp::reply::with_status(response, status).into_response()
}

/// The same for what went wrong.
pub(super) fn error_page(error: &ApiError) -> Response {
    let title = error.kind.title();
    let body = html! {
        section.narrow {
            h1 { (title) }
            p.wrong { (error.detail) }
            p { a href="/" { "To the dashboard" } }
        }
    };
    bare_page(error.kind.status(), title, &body)
}

/// What browsers are told with every answer of the web page.
pub(super) fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // `no-referrer` would make browsers hide the origin of our own forms as well
        (header::REFERRER_POLICY, "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The hidden field that proves that a form is ours.
pub(super) fn csrf_field(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="csrf" value=(visitor.csrf()); }
}

/// What a badge tells; each has its colour and its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Warn,
    Busy,
    Quiet,
}

impl Tone {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Warn => "warn",
            Self::Busy => "busy",
            Self::Quiet => "quiet",
        }
    }
}

/// A word with its colour and sign.
pub(super) fn badge(tone: Tone, text: &str) -> Markup {
    let sign = match tone {
        Tone::Good => "✓",
        Tone::Bad => "✕",
        Tone::Warn => "!",
        Tone::Busy => "▸",
        Tone::Quiet => "–",
    };
    html! { span.badge.(tone.class()) { span aria-hidden="true" { (sign) } " " (text) } }
}

/// Where a run stands, in a word.
pub(super) fn standing(state: RunState, result: Option<RunResult>) -> (Tone, &'static str) {
    match (state, result) {
        (RunState::Completed, Some(RunResult::Pass)) => (Tone::Good, "pass"),
        (RunState::Completed | RunState::Released, Some(RunResult::Fail)) => (Tone::Bad, "fail"),
        (RunState::FailedHolding, _) => (Tone::Bad, "fail, held"),
        (RunState::Aborted, _) => (Tone::Warn, "aborted"),
        (RunState::Queued, _) => (Tone::Busy, "queued"),
        (RunState::Waking, _) => (Tone::Busy, "waking"),
        (RunState::Booting, _) => (Tone::Busy, "booting"),
        (RunState::Running, _) => (Tone::Busy, "running"),
        (RunState::Rebooting, _) => (Tone::Busy, "rebooting"),
        (RunState::Reporting, _) => (Tone::Busy, "judging"),
        // never a pass: a released run failed, and a completed one has its result
        (RunState::Released, _) => (Tone::Bad, "released"),
        (RunState::Completed, None) => (Tone::Warn, "no result"),
    }
}

/// The badge of a run.
pub(super) fn run_badge(state: RunState, result: Option<RunResult>) -> Markup {
    let (tone, word) = standing(state, result);
    badge(tone, word)
}

/// The badge of a stage or sub-step.
pub(super) fn step_badge(state: StepState) -> Markup {
    let tone = match state {
        StepState::Pending => Tone::Quiet,
        StepState::Running => Tone::Busy,
        StepState::Passed => Tone::Good,
        StepState::Failed => Tone::Bad,
        StepState::Skipped => Tone::Warn,
    };
    badge(tone, state.as_str())
}

/// The badge of an event.
pub(super) fn level_badge(level: EventLevel) -> Markup {
    let tone = match level {
        EventLevel::Info => Tone::Quiet,
        EventLevel::Warning => Tone::Warn,
        EventLevel::Error => Tone::Bad,
    };
    badge(tone, level.as_str())
}

/// A text, or a dash where there is none.
pub(super) fn or_dash(text: Option<&str>) -> Markup {
    html! {
        @match text.filter(|text| !text.is_empty()) {
            Some(text) => { (text) }
            None => { span.muted title="not known" { "–" } }
        }
    }
}

/// A part of a page that is replaced when it changes.
pub(super) struct Region {
    /// Of its element.
    pub id: String,
    /// The element, whole.
    pub html: String,
    /// The element that it is an item of, where items come and go.
    pub list: Option<&'static str>,
}

impl Region {
    /// `<div id=ID>…</div>`.
    pub(super) fn new(id: &str, content: &Markup) -> Self {
        Self { id: id.to_owned(), html: html! { div id=(id) { (content) } }.0, list: None }
    }

    /// For the first look.
    pub(super) fn markup(&self) -> Markup {
        maud::PreEscaped(self.html.clone())
    }
}
