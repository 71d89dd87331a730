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
