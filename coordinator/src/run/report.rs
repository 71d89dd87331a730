//! The end of a run: gathers its facts, lets the judge judge, writes the report, stores the verdict.
//!
//! May be done again at any time while the run is in `Reporting`: it leaves the same files and rows.

use vetting_judge::report::Report;
use vetting_protocol::ids::RunId;
use vetting_protocol::run::{RunResult, RunState};

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
        let made = tokio::task::spawn_blocking(move || {
            let report = Report::new(facts);
            let json = report.to_json();
            let html = report.to_html();
            json.map(|json| (report.verdict, json, html))
        });
        let (verdict, json, html) =
            made.await?.map_err(|error| RunError::Corrupt { run, what: format!("the report: {error}") })?;
        let json = self.store_artifact(run, "report", "report.json", json.into_bytes()).await?;
        let html = self.store_artifact(run, "report_html", "report.html", html.into_bytes()).await?;
        let hold = self.settings.hold_failed;
        let may_hold = verdict.result == RunResult::Fail && ended_by.leaves_agent_alive();
        let key = if may_hold { Some(self.make_hold_key(run).await?) } else { None };
        let done = self
            .store
            .write(move |connection| {
                json.insert(connection, run)?;
                html.insert(connection, run)?;
                runs::set_report_path(connection, run, &json.path().to_string_lossy())?;
                let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
                runs::set_verdict(connection, run, verdict.result, &reasons)?;
                if let Some(stage) = &verdict.failed_stage {
                    runs::set_failed_stage(connection, run, stage)?;
                }
                let event = RunEvent::Judged { ended_by, result: verdict.result, hold };
                let why = format!("{}: {}", verdict.result, reasons.join(" "));
                let done = transition(connection, now_ms, run, event, &why, None)?;
                if let (Some(key), RunState::FailedHolding) = (&key, done.state) {
                    key.insert(connection, run)?;
                }
                Ok::<_, RunError>(done)
            })
            .await?;
        let held = done.state == RunState::FailedHolding;
        self.perform(done);
        if may_hold && !held {
            self.forget_hold_key(run).await?;
        }
        Ok(())
    }
}
