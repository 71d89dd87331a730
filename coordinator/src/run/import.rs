//! Takes a run that a machine went through without a coordinator into the database, in one transaction: the records go
//! the way that an agent's go, and the run is judged from its rows as every other is.

use std::path::Path;

use vetting_judge::facts::Ending;
use vetting_judge::report::Report;
use vetting_judge::rules::RuleSet;
use vetting_judge::step::BROKE_OFF;
use vetting_protocol::agent_api::{EventLevel, MAX_BATCH_RECORDS, Record};
use vetting_protocol::exchange::RunImportView;
use vetting_protocol::ids::{HostId, MacAddress, ParseIdError, RunId, Sha256Hex};
use vetting_protocol::results::artifact_of;
use vetting_protocol::run::{BootTarget, RunResult};

use super::driver::{of_run, transition};
use super::error::RunError;
use super::ingest::{FIRMWARE, INVENTORY};
use super::live::Live;
use super::orders::store_profile;
use super::records::Applier;
use super::report::note_judgement;
use super::state::{EndedBy, RunEvent};
use super::upload::{Stored, check_kind, check_name, write_artifact};
use super::{facts, figures, rules};
use crate::results_folder::ResultsFolder;
use crate::store::events::EventValues;
use crate::store::hosts::HostValues;
use crate::store::models::{self, RunSpec};
use crate::store::runs::{self, OverrideFlags, RunValues};
use crate::store::sessions::{self, TimelineEntry};
use crate::store::{Connection, Store, events, hosts, imports, stages};

/// Artifact kind of the files as the machine left them.
const ORIGINAL: &str = "offline_results";

/// What became of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its run.
    pub run: RunId,
    /// The machine.
    pub host: String,
    /// The verdict.
    pub result: RunResult,
    /// What was done.
    pub news: News,
}

impl Imported {
    /// As operators' tools are told.
    pub fn into_view(self, differences: Vec<String>) -> RunImportView {
        let Self { run, host, result, news } = self;
        let (new_run, new_host) = (news != News::Known, news == News::Host);
        RunImportView { run, host, result, new_run, new_host, differences }
    }
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The run was imported before; nothing was done.
    Known,
    /// The run is new, its machine is not.
    Run,
    /// The machine was registered with it.
    Host,
}

/// Imports a folder. `host` is the machine's name where it is not to be found by its addresses, or is to be another; `order`
/// is the line of the event log about who imports it, written with a run that is new.
///
/// # Errors
/// See [`RunError`]; then the database is as it was before. A run whose machine has an active one must wait for it.
pub async fn import(
    store: &Store,
    artifacts_dir: &Path,
    folder: ResultsFolder,
    host: Option<String>,
    order: Option<EventValues>,
    now_ms: i64,
) -> Result<Imported, RunError> {
    let artifacts_dir = artifacts_dir.to_owned();
    let job = move |connection: &Connection| {
        if let Some(run) = imports::find(connection, &folder.header.uuid)? {
            let row = runs::get(connection, run)?;
            let result = row.result.unwrap_or(RunResult::Fail);
            return Ok(Imported { run, host: row.host_name, result, news: News::Known });
        }
        let imported =
            Importer { connection, folder: &folder, now_ms }.import(&artifacts_dir, host.as_deref())?;
        if let Some(order) = order {
            events::insert(connection, &EventValues { run_id: Some(imported.run), ..order })?;
        }
        Ok(imported)
    };
    store.write(job).await
}

struct Importer<'a> {
    connection: &'a Connection,
    folder: &'a ResultsFolder,
    now_ms: i64,
}

