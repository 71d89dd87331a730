//! One machine's side of the protocol: it boots, claims its run, and delivers numbered batches until each is
//! acknowledged, however often the coordinator goes away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use vetting_agent::clock;
use vetting_agent::uplink::{Client, RequestError};
use vetting_protocol::agent_api::{Acknowledgement, Batch, Directive, Heartbeat, Record};
use vetting_protocol::ids::RunId;
use vetting_protocol::plan::Plan;
use vetting_protocol::secret::Secret;

use super::{Enlisted, Tally};
use crate::simulated::{boot_script, claim_request, run_parameters};

/// Pause before the same batch is sent again.
const PAUSE: Duration = Duration::from_millis(200);
/// Bounds only how long a broken coordinator hangs a fleet.
const PATIENCE: Duration = Duration::from_mins(2);

/// A machine that holds its run.
#[derive(Debug)]
pub struct Machine {
    /// What it was asked to do.
    pub plan: Plan,
    client: Client,
    run: RunId,
    token: Secret,
    boot_id: String,
    sequence: u64,
    tally: Arc<Tally>,
}

/// A batch with its number, ready to be sent.
#[derive(Debug, Clone)]
pub struct Parcel {
    sequence: u64,
    samples: u64,
    body: Bytes,
}

impl Machine {
    /// Boots from the coordinator's boot listener and claims its run. `boot` counts its boots.
    pub async fn boot(
        boot_listener: SocketAddr,
        enlisted: &Enlisted,
        boot: u32,
        tally: &Arc<Tally>,
    ) -> anyhow::Result<Self> {
        let mac = enlisted.mac.clone();
        let script = tokio::task::spawn_blocking(move || boot_script(boot_listener, &mac)).await??;
        let parameters = run_parameters(&script)?;
        let boot_id = format!("f1ee7000-0000-4000-8000-{boot:04x}{:08x}", enlisted.number);
        let client = Client::new(parameters.coordinator.clone(), parameters.ca, None)?;
        let request = claim_request(&parameters, &boot_id);
        let claimed = persist(|| client.claim(&request)).await?;
        Ok(Self {
            plan: claimed.plan,
            client,
            run: parameters.run,
            token: claimed.token,
            boot_id,
            sequence: 0,
            tally: Arc::clone(tally),
        })
    }

    /// The next batch, which must be delivered before any later one.
    pub fn pack(&mut self, records: Vec<Record>) -> anyhow::Result<Parcel> {
        self.sequence += 1;
        let samples = records.iter().filter(|record| matches!(record, Record::Measurement(_))).count();
        let batch = Batch { sequence: self.sequence, boot_id: self.boot_id.clone(), records };
        Ok(Parcel {
            sequence: self.sequence,
            samples: samples.try_into()?,
            body: serde_json::to_vec(&batch)?.into(),
        })
    }

    /// Sends a batch until it is acknowledged, which is tallied.
    pub async fn deliver(&self, parcel: &Parcel) -> anyhow::Result<Directive> {
        let begin = clock::monotonic();
        let answer = persist(|| self.client.batch(self.run, &self.token, parcel.body.clone())).await?;
        ensure!(
            answer.acknowledged_sequence == parcel.sequence,
            "batch {} of run {} was not acknowledged",
            parcel.sequence,
            self.run
        );
        self.tally.acknowledged(self.run, parcel.samples, begin.elapsed());
        Ok(answer.directive)
    }

    /// Packs and delivers.
    pub async fn say(&mut self, records: Vec<Record>) -> anyhow::Result<Directive> {
        let parcel = self.pack(records)?;
        self.deliver(&parcel).await
    }

    /// Asks what is to be done now.
    pub async fn heartbeat(&self) -> anyhow::Result<Directive> {
        let heartbeat = Heartbeat { boot_id: self.boot_id.clone() };
        let answer: Acknowledgement =
            persist(|| self.client.heartbeat(self.run, &self.token, &heartbeat)).await?;
        Ok(answer.directive)
    }
}

/// Asks again while the coordinator is away.
async fn persist<T, A>(mut ask: impl FnMut() -> A) -> Result<T, RequestError>
where
    A: Future<Output = Result<T, RequestError>>,
{
    let begin = clock::monotonic();
    loop {
        match ask().await {
            Err(error) if error.is_transient() && begin.elapsed() < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}
