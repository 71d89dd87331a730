//! `run …`: vettings.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;
use vetting_judge::duration::HumanDuration;
use vetting_protocol::agent_api::AfterRun;
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::operator_api::{HoldView, RunCreate, RunDetail, RunRelease, RunRetry, RunSummary};
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::RunPlace;

use super::client::Client;
use super::run_pages::RunPages;
use super::{CommandError, output, queue, report, ssh, verdict, watch};

#[derive(Debug, Subcommand)]
pub(super) enum RunCommand {
    /// Start a vetting: wakes the machine and waits for it to netboot.
    #[command(after_help = "Examples:\n  vetting-coordinator run start rack1-u07 --profile quick\n  \
                            vetting-coordinator run start rack1-u07 --profile deep --wipe --erase --after-pass reboot\n  \
                            vetting-coordinator run start rack1-u07 --host-mode")]
    Start(Start),
    /// Runs, newest first.
    #[command(
        after_help = "Example:\n  vetting-coordinator run list --limit 20 --before 112   # the twenty before run 112"
    )]
    List {
        /// Only those of this machine.
        #[arg(long)]
        host: Option<String>,
        /// Only older ones than this run.
        #[arg(long, value_name = "RUN")]
        before: Option<RunId>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// One run: stages, diffs, breaches, files.
    Show {
        /// Its number.
        id: RunId,
    },
    /// The report of a run: as a page, as JSON, as JUnit XML, as OCP lines.
    #[command(after_help = "Examples:\n  vetting-coordinator run report 42 --output run-42.html\n  \
                            vetting-coordinator run report 42 --format junit --output junit.xml\n  \
                            vetting-coordinator run report 42 --format ocp | jq .testStepArtifact.diagnosis")]
    Report(report::ReportArguments),
    /// Follow a run to its end, live on a terminal, else a line for each change. Exit codes as of `run wait`.
    Watch {
        /// Its number.
        id: RunId,
    },
    /// Wait until a run is over, without a word. Exit code 0: it passed, 1: it failed, 2: it broke off (aborted, machine
    /// or coordinator gone, not over in time), so that nobody knows.
    #[command(after_help = "Examples:\n  vetting-coordinator run wait 12 && echo good\n  \
                            vetting-coordinator run wait 12 --timeout 2h --json | jq -r .result")]
    Wait {
        /// Its number.
        id: RunId,
        /// Give up after so long, with exit code 2; the run goes on.
        #[arg(long, value_name = "DURATION")]
        timeout: Option<HumanDuration>,
    },
    /// Why a run passed or failed, in sentences, with what can be waived.
    Verdict {
        /// Its number.
        id: RunId,
    },
    /// Do not count a finding of a run that is over: it is judged again, and has a new report beside the old one.
    #[command(after_help = "Example:\n  vetting-coordinator run verdict 12\n  \
                            vetting-coordinator run waive 12 3f9a1c20b7de --reason \"ordered with one DIMM less\"")]
    Waive(verdict::Waive),
    /// Take a waiver back: the run is judged again.
    #[command(
        after_help = "Example:\n  vetting-coordinator run unwaive 12 1 --reason \"it was the wrong machine\""
    )]
    Unwaive(verdict::Unwaive),
    /// End a run now.
    Abort {
        /// Its number.
        id: RunId,
    },
    /// Let a failed machine go that is kept up. It switches off, unless told otherwise.
    #[command(after_help = "Examples:\n  vetting-coordinator run release 7\n  \
                            vetting-coordinator run release 7 --reboot")]
    Release {
        /// Its number.
        id: RunId,
        /// Switch it off.
        #[arg(long, conflicts_with = "reboot")]
        power_off: bool,
        /// Restart it; it will find its own disk.
        #[arg(long)]
        reboot: bool,
    },
    /// Run one stage of a held machine again, and none of the others.
    #[command(after_help = "The earlier attempt stays in the report, and no longer decides.\n\nExample:\n  \
                            vetting-coordinator run retry 7 Storage")]
    Retry {
        /// Number of the run.
        id: RunId,
        /// Name of the stage, as `run show` has it.
        stage: StageName,
    },
    /// Have a failed run go on with every stage that did not pass. A machine that is not held boots anew.
    Resume {
        /// Its number.
        id: RunId,
    },
    /// Log in to a held machine, or run a command there.
    #[command(
        after_help = "Needs an SSH client (`ssh`) on this box.\n\nExamples:\n  vetting-coordinator run ssh 7\n  \
                            vetting-coordinator run ssh 7 -- dmesg"
    )]
    Ssh {
        /// Number of the run.
        id: RunId,
        /// What to run there in place of a shell.
        #[arg(last = true)]
        command: Vec<String>,
    },
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
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
    /// Erase every disk by its own means at the end of Storage, with a certificate for each.
    #[arg(long, requires = "wipe")]
    erase: bool,
    /// On the installed system, by its agent: only stages that leave it alone, and no write to any disk.
    #[arg(long, conflicts_with = "wipe")]
    host_mode: bool,
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
                let Start { host, profile, non_destructive, wipe, erase, host_mode, after_pass, after_fail } =
                    start;
                let place = if host_mode { RunPlace::InstalledSystem } else { RunPlace::LiveImage };
                let body =
                    RunCreate { host, profile, non_destructive, wipe, erase, place, after_pass, after_fail };
                said(&client.put_in(Method::POST, &["runs"], &body).await?, json)?;
            }
            Self::List { host, before, limit } => {
                let mut pages = RunPages::new(client, host, before, Some(limit));
                let mut runs = Vec::new();
                while let Some(page) = pages.next().await? {
                    runs.extend(page);
                }
                list(&runs, json)?;
            }
            Self::Show { id } => show(&client.get(&["runs", &id.to_string()], &[]).await?, json)?,
            Self::Report(arguments) => report::run(client, arguments, json).await?,
            Self::Watch { id } => return watch::follow(connect, id, json).await,
            Self::Wait { id, timeout } => return watch::wait(connect, id, timeout, json).await,
            Self::Verdict { id } => verdict::explain(client, id, json).await?,
            Self::Waive(waive) => waive.run(client, json).await?,
            Self::Unwaive(unwaive) => unwaive.run(client, json).await?,
            Self::Abort { id } => said(&act(client, id, "abort", &json!({})).await?, json)?,
            Self::Release { id, power_off, reboot } => {
                let then = match (power_off, reboot) {
                    (_, true) => Some(AfterRun::Reboot),
                    (true, false) => Some(AfterRun::PowerOff),
                    (false, false) => None,
                };
                said(&act(client, id, "release", &RunRelease { then }).await?, json)?;
            }
            Self::Retry { id, stage } => said(&act(client, id, "retry", &RunRetry { stage }).await?, json)?,
            Self::Resume { id } => said(&act(client, id, "resume", &json!({})).await?, json)?,
            Self::Ssh { id, command } => return ssh::run(client, id, &command).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn act(
    client: &Client,
    id: RunId,
    verb: &str,
    body: &impl serde::Serialize,
) -> Result<RunSummary, CommandError> {
    Ok(client.put_in(Method::POST, &["runs", &id.to_string(), verb], body).await?)
}

