//! The real agent in host mode against a real coordinator, on a recorded machine: it shows itself, tells what the machine
//! is made of, takes a run that leaves the system alone, stays for the next one, and ends when it is told to.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vetting_agent::clock;
use vetting_protocol::operator_api::{HostView, RunSummary};
use vetting_protocol::run::{RunResult, RunState};
use vetting_tests::site::{Built, Site, SiteOptions};

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(2);
const NAME: &str = "installed";

struct Agent(Child);

impl Agent {
    fn start(built: &Built, site: &Site, folder: &Path) -> anyhow::Result<Self> {
        let token = folder.join("agent.token");
        std::fs::write(&token, site.cli_text(&["host", "agent-token", NAME])?)?;
        let config = folder.join("agent.yaml");
        let listening = site.listening();
        let text = format!(
            "coordinator: https://{}\nca: sha256:{}\ntoken_file: {}\n",
            listening.https,
            listening.ca_fingerprint.trim_start_matches("sha256:"),
            token.display()
        );
        std::fs::write(&config, text)?;
        let machine = Path::new(env!("CARGO_MANIFEST_DIR")).join("hosts/handbuilt-2-socket-server");
        let child = Command::new(&built.agent)
            .arg("--root")
            .arg(machine)
            .args(["host", "--config"])
            .arg(config)
            .spawn()
            .context("the agent starts")?;
        Ok(Self(child))
    }

    fn terminate(mut self) -> anyhow::Result<std::process::ExitStatus> {
        kill(Pid::from_raw(i32::try_from(self.0.id())?), Signal::SIGTERM)?;
        Ok(self.0.wait()?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_agent_on_an_installed_system_takes_runs_that_leave_it_alone() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let built = Built::find()?;
    let site = Site::start(&built, folder.path(), &SiteOptions::default())?;
    site.host(NAME, "3c:ec:ef:12:34:50", "cpu: {sockets: 2}\n")?;
    let mut agent = Agent::start(&built, &site, folder.path())?;

    let deadline = clock::monotonic() + PATIENCE;
    while site.cli::<HostView>(&["host", "show", NAME])?.last_seen_at.is_none() {
        ensure!(agent.0.try_wait()?.is_none(), "the agent ended");
        ensure!(clock::monotonic() < deadline, "the agent is never seen");
    }
    let run = site.cli::<RunSummary>(&["run", "start", NAME, "--host-mode"])?.id;
    let detail = site.wait_for_result(run, PATIENCE, |_| ())?;
    // a recorded machine cannot be put under load, and what cannot be judged is no pass
    assert_eq!(detail.summary.result, Some(RunResult::Fail), "{:#?}", detail.reasons);
    assert_eq!(detail.summary.state, RunState::Completed, "an installed system is not held");
    let stages: Vec<&str> = detail.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert!(stages.contains(&"SMART") && !stages.contains(&"Memory"), "{stages:?}");
    assert!(detail.artifacts.iter().any(|artifact| artifact.kind == "inventory"), "{:?}", detail.artifacts);
    ensure!(agent.0.try_wait()?.is_none(), "the agent stays for the next run");
    ensure!(agent.terminate()?.success(), "it ends well when it is told to");
    Ok(())
}
