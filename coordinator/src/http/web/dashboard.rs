//! The dashboard: every machine a tile, in the order of the names, so that each stays where it is; above them what needs a
//! person.

use std::collections::HashMap;

use maud::{Markup, html};
use vetting_judge::report::format;
use vetting_protocol::ids::RunId;
use vetting_protocol::run::{RunResult, RunState};
use warp::reply::Response;

use super::layout::{Place, Region, Tone, badge, page as whole_page, run_badge, standing};
use super::visitor::Visitor;
use super::{Form, live};
use crate::http::problem::ApiError;
use crate::run::live::Glance;
use crate::store::overview::{self, HostLine, RunLine};
use crate::store::{StoreError, enrolment};

/// Machines that need a person that are named; the rest is counted.
const MOST_NAMED: usize = 50;

/// The element that has the tiles.
pub(super) const TILES: &str = "tiles";

/// In which of the filters of the list a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Active,
    Held,
    Failed,
    Passed,
    Other,
    Never,
}

impl Group {
    pub(super) const ALL: [(Self, &str, &str); 6] = [
        (Self::Active, "active", "under way"),
        (Self::Held, "held", "held"),
        (Self::Failed, "failed", "failed"),
        (Self::Passed, "passed", "passed"),
        (Self::Other, "aborted", "aborted"),
        (Self::Never, "never", "never vetted"),
    ];

    /// The one with this word in the address.
    pub(super) fn named(word: Option<&str>) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known, _)| Some(*known) == word).map(|(group, ..)| group)
    }

    pub(super) fn of(line: &HostLine) -> Self {
        let Some(run) = &line.run else { return Self::Never };
        match (run.state, run.result) {
            (RunState::FailedHolding, _) => Self::Held,
            (state, _) if !state.is_terminal() => Self::Active,
            (RunState::Completed, Some(RunResult::Pass)) => Self::Passed,
            (RunState::Completed | RunState::Released, Some(RunResult::Fail)) => Self::Failed,
            _ => Self::Other,
        }
    }
}

/// All that the dashboard shows.
struct Shown {
    lines: Vec<HostLine>,
    glances: HashMap<RunId, Glance>,
    waiting: usize,
}

impl Shown {
    /// The machines of one group, or all.
    fn of(&self, group: Option<Group>) -> impl Iterator<Item = &HostLine> {
        self.lines.iter().filter(move |line| group.is_none_or(|group| Group::of(line) == group))
    }
}

async fn look(visitor: &Visitor) -> Result<Shown, ApiError> {
    let driver = &visitor.app.driver;
    let (lines, waiting) = driver
        .store
        .read(|connection| {
            Ok::<_, StoreError>((overview::hosts(connection)?, enrolment::waiting(connection)?.len()))
        })
        .await?;
    Ok(Shown { lines, glances: driver.glances(), waiting })
}

/// `GET /`.
pub(super) async fn page(visitor: &Visitor, query: &Form) -> Result<Response, ApiError> {
    let shown = look(visitor).await?;
    let word = query.get("show");
    let group = Group::named(word);
    let body = html! {
        h1.off-screen { "Dashboard" }
        (summary(&shown).markup())
        (attention(&shown).markup())
        (welcome(visitor, &shown).markup())
        @if let Some((.., words)) = Group::ALL.into_iter().find(|(of, ..)| Some(*of) == group) {
            p.note { "Only those that are " (words) ". " a href="/" { "Show all" } }
        }
        ol.tiles id=(TILES) { @for line in shown.of(group) { (tile(line, &shown.glances).markup()) } }
    };
    let mut live = live::path(&["dashboard"]);
    if let Some(word) = word.filter(|_| group.is_some()) {
        live = format!("{live}?show={word}");
    }
    Ok(whole_page(visitor, Place::Dashboard, "Dashboard", Some(&live), &body))
}

/// What of the page changes by itself, where it shows one group or all.
pub(super) async fn regions(visitor: &Visitor, group: Option<Group>) -> Result<Vec<Region>, ApiError> {
    let shown = look(visitor).await?;
    let mut regions = vec![summary(&shown), attention(&shown), welcome(visitor, &shown)];
    regions.extend(shown.of(group).map(|line| tile(line, &shown.glances)));
    Ok(regions)
}

/// What to do first.
fn welcome(visitor: &Visitor, shown: &Shown) -> Region {
    let content = html! {
        @if shown.lines.is_empty() {
            section.narrow {
                h2 { "No machine is registered yet" }
                @if visitor.is_operator() { p.buttons { a.button.go href="/new-host" { "Add a host…" } } }
                p { "Or on the coordinator's box:" }
                pre { "vetting-coordinator host add rack1-u07 --mac 3c:ec:ef:12:34:56 --spec model.yaml\n"
                      "vetting-coordinator run start rack1-u07 --profile quick" }
            }
        }
    };
    Region::new("welcome", &content)
}