fn said(run: &RunSummary, json: bool) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(run)?);
    }
    Ok(output::line(&format!("run {} of {} ({}) is {}", run.id, run.host, run.profile, run.state))?)
}

fn show_hold(id: RunId, hold: &HoldView) -> Result<(), CommandError> {
    output::line(&format!("  the machine is held until {} UTC, then let go", hold.until))?;
    if let Some(ssh) = &hold.ssh {
        output::line(&format!(
            "  log in with `vetting-coordinator run ssh {id}`, or on the coordinator's box:"
        ))?;
        output::line(&format!("    {}", ssh.command))?;
    }
    if let Some(problem) = &hold.problem {
        output::line(&format!("  nobody can log in: {problem}"))?;
    }
    Ok(output::line(&format!("  then `run retry {id} STAGE`, `run resume {id}` or `run release {id}`"))?)
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
            match &run.turn {
                Some(turn) => format!("{} (turn {}/{})", run.state, turn.place, turn.of),
                None => run.state.to_string(),
            },
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
    if let Some(turn) = &summary.turn {
        output::line(&format!("  {}; `queue` shows who is before it", queue::waits(turn)))?;
    }
    if let Some(hold) = &run.hold {
        show_hold(summary.id, hold)?;
    }
    for change in &run.stage_changes {
        output::line(&format!("  the host's own stages: {change}"))?;
    }
    for attempt in &run.attempts {
        let reason = attempt.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        output::line(&format!(
            "  {} was run again; attempt {} {}{reason}",
            attempt.stage, attempt.attempt, attempt.state
        ))?;
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
    verdict::waivers(&run.waivers)?;
    let rows = run.artifacts.iter().map(|file| [file.kind.clone(), file.path.clone()]);
    output::line("")?;
    Ok(output::table(&["FILE", "PATH"], rows, "no files yet")?)
}
