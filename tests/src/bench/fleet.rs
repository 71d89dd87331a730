//! Fleets of simulated machines against one coordinator, from a rack to more than one lab has: what it acknowledges, how
//! fast, and what it costs.
//!
//! Machines and coordinator share this machine, so every figure includes the work of the machines. After the steady part
//! the middle fleet delivers what gathered while its coordinator was away, against raw inserts of the same rows, and
//! then loses its coordinator to SIGKILL under load.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use comfy_table::Table;
use nix::unistd::Pid;
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use vetting_agent::clock;
use vetting_protocol::agent_api::{MAX_BATCH_RECORDS, Record};
use vetting_protocol::ids::StageName;

use super::process::usage;
use super::raw_inserts::{Raw, database};
use super::{Comparison, Goal, Round, grid};
use crate::fleet::{
    Enlisted, Latencies, Machine, MadeOf, Operator, Pace, Sensors, Tally, backlog, begin, enlist, runtime,
    sample,
};
use crate::site::{Built, Site, SiteOptions};

/// Machines of each fleet.
const FLEETS: [u32; 3] = [100, 1_000, 5_000];
/// The fleet whose backlog is compared with raw inserts, and whose coordinator is killed.
const MIDDLE: u32 = 1_000;
/// Sampling rounds that gather while a coordinator is away.
const AWAY_ROUNDS: u32 = 10;
/// Times that it is away.
const AWAY: usize = 3;
/// Batches that raw inserts put into one transaction.
const BATCHES_A_TRANSACTION: usize = 8;
/// Machines that boot at once.
const BOOTING: usize = 32;
/// Sampling rounds in the middle of which it is killed.
const KILLED_ROUNDS: u32 = 3;
/// How often the samples are counted until then.
const LOOK: Duration = Duration::from_millis(5);
/// From the last boot to the first sample.
const LEAD: Duration = Duration::from_secs(1);

/// What a fleet is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Machines.
    pub machines: u32,
    /// Sensors of each.
    pub sensors: usize,
    /// Between two sampling rounds.
    pub interval: Duration,
    /// Sampling rounds.
    pub rounds: u32,
}

impl Size {
    /// As the goals have it: 60 sensors at 5 s.
    pub fn of(machines: u32) -> Self {
        Self { machines, sensors: 60, interval: Duration::from_secs(5), rounds: 8 }
    }
}

/// What was measured of one fleet.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// What it was.
    pub size: Size,
    /// Acknowledged samples a second.
    pub acknowledged: f64,
    /// From the way out of a batch to its acknowledgement.
    pub latencies: Latencies,
    /// Resident memory of the coordinator at the end.
    pub rss_kib: u64,
    /// Part of one core that the coordinator took.
    pub cores: f64,
    /// By which the database grew for each sample, evaluations and indexes included.
    pub bytes_a_sample: f64,
}

/// Measures the fleets and prints their table; the ratio is of the middle one's backlog.
pub fn compare(built: &Built, folder: &Path) -> anyhow::Result<Comparison> {
    let mut all = Vec::new();
    let mut rounds = Vec::new();
    for machines in FLEETS {
        let mut fleet = Fleet::boot(built, &folder.join(machines.to_string()), Size::of(machines))?;
        let figures = fleet.steady()?;
        println!("  {machines} machines: {:.0} samples/s", figures.acknowledged);
        all.push(figures);
        if machines == MIDDLE {
            rounds = fleet.away(folder)?;
        }
    }
    println!("\n{}\n", table(&all));
    println!(
        "killed by SIGKILL under the load of {MIDDLE} machines: every acknowledged sample is stored, once"
    );
    Ok(Comparison {
        subject: "backlog of a fleet",
        ours: "agent API, 1000 machines",
        theirs: "raw SQLite inserts",
        unit: "k samples/s",
        rounds,
        goal: Goal::AtLeast(0.5),
    })
}

/// One line a fleet.
pub fn table(all: &[Figures]) -> Table {
    let mut table = grid(&[
        "machines",
        "offered",
        "acknowledged",
        "ack p50",
        "ack p99",
        "longest",
        "coordinator",
        "of a core",
        "database",
    ]);
    for figures in all {
        let size = figures.size;
        let offered = f64::from(size.machines) * size.sensors as f64 / size.interval.as_secs_f64();
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1_000.0);
        table.add_row([
            size.machines.to_string(),
            format!("{offered:.0}/s"),
            format!("{:.0}/s", figures.acknowledged),
            ms(figures.latencies.p50),
            ms(figures.latencies.p99),
            ms(figures.latencies.longest),
            format!("{} MiB", figures.rss_kib / 1_024),
            format!("{:.0} %", figures.cores * 100.0),
            format!("{:.0} B/sample", figures.bytes_a_sample),
        ]);
    }
    table
}

