//! A coordinator of its own in a folder of its own: started, asked through its command line, killed, started again.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use vetting_image::lab::Member;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{RunDetail, RunSummary};

/// Where the built programs and images are.
#[derive(Debug, Clone)]
pub struct Built {
    /// `vetting-coordinator`.
    pub coordinator: PathBuf,
    /// `vetting-agent`, static.
    pub agent: PathBuf,
    /// Output of `make image`.
    pub image: PathBuf,
}

impl Built {
    /// As `make build image` leaves them, found from this crate's folder.
    pub fn find() -> anyhow::Result<Self> {
        let workspace =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate lies in the workspace")?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
        let built = Self {
            coordinator: target.join("release/vetting-coordinator"),
            agent: target.join("x86_64-unknown-linux-musl/release/vetting-agent"),
            image: target.join("image"),
        };
        for file in [&built.coordinator, &built.agent, &built.image.join("vmlinuz")] {
            ensure!(file.exists(), "{} is not there: run `make image` first", file.display());
        }
        Ok(built)
    }
}

/// An emulated machine on a busy host may not get its timer interrupts in the moment in which the kernel looks for them.
const EMULATED_CLOCK: &str = "no_timer_check";

/// What a site is to be like.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// Replacement of the quick profile, YAML; `None` for the shipped one.
    pub quick_profile: Option<String>,
    /// Longest time from the boot script to the claim.
    pub boot: Duration,
    /// Longest silence of an agent before its run ends.
    pub silence: Duration,
    /// Further words of the live image's kernel command line.
    pub kernel_args: String,
    /// Whether machines that nobody registered may boot the live image from the network.
    pub unknown_may_netboot: bool,
    /// A network of the lab to be on, in place of the loopback; the coordinator's own netboot server serves it.
    pub network: Option<Member>,
    /// Further keys of `netboot:` there, as in `answer: all`.
    pub netboot: String,
    /// How long failed machines are held; zero: they switch off at once.
    pub hold: Duration,
    /// Whether machines may exchange data with iperf3 on this box.
    pub network_test: bool,
    /// Keys of `power.budget`, as in `machines: 2`.
    pub power_budget: String,
}

impl Default for SiteOptions {
    fn default() -> Self {
        Self {
            quick_profile: None,
            boot: Duration::from_mins(15),
            silence: Duration::from_mins(2),
            kernel_args: String::new(),
            unknown_may_netboot: false,
            network: None,
            netboot: String::new(),
            hold: Duration::ZERO,
            network_test: false,
            power_budget: String::new(),
        }
    }
}

/// `coordinator.json`: where a running coordinator listens.
#[derive(Debug, Clone, Deserialize)]
pub struct Listening {
    /// `ADDRESS:PORT` of the TLS listener.
    pub https: std::net::SocketAddr,
    /// `ADDRESS:PORT` of the boot listener.
    pub http: std::net::SocketAddr,
    /// SHA-256 of the CA certificate.
    pub ca_fingerprint: String,
}

/// A coordinator in a folder of its own. Killed when dropped.
#[derive(Debug)]
pub struct Site {
    built: Built,
    directory: PathBuf,
    options: SiteOptions,
    child: Option<Child>,
    listening: Listening,
}

