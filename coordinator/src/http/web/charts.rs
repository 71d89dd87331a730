//! Charts of a run's measurements, drawn by the report's own code. A run may have millions of samples: what they were
//! reduced to is kept a while, and only what came since is read; a page does not wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use maud::{Markup, html};
use vetting_judge::facts::{Series, SeriesPoint};
use vetting_judge::report::chart::{Band, Chart};
use vetting_judge::threshold::Rule;
use vetting_protocol::ids::RunId;
use vetting_protocol::run::RunState;

use super::layout::scroll;
use super::visitor::Visitor;
use crate::http::problem::ApiError;
use crate::run::driver::Driver;
use crate::run::error::RunError;
use crate::run::rules;
use crate::store::reduced::Reduced;
use crate::store::{Connection, measurements, stages};

/// Kind of measurement, unit, heading, and how the sum of lines that are left out is called. Only kinds that come again
/// and again make a line.
const DRAWN: [(&str, &str, &str, &str); 8] = [
    ("temp", "celsius", "Temperatures (°C)", "cooler"),
    ("fan", "rpm", "Fans (rpm)", "slower"),
    ("power", "watts", "Power (W)", "smaller"),
    ("cpu_freq", "mhz", "CPU frequency (MHz)", "slower"),
    ("fio", "bytes_per_second", "Disk throughput", "slower"),
    ("iperf", "bits_per_second", "Network throughput", "slower"),
    ("nic", "bits_per_second", "Network load", "slower"),
    ("memory", "bytes_per_second", "Memory throughput", "slower"),
];
/// Two beside each other on a desk, and letters that can be read on a phone.
const WIDTH: f64 = 620.0;
/// Points of a line, about.
const POINTS: u32 = 360;
/// Runs of which reduced samples are kept.
const MOST_KEPT: usize = 8;
/// How long those of a run under way are good, at least, ms.
const LEAST_FRESH_MS: i64 = 5_000;
/// Reading takes at most this part of the time.
const SHARE: i64 = 20;
/// How long a page waits for charts that were never drawn: it is shown without them, and they are sent later.
pub(super) const PAGE_PATIENCE: Duration = Duration::from_millis(100);
/// How long those wait who have nothing else to show.
pub(super) const LIVE_PATIENCE: Duration = Duration::from_mins(1);

/// The reduced samples of some runs.
#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<RunId, Arc<Kept>>>);

/// What is known of one run.
struct Kept {
    /// Who reads holds it.
    reading: tokio::sync::Mutex<Vec<Reduced>>,
    drawn: Mutex<Option<Arc<Drawn>>>,
}

/// What charts are made of.
struct Drawn {
    series: Vec<Series>,
    rules: Vec<Rule>,
    bands: Vec<Band>,
    /// A run that goes on after its verdict is drawn anew.
    state: RunState,
    /// By the steady clock, ms; absent for a run that is over.
    good_until_ms: Option<i64>,
}

impl Cache {
    fn of(&self, run: RunId) -> Arc<Kept> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_KEPT
            && !all.contains_key(&run)
            && let Some(any) = all.keys().next().copied()
        {
            all.remove(&any);
        }
        let nothing = || Kept { reading: tokio::sync::Mutex::new(Vec::new()), drawn: Mutex::new(None) };
        Arc::clone(all.entry(run).or_insert_with(|| Arc::new(nothing())))
    }
}

impl Kept {
    fn last(&self) -> Option<Arc<Drawn>> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fresh(&self, state: RunState, steady_ms: i64) -> Option<Arc<Drawn>> {
        self.last().filter(|drawn| {
            drawn.state == state && drawn.good_until_ms.is_none_or(|until_ms| steady_ms < until_ms)
        })
    }

    /// Reads what came since, unless somebody else just did.
    async fn refresh(&self, driver: &Driver, run: RunId, state: RunState) -> Result<(), RunError> {
        let mut reading = self.reading.lock().await;
        let begun_ms = driver.clock.steady_ms();
        if self.fresh(state, begun_ms).is_some() {
            return Ok(());
        }
        let mut before = std::mem::take(&mut *reading);
        before.resize_with(DRAWN.len(), Reduced::default);
        let (before, mut drawn) =
            driver.store.read(move |connection| read(connection, run, state, before)).await?;
        *reading = before;
        let took_ms = driver.clock.steady_ms() - begun_ms;
        let good_ms = LEAST_FRESH_MS.max(took_ms.saturating_mul(SHARE));
        drawn.good_until_ms = (!state.is_terminal()).then(|| begun_ms.saturating_add(good_ms));
        *self.drawn.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(drawn));
        Ok(())
    }
}

/// The charts of a run; where they take longer than `patience`, those from before.
pub(super) async fn charts(
    visitor: &Visitor,
    run: RunId,
    state: RunState,
    patience: Duration,
) -> Result<Markup, ApiError> {
    let driver = visitor.app.driver.clone();
    let kept = visitor.app.web.charts.of(run);
    if let Some(drawn) = kept.fresh(state, driver.clock.steady_ms()) {
        return Ok(draw(&drawn));
    }
    // read to the end, whether or not somebody still waits
    let reading = Arc::clone(&kept);
    let task = tokio::spawn(async move { reading.refresh(&driver, run, state).await });
    if let Ok(read) = tokio::time::timeout(patience, task).await {
        read.map_err(RunError::from)??;
    }
    Ok(match kept.last() {
        Some(drawn) => draw(&drawn),
        None => {
            html! { p.empty { "The charts are being drawn. They appear here, or when the page is loaded anew." } }
        }
    })
}

fn read(
    connection: &Connection,
    run: RunId,
    state: RunState,
    mut before: Vec<Reduced>,
) -> Result<(Vec<Reduced>, Drawn), RunError> {
    let mut series = Vec::new();
    for ((kind, unit, ..), reduced) in DRAWN.iter().zip(&mut before) {
        reduced.read(connection, run, kind, POINTS)?;
        for line in reduced.series().into_iter().filter(|line| line.unit == *unit) {
            let point = |point: measurements::SeriesPoint| SeriesPoint {
                ts_ms: point.ts_ms,
                min: point.min,
                max: point.max,
            };
            let points = line.points.into_iter().map(point).collect();
            series.push(Series { kind: (*kind).to_owned(), key: line.key, unit: line.unit, points });
        }
    }
    let newest_ms = series.iter().flat_map(|line| &line.points).map(|point| point.ts_ms).max();
    let bands = stages::list(connection, run)?
        .into_iter()
        .filter_map(|stage| {
            let to_ms = stage.completed_at_ms.or(newest_ms)?;
            Some(Band { name: stage.name.to_string(), from_ms: stage.started_at_ms?, to_ms })
        })
        .collect();
    let rules = rules::of_run(connection, run)?.into_iter().map(|(_, rule)| rule).collect();
    Ok((before, Drawn { series, rules, bands, state, good_until_ms: None }))
}

fn draw(drawn: &Drawn) -> Markup {
    html! {
        @for (kind, _, heading, less) in DRAWN {
            @let members: Vec<&Series> = drawn.series.iter().filter(|line| line.kind == kind && line.points.len() > 1).collect();
            @if !members.is_empty() {
                @let chart = Chart { heading, label: heading, width: WIDTH, less, members, rules: &drawn.rules, bands: &drawn.bands };
                div.chart { (scroll(heading, &chart.draw())) }
            }
        }
        @if drawn.series.is_empty() { p.empty { "Nothing was measured yet." } }
    }
}
