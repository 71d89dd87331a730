//! The task that sends: one request in flight, in order, again and again until it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use vetting_protocol::agent_api::{Acknowledgement, Directive, Heartbeat};
use vetting_protocol::ids::Sha256Hex;

use super::backoff::Backoff;
use super::client::{Client, RequestError};
use super::spool::{Artifact, Job, RawBatch, SharedSpool};
use super::{Session, Timing, UplinkError};
use crate::cancel::Cancel;
use crate::console::{Console, spoken};

pub(super) struct Worker {
    pub(super) client: Client,
    pub(super) session: Session,
    pub(super) spool: SharedSpool,
    pub(super) timing: Timing,
    pub(super) console: Arc<dyn Console>,
    /// Raised when the run shall not go on.
    pub(super) cancel: Cancel,
}

impl Worker {
    /// Sends until the uplink is closed or fails for good.
    pub(super) async fn run(self) {
        if let Err(failure) = self.send_all().await {
            self.spool.fail(failure);
            self.cancel.raise();
        }
    }

    async fn send_all(&self) -> Result<(), UplinkError> {
        let mut sequence = self.session.sequence;
        let mut last_sent = tokio::time::Instant::now();
        loop {
            match self.spool.next_job(self.timing.batch_age) {
                Job::Close => return Ok(()),
                Job::Batch { records, count } => {
                    sequence += 1;
                    let batch = RawBatch { sequence, boot_id: &self.session.boot_id, records: &records };
                    let body = serde_json::to_vec(&batch)
                        .map_err(|error| UplinkError::Record { what: error.to_string() })?;
                    drop(records);
                    let Some(answer) = self.deliver_batch(sequence, body.into()).await? else {
                        return Ok(());
                    };
                    self.take_answer(count, answer);
                }
                Job::Artifact(artifact) => {
                    let Some(()) = self.deliver_artifact(&artifact).await? else { return Ok(()) };
                }
                Job::Wait(until) => {
                    let heartbeat_at = last_sent + self.heartbeat_interval();
                    let until = until.map_or(heartbeat_at, |until| heartbeat_at.min(until.into()));
                    tokio::select! {
                        () = self.spool.work.notified() => {}
                        () = tokio::time::sleep_until(until) => {}
                    }
                    if tokio::time::Instant::now() < heartbeat_at {
                        continue;
                    }
                    let Some(answer) = self.beat().await? else { return Ok(()) };
                    self.take_answer(0, answer);
                }
            }
            last_sent = tokio::time::Instant::now();
        }
    }

    /// Someone waits for the verdict: ask more often than while the machine works.
    fn heartbeat_interval(&self) -> Duration {
        match self.spool.directive() {
            Directive::AwaitVerdict => self.timing.verdict_poll,
            Directive::Continue
            | Directive::AwaitTurn { .. }
            | Directive::HaltPipeline { .. }
            | Directive::EndStage { .. }
            | Directive::Abort { .. }
            | Directive::Finished { .. } => self.timing.heartbeat,
        }
    }

    fn take_answer(&self, count: u64, answer: Acknowledgement) {
        let ends = matches!(answer.directive, Directive::Abort { .. } | Directive::Finished { .. });
        self.spool.acknowledged(count, answer);
        if ends {
            self.cancel.raise();
        }
    }

    async fn deliver_batch(
        &self,
        sequence: u64,
        body: bytes::Bytes,
    ) -> Result<Option<Acknowledgement>, UplinkError> {
        let send = || self.client.batch(self.session.run, &self.session.token, body.clone());
        let answer = self.until_answered(send).await?;
        match answer {
            Some(answer) if answer.acknowledged_sequence < sequence => Err(UplinkError::NotAcknowledged {
                sent: sequence,
                acknowledged: answer.acknowledged_sequence,
            }),
            answer => Ok(answer),
        }
    }

    async fn beat(&self) -> Result<Option<Acknowledgement>, UplinkError> {
        let heartbeat = Heartbeat { boot_id: self.session.boot_id.clone() };
        self.until_answered(|| self.client.heartbeat(self.session.run, &self.session.token, &heartbeat)).await
    }

    async fn deliver_artifact(&self, artifact: &Artifact) -> Result<Option<()>, UplinkError> {
        let digest = Sha256Hex::of(&artifact.body);
        let (run, token) = (self.session.run, &self.session.token);
        let send = || self.client.artifact(run, token, &artifact.path, digest, artifact.body.clone());
        let Some(receipt) = self.until_answered(send).await? else { return Ok(None) };
        if receipt.sha256 != digest {
            return Err(UplinkError::ArtifactDamaged { path: artifact.path.clone() });
        }
        self.spool.artifact_stored(receipt);
        Ok(Some(()))
    }

    /// Sends until there is an answer; `None` when the uplink was closed meanwhile.
    async fn until_answered<T, F>(&self, send: impl Fn() -> F) -> Result<Option<T>, UplinkError>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        let mut backoff = Backoff::new(self.timing.first_retry, self.timing.longest_retry);
        let mut failed_before = false;
        loop {
            let attempt = tokio::select! {
                attempt = send() => attempt,
                () = self.closed() => return Ok(None),
            };
            let error = match attempt {
                Ok(answer) => {
                    if failed_before {
                        self.console.line(&format!("coordinator {} answers again", self.client.endpoint()));
                    }
                    return Ok(Some(answer));
                }
                Err(error) => error,
            };
            // a stranger that answers at the coordinator's address in the middle of a run is waited out
            if !error.is_transient() && !matches!(error, RequestError::Untrusted { .. }) {
                return Err(UplinkError::Request(error));
            }
            failed_before = true;
            let wait = backoff.next();
            self.console.line(&format!("{error}; next try in {}", spoken(wait)));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.closed() => return Ok(None),
            }
        }
    }

    async fn closed(&self) {
        while !self.spool.is_closing() {
            tokio::select! {
                () = self.spool.work.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    }
}
