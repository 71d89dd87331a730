//! The end of a run: gathers its facts, lets the judge judge, writes the report, stores the verdict.
//!
//! May be done again at any time while the run is in `Reporting`: it leaves the same files and rows. A later report, after
//! a waiver, has files of its own beside them.

use vetting_judge::facts::RunFacts;
use vetting_judge::report::{Certificate, Report};
use vetting_judge::verdict::Verdict;
use vetting_protocol::agent_api::AfterRun;
use vetting_protocol::ids::RunId;
use vetting_protocol::run::{RunPlace, RunResult, RunState};

use super::driver::{Driver, transition};
use super::error::RunError;
use super::state::RunEvent;
use super::upload::Stored;
use super::{facts, figures};
use crate::signing::SigningKey;
use crate::store::waivers::{self, JudgementRow};
use crate::store::{Connection, StoreError, runs};

/// A report that is on the disk and waits for its rows.
pub(super) struct Made {
    pub verdict: Verdict,
    version: u32,
    json: Stored,
    /// The page, the signatures of both, the certificates.
    papers: Vec<Stored>,
}

impl Made {
    /// Writes the rows of files and verdict, but for the run's result.
    pub fn insert(&self, connection: &Connection, run: RunId, now_ms: i64) -> Result<(), RunError> {
        self.json.insert(connection, run)?;
        for paper in &self.papers {
            paper.insert(connection, run)?;
        }
        runs::set_report_path(connection, run, &self.json.path().to_string_lossy())?;
        runs::set_verdict(connection, run, self.verdict.result, &self.reasons())?;
        note_judgement(connection, run, self.version, &self.verdict, now_ms)
    }

    /// The reasons in sentences.
    pub fn reasons(&self) -> Vec<String> {
        self.verdict.reasons.iter().map(ToString::to_string).collect()
    }

    /// Counts the run's reports.
    pub fn version(&self) -> u32 {
        self.version
    }
}

/// Keeps a verdict beside those that the run had before.
pub(super) fn note_judgement(
    connection: &Connection,
    run: RunId,
    version: u32,
    verdict: &Verdict,
    now_ms: i64,
) -> Result<(), RunError> {
    let text = serde_json::to_value(verdict)
        .map_err(|error| RunError::Corrupt { run, what: format!("its verdict has no text: {error}") })?;
    let judgement = JudgementRow { version, result: verdict.result, verdict: text };
    Ok(waivers::insert_judgement(connection, run, &judgement, now_ms)?)
}

impl Driver {
    /// Judges a run in `Reporting` and ends it.
    pub(super) async fn report(&self, run: RunId) -> Result<(), RunError> {
        self.explain_crash(run).await?;
        let now_ms = self.clock.now_ms();
        let driver = self.clone();
        let gathered = self
            .store
            .read(move |connection| {
                facts::gather(|name| driver.profiles.get(name).clone(), connection, run, now_ms)
            })
            .await?;
        let Some((facts, ended_by)) = gathered else { return Ok(()) };
        let place = facts.run.place;
        let report = self.make_report(run, facts).await?;
        let chosen: Result<_, StoreError> = self
            .store
            .read(move |connection| Ok(runs::get(connection, run)?.override_flags.after_fail))
            .await;
        let wanted = chosen?.map_or(self.settings.hold_failed, |chosen| chosen == AfterRun::Stay);
        // an installed system goes on with its own work, whatever was found
        let hold = wanted && place == RunPlace::LiveImage;
        let may_hold = hold && report.verdict.result == RunResult::Fail && ended_by.leaves_agent_alive();
        let key = if may_hold { Some(self.make_hold_key(run).await?) } else { None };
        let done = self
            .store
            .write(move |connection| {
                report.insert(connection, run, now_ms)?;
                figures::keep(connection, run)?;
                let verdict = &report.verdict;
                if let Some(stage) = &verdict.failed_stage {
                    runs::set_failed_stage(connection, run, stage)?;
                }
                let event = RunEvent::Judged { ended_by, result: verdict.result, hold };
                let why = format!("{}: {}", verdict.result, report.reasons().join(" "));
                let done = transition(connection, now_ms, run, event, &why, None)?;
                if let (Some(key), RunState::FailedHolding) = (&key, done.state) {
                    key.insert(connection, run)?;
                }
                Ok::<_, RunError>(done)
            })
            .await?;
        let stays_up = done.state == RunState::FailedHolding;
        self.perform(done);
        if may_hold && !stays_up {
            self.forget_hold_key(run).await?;
        }
        Ok(())
    }

    /// Judges a run and writes the files of its report: `report.json`, `report-2.json`, ….
    pub(super) async fn make_report(&self, run: RunId, facts: RunFacts) -> Result<Made, RunError> {
        let version = facts.run.report_version;
        let signing_dir = self.settings.signing_dir.clone();
        let made = tokio::task::spawn_blocking(move || {
            let report = Report::new(facts);
            let json = report
                .to_json()
                .map_err(|error| RunError::Corrupt { run, what: format!("the report: {error}") })?;
            let html = report.to_html();
            let key = SigningKey::load_or_make(&signing_dir)?;
            let host = &report.facts.host.name;
            let comment = format!("run {run} of {host}, report {version}: {}", report.verdict.result);
            let signatures = [json.as_bytes(), html.as_bytes()].map(|file| key.sign(file, &comment));
            let certificates = report.certificates();
            Ok::<_, RunError>((report.verdict, json, html, signatures, certificates))
        });
        let (verdict, json, html, [of_json, of_html], certificates) = made.await??;
        let name = |ending: &str| match version {
            ..=1 => format!("report.{ending}"),
            version => format!("report-{version}.{ending}"),
        };
        let json = self.store_artifact(run, "report", name("json"), json.into_bytes()).await?;
        let mut files = vec![
            ("report_html", name("html"), html),
            ("report_signature", name("json.minisig"), of_json),
            ("report_html_signature", name("html.minisig"), of_html),
        ];
        files.extend(
            certificates
                .into_iter()
                .map(|Certificate { file_name, html }| ("wipe_certificate", file_name, html)),
        );
        let mut papers = Vec::new();
        for (kind, name, text) in files {
            papers.push(self.store_artifact(run, kind, name, text.into_bytes()).await?);
        }
        Ok(Made { verdict, version, json, papers })
    }
}
