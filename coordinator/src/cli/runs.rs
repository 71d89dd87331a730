//! `run …`: vettings.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use vetting_protocol::agent_api::AfterRun;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{RunCreate, RunDetail, RunSummary};
use vetting_protocol::profile::ProfileName;

use super::client::Client;
use super::{CommandError, output, watch};

#[derive(Debug, Subcommand)]
pub(super) enum RunCommand {
    /// Start a vetting: wakes the machine and waits for it to netboot.
    #[command(after_help = "Examples:\n  vetting-coordinator run start rack1-u07 --profile quick\n  \
                            vetting-coordinator run start rack1-u07 --profile deep --wipe --after-pass reboot --after-fail stay")]
    Start(Start),
    /// Runs, newest first.
    List {
        /// Only those of this machine.
        #[arg(long)]
        host: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// One run: stages, diffs, breaches, files.
    Show {
        /// Its number.
        id: RunId,
    },
    /// Follow a run to its end. Exit code 0: it passed, 1: it did not.
    Watch {
        /// Its number.
        id: RunId,
    },
    /// End a run now.
    Abort {
        /// Its number.
        id: RunId,
    },
    /// Let a failed machine go that is kept up.
    Release {
        /// Its number.
        id: RunId,
    },
}

#[derive(Debug, Args)]
pub(super) struct Start {
    /// Name of the machine.
    host: String,
    /// How deep: quick, deep or soak.
    #[arg(long, default_value_t = ProfileName::Quick)]
    profile: ProfileName,
    /// Write to no disk, and do not look for what is on them.
    #[arg(long, conflicts_with = "wipe")]
    non_destructive: bool,
    /// Disks with content may be overwritten.
    #[arg(long)]
    wipe: bool,
    /// What the machine does if it passes: power_off, reboot (into its own disk) or stay [default: as the config says].
    #[arg(long, value_name = "WHAT")]
    after_pass: Option<AfterRun>,
    /// What the machine does if it fails: power_off, reboot (into its own disk) or stay [default: as the config says].
    #[arg(long, value_name = "WHAT")]
    after_fail: Option<AfterRun>,
}

impl RunCommand {
    pub(super) async fn run(self, connect: watch::Connect<'_>, json: bool) -> Result<ExitCode, CommandError> {
        let client = &connect()?;
        match self {
            Self::Start(start) => {
                let Start { host, profile, non_destructive, wipe, after_pass, after_fail } = start;
                let body = RunCreate { host, profile, non_destructive, wipe, after_pass, after_fail };
                said(&client.put_in(Method::POST, &["runs"], &body).await?, json)?;
            }
            Self::List { host, limit } => {
                let mut query = vec![("limit", limit.to_string())];
                query.extend(host.map(|host| ("host", host)));
                list(&client.get(&["runs"], &query).await?, json)?;
            }
            Self::Show { id } => show(&client.get(&["runs", &id.to_string()], &[]).await?, json)?,
            Self::Watch { id } => return watch::follow(connect, id, json).await,
            Self::Abort { id } => said(&act(client, id, "abort").await?, json)?,
            Self::Release { id } => said(&act(client, id, "release").await?, json)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn act(client: &Client, id: RunId, verb: &str) -> Result<RunSummary, CommandError> {
    Ok(client.put_in(Method::POST, &["runs", &id.to_string(), verb], &serde_json::json!({})).await?)
}

fn said(run: &RunSummary, json: bool) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(run)?);
    }
    Ok(output::line(&format!("run {} of {} ({}) is {}", run.id, run.host, run.profile, run.state))?)
}

fn list(runs: &Vec<RunSummary>, json: bool) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(runs)?);
    }
    let rows = runs.iter().map(|run| {
        [
            run.id.to_string(),
            run.host.clone(),
            run.profile.to_string(),
            run.state.to_string(),
            output::or_dash(run.result),
            output::or_dash(run.failed_stage.as_ref()),
            run.started_at.clone(),
            output::or_dash(run.completed_at.as_ref()),
        ]
    });
    let header =
        ["RUN", "HOST", "PROFILE", "STATE", "RESULT", "FAILED STAGE", "STARTED (UTC)", "ENDED (UTC)"];
    Ok(output::table(&header, rows, "there are no runs; `vetting-coordinator run start --help` shows how")?)
}

fn show(run: &RunDetail, json: bool) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(run)?);
    }
    let summary = &run.summary;
    let result = summary.result.map(|result| format!(", {result}")).unwrap_or_default();
    output::line(&format!(
        "run {} of {} ({}): {}{result}",
        summary.id, summary.host, summary.profile, summary.state
    ))?;
    for reason in &run.reasons {
        output::line(&format!("  {reason}"))?;
    }
    let rows = run.stages.iter().map(|stage| {
        [
            stage.name.clone(),
            stage.state.to_string(),
            output::or_dash(stage.started_at.as_ref()),
            output::or_dash(stage.completed_at.as_ref()),
            stage.reason.clone().unwrap_or_default(),
        ]
    });
    output::line("")?;
    output::table(&["STAGE", "STATE", "STARTED (UTC)", "ENDED (UTC)", "REASON"], rows, "no stage has begun")?;
    if !run.diffs.is_empty() {
        let rows = run.diffs.iter().map(|diff| {
            [
                diff.field.clone(),
                output::or_dash(diff.expected.as_ref()),
                output::or_dash(diff.actual.as_ref()),
                diff.severity.to_string(),
            ]
        });
        output::line("")?;
        output::table(&["DIFF", "EXPECTED", "FOUND", "SEVERITY"], rows, "")?;
    }
    if !run.breaches.is_empty() {
        let rows = run.breaches.iter().map(|breach| {
            [
                breach.stage.clone(),
                format!("{} {}", breach.kind, breach.key),
                breach.rule.clone(),
                format!("{} ({} samples)", breach.worst, breach.samples),
                breach.severity.to_string(),
            ]
        });
        output::line("")?;
        output::table(&["STAGE", "BREACH", "RULE", "WORST", "SEVERITY"], rows, "")?;
    }
    let rows = run.artifacts.iter().map(|file| [file.kind.clone(), file.path.clone()]);
    output::line("")?;
    Ok(output::table(&["FILE", "PATH"], rows, "no files yet")?)
}
