//! What an agent is told to do next: read from where its run stands.

use vetting_protocol::agent_api::{Acknowledgement, AfterRun, Directive};
use vetting_protocol::ids::RunId;
use vetting_protocol::run::{RunResult, RunState};

use super::driver::{Driver, Settings};
use super::error::RunError;
use super::stages::StepSummary;
use super::state::EndedBy;
use crate::store;

impl Driver {
    /// The answer to a batch or heartbeat, from what is durable.
    pub(super) async fn acknowledge(&self, run: RunId) -> Result<Acknowledgement, RunError> {
        let settings = self.settings.clone();
        self.store
            .read(move |connection| {
                let row = store::runs::get(connection, run)?.ok_or(RunError::NoRun { run })?;
                let session = store::sessions::get(connection, run)?.ok_or(RunError::TokenUnknown)?;
                let halted = match &row.failed_stage {
                    Some(name) => store::stages::of_run(connection, run)?
                        .into_iter()
                        .find(|stage| stage.name == *name)
                        .map(|stage| StepSummary::read(run, name, stage.summary_json.as_deref()))
                        .transpose()?
                        .flatten()
                        .map(|summary| format!("{name}: {}", summary.reason().unwrap_or("did not pass"))),
                    None => None,
                };
                let directive = directive(
                    &settings,
                    row.state,
                    row.result,
                    session.ended_by,
                    halted,
                    store::sessions::reasons(connection, run)?,
                );
                Ok::<_, RunError>(Acknowledgement {
                    acknowledged_sequence: session.acknowledged_sequence,
                    directive,
                })
            })
            .await
    }
}

fn directive(
    settings: &Settings,
    state: RunState,
    result: Option<RunResult>,
    ended_by: Option<EndedBy>,
    halted: Option<String>,
    reasons: Vec<String>,
) -> Directive {
    let aborted =
        || Directive::Abort { reason: "an operator aborted the run".to_owned(), then: settings.after_abort() };
    let finished = |then| Directive::Finished { result: result.unwrap_or(RunResult::Fail), reasons: reasons.clone(), then };
    match state {
        RunState::Queued
        | RunState::Waking
        | RunState::Booting
        | RunState::Running
        | RunState::Rebooting => match halted {
            Some(reason) => Directive::HaltPipeline { reason },
            None => Directive::Continue,
        },
        RunState::Reporting if ended_by == Some(EndedBy::Aborted) => aborted(),
        RunState::Reporting => Directive::AwaitVerdict,
        RunState::Completed => finished(match result {
            Some(RunResult::Pass) => settings.after_pass,
            Some(RunResult::Fail) | None => settings.after_fail,
        }),
        RunState::FailedHolding => finished(AfterRun::Stay),
        RunState::Released => finished(AfterRun::PowerOff),
        RunState::Aborted => aborted(),
    }
}
