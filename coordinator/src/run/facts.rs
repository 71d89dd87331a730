//! Gathers all that is known of a run from its rows, for the judge.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use vetting_judge::facts::{
    AttemptFacts, CHARTED, DiffFacts, Ending, EventFacts, HostFacts, MOST_EVENTS, MOST_POINTS, RunFacts,
    RunHeader, Series, SeriesPoint, StageFacts, SubStepFacts,
};
use vetting_judge::profile::Profile;
use vetting_judge::step::SPEC_COMPARED;
use vetting_judge::waiver::{Waiver, Withdrawn};
use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::ids::{RunId, Sha256Hex, StageName};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::RunState;

use super::error::RunError;
use super::ingest::{FIRMWARE, INVENTORY, new_live};
use super::stages::read_summary;
use super::state::EndedBy;
use super::{figures, reopen, rules, views};
use crate::clock::seconds_text;
use crate::store::artifacts::ArtifactRow;
use crate::store::events::EventValues;
use crate::store::waivers::{self, WaiverRow, WithdrawnValues};
use crate::store::{
    Connection, StoreError, artifacts, attempts, diffs, events, hosts, measurements, plans, removals, runs,
    sessions, stages,
};

/// Everything of a run in `Reporting`, and what closed its pipeline; `None` once it has its verdict.
pub(super) fn gather(
    profile: impl FnOnce(ProfileName) -> Profile,
    connection: &Connection,
    run: RunId,
    now_ms: i64,
) -> Result<Option<(RunFacts, EndedBy)>, RunError> {
    if runs::get(connection, run)?.state != RunState::Reporting {
        return Ok(None);
    }
    gather_ended(profile, connection, run, now_ms).map(Some)
}

/// Everything of a run whose pipeline is closed, and what closed it. `ended_ms` stands for its end while none is stored.
pub(super) fn gather_ended(
    profile: impl FnOnce(ProfileName) -> Profile,
    connection: &Connection,
    run: RunId,
    ended_ms: i64,
) -> Result<(RunFacts, EndedBy), RunError> {
    let row = runs::get(connection, run)?;
    let corrupt = |what: String| RunError::Corrupt { run, what };
    let host = hosts::get(connection, row.host_id)?;
    let verdict = runs::verdict(connection, run)?.ok_or_else(|| corrupt("no ending is stored".to_owned()))?;
    let ending = match verdict.ending_data {
        Some(data) => {
            serde_json::from_value(data).map_err(|error| corrupt(format!("its ending: {error}")))?
        }
        None => default_ending(verdict.ending),
    };
    let profile = profile(row.profile);
    let mut live = new_live(connection, run)?;
    measurements::for_each(connection, run, |sample| {
        live.observe(&sample);
    })?;
    let events = events::of_run(connection, run, 0, MOST_EVENTS)?;
    let diffs = diffs::list(connection, run)?;
    let compared =
        !diffs.is_empty() || attempts::told_since(connection, run, StageName::SpecValidate, SPEC_COMPARED)?;
    let facts = RunFacts {
        host: HostFacts { id: Some(host.id), name: host.name, mac: Some(host.mac), notes: host.notes },
        run: RunHeader {
            id: Some(run),
            uuid: None,
            report_version: waivers::next_version(connection, run)?,
            profile: row.profile,
            own_profile: profile.own,
            profile_description: profile.description.clone(),
            sampling_interval_ms: profile.sampling_interval_ms,
            started_ms: row.started_at_ms,
            ended_ms: row.completed_at_ms.unwrap_or(ended_ms),
            consent: row.consent(),
            place: row.override_flags.place,
            judged_by: concat!("vetting-coordinator ", env!("CARGO_PKG_VERSION")).to_owned(),
        },
        ending,
        boot: views::boot(&sessions::timeline(connection, run)?),
        stages: stage_facts(connection, run)?,
        attempts: reopen::earlier_attempts(connection, run)?
            .into_iter()
            .map(|(row, summary)| AttemptFacts {
                stage: row.stage,
                attempt: row.attempt,
                outcome: summary.and_then(|summary| summary.outcome),
            })
            .collect(),
        parts_in_doubt: reopen::parts_in_doubt(connection, run)?,
        stage_changes: plans::changes(connection, run)?,
        diffs: compared.then(|| {
            diffs.into_iter().map(|row| DiffFacts { diff: row.diff, ignored: row.ignored }).collect()
        }),
        rules: rules::of_run(connection, run)?.into_iter().map(|(_, rule)| rule).collect(),
        evaluations: live.evaluations().cloned().collect(),
        sample_count: measurements::count(connection, run)?,
        inventory: latest_document::<Inventory>(connection, run, INVENTORY)?,
        firmware: latest_document::<FirmwareReport>(connection, run, FIRMWARE)?,
        series: series(connection, run)?,
        events: events.into_iter().map(|event| event_facts(event.values)).collect(),
        artifacts: artifacts::list(connection, run)?.into_iter().map(views::artifact).collect(),
        waivers: waivers::list(connection, run)?.into_iter().map(waiver).collect(),
        outliers: figures::outliers(connection, run)?,
        parts_before: figures::parts_before(connection, run)?,
    };
    Ok((facts, verdict.ending))
}

