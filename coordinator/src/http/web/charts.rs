//! Charts of a run's measurements, drawn by the report's own code. Samples are reduced by the database, and what that gave
//! is kept a while: a run may have millions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use maud::{Markup, html};
use vetting_judge::facts::{Series, SeriesPoint};
use vetting_judge::report::chart::{Band, Chart};
use vetting_judge::threshold::Rule;
use vetting_protocol::ids::RunId;
use vetting_protocol::run::RunState;

use super::visitor::Visitor;
use crate::http::problem::ApiError;
use crate::run::error::RunError;
use crate::run::rules;
use crate::store::{measurements, runs, stages};

/// Kind of measurement, unit, heading, and how the sum of lines that are left out is called. Only kinds that come again
/// and again make a line.
const DRAWN: [(&str, &str, &str, &str); 8] = [
    ("temp", "celsius", "Temperatures (°C)", "cooler"),
    ("fan", "rpm", "Fans (rpm)", "slower"),
    ("power", "watts", "Power (W)", "smaller"),
    ("cpu_freq", "mhz", "CPU frequency (MHz)", "slower"),
    ("fio", "bytes_per_second", "Disk throughput (bytes/s)", "slower"),
    ("iperf", "bits_per_second", "Network throughput (bits/s)", "slower"),
    ("nic", "bits_per_second", "Network load (bits/s)", "slower"),
    ("memory", "bytes_per_second", "Memory throughput (bytes/s)", "slower"),
];
/// Points of a line, about.
const POINTS: u32 = 360;
/// Runs whose reduced samples are kept.
const MOST_KEPT: usize = 32;
/// How long those of a run under way are good, at least.
const LEAST_FRESH_MS: i64 = 5_000;
/// Reading them takes at most this part of the time.
const SHARE: i64 = 20;

/// What was drawn, and how long that is good.
#[derive(Clone)]
struct Kept {
    drawn: Arc<Drawn>,
    /// By the steady clock; absent for a run that is over.
    until_ms: Option<i64>,
    /// When the run's state last changed hands: a run that is taken up again is drawn anew.
    state: RunState,
}

/// The reduced samples of some runs.
#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<RunId, Kept>>);

/// What a chart is made of.
struct Drawn {
    series: Vec<Series>,
    rules: Vec<Rule>,
    bands: Vec<Band>,
}

impl Cache {
    fn fresh(&self, run: RunId, state: RunState, steady_ms: i64) -> Option<Arc<Drawn>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(&run)?;
        let is_fresh = found.state == state && found.until_ms.is_none_or(|until_ms| steady_ms < until_ms);
        is_fresh.then(|| Arc::clone(&found.drawn))
    }

    fn keep(&self, run: RunId, kept: Kept) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_KEPT
            && !all.contains_key(&run)
            && let Some(any) = all.keys().next().copied()
        {
            all.remove(&any);
        }
        all.insert(run, kept);
    }
}

/// The charts of a run.
pub(super) async fn charts(visitor: &Visitor, run: RunId, state: RunState) -> Result<Markup, ApiError> {
    let (cache, clock) = (&visitor.app.web.charts, &visitor.app.driver.clock);
    let begun_ms = clock.steady_ms();
    let drawn = match cache.fresh(run, state, begun_ms) {
        Some(drawn) => drawn,
        None => {
            let drawn = Arc::new(read(visitor, run).await?);
            let took_ms = clock.steady_ms() - begun_ms;
            let good_ms = LEAST_FRESH_MS.max(took_ms.saturating_mul(SHARE));
            let until_ms = (!state.is_terminal()).then(|| begun_ms.saturating_add(good_ms));
            cache.keep(run, Kept { drawn: Arc::clone(&drawn), until_ms, state });
            drawn
        }
    };
    Ok(draw(&drawn))
}

async fn read(visitor: &Visitor, run: RunId) -> Result<Drawn, ApiError> {
    let read = visitor.app.driver.store.read(move |connection| {
        let mut series = Vec::new();
        for (kind, unit, ..) in DRAWN {
            for line in measurements::reduced(connection, run, kind, POINTS)? {
                if line.unit == unit {
                    let point = |point: measurements::SeriesPoint| SeriesPoint {
                        ts_ms: point.ts_ms,
                        min: point.min,
                        max: point.max,
                    };
                    let points = line.points.into_iter().map(point).collect();
                    series.push(Series { kind: kind.to_owned(), key: line.key, unit: line.unit, points });
                }
            }
        }
        let now_ms = series.iter().flat_map(|line| &line.points).map(|point| point.ts_ms).max();
        let bands = stages::list(connection, run)?
            .into_iter()
            .filter_map(|stage| {
                Some(Band {
                    name: stage.name.to_string(),
                    from_ms: stage.started_at_ms?,
                    to_ms: stage.completed_at_ms.or(now_ms)?,
                })
            })
            .collect();
        runs::get(connection, run)?;
        let rules = rules::of_run(connection, run)?.into_iter().map(|(_, rule)| rule).collect();
        Ok::<_, RunError>(Drawn { series, rules, bands })
    });
    Ok(read.await?)
}

fn draw(drawn: &Drawn) -> Markup {
    html! {
        @for (kind, _, heading, less) in DRAWN {
            @let members: Vec<&Series> = drawn.series.iter().filter(|line| line.kind == kind && line.points.len() > 1).collect();
            @if !members.is_empty() {
                (Chart { heading, label: heading, less, members, rules: &drawn.rules, bands: &drawn.bands }.draw())
            }
        }
        @if drawn.series.is_empty() { p.empty { "Nothing was measured yet." } }
    }
}
