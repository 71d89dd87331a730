//! What an agent is told to do next: read from where its run stands.

use std::sync::PoisonError;

use vetting_judge::step::halt_words;
use vetting_protocol::agent_api::{Acknowledgement, AfterRun, Directive, HoldOrder};
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::run::{RunResult, RunState};

use super::driver::{Driver, Settings};
use super::error::RunError;
use super::stages::{read_summary, running_stage};
use super::state::EndedBy;
use crate::store::holds::{self, HoldRow};
use crate::store::runs::{self, RunRow, VerdictRow};
use crate::store::{sessions, stages};

impl Driver {
    /// The answer to a batch or heartbeat, from what is durable.
    pub(super) async fn acknowledge(&self, run: RunId) -> Result<Acknowledgement, RunError> {
        let waits = self.await_turn(run).await?;
        let settings = self.settings.clone();
        let live = self.memory().live.get(&run).cloned();
        self.store
            .read(move |connection| {
                let row = runs::get(connection, run)?;
                let ended = live.map(|live| live.lock().unwrap_or_else(PoisonError::into_inner).ended());
                let ends = match ended {
                    Some(ended) if !ended.is_empty() => {
                        let running = running_stage(connection, run)?;
                        ended.into_iter().find(|(stage, _)| running == Some(*stage))
                    }
                    Some(_) | None => None,
                };
                let instead = ends.map(|(stage, reason)| Directive::EndStage { stage, reason }).or(waits);
                let session = sessions::latest_claimed(connection, run)?.ok_or(RunError::TokenUnknown)?;
                let verdict = runs::verdict(connection, run)?;
                let hold = holds::get(connection, run)?;
                let halted = match row.failed_stage.as_deref().map(str::parse::<StageName>) {
                    Some(Ok(name)) => {
                        let stage = stages::by_name(connection, run, name)?;
                        let summary = read_summary(run, name.as_str(), stage.summary.as_ref())?;
                        Some(halt_words(name, summary.as_ref()))
                    }
                    Some(Err(_)) | None => None,
                };
                Ok::<_, RunError>(Acknowledgement {
                    acknowledged_sequence: session.last_sequence,
                    directive: directive(&settings, &row, verdict.as_ref(), hold.as_ref(), halted, instead),
                })
            })
            .await
    }
}

fn directive(
    settings: &Settings,
    row: &RunRow,
    verdict: Option<&VerdictRow>,
    hold: Option<&HoldRow>,
    halted: Option<String>,
    instead: Option<Directive>,
) -> Directive {
    let after_pass = row.override_flags.after_pass.unwrap_or(settings.after_pass);
    let after_fail = row.override_flags.after_fail.filter(|then| *then != AfterRun::Stay);
    let after_fail = after_fail.unwrap_or(settings.after_fail);
    let aborted = || Directive::Abort { reason: "an operator aborted the run".to_owned(), then: after_fail };
    let finished = |then, hold| Directive::Finished {
        result: row.result.unwrap_or(RunResult::Fail),
        reasons: verdict.map(|verdict| verdict.reasons.clone()).unwrap_or_default(),
        then,
        hold,
    };
    match row.state {
        RunState::Queued | RunState::Waking | RunState::Booting | RunState::Running | RunState::Rebooting => {
            match halted {
                Some(reason) => Directive::HaltPipeline { reason },
                None => instead.unwrap_or(Directive::Continue),
            }
        }
        RunState::Reporting if verdict.is_some_and(|verdict| verdict.ending == EndedBy::Aborted) => aborted(),
        RunState::Reporting => Directive::AwaitVerdict,
        RunState::Completed => {
            let then = match row.result {
                Some(RunResult::Pass) => after_pass,
                Some(RunResult::Fail) | None => after_fail,
            };
            finished(then, None)
        }
        RunState::FailedHolding => {
            let order = hold.map(|hold| HoldOrder { authorized_key: hold.public_key.clone() });
            finished(AfterRun::Stay, order)
        }
        RunState::Released => {
            finished(hold.and_then(|hold| hold.release_to).unwrap_or(AfterRun::PowerOff), None)
        }
        RunState::Aborted => aborted(),
    }
}
