//! Charts of measurements over the run, as inline SVG: lines with the stages behind and the limits drawn in. The report
//! draws one of each group of temperature sensors. Numbers only become coordinates; every text goes through maud.

use maud::{Markup, html};

use super::format;
use super::html::section;
use crate::facts::{RunFacts, Series};
use crate::quantity;
use crate::threshold::{Rule, RuleSeverity};

/// The style sheet that charts need, beside the names of colours that the page has.
pub const STYLE: &str = include_str!("chart.css");

/// As wide as a report.
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 280.0;
/// Room for the numbers of an axis.
const LEFT: f64 = 48.0;
/// The same for those that have their unit with them.
const LEFT_WITH_UNIT: f64 = 76.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 28.0;
/// Most lines in one chart; as many colours are in the style sheet.
const MOST_LINES: usize = 8;
/// Narrowest stage that gets its name written.
const NARROWEST_LABEL: f64 = 70.0;
const LABEL_HEIGHT: f64 = 15.0;

/// A piece of time that has a name: a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Band {
    /// What it is called.
    pub name: String,
    /// Ms since the epoch.
    pub from_ms: i64,
    /// Ms since the epoch.
    pub to_ms: i64,
}

/// A chart: quantities of one unit over time.
#[derive(Debug)]
pub struct Chart<'a> {
    /// Above it.
    pub heading: &'a str,
    /// What it shows, for those who do not see it.
    pub label: &'a str,
    /// Of the drawing, in its own units, of which a letter is 12 high.
    pub width: f64,
    /// What lines are that are left out since they peak lower than those drawn: `cooler`.
    pub less: &'a str,
    /// The lines.
    pub members: Vec<&'a Series>,
    /// Those that apply are drawn as limits.
    pub rules: &'a [Rule],
    /// The stages.
    pub bands: &'a [Band],
}

/// The charts of all temperatures.
pub(super) fn temperatures(facts: &RunFacts) -> Markup {
    let mut groups: Vec<(&str, Vec<&Series>)> = Vec::new();
    for series in facts.series.iter().filter(|series| series.kind == "temp" && !series.points.is_empty()) {
        let name = series.key.split('/').next().unwrap_or(&series.key);
        match groups.iter_mut().find(|(group, _)| *group == name) {
            Some((_, members)) => members.push(series),
            None => groups.push((name, vec![series])),
        }
    }
    let bands: Vec<Band> = facts
        .stages
        .iter()
        .filter_map(|stage| {
            Some(Band { name: stage.name.clone(), from_ms: stage.started_ms?, to_ms: stage.ended_ms? })
        })
        .collect();
    let body = html! {
        @if groups.is_empty() { p.empty { "This machine has no temperature sensor that was read." } }
        @for (name, members) in groups {
            (Chart {
                heading: name,
                label: &format!("{name} temperatures in °C"),
                width: WIDTH,
                less: "cooler",
                members,
                rules: &facts.rules,
                bands: &bands,
            }.draw())
        }
    };
    section(
        "temperatures",
        "Temperatures",
        "Highest value in each piece of time; the shade reaches down to the lowest.",
        &body,
    )
}

/// Where times and values lie on the drawing.
struct Axes {
    left: f64,
    right: f64,
    from_ms: i64,
    to_ms: i64,
    low: f64,
    high: f64,
    step: f64,
}

impl Axes {
    fn of(members: &[&Series], limits: &[Limit], width: f64) -> Self {
        let scaled = members.first().is_some_and(|series| quantity::is_scaled(&series.unit));
        let points = || members.iter().flat_map(|series| &series.points);
        let from_ms = points().map(|point| point.ts_ms).min().unwrap_or(0);
        let to_ms = points().map(|point| point.ts_ms).max().unwrap_or(0);
        let drawn = || limits.iter().map(|limit| limit.at);
        let low = points().map(|point| point.min).chain(drawn()).fold(f64::INFINITY, f64::min);
        let high = points().map(|point| point.max).chain(drawn()).fold(f64::NEG_INFINITY, f64::max);
        let step = nice_step((high - low).max(1.0) / 5.0);
        Self {
            left: if scaled { LEFT_WITH_UNIT } else { LEFT },
            right: width - RIGHT,
            from_ms,
            to_ms: to_ms.max(from_ms.saturating_add(1)),
            low: (low / step).floor() * step,
            high: ((high / step).floor() + 1.0) * step,
            step,
        }
    }

