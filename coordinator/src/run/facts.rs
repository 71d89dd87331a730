//! Gathers all that is known of a run from its rows, for the judge.

use std::collections::BTreeMap;

use vetting_judge::facts::{
    DiffFacts, Ending, EventFacts, HostFacts, RunFacts, RunHeader, Series, StageFacts, SubStepFacts,
};
use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::run::RunState;

use super::driver::Driver;
use super::error::RunError;
use super::stages::StepSummary;
use super::state::EndedBy;
use crate::store::{self, Reader};

/// Kinds of measurement that the report draws.
const CHARTED: [&str; 4] = ["temp", "fan", "power", "cpu_freq"];
/// Points of one line of a chart.
const POINTS: usize = 400;

/// Everything of a run in `Reporting`, and what closed its pipeline; `None` once it has its verdict.
pub(super) fn gather(
    driver: &Driver,
    reader: &Reader<'_>,
    run: RunId,
    now_ms: i64,
) -> Result<Option<(RunFacts, EndedBy)>, RunError> {
    let row = store::runs::get(reader, run)?.ok_or(RunError::NoRun { run })?;
    if row.state != RunState::Reporting {
        return Ok(None);
    }
    let corrupt = |what: &str| RunError::Corrupt { run, what: what.to_owned() };
    let host = store::hosts::by_id(reader, row.host_id)?.ok_or_else(|| corrupt("its host is gone"))?;
    let (ended_by, ending) = store::sessions::ending(reader, run)?.ok_or_else(|| corrupt("no ending is stored"))?;
    let profile = driver.profiles.get(row.profile);
    let rules = store::thresholds::of_run(reader, run)?;
    let mut samples = Samples::default();
    let mut live = driver.new_live(run, rules.clone())?;
    store::measurements::for_each(reader, run, |sample| {
        live.observe(&sample);
        samples.add(&sample);
    })?;
    let facts = RunFacts {
        host: HostFacts { id: host.id, name: host.name, mac: host.mac, notes: host.notes },
        run: RunHeader {
            id: run,
            profile: row.profile,
            profile_description: profile.description.clone(),
            sampling_interval_ms: profile.sampling_interval_ms,
            started_ms: row.started_ms,
            ended_ms: now_ms,
            non_destructive: row.non_destructive,
            wipe: row.wipe,
            judged_by: concat!("vetting-coordinator ", env!("CARGO_PKG_VERSION")).to_owned(),
        },
        ending: ending.unwrap_or_else(|| default_ending(ended_by)),
        boot: store::sessions::boot_view(reader, run)?,
        stages: stages(reader, run, |name| profile.requires(name))?,
        diffs: store::diffs::compared(reader, run)?.then(|| diffs(reader, run)).transpose()?,
        rules: rules.into_iter().map(|(_, rule)| rule).collect(),
        evaluations: live.evaluations().cloned().collect(),
        sample_count: samples.count,
        inventory: inventory(driver, run)?,
        firmware: firmware(reader, run)?,
        series: samples.series(),
        events: store::events::of_run_oldest_first(reader, run)?
            .into_iter()
            .map(|event| EventFacts {
                ts_ms: event.ts_ms,
                level: event.level,
                kind: event.kind,
                message: event.message,
            })
            .collect(),
        artifacts: store::artifacts::of_run(reader, run)?,
    };
    Ok(Some((facts, ended_by)))
}

/// For an ending of which nothing more was stored than that it came.
fn default_ending(ended_by: EndedBy) -> Ending {
    match ended_by {
        EndedBy::PipelineFinished => Ending::Regular,
        EndedBy::NeverAppeared => Ending::NeverAppeared { waited_ms: 0, last_seen: "nothing is known".to_owned() },
        EndedBy::WentSilent => Ending::WentSilent { stage: None, silent_ms: 0 },
        EndedBy::UnplannedReboot => Ending::UnplannedReboot { stage: None, evidence: None },
        EndedBy::AgentCrashed => Ending::AgentCrashed { how: "nothing is known".to_owned() },
        EndedBy::Aborted => Ending::Aborted { reason: "nothing is known".to_owned() },
    }
}

fn stages(
    reader: &Reader<'_>,
    run: RunId,
    required: impl Fn(StageName) -> bool,
) -> Result<Vec<StageFacts>, RunError> {
    let mut facts = Vec::new();
    for row in store::stages::of_run(reader, run)? {
        let summary = StepSummary::read(run, &row.name, row.summary_json.as_deref())?;
        let mut sub_steps = Vec::new();
        for row in store::sub_steps::of_stage(reader, run, &row.name)? {
            let summary = StepSummary::read(run, &row.name, Some(&row.summary_json))?;
            sub_steps.push(SubStepFacts {
                name: row.name,
                started_ms: row.started_ms,
                ended_ms: row.completed_ms,
                outcome: summary.as_ref().and_then(|summary| summary.outcome.clone()),
                details: summary.map(|summary| summary.details).unwrap_or_default(),
            });
        }
        facts.push(StageFacts {
            // a stage nobody knows fails the run by itself
            required: row.name.parse().is_ok_and(&required),
            name: row.name,
            outcome: summary.as_ref().and_then(|summary| summary.outcome.clone()),
            started_ms: row.started_ms,
            ended_ms: row.completed_ms,
            details: summary.map(|summary| summary.details).unwrap_or_default(),
            sub_steps,
        });
    }
    Ok(facts)
}

fn diffs(reader: &Reader<'_>, run: RunId) -> Result<Vec<DiffFacts>, RunError> {
    let rows = store::diffs::of_run(reader, run)?;
    Ok(rows.into_iter().map(|row| DiffFacts { diff: row.diff, ignored: row.ignored }).collect())
}

fn inventory(driver: &Driver, run: RunId) -> Result<Option<Inventory>, RunError> {
    let path = driver.run_dir(run).join("inventory.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| RunError::Corrupt {
            run,
            what: format!("its inventory cannot be read: {error}"),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RunError::Io { path, source }),
    }
}

fn firmware(reader: &Reader<'_>, run: RunId) -> Result<Option<FirmwareReport>, RunError> {
    let versions = store::firmware::of_run(reader, run)?;
    Ok((!versions.is_empty()).then(|| FirmwareReport { versions, absent: Vec::new() }))
}

/// Samples on their way into charts.
#[derive(Default)]
struct Samples {
    count: u64,
    lines: BTreeMap<(String, String), (String, Vec<(i64, f64)>)>,
}

impl Samples {
    fn add(&mut self, sample: &vetting_protocol::measurement::Measurement) {
        self.count += 1;
        let Some(value) = sample.value else { return };
        if !CHARTED.contains(&sample.kind.as_str()) {
            return;
        }
        let key = (sample.kind.clone(), sample.key.clone());
        let (_, points) = self.lines.entry(key).or_insert_with(|| (sample.unit.clone(), Vec::new()));
        points.push((sample.ts_ms, value));
    }

    fn series(self) -> Vec<Series> {
        self.lines
            .into_iter()
            .map(|((kind, key), (unit, points))| Series::thin_out(&kind, &key, &unit, points, POINTS))
            .collect()
    }
}