/// A row as the judge's waiver.
pub(super) fn waiver(row: WaiverRow) -> Waiver {
    let WaiverRow { values, withdrawn } = row;
    Waiver {
        id: values.number,
        finding: values.finding,
        found: values.found,
        reason: values.reason,
        by: values.operator,
        caller: values.caller,
        given_ms: values.given_at_ms,
        withdrawn: withdrawn.map(|WithdrawnValues { reason, operator, caller, at_ms }| Withdrawn {
            reason,
            by: operator,
            caller,
            at_ms,
        }),
    }
}

/// For an ending of which nothing more was stored than that it came.
fn default_ending(ended_by: EndedBy) -> Ending {
    match ended_by {
        EndedBy::PipelineFinished => Ending::Regular,
        EndedBy::NeverAppeared => {
            Ending::NeverAppeared { waited_ms: 0, last_seen: "nothing is known".to_owned() }
        }
        EndedBy::WentSilent => Ending::WentSilent { stage: None, silent_ms: 0, evidence: None },
        EndedBy::UnplannedReboot => Ending::UnplannedReboot { stage: None, evidence: None },
        EndedBy::AgentCrashed => Ending::AgentCrashed { how: "nothing is known".to_owned() },
        EndedBy::Aborted => Ending::Aborted { reason: "nothing is known".to_owned() },
    }
}

fn stage_facts(connection: &Connection, run: RunId) -> Result<Vec<StageFacts>, RunError> {
    let plan = plans::list(connection, run)?;
    let mut facts = Vec::new();
    for row in stages::list(connection, run)? {
        let summary = read_summary(run, row.name.as_str(), row.summary.as_ref())?;
        let mut sub_steps = Vec::new();
        for row in row.sub_steps {
            let summary = read_summary(run, &row.name, Some(&row.summary))?;
            sub_steps.push(SubStepFacts {
                name: row.name,
                started_ms: row.started_at_ms,
                ended_ms: row.completed_at_ms,
                outcome: summary.as_ref().and_then(|summary| summary.outcome.clone()),
                details: summary.map(|summary| summary.details).unwrap_or_default(),
            });
        }
        facts.push(StageFacts {
            name: row.name.to_string(),
            required: plans::requires(&plan, row.name),
            outcome: summary.as_ref().and_then(|summary| summary.outcome.clone()),
            reported: summary.as_ref().and_then(|summary| summary.reported.clone()),
            started_ms: row.started_at_ms,
            ended_ms: row.completed_at_ms,
            details: summary.map(|summary| summary.details).unwrap_or_default(),
            sub_steps,
        });
    }
    Ok(facts)
}

fn event_facts(event: EventValues) -> EventFacts {
    let EventValues { ts_ms, level, kind, message, .. } = event;
    EventFacts { ts_ms, level, kind, message }
}

fn series(connection: &Connection, run: RunId) -> Result<Vec<Series>, RunError> {
    let mut all = Vec::new();
    for kind in CHARTED {
        for line in measurements::series(connection, run, kind, MOST_POINTS)? {
            let points = line
                .points
                .into_iter()
                .map(|point| SeriesPoint { ts_ms: point.ts_ms, min: point.min, max: point.max })
                .collect();
            all.push(Series { kind: kind.to_owned(), key: line.key, unit: line.unit, points });
        }
    }
    Ok(all)
}

/// The newest document of a kind that an agent told, as `ingest` has filed it.
///
/// # Errors
/// There is a row, but not the file that goes with it; `Removed` where the janitor was there.
pub(crate) fn latest_document<T: DeserializeOwned>(
    connection: &Connection,
    run: RunId,
    kind: &str,
) -> Result<Option<T>, RunError> {
    let Some(row) = artifacts::latest(connection, run, kind)? else { return Ok(None) };
    if let Some(removed_ms) = removals::removed_at(connection, row.id)? {
        let removed_at = seconds_text(removed_ms).map_err(StoreError::from)?;
        return Err(RunError::Removed { run, kind: kind.to_owned(), removed_at });
    }
    document(run, kind, row).map(Some)
}

/// A document that an agent told, as `ingest` has filed it.
///
/// # Errors
/// The file is not there, or not the one that goes with the row.
pub(super) fn document<T: DeserializeOwned>(run: RunId, kind: &str, row: ArtifactRow) -> Result<T, RunError> {
    let path = PathBuf::from(row.values.path);
    let bytes = std::fs::read(&path).map_err(|source| RunError::Io { path, source })?;
    if Sha256Hex::of(&bytes) != row.values.sha256 {
        return Err(RunError::Corrupt { run, what: format!("its {kind} is not the file that was stored") });
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| RunError::Corrupt { run, what: format!("its {kind} cannot be read: {error}") })
}
