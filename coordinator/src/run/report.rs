//! The end of a run: gathers its facts, lets the judge judge, writes the report, stores the verdict.
//!
//! May be done again at any time while the run is in `Reporting`: it leaves the same files and rows.

use vetting_judge::report::{Certificate, Report};
use vetting_protocol::ids::RunId;
use vetting_protocol::run::RunPlace;

use super::driver::{Driver, transition};
use super::error::RunError;
use super::facts;
use super::state::RunEvent;
use crate::store::runs;

impl Driver {
    /// Judges a run in `Reporting` and ends it.
    pub(super) async fn report(&self, run: RunId) -> Result<(), RunError> {
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
        let made = tokio::task::spawn_blocking(move || {
            let report = Report::new(facts);
            let json = report.to_json();
            let html = report.to_html();
            let certificates = report.certificates();
            json.map(|json| (report.verdict, json, html, certificates))
        });
        let (verdict, json, html, certificates) =
            made.await?.map_err(|error| RunError::Corrupt { run, what: format!("the report: {error}") })?;
        let json = self.store_artifact(run, "report", "report.json", json.into_bytes()).await?;
        let html = self.store_artifact(run, "report_html", "report.html", html.into_bytes()).await?;
        let mut papers = vec![html];
        for Certificate { file_name, html } in certificates {
            let kind = "wipe_certificate";
            papers.push(self.store_artifact(run, kind, file_name, html.into_bytes()).await?);
        }
        // an installed system goes on with its own work, whatever was found
        let hold = self.settings.hold_failed && place == RunPlace::LiveImage;
        let done = self
            .store
            .write(move |connection| {
                json.insert(connection, run)?;
                for paper in &papers {
                    paper.insert(connection, run)?;
                }
                runs::set_report_path(connection, run, &json.path().to_string_lossy())?;
                let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
                runs::set_verdict(connection, run, verdict.result, &reasons)?;
                if let Some(stage) = &verdict.failed_stage {
                    runs::set_failed_stage(connection, run, stage)?;
                }
                let event = RunEvent::Judged { ended_by, result: verdict.result, hold };
                let why = format!("{}: {}", verdict.result, reasons.join(" "));
                transition(connection, now_ms, run, event, &why, None)
            })
            .await?;
        self.perform(done);
        Ok(())
    }
}