fn summary(shown: &Shown) -> Region {
    let counted = |group: Group| shown.lines.iter().filter(|line| Group::of(line) == group).count();
    let content = html! {
        ul.counts {
            li { a href="/" { strong { (shown.lines.len()) } " machines" } }
            @for (group, word, words) in Group::ALL {
                @let count = counted(group);
                @if count > 0 {
                    li { a href=(format!("/?show={word}")) { span.dot.(tone_of(group).class()) aria-hidden="true" {}
                        strong { (count) } " " (words) } }
                }
            }
            @if shown.waiting > 0 {
                li { strong { (shown.waiting) } " wait to be taken in (" code { "host pending" } ")" }
            }
        }
    };
    Region::new("summary", &content)
}

fn tone_of(group: Group) -> Tone {
    match group {
        Group::Active => Tone::Busy,
        Group::Held | Group::Failed => Tone::Bad,
        Group::Passed => Tone::Good,
        Group::Other => Tone::Warn,
        Group::Never => Tone::Quiet,
    }
}

fn attention(shown: &Shown) -> Region {
    let held: Vec<(&HostLine, &RunLine)> = shown
        .lines
        .iter()
        .filter(|line| Group::of(line) == Group::Held)
        .filter_map(|line| line.run.as_ref().map(|run| (line, run)))
        .collect();
    let content = html! {
        @if !held.is_empty() {
            section.attention {
                h2 { "Held for you" }
                ul {
                    @for (line, run) in held.iter().take(MOST_NAMED) {
                        li {
                            a href=(format!("/runs/{}", run.id)) { (line.name) }
                            " failed" @if let Some(stage) = &run.failed_stage { " in " (stage) }
                        }
                    }
                    @if held.len() > MOST_NAMED { li { "and " (held.len() - MOST_NAMED) " more" } }
                }
            }
        }
    };
    Region::new("attention", &content)
}

fn tile(line: &HostLine, glances: &HashMap<RunId, Glance>) -> Region {
    let id = format!("host-{}", line.id);
    let content = match &line.run {
        None => html! {
            li.tile.quiet id=(id) {
                a.name href=(format!("/hosts/{}", line.name)) { (line.name) }
                (badge(Tone::Quiet, "never vetted"))
            }
        },
        Some(run) => {
            let (tone, _) = standing(run.state, run.result);
            html! {
                li.tile.(tone.class()) id=(id) {
                    a.name href=(format!("/runs/{}", run.id)) { (line.name) }
                    (run_badge(run.state, run.result))
                    (tile_body(run, glances.get(&run.id)))
                }
            }
        }
    };
    Region { id, html: content.0, list: Some(TILES) }
}

fn tile_body(run: &RunLine, glance: Option<&Glance>) -> Markup {
    if run.state.is_terminal() {
        let ended = run.completed_at_ms.unwrap_or(run.started_at_ms);
        return html! {
            p.what {
                @match &run.failed_stage { Some(stage) => { "in " (stage) } None => { (run.profile) } }
            }
            p.when { (format::day(ended)) }
        };
    }
    let stage = run.stage.as_deref();
    let progress = stage.and_then(|stage| glance.and_then(|glance| glance.progress_of(stage)));
    let percent = progress.map(|progress| progress.percent.clamp(0.0, 100.0));
    html! {
        p.what {
            @match stage {
                Some(stage) => { (stage) " " span.muted { (run.stages_over + 1) "/" (run.stages) } }
                None => { (run.profile) }
            }
        }
        (bar(run.stages_over, run.stages, percent))
        p.when {
            @if let Some(left) = progress.and_then(|progress| progress.eta_ms) { (left_in_words(left)) " left " }
            @if let Some((key, celsius)) = glance.and_then(|glance| glance.hottest.as_ref()) {
                span.hot { (key) " " (format!("{celsius:.0}")) " °C" }
            }
        }
    }
}

/// How far a run is: its stages, and the part of the one under way.
pub(super) fn bar(over: u32, of: u32, percent: Option<f64>) -> Markup {
    let whole = f64::from(of.max(1)) * 100.0;
    let done = (f64::from(over) * 100.0 + percent.unwrap_or(0.0)).min(whole);
    html! { progress max=(format!("{whole:.0}")) value=(format!("{done:.0}")) aria-label="Progress of the run" {} }
}

/// `4 min`, `29 s`: coarse enough not to change at every look.
pub(super) fn left_in_words(eta_ms: u64) -> String {
    let seconds = eta_ms.div_ceil(1_000);
    if seconds < 120 {
        return format!("{seconds} s");
    }
    let minutes = i64::try_from(seconds.div_ceil(60)).unwrap_or(i64::MAX / 60_000);
    format::duration(minutes.saturating_mul(60_000))
}

#[cfg(test)]
mod tests {
    use super::left_in_words;

    #[test]
    fn time_that_is_left_is_never_told_as_less() {
        let cases = [
            (0, "0 s"),
            (1, "1 s"),
            (29_000, "29 s"),
            (119_001, "2 min"),
            (252_000, "5 min"),
            (5_400_000, "1 h 30 min"),
        ];
        for (ms, text) in cases {
            assert_eq!(left_in_words(ms), text);
        }
        assert!(!left_in_words(u64::MAX).is_empty());
    }
}
