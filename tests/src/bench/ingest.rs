//! Measurements through the agent API, durable and judged, against raw inserts of the very same rows.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use tokio::task::JoinSet;
use vetting_agent::cancel::Cancel;
use vetting_agent::clock;
use vetting_agent::console::Console;
use vetting_agent::uplink::{Client, Timing, claim};
use vetting_protocol::agent_api::{Batch, MAX_BATCH_RECORDS, Record};
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::measurement::Measurement;
use vetting_protocol::secret::Secret;

use super::raw_inserts::Raw;
use super::{Comparison, Goal, Round};
use crate::simulated::{boot_script, claim_request, run_parameters};
use crate::site::{Built, Site, SiteOptions};

const ROUNDS: usize = 9;
const MACHINES: u8 = 8;
const BATCHES_A_ROUND: usize = 12;
const SPEC: &str = "cpu: {logical_cores: 32}\n";
const STAGE: StageName = StageName::CpuStress;

/// Sensors of a server with 32 logical CPUs: kind, key prefix, how many, value, unit. The shipped profile judges
/// the first two and the disks by two rules each, the memory modules and the supply voltages by one.
const SENSORS: [(&str, &str, u32, f64, &str); 11] = [
    ("temp", "cpu/", 2, 61.0, "celsius"),
    ("temp", "disk/sd", 8, 38.0, "celsius"),
    ("temp", "disk/nvme", 4, 44.0, "celsius"),
    ("temp", "hwmon/jc42-", 8, 47.0, "celsius"),
    ("temp", "hwmon/nct6798/", 6, 40.0, "celsius"),
    ("fan", "hwmon/nct6798/fan", 8, 5_400.0, "rpm"),
    ("volt", "hwmon/nct6798/in", 6, 1.1, "volts"),
    ("power", "hwmon/power_meter/", 4, 312.0, "watts"),
    ("cpu_freq", "cpu/", 32, 2_900.0, "mhz"),
    ("cpu_load", "cpu/all", 1, 98.0, "percent"),
    ("load_avg", "1m", 1, 32.0, "count"),
];