impl Importer<'_> {
    fn import(&self, artifacts_dir: &Path, host: Option<&str>) -> Result<Imported, RunError> {
        let (host, is_new) = self.host(host)?;
        let run = self.create_run(host)?;
        let files = artifacts_dir.join(format!("run-{run}"));
        let result = self.fill(run, &files);
        if result.is_err() {
            // the number of the run is given to another when the transaction is taken back
            let _ = std::fs::remove_dir_all(&files);
        }
        let host = hosts::name_of(self.connection, host)?;
        Ok(Imported { run, host, result: result?, news: if is_new { News::Host } else { News::Run } })
    }

    fn fill(&self, run: RunId, files: &Path) -> Result<RunResult, RunError> {
        let ended_ms = self.folder.report.facts.run.ended_ms;
        self.archive(run, files)?;
        self.apply_records(run, files, ended_ms)?;
        let ending = &self.folder.report.facts.ending;
        let (event, why) = match ending {
            Ending::Regular => (RunEvent::PipelineFinished, "the agent finished its pipeline"),
            Ending::NeverAppeared { .. }
            | Ending::WentSilent { .. }
            | Ending::UnplannedReboot { .. }
            | Ending::AgentCrashed { .. }
            | Ending::Aborted { .. }
            | Ending::CoordinatorFault { .. } => (RunEvent::AgentCrashed, BROKE_OFF),
        };
        let _performed = transition(self.connection, ended_ms, run, event, why, Some(ending))?;
        self.judge(run, files, ended_ms)
    }

    /// The machine by its name or one of its addresses; registered if nobody knows it.
    fn host(&self, name: Option<&str>) -> Result<(HostId, bool), RunError> {
        let header = &self.folder.header;
        if let Some(name) = name
            && let Some(known) = hosts::by_name(self.connection, name)?
        {
            return Ok((known.id, false));
        }
        for mac in &header.macs {
            if let Some(known) = hosts::by_mac(self.connection, *mac)? {
                return Ok((known.id, false));
            }
        }
        let (mac, note) = if let Some(mac) = header.macs.first() {
            (*mac, String::new())
        } else {
            let machine = header.system_uuid.as_deref().unwrap_or(&header.machine_name);
            (made_up_mac(machine)?, NO_CARD.to_owned())
        };
        if header.macs.is_empty()
            && let Some(known) = hosts::by_mac(self.connection, mac)?
        {
            return Ok((known.id, false));
        }
        let name = name.unwrap_or(&header.machine_name);
        // it may come from the stick, and is printed and made file names of
        check_name(name)?;
        let values = HostValues {
            name: name.to_owned(),
            mac,
            wol_broadcast_ip: std::net::Ipv4Addr::BROADCAST,
            wol_port: 9,
            expected_spec_yaml: self.folder.spec.clone().unwrap_or_else(|| NO_SPEC.to_owned()),
            notes: note,
        };
        Ok((hosts::insert(self.connection, &values, self.now_ms)?, true))
    }

    fn create_run(&self, host: HostId) -> Result<RunId, RunError> {
        let ResultsFolder { header, profile, .. } = self.folder;
        let values = RunValues {
            host_id: host,
            profile: header.profile,
            non_destructive: false,
            override_flags: OverrideFlags { wipe: header.wipe, ..OverrideFlags::NONE },
            next_boot_target: BootTarget::Linux,
        };
        let run = runs::create(self.connection, &values, header.started_ms)?;
        let names: Vec<_> = profile.stages.iter().map(|stage| stage.work.name()).collect();
        store_profile(self.connection, run, profile)?;
        let spec = self.folder.spec.clone().unwrap_or_default();
        models::insert_run(self.connection, run, &RunSpec { model: None, expected_spec_yaml: spec })?;
        stages::seed(self.connection, run, &names)?;
        sessions::note(self.connection, run, TimelineEntry::Claimed(header.started_ms))?;
        sessions::note(self.connection, run, TimelineEntry::KernelToClaim(header.timeline.claim_ms))?;
        if let Some(init_ms) = header.timeline.init_ms {
            sessions::note(self.connection, run, TimelineEntry::KernelToInit(init_ms))?;
        }
        imports::insert(self.connection, &header.uuid, run, self.now_ms)?;
        let message = format!("imported: a run without a coordinator, {}", header.uuid);
        events::insert(
            self.connection,
            &of_run(run, self.now_ms, EventLevel::Info, "run_imported", message),
        )?;
        let why = "the machine worked without a coordinator";
        let _performed = transition(self.connection, header.started_ms, run, RunEvent::Imported, why, None)?;
        Ok(run)
    }

    /// Keeps the files as the machine left them.
    fn archive(&self, run: RunId, files: &Path) -> Result<(), RunError> {
        for (file, bytes) in &self.folder.files {
            let (kind, name) = match artifact_of(file) {
                Some((kind, name)) => {
                    check_kind(kind)?;
                    check_name(name)?;
                    (kind, name)
                }
                None => (ORIGINAL, file.as_str()),
            };
            write_artifact(&files.join(kind), kind, name, bytes)?.insert(self.connection, run)?;
        }
        Ok(())
    }

    fn apply_records(&self, run: RunId, files: &Path, now_ms: i64) -> Result<(), RunError> {
        let corrupt = |what: String| RunError::Corrupt { run, what };
        let set = RuleSet::compile(rules::of_run(self.connection, run)?)
            .map_err(|error| corrupt(error.to_string()))?;
        let mut live = Live::new(std::sync::Arc::new(set));
        for batch in self.folder.records.chunks(MAX_BATCH_RECORDS) {
            let mut applier = Applier::new(self.connection, &mut live, run, now_ms)?;
            for record in batch {
                if let Some(stored) = document(record, files)? {
                    stored.insert(self.connection, run)?;
                }
                applier.apply(record.clone())?;
            }
            applier.finish()?;
        }
        Ok(())
    }

    /// As `report` does for a run that the coordinator led.
    fn judge(&self, run: RunId, files: &Path, ended_ms: i64) -> Result<RunResult, RunError> {
        let profile = self.folder.profile.clone();
        let gathered = facts::gather(|_| profile, self.connection, run, ended_ms)?;
        let (mut facts, ended_by) =
            gathered.ok_or_else(|| RunError::Corrupt { run, what: "it is not being judged".to_owned() })?;
        figures::keep(self.connection, run)?;
        facts.run.uuid = Some(self.folder.header.uuid.clone());
        let report = Report::new(facts);
        let json = report
            .to_json()
            .map_err(|error| RunError::Corrupt { run, what: format!("the report: {error}") })?;
        let json = write_artifact(files, "report", "report.json", json.as_bytes())?;
        write_artifact(files, "report_html", "report.html", report.to_html().as_bytes())?
            .insert(self.connection, run)?;
        json.insert(self.connection, run)?;
        self.conclude(run, &report, json.path(), ended_by, ended_ms)?;
        Ok(report.verdict.result)
    }

    fn conclude(
        &self,
        run: RunId,
        report: &Report,
        path: &Path,
        ended_by: EndedBy,
        ended_ms: i64,
    ) -> Result<(), RunError> {
        let verdict = &report.verdict;
        runs::set_report_path(self.connection, run, &path.to_string_lossy())?;
        let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
        runs::set_verdict(self.connection, run, verdict.result, &reasons)?;
        note_judgement(self.connection, run, report.facts.run.report_version, verdict, ended_ms)?;
        if let Some(stage) = &verdict.failed_stage {
            runs::set_failed_stage(self.connection, run, stage)?;
        }
        let event = RunEvent::Judged { ended_by, result: verdict.result, hold: false };
        let why = format!("{}: {}", verdict.result, reasons.join(" "));
        let _performed = transition(self.connection, ended_ms, run, event, &why, None)?;
        Ok(())
    }
}

