//! A machine's whole run: every stage of its plan with sensors all the while, until the verdict.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use vetting_agent::clock;
use vetting_protocol::agent_api::{Directive, Record};
use vetting_protocol::ids::StageName;
use vetting_protocol::measurement::Measurement;
use vetting_protocol::outcome::Outcome;

use super::machine::Machine;
use super::{Enlisted, Fate, MadeOf, Sensors, Tally};

/// Sampling rounds in each stage.
const ROUNDS: u32 = 4;
/// Between two questions for the verdict.
const PAUSE: Duration = Duration::from_millis(200);
/// Beyond every limit of the shipped profiles.
const TOO_HOT_CELSIUS: f64 = 104.0;

/// Boots a machine and lives its run to the verdict. `sensors` is how many it has; `pause` lies between two sampling
/// rounds.
pub async fn live(
    boot_listener: SocketAddr,
    enlisted: &Enlisted,
    fate: Fate,
    made_of: &MadeOf,
    (sensors, pause): (usize, Duration),
    tally: &Arc<Tally>,
) -> anyhow::Result<()> {
    let machine = Machine::boot(boot_listener, enlisted, 1, tally).await?;
    let mut made_of = made_of.numbered(enlisted.number);
    if fate == Fate::ComesShort {
        made_of.comes_short();
    }
    let mut life = Life { machine, fate, made_of, sensors: Sensors::new(sensors, enlisted.number), pause };
    let stages: Vec<(StageName, bool)> =
        life.machine.plan.stages.iter().map(|planned| (planned.work.name(), planned.needs_turn)).collect();
    for (stage, needs_turn) in stages {
        if needs_turn && life.turn(stage).await? != Directive::Continue {
            break;
        }
        if fate == Fate::Restarts && stage == StageName::CpuStress {
            life.begin(stage).await?;
            life.machine = Machine::boot(boot_listener, enlisted, 2, tally).await?;
            return life.verdict().await;
        }
        if life.stage(stage).await? != Directive::Continue {
            break;
        }
    }
    life.machine.say(vec![Record::PipelineFinished { ts_ms: clock::now_ms() }]).await?;
    life.verdict().await
}

struct Life {
    machine: Machine,
    fate: Fate,
    made_of: MadeOf,
    sensors: Sensors,
    pause: Duration,
}

impl Life {
    async fn begin(&mut self, stage: StageName) -> anyhow::Result<()> {
        self.machine.say(vec![Record::StageStarted { stage, ts_ms: clock::now_ms() }]).await?;
        self.machine.say(self.sensors.sample(stage, works(stage))).await?;
        Ok(())
    }

    async fn stage(&mut self, stage: StageName) -> anyhow::Result<Directive> {
        self.begin(stage).await?;
        let mut outcome = Outcome::Pass;
        match stage {
            StageName::Inventory => {
                self.machine.say(vec![Record::Inventory(Box::new(self.made_of.inventory.clone()))]).await?;
            }
            StageName::Firmware => {
                self.machine.say(vec![Record::Firmware(self.made_of.firmware.clone())]).await?;
            }
            StageName::SpecValidate => {
                let diffs = self.made_of.diffs(&self.machine.plan.expected_spec_yaml)?;
                if let Some(diff) = diffs.first() {
                    outcome = Outcome::fail(format!("{} is not as ordered", diff.field));
                }
                self.machine.say(vec![Record::SpecDiffs { diffs }]).await?;
            }
            _ => {}
        }
        for round in 1..=ROUNDS {
            tokio::time::sleep(self.pause).await;
            let mut records = self.sensors.sample(stage, works(stage));
            if self.fate == Fate::RunsHot && stage == StageName::CpuStress {
                records.iter_mut().for_each(overheat);
            }
            records.push(Record::Progress {
                stage,
                sub_step: None,
                percent: f64::from(round) * 100.0 / f64::from(ROUNDS),
                eta_ms: None,
                ts_ms: clock::now_ms(),
            });
            if let Directive::EndStage { reason, .. } = self.machine.say(records).await? {
                outcome = Outcome::fail(reason);
                break;
            }
        }
        if self.fate == Fate::LosesSectors && stage == StageName::Storage {
            outcome = Outcome::fail("sda: 3 sectors cannot be read");
        }
        let details = serde_json::json!({});
        self.machine
            .say(vec![Record::StageFinished { stage, outcome, details, ts_ms: clock::now_ms() }])
            .await
    }

    /// Waits for a turn; gives what the machine is told then.
    async fn turn(&mut self, stage: StageName) -> anyhow::Result<Directive> {
        let mut directive =
            self.machine.say(vec![Record::TurnAwaited { stage, ts_ms: clock::now_ms() }]).await?;
        while matches!(directive, Directive::AwaitTurn { .. }) {
            tokio::time::sleep(PAUSE).await;
            directive = self.machine.heartbeat().await?;
        }
        Ok(directive)
    }

    async fn verdict(&self) -> anyhow::Result<()> {
        loop {
            match self.machine.heartbeat().await? {
                Directive::Finished { .. } => return Ok(()),
                Directive::Abort { reason, .. } => bail!("aborted: {reason}"),
                Directive::Continue
                | Directive::AwaitVerdict
                | Directive::AwaitTurn { .. }
                | Directive::HaltPipeline { .. }
                | Directive::EndStage { .. } => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// Whether a stage works the machine hard.
fn works(stage: StageName) -> bool {
    !matches!(stage, StageName::Inventory | StageName::Firmware | StageName::SpecValidate | StageName::Smart)
}

fn overheat(record: &mut Record) {
    if let Record::Measurement(Measurement { kind, key, value, .. }) = record
        && kind == "temp"
        && key == "cpu/0"
    {
        *value = Some(TOO_HOT_CELSIUS);
    }
}