    fn x(&self, ts_ms: i64) -> f64 {
        let part = ts_ms.saturating_sub(self.from_ms) as f64 / self.to_ms.saturating_sub(self.from_ms) as f64;
        self.left + part.clamp(0.0, 1.0) * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        let part = (value - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (0_u32..=12)
            .map(|number| self.low + f64::from(number) * self.step)
            .take_while(|tick| *tick <= self.high + 1e-9)
    }
}

/// 1, 2 or 5 times a power of ten, not less than `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least)
        .unwrap_or(10.0 * power)
}

struct Limit {
    at: f64,
    severity: RuleSeverity,
    label: String,
}

fn limits(members: &[&Series], rules: &[Rule]) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    let applying = rules.iter().filter(|rule| {
        members.iter().any(|series| {
            rule.kind == series.kind && rule.unit == series.unit && rule.key.matches(&series.key)
        })
    });
    for rule in applying {
        let (low, high) = rule.limits();
        for at in [low, high].into_iter().flatten() {
            let of_all = members.iter().all(|series| rule.key.matches(&series.key));
            let whose = if of_all { String::new() } else { format!(" for {}", rule.key) };
            let label = format!("{} at {}{whose}", rule.severity, quantity::in_words(at, &rule.unit));
            if !limits.iter().any(|limit| limit.label == label) {
                limits.push(Limit { at, severity: rule.severity, label });
            }
        }
    }
    limits
}

fn peak(series: &Series) -> f64 {
    series.points.iter().map(|point| point.max).fold(f64::NEG_INFINITY, f64::max)
}

impl Chart<'_> {
    /// As a figure.
    pub fn draw(mut self) -> Markup {
        self.members.sort_by(|a, b| peak(b).total_cmp(&peak(a)));
        let left_out = self.members.len().saturating_sub(MOST_LINES);
        self.members.truncate(MOST_LINES);
        figure(&self, left_out)
    }
}

fn figure(chart: &Chart<'_>, left_out: usize) -> Markup {
    let members = &chart.members;
    let limits = limits(members, chart.rules);
    let axes = Axes::of(members, &limits, chart.width);
    let unit = members.first().map_or("", |series| series.unit.as_str());
    html! {
        figure {
            figcaption { h3 { (chart.heading) } }
            svg viewBox=(format!("0 0 {} {HEIGHT}", chart.width)) role="img" aria-label=(chart.label) {
                (bands(&axes, chart.bands))
                (grid(&axes, unit))
                @for (position, series) in members.iter().enumerate() { (line(position, series, &axes)) }
                @for (position, limit) in limits.iter().enumerate() {
                    (limit_line(limit, &axes, is_crowded(&limits[..position], limit, &axes)))
                }
            }
            ul.legend {
                @for (position, series) in members.iter().enumerate() {
                    li {
                        span.swatch.{ "s" (position) } aria-hidden="true" {}
                        (series.key) " " span.muted { (lowest_to_peak(series)) }
                    }
                }
                @if left_out > 0 { li.muted { (left_out) " " (chart.less) " ones are in report.json" } }
            }
        }
    }
}

fn lowest_to_peak(series: &Series) -> String {
    let lowest = series.points.iter().map(|point| point.min).fold(f64::INFINITY, f64::min);
    let lowest = if quantity::is_scaled(&series.unit) {
        quantity::in_words(lowest, &series.unit)
    } else {
        quantity::trimmed(lowest)
    };
    format!("{lowest} to {}", quantity::in_words(peak(series), &series.unit))
}

