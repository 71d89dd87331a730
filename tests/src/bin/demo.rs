//! `make demo`: three emulated machines, vetted side by side from power-on to report.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use vetting_image::lab::{Firmware, Machine};
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{RunDetail, StageView};
use vetting_protocol::run::RunResult;
use vetting_tests::machines::{BAD_DISK, Candidate, HEALTHY, SHORT_DELIVERY, emulated_quick};
use vetting_tests::site::{Built, Site, SiteOptions};
use vetting_tests::step_duration;

/// Longest a run may take; a machine that is silent ends long before by the coordinator's own limits.
const RUN_LIMIT: Duration = Duration::from_mins(20);

/// How each candidate should be judged: the demo says so when it is not.
const CAST: [(Candidate, RunResult, Option<&str>); 3] = [
    (HEALTHY, RunResult::Pass, None),
    (BAD_DISK, RunResult::Fail, Some("Storage")),
    (SHORT_DELIVERY, RunResult::Fail, Some("SpecValidate")),
];

fn main() -> anyhow::Result<()> {
    let built = Built::find()?;
    let folder = fresh_folder(&built)?;
    let options = SiteOptions { quick_profile: Some(emulated_quick()?), ..SiteOptions::default() };
    let site = Site::start(&built, &folder, &options)?;
    println!(
        "coordinator on {} (boot) and {} (API), database {}",
        site.listening().http,
        site.listening().https,
        site.database().display()
    );
    println!("profile quick with durations cut down for emulated CPUs (tests/src/machines.rs)\n");

    let started = Instant::now();
    let results = std::thread::scope(|scope| {
        let vettings: Vec<_> = CAST
            .iter()
            .map(|(candidate, ..)| scope.spawn(|| vet(&site, &folder, candidate, started)))
            .collect();
        vettings
            .into_iter()
            .map(|vetting| vetting.join().map_err(|_| anyhow::anyhow!("a vetting panicked"))?)
            .collect::<anyhow::Result<Vec<Vetted>>>()
    })?;

    println!("\n{}\n", verdicts(&results));
    println!("{}\n", times(&results));
    for vetted in &results {
        for kind in ["report_html", "report"] {
            if let Some(artifact) = vetted.detail.artifacts.iter().find(|artifact| artifact.kind == kind) {
                println!("{:<14} {:<11} {}", vetted.candidate.name, kind, artifact.path);
            }
        }
    }
    println!("\n{} machines vetted in {:.0} s", results.len(), started.elapsed().as_secs_f64());
    for ((candidate, result, stage), vetted) in CAST.iter().zip(&results) {
        let summary = &vetted.detail.summary;
        anyhow::ensure!(
            summary.result == Some(*result) && summary.failed_stage.as_deref() == *stage,
            "{} should have ended as {result}{}",
            candidate.name,
            stage.map(|stage| format!(" in {stage}")).unwrap_or_default()
        );
    }
    Ok(())
}

/// A machine after its run.
struct Vetted {
    candidate: Candidate,
    powered_on_ms: i64,
    detail: RunDetail,
}

fn fresh_folder(built: &Built) -> anyhow::Result<PathBuf> {
    let folder = built.image.parent().context("the image lies in the target folder")?.join("demo");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    Ok(folder)
}

fn vet(site: &Site, folder: &Path, candidate: &Candidate, started: Instant) -> anyhow::Result<Vetted> {
    let run = site.host_with_run(candidate.name, &candidate.mac().to_string(), candidate.spec_yaml)?;
    let machine = candidate.machine(site, folder, Firmware::Bios).power_on()?;
    let powered_on_ms = now_ms();
    say(
        started,
        candidate,
        &format!("run {run}: power on ({}); console in {}", candidate.story, machine.serial_path().display()),
    );
    let detail = follow(site, run, candidate, &machine, started)?;
    let result = detail.summary.result.map_or("no result", RunResult::as_str);
    say(started, candidate, &format!("{}: {result}", detail.summary.state));
    machine.wait_exit(Duration::from_mins(2)).context("the machine switches itself off after its run")?;
    Ok(Vetted { candidate: candidate.clone(), powered_on_ms, detail })
}

