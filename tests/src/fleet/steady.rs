//! Machines under load for as long as one likes: what a fleet asks of its coordinator while nothing happens.

use std::time::Duration;

use tokio::time::Instant;
use vetting_protocol::agent_api::{MAX_BATCH_RECORDS, Record};
use vetting_protocol::ids::StageName;

use super::Sensors;
use super::machine::{Machine, Parcel};

const STAGE: StageName = StageName::CpuStress;

/// When a fleet samples.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// When the first machine does for the first time.
    pub begin: Instant,
    /// Between two rounds of one machine.
    pub interval: Duration,
    /// Rounds of each machine.
    pub rounds: u32,
    /// Machines: they are spread evenly over the interval.
    pub machines: u32,
}

impl Pace {
    fn due(&self, number: u32, round: u32) -> Instant {
        let offset = self.interval.mul_f64(f64::from(number) / f64::from(self.machines.max(1)));
        self.begin + offset + self.interval * round
    }
}

/// Begins the stage that the samples belong to.
pub async fn begin(machine: &mut Machine) -> anyhow::Result<()> {
    machine
        .say(vec![Record::StageStarted { stage: STAGE, ts_ms: vetting_agent::clock::now_ms() }])
        .await
        .map(drop)
}

/// Samples round after round and delivers each by itself, late where the coordinator is. `number` counts the fleet's
/// machines.
pub async fn sample(
    machine: &mut Machine,
    sensors: &mut Sensors,
    number: u32,
    pace: Pace,
) -> anyhow::Result<()> {
    for round in 0..pace.rounds {
        tokio::time::sleep_until(pace.due(number, round)).await;
        machine.say(sensors.sample(STAGE, true)).await?;
    }
    Ok(())
}

/// What has gathered in a machine's spool over so many rounds without its coordinator: as few batches as hold it.
pub fn backlog(machine: &mut Machine, sensors: &mut Sensors, rounds: u32) -> anyhow::Result<Vec<Parcel>> {
    let mut parcels = Vec::new();
    let mut records = Vec::new();
    for _ in 0..rounds {
        let round = sensors.sample(STAGE, true);
        if records.len() + round.len() > MAX_BATCH_RECORDS {
            parcels.push(machine.pack(std::mem::take(&mut records))?);
        }
        records.extend(round);
    }
    parcels.push(machine.pack(records)?);
    Ok(parcels)
}