fn bands(axes: &Axes, bands: &[Band]) -> Markup {
    let timed = bands.iter().filter_map(|band| {
        let (from, to) = (axes.x(band.from_ms), axes.x(band.to_ms));
        (to > from).then_some((band.name.as_str(), from, to - from))
    });
    html! {
        @for (position, (name, x, width)) in timed.enumerate() {
            @if position % 2 == 0 {
                rect.band x=(coordinate(x)) y=(TOP) width=(coordinate(width)) height=(HEIGHT - TOP - BOTTOM) {}
            }
            @if width >= NARROWEST_LABEL { text.stage x=(coordinate(x + 5.0)) y=(TOP - 8.0) { (name) } }
        }
    }
}

fn grid(axes: &Axes, unit: &str) -> Markup {
    let label = |tick| {
        if quantity::is_scaled(unit) { quantity::in_words(tick, unit) } else { quantity::trimmed(tick) }
    };
    let whole = axes.to_ms.saturating_sub(axes.from_ms);
    let times = (0_i64..=4).map(|quarter| axes.from_ms.saturating_add(whole / 4 * quarter));
    html! {
        @for tick in axes.ticks() {
            line.grid x1=(axes.left) x2=(axes.right) y1=(coordinate(axes.y(tick))) y2=(coordinate(axes.y(tick))) {}
            text.axis x=(axes.left - 8.0) y=(coordinate(axes.y(tick) + 4.0)) text-anchor="end" { (label(tick)) }
        }
        @for (position, ts_ms) in times.enumerate() {
            @let anchor = match position { 0 => "start", 4 => "end", _ => "middle" };
            text.axis x=(coordinate(axes.x(ts_ms))) y=(HEIGHT - 8.0) text-anchor=(anchor) { (format::clock(ts_ms)) }
        }
    }
}

fn line(position: usize, series: &Series, axes: &Axes) -> Markup {
    let upper = series.points.iter().map(|point| place(axes, point.ts_ms, point.max));
    let lower = series.points.iter().rev().map(|point| place(axes, point.ts_ms, point.min));
    let outline: Vec<String> = upper.clone().chain(lower).collect();
    let upper: Vec<String> = upper.collect();
    html! {
        g.series.{ "s" (position) } {
            polygon points=(outline.join(" ")) {}
            polyline points=(upper.join(" ")) {}
            @if let [point] = series.points.as_slice() {
                circle cx=(coordinate(axes.x(point.ts_ms))) cy=(coordinate(axes.y(point.max))) r="3" {}
            }
        }
    }
}

/// Whether the label of an earlier limit is so near that this one needs another place.
fn is_crowded(earlier: &[Limit], limit: &Limit, axes: &Axes) -> bool {
    earlier.iter().any(|other| (axes.y(other.at) - axes.y(limit.at)).abs() < LABEL_HEIGHT)
}

fn limit_line(limit: &Limit, axes: &Axes, on_the_left: bool) -> Markup {
    let y = axes.y(limit.at);
    let class = match limit.severity {
        RuleSeverity::Critical => "limit bad",
        RuleSeverity::Warning => "limit warn",
    };
    html! {
        g class=(class) {
            line x1=(axes.left) x2=(axes.right) y1=(coordinate(y)) y2=(coordinate(y)) {}
            @if on_the_left {
                text x=(axes.left + 4.0) y=(coordinate(y - 5.0)) { (limit.label) }
            } @else {
                text x=(axes.right - 4.0) y=(coordinate(y - 5.0)) text-anchor="end" { (limit.label) }
            }
        }
    }
}

fn place(axes: &Axes, ts_ms: i64, value: f64) -> String {
    format!("{:.1},{:.1}", axes.x(ts_ms), axes.y(value))
}

fn coordinate(number: f64) -> String {
    format!("{number:.1}")
}
