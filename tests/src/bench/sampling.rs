//! The agent while it samples sensors in a run, against prometheus-node-exporter scraped at the same interval.
//!
//! Both live on this machine over the same spans of time, under the same load: the stage's stressors, which are the
//! agent's children and not counted.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use vetting_protocol::ids::{RunId, StageName};

use super::process::{Owned, Usage, usage};
use super::{Comparison, Goal, Round};
use crate::simulated::{boot_script, run_parameters};
use crate::site::{Built, Site, SiteOptions};

const ROUNDS: usize = 4;
const SAMPLES_A_ROUND: u32 = 3;
const INTERVAL: Duration = Duration::from_secs(5);
/// What sampling may take of one core.
const PART_OF_A_CORE: f64 = 0.01;
/// From a start to the first sign of it.
const PATIENCE: Duration = Duration::from_mins(1);
const SPEC: &str = "cpu: {logical_cores: 1}\n";
/// One stage that is long enough, after the one it needs; sampling as in every shipped profile.
const PROFILE: &str = "\
name: quick
description: a long stage to sample in
sampling_interval: 5s
stages:
  - {stage: Inventory, limit: 2m}
  - {stage: CPUStress, limit: 10m, cpu: 4m, per_core: 1s, memory: 1s, memory_percent: 1}
thresholds:
  - {stage: '*', kind: temp, key: 'cpu/*', op: lt, threshold: 95, unit: celsius, severity: critical, note: CPU}
  - {stage: '*', kind: temp, key: 'cpu/*', op: lt, threshold: 90, unit: celsius, severity: warning, note: CPU}
";

/// Compares memory and CPU time.
pub fn compare(built: &Built, folder: &Path) -> anyhow::Result<Vec<Comparison>> {
    let options = SiteOptions { quick_profile: Some(PROFILE.to_owned()), ..SiteOptions::default() };
    let site = Site::start(built, &folder.join("site"), &options)?;
    let mac = own_mac()?;
    let run = site.host_with_run("sampled", &mac, SPEC)?;
    let mut exporter = Exporter::start(folder)?;
    let mut agent = start_agent(&site, folder, &mac)?;
    wait_for_samples(&site, run, &mut agent)?;

    let mut measured = Vec::new();
    for number in 1..=ROUNDS {
        let before = usages(&agent, &exporter.process)?;
        let span = Instant::now();
        for sample in 1..=SAMPLES_A_ROUND {
            exporter.scrape()?;
            std::thread::sleep((INTERVAL * sample).saturating_sub(span.elapsed()));
        }
        agent.ensure_alive()?;
        exporter.process.ensure_alive()?;
        let after = usages(&agent, &exporter.process)?;
        println!(
            "  round {number}: agent {} kB, {} µs CPU a sample; exporter {} kB, {} µs",
            after.0.rss_kib,
            cpu_us(before.0, after.0),
            after.1.rss_kib,
            cpu_us(before.1, after.1)
        );
        measured.push((before, after));
    }
    ensure!(site.run(run)?.measurement_count > 0, "no sample arrived");
    site.cli_text(&["run", "abort", &run.to_string()])?;

    let row = |subject, unit, value: fn(Usage, Usage) -> f64| Comparison {
        subject,
        ours: "vetting-agent run",
        theirs: "prometheus-node-exporter",
        unit,
        rounds: measured
            .iter()
            .map(|(before, after)| Round { ours: value(before.0, after.0), theirs: value(before.1, after.1) })
            .collect(),
        goal: Goal::NoneSet,
    };
    let core = Comparison {
        subject: "CPU time a sample, against a core's",
        ours: "vetting-agent run",
        theirs: "a hundredth of a core for 5 s",
        unit: "ms",
        rounds: measured
            .iter()
            .map(|((before, _), (after, _))| Round {
                ours: cpu_us(*before, *after) as f64 / 1_000.0,
                theirs: INTERVAL.as_secs_f64() * 1_000.0 * PART_OF_A_CORE,
            })
            .collect(),
        goal: Goal::AtMost(1.0),
    };
    Ok(vec![
        core,
        row("memory while sampling, RSS", "MiB", |_, after| after.rss_kib as f64 / 1_024.0),
        row("memory while sampling, PSS", "MiB", |_, after| after.pss_kib as f64 / 1_024.0),
        row("CPU time a sample, every 5 s", "ms", |before, after| cpu_us(before, after) as f64 / 1_000.0),
    ])
}

fn usages(agent: &Owned, exporter: &Owned) -> anyhow::Result<(Usage, Usage)> {
    Ok((usage(agent.pid()?)?, usage(exporter.pid()?)?))
}

fn cpu_us(before: Usage, after: Usage) -> u128 {
    after.cpu.saturating_sub(before.cpu).as_micros() / u128::from(SAMPLES_A_ROUND)
}

/// Of a card of this machine: a claim from another machine than the host would be refused.
fn own_mac() -> anyhow::Result<String> {
    for card in fs::read_dir("/sys/class/net")? {
        let card = card?.path();
        if card.join("device").exists() {
            return Ok(fs::read_to_string(card.join("address"))?.trim().to_owned());
        }
    }
    bail!("this machine has no network card by which a coordinator could know it")
}

fn start_agent(site: &Site, folder: &Path, mac: &str) -> anyhow::Result<Owned> {
    let parameters = run_parameters(&boot_script(site.listening().http, mac)?)?;
    let log = File::create(folder.join("agent.log"))?;
    let child = Command::new(&site.built().agent)
        .arg("run")
        .args(["--coordinator", &parameters.coordinator.to_string()])
        .args(["--ca", &parameters.ca.to_string()])
        .args(["--run", &parameters.run.to_string()])
        .env("VETTING_CLAIM", parameters.claim.expose())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", site.built().agent.display()))?;
    Ok(Owned::new("vetting-agent", child))
}

/// Until the long stage runs and its first samples are stored.
fn wait_for_samples(site: &Site, run: RunId, agent: &mut Owned) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        agent.ensure_alive()?;
        let detail = site.run(run)?;
        let runs =
            |name: &str| detail.stages.iter().any(|stage| stage.name == name && stage.started_at.is_some());
        if detail.measurement_count > 0 && runs(StageName::CpuStress.as_str()) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("no sample within {} s: {detail:#?}", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

struct Exporter {
    process: Owned,
    address: SocketAddr,
}

impl Exporter {
    /// On a free port of the loopback.
    fn start(folder: &Path) -> anyhow::Result<Self> {
        // the port is free again when the listener is gone; another may take it, then the exporter ends at once
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = File::create(folder.join("node-exporter.log"))?;
        let child = Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting prometheus-node-exporter")?;
        let mut exporter = Self { process: Owned::new("prometheus-node-exporter", child), address };
        let deadline = Instant::now() + PATIENCE;
        while exporter.scrape().is_err() {
            exporter.process.ensure_alive()?;
            ensure!(Instant::now() < deadline, "prometheus-node-exporter does not answer on {address}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(exporter)
    }

    /// Asks for all metrics, without compression, and throws them away.
    fn scrape(&self) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {}\r\n\r\n", self.address)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.starts_with(b"HTTP/1.") && answer.get(9..12) == Some(b"200"), "no metrics");
        ensure!(answer.ends_with(b"\n"), "the metrics were cut off");
        Ok(())
    }
}
