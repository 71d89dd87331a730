//! A fleet of simulated machines and a coordinator of its own: to see what a change does to thousands of machines, or to
//! fill a database that one can look at.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::task::JoinSet;
use vetting_judge::duration::HumanDuration;
use vetting_protocol::operator_api::RunDetail;
use vetting_tests::bench::Round;
use vetting_tests::bench::fleet::{Fleet, Size, table};
use vetting_tests::fleet::{Fate, MadeOf, Operator, Tally, enlist, live, runtime};
use vetting_tests::site::{Built, Site, SiteOptions};

/// Simulated machines against a coordinator of their own, both on this machine.
#[derive(Debug, Parser)]
#[command(
    name = "vetting-fleet",
    after_help = "Examples:\n  vetting-fleet steady --machines 1000\n  vetting-fleet lives --machines 50 --folder /tmp/fleet\n  \
                  vetting-coordinator --config /tmp/fleet/vetting.yaml serve"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How many.
    #[arg(long, global = true, default_value_t = 100)]
    machines: u32,
    /// Sensors of each.
    #[arg(long, global = true, default_value_t = 60)]
    sensors: usize,
    /// A new folder for the coordinator's configuration, database and state, which stays; without it they go at the end.
    #[arg(long, global = true, value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All under load; what the coordinator acknowledges, how fast, and what that costs.
    Steady {
        /// Between two sampling rounds of a machine.
        #[arg(long, default_value = "5s")]
        interval: HumanDuration,
        /// Sampling rounds.
        #[arg(long, default_value_t = 8)]
        rounds: u32,
    },
    /// Their coordinator is away: what gathered meanwhile, beside raw inserts of the same rows; and killed under load.
    Away,
    /// Whole runs to their verdicts: sound machines, short deliveries, hot CPUs, bad disks, restarts.
    Lives {
        /// Between two sampling rounds of a machine.
        #[arg(long, default_value = "100ms")]
        interval: HumanDuration,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let built = Built::find()?;
    let temporary = tempfile::tempdir()?;
    let folder = arguments.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    let (machines, sensors) = (arguments.machines, arguments.sensors);
    match arguments.command {
        Command::Steady { interval, rounds } => {
            let interval = Duration::from_millis(interval.as_ms());
            let size = Size { machines, sensors, interval, rounds };
            println!("{}", table(&[Fleet::boot(&built, &folder, size)?.steady()?]));
            Ok(ExitCode::SUCCESS)
        }
        Command::Away => {
            let rounds =
                Fleet::boot(&built, &folder, Size { sensors, ..Size::of(machines) })?.away(&folder)?;
            for Round { ours, theirs } in rounds {
                println!("{ours:.1} k samples/s, raw inserts {theirs:.1}: {:.2}", ours / theirs);
            }
            println!("killed under load: every acknowledged sample is stored, once");
            Ok(ExitCode::SUCCESS)
        }
        Command::Lives { interval } => {
            let site = Site::start(&built, &folder, &SiteOptions::default())?;
            lives(&site, machines, (sensors, Duration::from_millis(interval.as_ms())))
        }
    }
}

fn lives(site: &Site, machines: u32, pace: (usize, Duration)) -> anyhow::Result<ExitCode> {
    let tally = Arc::new(Tally::default());
    let runs: Vec<(Fate, RunDetail)> = runtime()?.block_on(async {
        let (operator, made_of) = (Operator::of(site)?, MadeOf::recorded()?);
        let mut tasks = JoinSet::new();
        for (member, fate) in enlist(&operator, machines, &made_of.spec_yaml()?)
            .await?
            .into_iter()
            .zip(Fate::ALL.into_iter().cycle())
        {
            let (operator, made_of, tally) = (operator.clone(), made_of.clone(), Arc::clone(&tally));
            let boot = site.listening().http;
            tasks.spawn(async move {
                live(boot, &member, fate, &made_of, pace, &tally)
                    .await
                    .with_context(|| format!("machine {} ({fate:?})", member.number))?;
                anyhow::Ok((fate, operator.run(member.run).await?))
            });
        }
        let mut runs = Vec::new();
        while let Some(done) = tasks.join_next().await {
            runs.push(done??);
        }
        anyhow::Ok(runs)
    })?;
    let wrong: Vec<&(Fate, RunDetail)> =
        runs.iter().filter(|(fate, run)| !fate.deserves(&run.summary)).collect();
    for fate in Fate::ALL {
        println!("{fate:?}: {}", runs.iter().filter(|(of, _)| *of == fate).count());
    }
    for (fate, run) in &wrong {
        println!(
            "{} is {fate:?}, but its verdict is {:?}: {:?}",
            run.summary.host, run.summary.result, run.reasons
        );
    }
    println!("{} runs, {} samples, {} wrong verdicts", runs.len(), tally.samples(), wrong.len());
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