/// A machine with its number in the fleet.
type Member = (u32, Machine, Sensors);

/// Machines that hold their runs, and their coordinator.
pub struct Fleet {
    site: Site,
    size: Size,
    runtime: Runtime,
    tally: Arc<Tally>,
    machines: Vec<Member>,
}

impl Fleet {
    /// Starts a coordinator, registers the machines and boots them into a stage under load.
    pub fn boot(built: &Built, folder: &Path, shape: Size) -> anyhow::Result<Self> {
        let site = Site::start(built, folder, &SiteOptions::default())?;
        let runtime = runtime()?;
        let tally = Arc::new(Tally::default());
        let machines = runtime.block_on(async {
            let spec = MadeOf::recorded()?.spec_yaml()?;
            let enlisted = enlist(&Operator::of(&site)?, shape.machines, &spec).await?;
            boot_all(&site, enlisted, shape.sensors, &tally).await
        })?;
        Ok(Self { site, size: shape, runtime, tally, machines })
    }

    /// Where their coordinator is.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Each of them says the same.
    pub fn say(&mut self, records: &[Record]) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            for (_, machine, _) in &mut self.machines {
                machine.say(records.to_vec()).await?;
            }
            Ok(())
        })
    }

    /// Each of them delivers so many sampling rounds, of the time until now. Says how many samples they were.
    pub fn fill(&mut self, rounds: u32) -> anyhow::Result<u64> {
        let before = self.tally.samples();
        let interval_ms = i64::try_from(self.size.interval.as_millis())?;
        let begin_ms = clock::now_ms() - i64::from(rounds) * interval_ms;
        self.runtime.block_on(async {
            for (_, machine, sensors) in &mut self.machines {
                let mut records = Vec::new();
                for round in 0..rounds {
                    records.extend(sensors.sample_at(
                        StageName::CpuStress,
                        true,
                        begin_ms + i64::from(round) * interval_ms,
                    ));
                    if records.len() + self.size.sensors > MAX_BATCH_RECORDS || round + 1 == rounds {
                        machine.say(std::mem::take(&mut records)).await?;
                    }
                }
            }
            anyhow::Ok(())
        })?;
        Ok(self.tally.samples() - before)
    }

    /// All of them sample at their interval, and nothing else happens.
    pub fn steady(&mut self) -> anyhow::Result<Figures> {
        let process = Pid::from_raw(self.site.process()?.try_into()?);
        let (bytes_before, samples_before) = (self.database_bytes()?, self.tally.samples());
        self.tally.take_latencies()?;
        let cpu_before = usage(process)?.cpu;
        let begin = clock::monotonic();
        self.machines = sample_all(
            &self.runtime,
            std::mem::take(&mut self.machines),
            self.size,
            self.size.rounds,
            || Ok(()),
        )?;
        let took = begin.elapsed().saturating_sub(LEAD);
        let samples = (self.tally.samples() - samples_before) as f64;
        let used = usage(process)?;
        let bytes = self.database_bytes()?.saturating_sub(bytes_before) as f64;
        Ok(Figures {
            size: self.size,
            acknowledged: samples / took.as_secs_f64(),
            latencies: self.tally.take_latencies()?,
            rss_kib: used.rss_kib,
            cores: used.cpu.saturating_sub(cpu_before).as_secs_f64() / took.as_secs_f64(),
            bytes_a_sample: bytes / samples,
        })
    }

    /// The coordinator is away several times: what gathered meanwhile is delivered, beside raw inserts of the same rows
    /// into a database below `folder`. At last it is killed under load, and what it had acknowledged is counted.
    pub fn away(&mut self, folder: &Path) -> anyhow::Result<Vec<Round>> {
        let rounds = (1..=AWAY)
            .map(|number| self.catch_up(&folder.join(format!("raw-{number}.db"))))
            .collect::<anyhow::Result<Vec<Round>>>()?;
        self.lose_coordinator()?;
        Ok(rounds)
    }

    /// What gathered while the coordinator was away, all at once.
    fn catch_up(&mut self, raw: &Path) -> anyhow::Result<Round> {
        let mut raw = Raw::copy_of(&self.site, raw)?;
        let before = self.tally.samples();
        let mut outboxes = Vec::new();
        for (number, mut machine, mut sensors) in self.machines.drain(..) {
            let parcels = backlog(&mut machine, &mut sensors, AWAY_ROUNDS)?;
            outboxes.push((number, machine, sensors, parcels));
        }
        let begin = clock::monotonic();
        self.machines = self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for (number, machine, sensors, parcels) in outboxes {
                tasks.spawn(async move {
                    for parcel in &parcels {
                        machine.deliver(parcel).await?;
                    }
                    anyhow::Ok((number, machine, sensors))
                });
            }
            all(tasks).await
        })?;
        let took = begin.elapsed();
        let samples = self.tally.samples() - before;
        let rows = raw.new_rows(&self.site)?;
        ensure!(rows.samples.len() as u64 == samples, "{samples} sent, {} stored", rows.samples.len());
        ensure!(!rows.evaluations.is_empty(), "nothing was judged");
        let begin = clock::monotonic();
        raw.insert(&rows, MAX_BATCH_RECORDS * BATCHES_A_TRANSACTION)?;
        let raw_took = begin.elapsed();
        let rate = |took: Duration| samples as f64 / took.as_secs_f64() / 1_000.0;
        println!("  backlog of {samples} samples: {:.0} k/s, raw {:.0} k/s", rate(took), rate(raw_took));
        Ok(Round { ours: rate(took), theirs: rate(raw_took) })
    }

    /// The coordinator is killed in the middle of the load and started again: nothing acknowledged is missing.
    fn lose_coordinator(&mut self) -> anyhow::Result<()> {
        let enough = self.tally.samples() + u64::from(self.size.machines) * self.size.sensors as u64;
        let machines = std::mem::take(&mut self.machines);
        self.machines = sample_all(&self.runtime, machines, self.size, KILLED_ROUNDS, || {
            while self.tally.samples() < enough {
                std::thread::sleep(LOOK);
            }
            self.site.kill()?;
            self.site.serve()
        })?;
        self.tally.ensure_stored(&database(&self.site)?)
    }

    /// As large as the database is, its log included.
    fn database_bytes(&self) -> anyhow::Result<u64> {
        let connection: Connection = database(&self.site)?;
        let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok(((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?).try_into()?)
    }
}

