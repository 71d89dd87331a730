//! `run watch`: a line for each change of a run, until it has its result.

use std::process::ExitCode;
use std::time::Duration;

use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::RunDetail;
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::RunResult;

use super::client::Client;
use super::{CommandError, output};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows a run; with `json` each look is one object a line.
pub(super) async fn follow(client: &Client, id: RunId, json: bool) -> Result<ExitCode, CommandError> {
    let mut shown = String::new();
    loop {
        let run: RunDetail = client.get(&["runs", &id.to_string()], &[]).await?;
        let text =
            if json { serde_json::to_string(&run).map_err(std::io::Error::other)? } else { position(&run) };
        if text != shown {
            output::line(&text)?;
            shown = text;
        }
        if run.summary.state.is_terminal() {
            if !json {
                for reason in &run.reasons {
                    output::line(&format!("  {reason}"))?;
                }
            }
            return Ok(match run.summary.result {
                Some(RunResult::Pass) => ExitCode::SUCCESS,
                Some(RunResult::Fail) | None => ExitCode::FAILURE,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// `run 3 of rack1-u07: stage 5/6 CPUStress 40 %, 70 s left`.
fn position(run: &RunDetail) -> String {
    let head = format!("run {} of {}", run.summary.id, run.summary.host);
    let running = run.stages.iter().enumerate().find(|(_, stage)| stage.state == StepState::Running);
    if let Some((index, stage)) = running {
        let percent = stage.percent.map(|percent| format!(" {percent:.0} %")).unwrap_or_default();
        let left = stage.eta_ms.map(|eta| format!(", {} s left", eta.div_ceil(1_000))).unwrap_or_default();
        return format!("{head}: stage {}/{} {}{percent}{left}", index + 1, run.stages.len(), stage.name);
    }
    let result = run.summary.result.map(|result| format!(", {result}")).unwrap_or_default();
    format!("{head}: {}{result}", run.summary.state)
}
