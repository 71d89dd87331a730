//! The end of a run: gathers its facts, lets the judge judge, writes the report, stores the verdict.
//!
//! May be done again at any time while the run is in `Reporting`: it leaves the same files and rows.

use vetting_judge::report::Report;
use vetting_protocol::ids::RunId;
use vetting_protocol::run::{RunResult, RunState};

use super::driver::{Driver, transition};
use super::error::RunError;
use super::facts;
use super::state::{EndedBy, RunEvent};
use crate::store;

impl Driver {
    /// Judges a run in `Reporting` and ends it.
    pub(super) async fn report(&self, run: RunId) -> Result<(), RunError> {
        let now_ms = self.clock.now_ms();
        let driver = self.clone();
        let gathered =
            self.store.read(move |connection| facts::gather(&driver, connection, run, now_ms)).await?;
        let Some((facts, ended_by)) = gathered else { return Ok(()) };
        let made = tokio::task::spawn_blocking(move || {
            let report = Report::new(facts);
            let json = report.to_json();
            let html = report.to_html();
            json.map(|json| (report.verdict, json, html))
        });
        let (verdict, json, html) = made
            .await?
            .map_err(|error| RunError::Corrupt { run, what: format!("the report: {error}") })?;
        let json = self.store_artifact(run, "report", "report.json", json.into_bytes()).await?;
        let html = self.store_artifact(run, "report_html", "report.html", html.into_bytes()).await?;
        let hold = self.settings.hold_failed;
        let done = self
            .store
            .write(move |tx| {
                json.insert(tx, run, now_ms)?;
                html.insert(tx, run, now_ms)?;
                store::runs::set_report(tx, run, json.path())?;
                let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
                store::sessions::set_reasons(tx, run, &reasons)?;
                if let Some(stage) = &verdict.failed_stage {
                    store::runs::set_failed_stage(tx, run, stage)?;
                }
                let event = RunEvent::Judged { ended_by, result: verdict.result, hold };
                let why = format!("{}: {}", verdict.result, reasons.join(" "));
                transition(tx, now_ms, run, event, &why, None)
            })
            .await?;
        self.perform(done);
        Ok(())
    }
}
