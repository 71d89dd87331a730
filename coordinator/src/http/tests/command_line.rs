//! The command line against a coordinator on another box, as scripts use it: what the exit codes tell.

use std::io::{Read as _, Seek as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use reqwest::Method;
use vetting_protocol::agent_api::Record;
use vetting_protocol::ids::StageName;
use vetting_protocol::outcome::Outcome;

use super::*;
use crate::cli::{CommandError, CommandLine};

/// Says it from outside, with a token and the authority's fingerprint.
pub(super) async fn say(lab: &Lab, words: &[&str]) -> Result<ExitCode, CommandError> {
    let url = format!("https://{}", lab.server.https);
    let ca = format!("sha256:{}", lab.server.ca_fingerprint);
    let file = lab.path("token");
    std::fs::write(&file, lab.operator.expose()).unwrap();
    let whom = ["vetting-coordinator", "--url", &url, "--ca", &ca, "--token-file", file.to_str().unwrap()];
    let command = CommandLine::try_parse_from([&whom, words].concat()).unwrap();
    Box::pin(command.run()).await
}

/// Runs a command and catches what it prints. The process has one standard output, and each test is a process of its own.
pub(super) async fn caught(
    command: impl Future<Output = Result<ExitCode, CommandError>>,
) -> (Result<ExitCode, CommandError>, String) {
    let mut file = tempfile::tempfile().unwrap();
    let own = nix::unistd::dup(std::io::stdout()).unwrap();
    nix::unistd::dup2_stdout(&file).unwrap();
    let done = command.await;
    std::io::stdout().flush().unwrap();
    nix::unistd::dup2_stdout(own).unwrap();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    (done, text)
}

#[tokio::test]
async fn waiting_for_a_good_run_ends_with_0() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let records = healthy(&claimed);
    lab.send(&claimed, 1, records).await;
    let run = lab.over(claimed.run).await.summary.id.to_string();
    for verb in ["wait", "watch"] {
        assert_eq!(say(&lab, &["run", verb, &run]).await.unwrap(), ExitCode::SUCCESS, "{verb}");
    }
}

#[tokio::test]
async fn waiting_for_a_failed_run_ends_with_1() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let broken = Outcome::Fail { reason: "no memory".to_owned() };
    let stage = StageName::Inventory;
    lab.send(&claimed, 1, vec![started(stage), finished(stage, broken)]).await;
    lab.send(&claimed, 2, vec![Record::PipelineFinished { ts_ms: START_MS }]).await;
    let run = lab.over(claimed.run).await.summary.id.to_string();
    for verb in ["wait", "watch"] {
        assert_eq!(say(&lab, &["run", verb, &run]).await.unwrap(), ExitCode::FAILURE, "{verb}");
    }
}

#[tokio::test]
async fn waiting_for_a_run_that_broke_off_ends_with_2() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let never_came = lab.start_run("node1").await;
    lab.clock.set(START_MS + 15 * 60 * 1_000);
    lab.server.driver.check_deadlines().await.unwrap();
    lab.over(never_came).await;
    let aborted = lab.start_run("node1").await;
    let abort = lab.operator(Method::POST, &format!("runs/{aborted}/abort")).json(&json!({}));
    good::<RunSummary>(abort).await;
    for run in [never_came, aborted] {
        for verb in ["wait", "watch"] {
            let code = say(&lab, &["run", verb, &run.to_string()]).await.unwrap();
            assert_eq!(code, ExitCode::from(2), "{verb} {run}");
        }
    }
}