/// Note of a machine without a network card.
const NO_CARD: &str = "It has no network card; its MAC address is made up.";
/// Expected spec of a machine that nobody described: one that cannot be read, so that no later run passes by it.
const NO_SPEC: &str =
    "# nobody has said what this machine should be: vetting-coordinator host edit NAME --spec FILE\n";

/// A locally administered address that is always the same for the same machine.
fn made_up_mac(machine: &str) -> Result<MacAddress, RunError> {
    let digits = Sha256Hex::of(machine.as_bytes()).to_string();
    let address = format!("02{}", &digits[..10]).parse();
    address.map_err(|error: ParseIdError| RunError::Invalid { what: error.to_string() })
}

/// The file of an inventory or firmware report.
fn document(record: &Record, files: &Path) -> Result<Option<Stored>, RunError> {
    let (kind, text) = match record {
        Record::Inventory(inventory) => (INVENTORY, serde_json::to_vec_pretty(inventory)),
        Record::Firmware(report) => (FIRMWARE, serde_json::to_vec_pretty(report)),
        Record::Measurement(_)
        | Record::HardwareLimits { .. }
        | Record::StageStarted { .. }
        | Record::SubStepStarted { .. }
        | Record::Progress { .. }
        | Record::SubStepFinished { .. }
        | Record::SpecDiffs { .. }
        | Record::StageFinished { .. }
        | Record::TurnAwaited { .. }
        | Record::RebootPlanned { .. }
        | Record::PipelineFinished { .. }
        | Record::Event { .. } => return Ok(None),
    };
    let text =
        text.map_err(|error| RunError::Invalid { what: format!("the {kind} has no text: {error}") })?;
    write_artifact(files, kind, &format!("{kind}-{}.json", Sha256Hex::of(&text)), &text).map(Some)
}

#[cfg(test)]
pub(crate) mod tests;