/// Compares.
pub fn compare(built: &Built, folder: &Path) -> anyhow::Result<Comparison> {
    let site = Site::start(built, &folder.join("site"), &SiteOptions::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut machines =
        (1..=MACHINES).map(|number| Machine::claim(&site, number)).collect::<anyhow::Result<Vec<_>>>()?;
    let begin = machines.iter_mut().map(Machine::begin_stage).collect::<anyhow::Result<Vec<_>>>()?;
    runtime.block_on(send(begin))?;
    let mut raw = Raw::copy_of(&site, &folder.join("raw.db"))?;
    let mut rounds = Vec::new();
    // the first warms both up
    for number in 0..=ROUNDS {
        let bodies = machines
            .iter_mut()
            .map(|machine| machine.batches(BATCHES_A_ROUND))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let started = Instant::now();
        let sent = runtime.block_on(send(bodies))?;
        let (samples, ours_took) = (sent as f64, started.elapsed());
        let rows = raw.new_rows(&site)?;
        ensure!(rows.samples.len() == sent, "{sent} samples sent, {} stored", rows.samples.len());
        ensure!(!rows.evaluations.is_empty(), "nothing was judged");
        let share = rows.evaluations.len() as f64 / samples;
        let started = Instant::now();
        raw.insert(&rows, MAX_BATCH_RECORDS * usize::from(MACHINES))?;
        let (ours, theirs) = (samples / ours_took.as_secs_f64(), samples / started.elapsed().as_secs_f64());
        println!("  round {number}: {ours:.0} samples/s, raw {theirs:.0}; {share:.2} evaluations a sample");
        if number > 0 {
            rounds.push(Round { ours: ours / 1_000.0, theirs: theirs / 1_000.0 });
        }
    }
    Ok(Comparison {
        subject: "ingest of measurements",
        ours: "agent API, 8 machines",
        theirs: "raw SQLite inserts",
        unit: "k samples/s",
        rounds,
        goal: Goal::AtLeast(0.5),
    })
}

/// A simulated machine that holds its run.
struct Machine {
    client: Client,
    run: RunId,
    token: Secret,
    boot_id: String,
    sequence: u64,
    ts_ms: i64,
}

struct Silent;

impl Console for Silent {
    fn line(&self, _text: &str) {}
}

/// Batches of one machine, ready to be sent in order.
struct Outbox {
    client: Client,
    run: RunId,
    token: Secret,
    bodies: Vec<(u64, Bytes)>,
}

impl Machine {
    fn claim(site: &Site, number: u8) -> anyhow::Result<Self> {
        let mac = format!("52:54:00:56:47:{number:02x}");
        let run = site.host_with_run(&format!("ingest-{number}"), &mac, SPEC)?;
        let parameters = run_parameters(&boot_script(site.listening().http, &mac)?)?;
        let boot_id = format!("11111111-2222-3333-4444-{number:012}");
        let new_client = || Client::new(parameters.coordinator.clone(), parameters.ca, None);
        let claimed = claim(&new_client()?, Timing::NORMAL, &Silent, &Cancel::new(), || {
            claim_request(&parameters, &boot_id)
        })?;
        // a client belongs to one runtime, and claiming had its own
        Ok(Self {
            client: new_client()?,
            run,
            token: claimed.token,
            boot_id,
            sequence: 0,
            ts_ms: clock::now_ms(),
        })
    }

    fn begin_stage(&mut self) -> anyhow::Result<Outbox> {
        let record = Record::StageStarted { stage: STAGE, ts_ms: self.ts_ms };
        let body = self.batch(vec![record])?;
        Ok(self.outbox(vec![body]))
    }

    /// Full batches of samples. Written before the clock starts: that is the machines' work, not the coordinator's.
    fn batches(&mut self, count: usize) -> anyhow::Result<Outbox> {
        let mut bodies = Vec::with_capacity(count);
        for _ in 0..count {
            let mut records = Vec::with_capacity(MAX_BATCH_RECORDS);
            while records.len() < MAX_BATCH_RECORDS {
                self.ts_ms += 5_000;
                records.extend(samples(self.ts_ms).map(Record::Measurement));
            }
            bodies.push(self.batch(records)?);
        }
        Ok(self.outbox(bodies))
    }

    fn batch(&mut self, records: Vec<Record>) -> anyhow::Result<(u64, Bytes)> {
        self.sequence += 1;
        let batch = Batch { sequence: self.sequence, boot_id: self.boot_id.clone(), records };
        Ok((self.sequence, serde_json::to_vec(&batch)?.into()))
    }

    fn outbox(&self, bodies: Vec<(u64, Bytes)>) -> Outbox {
        Outbox { client: self.client.clone(), run: self.run, token: self.token.clone(), bodies }
    }
}

/// One round of the sensor sidecar.
fn samples(ts_ms: i64) -> impl Iterator<Item = Measurement> {
    SENSORS.into_iter().flat_map(move |(kind, prefix, count, value, unit)| {
        (0..count).map(move |number| Measurement {
            ts_ms,
            stage: Some(STAGE),
            kind: kind.to_owned(),
            key: if count == 1 { prefix.to_owned() } else { format!("{prefix}{number}") },
            value: Some(value + f64::from(number) / 8.0),
            unit: unit.to_owned(),
        })
    })
}

/// Sends every outbox in order, all of them at once; returns how many batches' samples were acknowledged.
async fn send(outboxes: Vec<Outbox>) -> anyhow::Result<usize> {
    let mut tasks = JoinSet::new();
    for outbox in outboxes {
        tasks.spawn(async move {
            for (sequence, body) in &outbox.bodies {
                let answer = outbox.client.batch(outbox.run, &outbox.token, body.clone()).await?;
                ensure!(
                    answer.acknowledged_sequence == *sequence,
                    "batch {sequence} of run {} was not acknowledged",
                    outbox.run
                );
            }
            Ok(outbox.bodies.len() * MAX_BATCH_RECORDS)
        });
    }
    let mut acknowledged = 0;
    while let Some(done) = tasks.join_next().await {
        acknowledged += done.context("a machine's task")??;
    }
    Ok(acknowledged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_full_of_whole_sampling_rounds() {
        assert_eq!(MAX_BATCH_RECORDS % samples(0).count(), 0);
    }

    #[test]
    fn no_two_samples_of_a_round_are_of_the_same_sensor() {
        let mut keys: Vec<(String, String)> = samples(0).map(|sample| (sample.kind, sample.key)).collect();
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }
}