/// Every machine samples so many rounds, while `meanwhile` happens to the coordinator.
fn sample_all(
    runtime: &Runtime,
    machines: Vec<Member>,
    size: Size,
    rounds: u32,
    meanwhile: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Member>> {
    let pace =
        Pace { begin: Instant::now() + LEAD, interval: size.interval, rounds, machines: size.machines };
    let mut tasks = JoinSet::new();
    for (number, mut machine, mut sensors) in machines {
        let sampling = async move {
            sample(&mut machine, &mut sensors, number, pace).await?;
            anyhow::Ok((number, machine, sensors))
        };
        tasks.spawn_on(sampling, runtime.handle());
    }
    meanwhile()?;
    runtime.block_on(all(tasks))
}

async fn boot_all(
    site: &Site,
    enlisted: Vec<Enlisted>,
    sensors: usize,
    tally: &Arc<Tally>,
) -> anyhow::Result<Vec<Member>> {
    let booting = Arc::new(Semaphore::new(BOOTING));
    let mut tasks = JoinSet::new();
    for member in enlisted {
        let (booting, tally, address) = (Arc::clone(&booting), Arc::clone(tally), site.listening().http);
        tasks.spawn(async move {
            let _permit = booting.acquire().await?;
            let mut machine = Machine::boot(address, &member, 1, &tally)
                .await
                .with_context(|| format!("machine {} boots", member.number))?;
            begin(&mut machine).await?;
            anyhow::Ok((member.number, machine, Sensors::new(sensors, member.number)))
        });
    }
    all(tasks).await
}

async fn all<T: 'static>(mut tasks: JoinSet<anyhow::Result<T>>) -> anyhow::Result<Vec<T>> {
    let mut done = Vec::new();
    while let Some(task) = tasks.join_next().await {
        done.push(task.context("a machine's task")??);
    }
    Ok(done)
}
