//! `run verdict`, `run waive`, `run unwaive`: why a run passed or failed, and what an operator decides not to count.

use clap::Args;
use reqwest::Method;
use vetting_judge::waiver::author;
use vetting_protocol::ids::{FindingId, RunId};
use vetting_protocol::operator_api::{
    ReasonView, VerdictView, WaiverCreate, WaiverView, WaiverWithdraw, WithdrawnView,
};
use vetting_protocol::run::RunResult;

use super::client::Client;
use super::{CommandError, output};

#[derive(Debug, Args)]
pub(super) struct Waive {
    /// Number of the run.
    id: RunId,
    /// The finding: 12 digits, as `run verdict` shows them.
    finding: FindingId,
    #[command(flatten)]
    words: Words,
}

#[derive(Debug, Args)]
pub(super) struct Unwaive {
    /// Number of the run.
    id: RunId,
    /// Number of the waiver, as `run verdict` shows it.
    waiver: i64,
    #[command(flatten)]
    words: Words,
}

#[derive(Debug, Args)]
struct Words {
    /// Why, in a line; it stands in the report.
    #[arg(long)]
    reason: String,
    /// Who decides; it stands in the report.
    #[arg(long, env = "USER", hide_env_values = true)]
    by: String,
}

impl Waive {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        let Self { id, finding, words: Words { reason, by } } = self;
        let order = WaiverCreate { finding, reason, by };
        let view = client.put_in(Method::POST, &["runs", &id.to_string(), "waivers"], &order).await?;
        show(&view, json)
    }
}

impl Unwaive {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        let Self { id, waiver, words: Words { reason, by } } = self;
        let path = ["runs", &id.to_string(), "waivers", &waiver.to_string(), "withdraw"];
        let view = client.put_in(Method::POST, &path, &WaiverWithdraw { reason, by }).await?;
        show(&view, json)
    }
}

/// `run verdict`.
pub(super) async fn explain(client: &Client, id: RunId, json: bool) -> Result<(), CommandError> {
    show(&client.get(&["runs", &id.to_string(), "verdict"], &[]).await?, json)
}

fn show(view: &VerdictView, json: bool) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(view)?);
    }
    output::line(&in_words(view))?;
    Ok(waivers(&view.waivers)?)
}

/// The waivers of a run, below a blank line; nothing where there are none.
pub(super) fn waivers(waivers: &[WaiverView]) -> std::io::Result<()> {
    if waivers.is_empty() {
        return Ok(());
    }
    let rows = waivers.iter().map(|waiver| {
        let taken_back = waiver.withdrawn.as_ref().map(|WithdrawnView { reason, by, caller, at }| {
            format!("{}, {at}: {reason}", author(by, caller.as_deref()))
        });
        [
            waiver.id.to_string(),
            waiver.found.clone(),
            waiver.reason.clone(),
            author(&waiver.by, waiver.caller.as_deref()),
            waiver.given_at.clone(),
            output::or_dash(taken_back),
        ]
    });
    output::line("")?;
    output::table(&["WAIVER", "FOUND", "REASON", "BY", "GIVEN (UTC)", "TAKEN BACK"], rows, "")
}

fn in_words(view: &VerdictView) -> String {
    let summary = &view.summary;
    let head = format!("run {} of {} ({})", summary.id, summary.host, summary.profile);
    let mut lines = match summary.result {
        None => vec![format!(
            "{head} has no verdict yet: it is {}. `run watch {}` follows it.",
            summary.state, summary.id
        )],
        Some(RunResult::Pass) => vec![format!("{head} passed.")],
        // an abort before a machine came is judged by nobody
        Some(RunResult::Fail) if view.reasons.is_empty() => {
            vec![format!("{head} failed: it is {}, and nothing was tested.", summary.state)]
        }
        Some(RunResult::Fail) => vec![format!("{head} failed, for:")],
    };
    lines.extend(view.reasons.iter().map(entry));
    if !view.remarks.is_empty() {
        lines.push("Also worth a look:".to_owned());
        lines.extend(view.remarks.iter().map(entry));
    }
    let waivable = view.reasons.iter().find_map(|reason| reason.finding.as_ref());
    if let Some(finding) = waivable {
        lines.push(format!(
            "What has a number in brackets can be waived: `run waive {} {finding} --reason \"…\"`.",
            summary.id
        ));
    }
    if view.report_version > 1 {
        lines.push(format!("This is report version {}; the earlier ones are kept.", view.report_version));
    }
    lines.join("\n")
}

fn entry(reason: &ReasonView) -> String {
    let finding = match (&reason.finding, reason.waiver) {
        (Some(finding), None) => format!("[{finding}] "),
        (_, Some(waiver)) => format!("[waiver {waiver}] "),
        (None, None) => String::new(),
    };
    let next = if reason.next.is_empty() { String::new() } else { format!(" {}", reason.next) };
    format!("  {finding}{}{next}", reason.text)
}

#[cfg(test)]
mod tests {
    use vetting_protocol::operator_api::RunSummary;
    use vetting_protocol::profile::ProfileName;
    use vetting_protocol::run::RunState;

    use super::*;

    #[test]
    fn a_verdict_reads_as_sentences() {
        let reason = |text: &str, finding: Option<&str>, waiver| ReasonView {
            cause: "breach".to_owned(),
            stage: None,
            text: text.to_owned(),
            next: "Do something.".to_owned(),
            finding: finding.map(|finding| finding.parse().unwrap()),
            waiver,
        };
        let mut view = VerdictView {
            summary: RunSummary {
                id: RunId(12),
                host: "r1".to_owned(),
                state: RunState::Completed,
                result: Some(RunResult::Fail),
                profile: ProfileName::Quick,
                failed_stage: None,
                started_at: String::new(),
                turn: None,
                completed_at: None,
            },
            report_version: 2,
            reasons: vec![reason("It is too hot.", Some("3f9a1c20b7de"), None)],
            remarks: vec![reason("A DIMM is missing.", Some("000000000000"), Some(1))],
            waivers: Vec::new(),
        };
        let expected = "run 12 of r1 (quick) failed, for:\n  \
            [3f9a1c20b7de] It is too hot. Do something.\n\
            Also worth a look:\n  [waiver 1] A DIMM is missing. Do something.\n\
            What has a number in brackets can be waived: `run waive 12 3f9a1c20b7de --reason \"…\"`.\n\
            This is report version 2; the earlier ones are kept.";
        assert_eq!(in_words(&view), expected);
        (view.reasons, view.remarks) = (Vec::new(), Vec::new());
        view.summary.state = RunState::Aborted;
        assert!(
            in_words(&view)
                .starts_with("run 12 of r1 (quick) failed: it is Aborted, and nothing was tested.")
        );
        view.summary.state = RunState::Completed;
        view.summary.result = None;
        assert!(in_words(&view).starts_with("run 12 of r1 (quick) has no verdict yet: it is Completed."));
    }
}