impl Site {
    /// Makes an empty site below `directory` and starts its coordinator on free ports of the loopback.
    pub fn start(built: &Built, directory: &Path, options: &SiteOptions) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let address: IpAddr =
            options.network.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), |member| member.address);
        let mut site = Self {
            built: built.clone(),
            directory,
            options: options.clone(),
            child: None,
            listening: Listening {
                https: (address, 0).into(),
                http: (address, 0).into(),
                ca_fingerprint: String::new(),
            },
        };
        site.write_config()?;
        site.cli_text(&["init", "--keep-config"])?;
        site.serve()?;
        // started again, it must be found where the machines know it to be
        site.write_config()?;
        Ok(site)
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let dir = self.directory.display();
        let mut config = format!(
            "database: {{path: {dir}/vetting.db}}\nstate_dir: {dir}/state\nimage: {{dir: {image}}}\n\
             listen: {{https: '{https}', http: '{http}'}}\ntimeouts: {{boot: {boot}s, silence: {silence}s}}\n\
             hold: {{limit: {hold}s}}\nafter_run: {{pass: power_off, fail: {after_fail}}}\n\
             boot: {{kernel_args: '{EMULATED_CLOCK} {kernel_args}'}}\n",
            image = self.built.image.display(),
            https = self.listening.https,
            http = self.listening.http,
            boot = self.options.boot.as_secs(),
            silence = self.options.silence.as_secs(),
            hold = self.options.hold.as_secs(),
            after_fail = if self.options.hold.is_zero() { "power_off" } else { "stay" },
            kernel_args = self.options.kernel_args,
        );
        if let Some(profile) = &self.options.quick_profile {
            let path = self.directory.join("quick.yaml");
            fs::write(&path, profile)?;
            writeln!(config, "profiles: {{quick: {}}}", path.display())?;
        }
        if self.options.network.is_some() {
            writeln!(config, "netboot: {{interfaces: [eth0], {}}}", self.options.netboot)?;
        }
        if self.options.network_test {
            // those after one that is free now: the coordinator passes over the ones that are not
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            writeln!(config, "network_test: {{enabled: true, ports: {free}-{}}}", free.saturating_add(7))?;
        }
        if !self.options.power_budget.is_empty() {
            writeln!(config, "power: {{budget: {{{}}}}}", self.options.power_budget)?;
        }
        if self.options.unknown_may_netboot {
            writeln!(config, "enrolment: {{netboot: allowed}}")?;
        }
        fs::write(self.directory.join("vetting.yaml"), config)?;
        Ok(())
    }

    /// The folder with everything of this site.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The SQLite file.
    pub fn database(&self) -> PathBuf {
        self.directory.join("vetting.db")
    }

    /// The network it is on, where that is not the loopback.
    pub fn network(&self) -> Option<&Member> {
        self.options.network.as_ref()
    }

    /// Where the coordinator listens.
    pub fn listening(&self) -> &Listening {
        &self.listening
    }

    /// The programs it runs.
    pub fn built(&self) -> &Built {
        &self.built
    }

    /// Starts the coordinator; returns when it has said where it listens.
    pub fn serve(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.directory.join("coordinator.log"))?;
        let mut child = self
            .command()
            .arg("serve")
            .args(self.options.network.as_ref().map(|_| "--netboot"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.built.coordinator.display()))?;
        let stdout = child.stdout.take().context("the coordinator's output is piped")?;
        let mut first_line = String::new();
        BufReader::new(stdout).read_line(&mut first_line)?;
        self.child = Some(child);
        ensure!(
            first_line.starts_with("listening "),
            "the coordinator did not start; its log says:\n{}",
            fs::read_to_string(self.directory.join("coordinator.log"))?
        );
        let said = fs::read(self.directory.join("state/coordinator.json"))?;
        self.listening = serde_json::from_slice(&said).context("coordinator.json")?;
        Ok(())
    }

    /// `vetting-coordinator` with this site's configuration, where the site is.
    fn command(&self) -> Command {
        let mut command = match &self.options.network {
            None => Command::new(&self.built.coordinator),
            Some(member) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &member.namespace]).arg(&self.built.coordinator);
                command
            }
        };
        command.arg("--config").arg(self.directory.join("vetting.yaml"));
        command
    }

    /// Ends the coordinator with SIGKILL, as a power cut would.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the coordinator runs")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// The coordinator's process.
    pub fn process(&self) -> anyhow::Result<u32> {
        Ok(self.child.as_ref().context("the coordinator runs")?.id())
    }

    /// Runs `vetting-coordinator` with these arguments and gives what it printed.
    pub fn cli_text(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command().args(arguments).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!(
                "vetting-coordinator {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The same with `--json`, read.
    pub fn cli<T: DeserializeOwned>(&self, arguments: &[&str]) -> anyhow::Result<T> {
        let mut all = arguments.to_vec();
        all.push("--json");
        let text = self.cli_text(&all)?;
        serde_json::from_str(&text).with_context(|| format!("answer of {}: {text}", arguments.join(" ")))
    }

    /// Registers a host with this spec.
    pub fn host(&self, name: &str, mac: &str, spec_yaml: &str) -> anyhow::Result<()> {
        let spec = self.directory.join(format!("{name}.spec.yaml"));
        fs::write(&spec, spec_yaml)?;
        self.cli_text(&["host", "add", name, "--mac", mac, "--spec", &spec.to_string_lossy()])?;
        Ok(())
    }

    /// Registers a host with this spec and starts a quick run of it.
    pub fn host_with_run(&self, name: &str, mac: &str, spec_yaml: &str) -> anyhow::Result<RunId> {
        self.host_with_run_as(name, mac, spec_yaml, &[])
    }

    /// The same, with further options of `run start`.
    pub fn host_with_run_as(
        &self,
        name: &str,
        mac: &str,
        spec_yaml: &str,
        options: &[&str],
    ) -> anyhow::Result<RunId> {
        self.host(name, mac, spec_yaml)?;
        let start = [&["run", "start", name, "--profile", "quick"], options].concat();
        let run: RunSummary = self.cli(&start)?;
        Ok(run.id)
    }

    /// Everything about a run.
    pub fn run(&self, id: RunId) -> anyhow::Result<RunDetail> {
        self.cli(&["run", "show", &id.to_string()])
    }

    /// Asks again and again until the run has its result; `look` sees each answer.
    pub fn wait_for_result(
        &self,
        id: RunId,
        limit: Duration,
        mut look: impl FnMut(&RunDetail),
    ) -> anyhow::Result<RunDetail> {
        let deadline = Instant::now() + limit;
        loop {
            let detail = self.run(id)?;
            look(&detail);
            if detail.summary.state.is_terminal() {
                return Ok(detail);
            }
            if Instant::now() > deadline {
                bail!(
                    "run {id} has no result after {} s: {}",
                    limit.as_secs(),
                    serde_json::to_string_pretty(&detail)?
                );
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
