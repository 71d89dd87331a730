//! `run watch`: a run until it has its result, as a live view on a terminal and else a line for each change; `run wait`:
//! the same without a word. Both end with an exit code that tells the result, and outlive a restart of the coordinator.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;
use vetting_judge::duration::HumanDuration;
use vetting_judge::verdict::Cause;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{RunDetail, StageView, VerdictView};
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::{RunResult, RunState};

use super::client::{Client, ClientError};
use super::live_view::LiveView;
use super::{CommandError, output};
use crate::error_chain;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a coordinator may be away before the watch is given up.
const AWAY_LIMIT: Duration = Duration::from_mins(5);
/// Exit code when the run has no verdict on its machine: it broke off, or nobody reads the output any more.
const UNKNOWN: u8 = 2;

/// How to reach the coordinator: asked again after a restart, which may have moved it to another port.
pub(super) type Connect<'a> = &'a dyn Fn() -> Result<Client, CommandError>;

/// What one look found.
enum Seen<'a> {
    /// The run.
    Run(&'a RunDetail),
    /// No coordinator; what to say of it, once.
    Away(&'a str),
    /// There it is again.
    Back,
}

/// Follows a run; with `json` each look is one object a line.
pub(super) async fn follow(connect: Connect<'_>, id: RunId, json: bool) -> Result<ExitCode, CommandError> {
    let ended = match LiveView::on_terminal().filter(|_| !json) {
        Some(view) => follow_live(connect, id, view).await,
        None => follow_lines(connect, id, json).await,
    };
    let ended = match ended {
        Ok(run) => {
            let told = if json {
                Ok(())
            } else {
                run.reasons.iter().try_for_each(|reason| output::line(&format!("  {reason}")))
            };
            match told {
                Ok(()) => exit_code(connect, &run).await,
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error),
    };
    unread_is_unknown(ended)
}

async fn follow_lines(connect: Connect<'_>, id: RunId, json: bool) -> Result<RunDetail, CommandError> {
    let mut shown = String::new();
    look_until_the_end(connect, id, |seen| {
        let run = match seen {
            Seen::Run(run) => run,
            aside => {
                say_aside(&aside);
                return Ok(());
            }
        };
        let text =
            if json { serde_json::to_string(run).map_err(std::io::Error::other)? } else { position(run) };
        if text != shown {
            output::line(&text)?;
            shown = text;
        }
        Ok(())
    })
    .await
}

async fn follow_live(connect: Connect<'_>, id: RunId, mut view: LiveView) -> Result<RunDetail, CommandError> {
    let mut last: Option<RunDetail> = None;
    look_until_the_end(connect, id, |seen| {
        match (seen, &last) {
            (Seen::Run(run), _) => {
                view.draw(run, &position(run), None)?;
                last = Some(run.clone());
            }
            (Seen::Away(why), Some(run)) => view.draw(run, &position(run), Some(why))?,
            (aside @ Seen::Away(_), None) => say_aside(&aside),
            // the run follows at once
            (Seen::Back, _) => {}
        }
        Ok(())
    })
    .await
}

/// Waits for the end of a run, at most so long; tells it with `json`.
pub(super) async fn wait(
    connect: Connect<'_>,
    id: RunId,
    limit: Option<HumanDuration>,
    json: bool,
) -> Result<ExitCode, CommandError> {
    let ended = look_until_the_end(connect, id, |seen| {
        say_aside(&seen);
        Ok(())
    });
    let run = match limit {
        None => ended.await?,
        Some(limit) => tokio::time::timeout(Duration::from_millis(limit.as_ms()), ended)
            .await
            .map_err(|_| CommandError::NotOver { run: id, ms: limit.as_ms() })??,
    };
    let told = if json { output::json(&run.summary) } else { Ok(()) };
    unread_is_unknown(match told {
        Ok(()) => exit_code(connect, &run).await,
        Err(error) => Err(error.into()),
    })
}

/// What is no news of the run, on standard error.
fn say_aside(seen: &Seen<'_>) {
    match seen {
        Seen::Run(_) => {}
        Seen::Away(why) => eprintln!("{why}"),
        Seen::Back => eprintln!("the coordinator answers again"),
    }
}

/// 0: passed. 1: failed. 2: the run broke off, so that nobody knows, and standard error tells why.
async fn exit_code(connect: Connect<'_>, run: &RunDetail) -> Result<ExitCode, CommandError> {
    let summary = &run.summary;
    if summary.result == Some(RunResult::Pass) {
        return Ok(ExitCode::SUCCESS);
    }
    let verdict: VerdictView = connect()?.get(&["runs", &summary.id.to_string(), "verdict"], &[]).await?;
    Ok(match broke_off(&verdict) {
        None => ExitCode::FAILURE,
        Some(why) => {
            eprintln!("run {} of {} broke off: {why}", summary.id, summary.host);
            ExitCode::from(UNKNOWN)
        }
    })
}

/// Why a run that did not pass came to no regular end, if so.
fn broke_off(verdict: &VerdictView) -> Option<String> {
    let ending = verdict.reasons.iter().find(|reason| reason.cause == Cause::Ending.as_str());
    match (ending, verdict.summary.result, verdict.summary.state) {
        (Some(ending), _, _) => Some(ending.text.clone()),
        (None, None, state) => Some(format!("it is {state} and has no result")),
        (None, Some(_), RunState::Aborted) => Some("it was aborted before anything was tested".to_owned()),
        (None, Some(_), _) => None,
    }
}

fn unread_is_unknown(ended: Result<ExitCode, CommandError>) -> Result<ExitCode, CommandError> {
    match ended {
        Err(error) if error.is_closed_output() => Ok(ExitCode::from(UNKNOWN)),
        ended => ended,
    }
}

/// Gives each look to `show`, and the last one to the caller.
async fn look_until_the_end(
    connect: Connect<'_>,
    id: RunId,
    mut show: impl FnMut(Seen<'_>) -> Result<(), CommandError>,
) -> Result<RunDetail, CommandError> {
    let mut client = connect()?;
    let mut away = Away::default();
    loop {
        let run: RunDetail = match client.get(&["runs", &id.to_string()], &[]).await {
            Ok(run) => run,
            Err(error) => {
                if let Some(line) = away.bear(error, Instant::now())? {
                    show(Seen::Away(&line))?;
                }
                tokio::time::sleep(PAUSE).await;
                // a file that is being written anew will be there at the next look
                if let Ok(fresh) = connect() {
                    client = fresh;
                }
                continue;
            }
        };
        if away.is_over() {
            show(Seen::Back)?;
        }
        show(Seen::Run(&run))?;
        if run.summary.state.is_terminal() {
            return Ok(run);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A coordinator that does not answer.
#[derive(Debug, Default)]
pub(super) struct Away {
    since: Option<Instant>,
}

impl Away {
    /// Takes a failed look: what to say of it the first time, or the error once it has lasted too long or is none
    /// that passes.
    pub fn bear(&mut self, error: ClientError, now: Instant) -> Result<Option<String>, ClientError> {
        if !error.is_temporary() {
            return Err(error);
        }
        let Some(since) = self.since else {
            self.since = Some(now);
            let minutes = AWAY_LIMIT.as_secs() / 60;
            return Ok(Some(format!("{}; trying again for {minutes} minutes", error_chain(&error))));
        };
        if now.duration_since(since) > AWAY_LIMIT { Err(error) } else { Ok(None) }
    }

    /// Whether it was away until now; from now on it is not.
    pub fn is_over(&mut self) -> bool {
        self.since.take().is_some()
    }
}

/// `run 3 of rack1-u07: stage 5/6 CPUStress 40 %, 70 s left; memory pass`.
fn position(run: &RunDetail) -> String {
    let head = format!("run {} of {}", run.summary.id, run.summary.host);
    let running = run.stages.iter().enumerate().find(|(_, stage)| stage.state == StepState::Running);
    if let Some((index, stage)) = running {
        let percent = stage.percent.map(|percent| format!(" {percent:.0} %")).unwrap_or_default();
        let left = stage.eta_ms.map(|eta| format!(", {} s left", eta.div_ceil(1_000))).unwrap_or_default();
        let (number, of, name) = (index + 1, run.stages.len(), &stage.name);
        return format!("{head}: stage {number}/{of} {name}{percent}{left}{}", sub_steps(stage));
    }
    if let Some(turn) = &run.summary.turn {
        // without the time: each look would be another line
        return format!("{head}: waits for its turn in {}, place {} of {}", turn.stage, turn.place, turn.of);
    }
    let result = run.summary.result.map(|result| format!(", {result}")).unwrap_or_default();
    format!("{head}: {}{result}", run.summary.state)
}

/// What a stage is at, and what of it is over.
fn sub_steps(stage: &StageView) -> String {
    let of = stage.sub_steps.len();
    let running: Vec<_> = stage
        .sub_steps
        .iter()
        .filter(|sub_step| sub_step.state == StepState::Running)
        .map(|sub_step| sub_step.name.as_str())
        .collect();
    if running.is_empty() {
        return String::new();
    }
    let over = stage.sub_steps.iter().filter(|sub_step| sub_step.state.is_finished()).count();
    let over = if over == 0 { String::new() } else { format!(" ({over} of {of} so far done)") };
    format!("; {}{over}", running.join(", "))
}

#[cfg(test)]
mod tests {
    use vetting_protocol::operator_api::SubStepView;
    use vetting_protocol::problem::Problem;

    use super::*;

    fn refused(status: u16) -> ClientError {
        let text = String::new;
        let problem = Problem { kind: text(), title: text(), status, detail: text() };
        ClientError::Refused { problem: Box::new(problem) }
    }

    #[tokio::test]
    async fn a_restart_is_borne_and_told_once_but_not_for_ever() {
        let (mut away, start) = (Away::default(), Instant::now());
        assert!(away.bear(refused(503), start).unwrap().is_some());
        assert!(away.bear(refused(503), start + AWAY_LIMIT).unwrap().is_none());
        assert!(away.is_over() && !away.is_over());
        assert!(away.bear(refused(503), start + AWAY_LIMIT).unwrap().is_some());
        away.bear(refused(503), start + AWAY_LIMIT * 2 + PAUSE).unwrap_err();
        Away::default().bear(refused(404), start).unwrap_err();
    }

    #[test]
    fn running_sub_steps_are_named() {
        let sub_step = |name: &str, state| SubStepView {
            name: name.to_owned(),
            state,
            started_at: None,
            completed_at: None,
            reason: None,
            summary: serde_json::Value::Null,
        };
        let mut stage = StageView {
            name: "Storage".to_owned(),
            state: StepState::Running,
            started_at: None,
            completed_at: None,
            percent: None,
            eta_ms: None,
            reason: None,
            summary: serde_json::Value::Null,
            sub_steps: Vec::new(),
        };
        assert_eq!(sub_steps(&stage), "");
        stage.sub_steps = vec![
            sub_step("sda fio", StepState::Passed),
            sub_step("sdb fio", StepState::Running),
            sub_step("sdc fio", StepState::Running),
        ];
        assert_eq!(sub_steps(&stage), "; sdb fio, sdc fio (1 of 3 so far done)");
    }
}