fn follow(
    site: &Site,
    run: RunId,
    candidate: &Candidate,
    machine: &Machine,
    started: Instant,
) -> anyhow::Result<RunDetail> {
    let mut last = String::new();
    site.wait_for_result(run, RUN_LIMIT, |detail| {
        let now = position(detail);
        if now != last {
            say(started, candidate, &now);
            last = now;
        }
    })
    .with_context(|| format!("the console of {} ends with:\n{}", candidate.name, machine.serial().tail(20)))
}

/// Where a run stands, coarse enough that a change is worth a line.
fn position(detail: &RunDetail) -> String {
    let running = detail
        .stages
        .iter()
        .enumerate()
        .find(|(_, stage)| stage.started_at.is_some() && stage.completed_at.is_none());
    match running {
        None => detail.summary.state.to_string(),
        Some((index, stage)) => {
            let percent = stage
                .percent
                .map(|percent| format!(" {:.0} %", (percent / 20.0).floor() * 20.0))
                .unwrap_or_default();
            format!("stage {}/{} {}{percent}", index + 1, detail.stages.len(), stage.name)
        }
    }
}

fn verdicts(results: &[Vetted]) -> Table {
    let mut table = table(&["host", "verdict", "failed stage", "reasons"]);
    for Vetted { detail, .. } in results {
        table.add_row([
            detail.summary.host.clone(),
            detail.summary.result.map_or("none".to_owned(), |result| result.as_str().to_uppercase()),
            detail.summary.failed_stage.clone().unwrap_or_default(),
            detail.reasons.join("\n"),
        ]);
    }
    table
}

fn times(results: &[Vetted]) -> Table {
    let mut header = vec!["seconds in".to_owned()];
    header.extend(results.iter().map(|vetted| vetted.candidate.name.to_owned()));
    let mut table = table(&header);
    let mut row = |name: &str, seconds: &dyn Fn(&Vetted) -> Option<f64>| {
        let cells = results
            .iter()
            .map(|vetted| seconds(vetted).map_or("–".to_owned(), |seconds| format!("{seconds:.1}")));
        table.add_row(std::iter::once(name.to_owned()).chain(cells));
    };
    let between = |from: Option<i64>, to: Option<i64>| Some((to? - from?) as f64 / 1_000.0);
    let ms = |ms: Option<u64>| ms.map(|ms| ms as f64 / 1_000.0);
    row("firmware and iPXE", &|vetted| {
        between(Some(vetted.powered_on_ms), vetted.detail.boot.script_served_ms)
    });
    row("download", &|vetted| {
        between(vetted.detail.boot.script_served_ms, vetted.detail.boot.image_served_ms)
    });
    row("kernel to PID 1", &|vetted| ms(vetted.detail.boot.kernel_to_init_ms));
    row("network", &|vetted| {
        Some(ms(vetted.detail.boot.kernel_to_network_ms)? - ms(vetted.detail.boot.kernel_to_init_ms)?)
    });
    row("agent to claim", &|vetted| {
        let boot = &vetted.detail.boot;
        Some(ms(boot.kernel_to_claim_ms)? - ms(boot.kernel_to_network_ms.or(boot.kernel_to_init_ms))?)
    });
    let stages: Vec<String> = results
        .first()
        .map(|first| first.detail.stages.iter().map(|stage| stage.name.clone()).collect())
        .unwrap_or_default();
    for name in &stages {
        row(name, &|vetted| {
            vetted.detail.stages.iter().find(|stage| &stage.name == name).and_then(stage_seconds)
        });
    }
    table
}

fn stage_seconds(stage: &StageView) -> Option<f64> {
    step_duration(stage.started_at.as_deref()?, stage.completed_at.as_deref()?)
        .ok()
        .map(|duration| duration.as_secs_f64())
}

fn table<S: AsRef<str>>(header: &[S]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().map(AsRef::as_ref));
    table
}

fn say(started: Instant, candidate: &Candidate, what: &str) {
    println!("[{:6.1} s] {:<15} {what}", started.elapsed().as_secs_f64(), candidate.name);
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
