//! Takes what an agent tells: a batch is applied whole or not at all, in one transaction, once.
//!
//! Refuses what does not fit the plan: a record of a stage that is over or unknown, a gap in the sequence, another
//! boot. Judges each sample by the run's rules, and each stage at its end.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use vetting_judge::facts::Ending;
use vetting_judge::rules::RuleSet;
use vetting_protocol::agent_api::{
    Acknowledgement, AgentCrash, Batch, EventLevel, Heartbeat, MAX_BATCH_RECORDS, Record,
};
use vetting_protocol::ids::{RunId, Sha256Hex};
use vetting_protocol::run::RunState;

use super::claim::Session;
use super::driver::{Driver, Transition, of_run, to_its_end, transition};
use super::error::RunError;
use super::live::Live;
use super::records::Applier;
use super::rules::RuleKey;
use super::stages::running_stage;
use super::state::RunEvent;
use super::{reboot, rules, upload};
use crate::store::sessions::{self, SequenceStep, TimelineEntry};
use crate::store::{Connection, StoreError, events, measurements, runs};

/// Artifact kind of the inventory.
pub(super) const INVENTORY: &str = "inventory";
/// Artifact kind of the firmware report.
pub(super) const FIRMWARE: &str = "firmware";

impl Driver {
    /// Applies a batch; durable when this returns.
    ///
    /// # Errors
    /// See [`RunError`]; then nothing of the batch was applied.
    pub async fn ingest(
        &self,
        session: Session,
        batch: Batch,
        remote: SocketAddr,
    ) -> Result<Acknowledgement, RunError> {
        if batch.records.len() > MAX_BATCH_RECORDS {
            return Err(RunError::TooManyRecords { found: batch.records.len(), most: MAX_BATCH_RECORDS });
        }
        let driver = self.clone();
        to_its_end(async move { driver.take_batch(session, batch, remote).await }).await
    }

    async fn take_batch(
        &self,
        session: Session,
        batch: Batch,
        remote: SocketAddr,
    ) -> Result<Acknowledgement, RunError> {
        let run = session.run;
        self.hear(&session, &batch.boot_id);
        let now_ms = self.clock.now_ms();
        let documents = if self.may_be_applied(&session, &batch).await? {
            self.store_documents(run, &batch).await?
        } else {
            // the transaction below refuses it, and says why
            Vec::new()
        };
        let moves_queue = batch
            .records
            .iter()
            .any(|record| matches!(record, Record::TurnAwaited { .. } | Record::StageFinished { .. }));
        let live = self.live(run).await?;
        let shared = Arc::clone(&live);
        let samples = batch.records.iter().filter(|record| matches!(record, Record::Measurement(_))).count();
        let newest = self.metrics.newest_samples(&batch.records);
        let applied = self
            .store
            .write(move |connection| {
                let mut live = shared.lock().unwrap_or_else(PoisonError::into_inner);
                Self::apply_batch(connection, &mut live, &session, batch, &documents, remote, now_ms)
            })
            .await;
        match applied {
            // known already, or too late
            Ok(None) => {}
            Ok(Some(transitions)) => {
                self.metrics.stored(samples);
                self.metrics.keep_samples(run, newest);
                if moves_queue {
                    self.memory().turns.changed();
                }
                for transition in transitions {
                    self.perform(transition);
                }
            }
            Err(error) => {
                // the transaction is rolled back, what the memory learned is not: it is rebuilt from the database
                self.memory().live.remove(&run);
                if matches!(error, RunError::OtherBoot { .. }) {
                    self.unplanned_reboot(run).await?;
                }
                return Err(error);
            }
        }
        self.acknowledge(run).await
    }

    /// What follows; absent where nothing of the batch was kept.
    fn apply_batch(
        connection: &Connection,
        live: &mut Live,
        session: &Session,
        batch: Batch,
        documents: &[upload::Stored],
        remote: SocketAddr,
        now_ms: i64,
    ) -> Result<Option<Vec<Transition>>, RunError> {
        let run = session.run;
        if session.boot_id != batch.boot_id {
            return Err(RunError::OtherBoot { run });
        }
        match sessions::advance_sequence(connection, session.id, batch.sequence)? {
            SequenceStep::Applied => {}
            SequenceStep::Duplicate => return Ok(None),
            SequenceStep::Gap { expected } => {
                return Err(RunError::SequenceGap { expected, found: batch.sequence });
            }
        }
        sessions::note(connection, run, TimelineEntry::LastContact(now_ms, remote.ip()))?;
        if !takes_records(runs::get(connection, run)?.state) {
            // the verdict is made or being made without them; the answer tells the agent so
            let message = format!("batch {} came after the end of the run and was not kept", batch.sequence);
            events::insert(connection, &of_run(run, now_ms, EventLevel::Warning, "late_batch", message))?;
            return Ok(None);
        }
        let mut applier = Applier::new(connection, live, run, now_ms)?;
        let mut documents = documents.iter();
        let mut transitions = Vec::new();
        let mut finished = false;
        for record in batch.records {
            match record {
                Record::RebootPlanned { stage, target, budget_ms, reason } => {
                    let planned = (stage, target, budget_ms);
                    transitions.push(reboot::announce(connection, run, planned, &reason, now_ms)?);
                }
                Record::PipelineFinished { .. } => finished = true,
                Record::Inventory(_) | Record::Firmware(_) => {
                    let stored = documents.next().ok_or_else(|| RunError::Corrupt {
                        run,
                        what: "a document of the batch was not filed".to_owned(),
                    })?;
                    stored.insert(connection, run)?;
                    applier.apply(record)?;
                }
                Record::Measurement(_)
                | Record::HardwareLimits { .. }
                | Record::StageStarted { .. }
                | Record::SubStepStarted { .. }
                | Record::Progress { .. }
                | Record::SubStepFinished { .. }
                | Record::SpecDiffs { .. }
                | Record::StageFinished { .. }
                | Record::TurnAwaited { .. }
                | Record::Event { .. } => applier.apply(record)?,
            }
        }
        applier.finish()?;
        if finished {
            let why = "the agent finished its pipeline";
            let ending = Some(&Ending::Regular);
            transitions.push(transition(connection, now_ms, run, RunEvent::PipelineFinished, why, ending)?);
        }
        Ok(Some(transitions))
    }

    /// Notes a sign of life of the boot that claimed, whether or not the database can take it now.
    fn hear(&self, session: &Session, boot_id: &str) {
        if session.boot_id == boot_id {
            self.memory().since.heard(session.run, self.clock.steady_ms());
        }
    }

    /// A sign of life; the answer says what to do.
    pub async fn heartbeat(
        &self,
        session: Session,
        heartbeat: Heartbeat,
        remote: SocketAddr,
    ) -> Result<Acknowledgement, RunError> {
        let run = session.run;
        if session.boot_id != heartbeat.boot_id {
            self.unplanned_reboot(run).await?;
            return Err(RunError::OtherBoot { run });
        }
        self.hear(&session, &heartbeat.boot_id);
        let contact = TimelineEntry::LastContact(self.clock.now_ms(), remote.ip());
        let noted: Result<(), StoreError> =
            self.store.write(move |connection| sessions::note(connection, run, contact)).await;
        noted?;
        self.acknowledge(run).await
    }

    /// PID 1 tells that the agent died.
    pub async fn crash(&self, session: Session, crash: AgentCrash) -> Result<Acknowledgement, RunError> {
        let driver = self.clone();
        to_its_end(async move { driver.take_crash(session, crash).await }).await
    }

    async fn take_crash(&self, session: Session, crash: AgentCrash) -> Result<Acknowledgement, RunError> {
        let run = session.run;
        let now_ms = self.clock.now_ms();
        let AgentCrash { how, last_lines, .. } = crash;
        let done = self
            .store
            .write(move |connection| {
                let message = format!("the agent died: {how}");
                let mut line = of_run(run, now_ms, EventLevel::Error, "agent_crashed", message.clone());
                line.data = Some(serde_json::json!({"how": how, "last_lines": last_lines}));
                events::insert(connection, &line)?;
                let ending = Ending::AgentCrashed { how };
                transition(connection, now_ms, run, RunEvent::AgentCrashed, &message, Some(&ending))
            })
            .await?;
        self.perform(done);
        self.acknowledge(run).await
    }

    async fn unplanned_reboot(&self, run: RunId) -> Result<(), RunError> {
        let stage = self.store.read(move |connection| running_stage(connection, run)).await?;
        // what it left behind comes with a claim, and this boot made none
        let ending = Ending::UnplannedReboot { stage, evidence: None };
        let why = "a record came from another boot, and no reboot was announced";
        match self.apply(run, RunEvent::UnplannedReboot, why, Some(ending), None).await {
            // over already, or announced after all
            Ok(_) | Err(RunError::NotNow { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The run's memory; rebuilt from its stored samples when there is none.
    pub(super) async fn live(&self, run: RunId) -> Result<Arc<Mutex<Live>>, RunError> {
        if let Some(live) = self.memory().live.get(&run) {
            return Ok(Arc::clone(live));
        }
        let live = self
            .store
            .read(move |connection| {
                let mut live = new_live(connection, run)?;
                measurements::for_each(connection, run, |sample| {
                    live.observe(&sample);
                })?;
                Ok::<_, RunError>(live)
            })
            .await?;
        let live = Arc::new(Mutex::new(live));
        Ok(Arc::clone(self.memory().live.entry(run).or_insert(live)))
    }

    /// Whether a batch may still be applied when its turn comes: only then are files made for it. Once no, always no.
    async fn may_be_applied(&self, session: &Session, batch: &Batch) -> Result<bool, RunError> {
        if session.boot_id != batch.boot_id {
            return Ok(false);
        }
        let (run, id, sequence) = (session.run, session.id, batch.sequence);
        self.store
            .read(move |connection| {
                let applied = sequence <= sessions::last_sequence(connection, id)?;
                Ok(!applied && takes_records(runs::get(connection, run)?.state))
            })
            .await
    }

    /// Inventories and firmware reports go whole to files, before the transaction that refers to them. Each is named by
    /// its digest: one that is refused after all replaces no other.
    async fn store_documents(&self, run: RunId, batch: &Batch) -> Result<Vec<upload::Stored>, RunError> {
        let corrupt = |error: serde_json::Error| RunError::Corrupt { run, what: error.to_string() };
        let mut stored = Vec::new();
        for record in &batch.records {
            let (kind, text) = match record {
                Record::Inventory(inventory) => {
                    (INVENTORY, serde_json::to_vec_pretty(inventory).map_err(corrupt)?)
                }
                Record::Firmware(report) => (FIRMWARE, serde_json::to_vec_pretty(report).map_err(corrupt)?),
                Record::Measurement(_)
                | Record::HardwareLimits { .. }
                | Record::StageStarted { .. }
                | Record::SubStepStarted { .. }
                | Record::Progress { .. }
                | Record::SubStepFinished { .. }
                | Record::SpecDiffs { .. }
                | Record::StageFinished { .. }
                | Record::TurnAwaited { .. }
                | Record::RebootPlanned { .. }
                | Record::PipelineFinished { .. }
                | Record::Event { .. } => continue,
            };
            let name = format!("{kind}-{}.json", Sha256Hex::of(&text));
            stored.push(self.store_artifact(run, kind, name, text).await?);
        }
        Ok(stored)
    }
}

/// An empty memory with the rules of a run.
pub(super) fn new_live(connection: &Connection, run: RunId) -> Result<Live, RunError> {
    Ok(Live::new(rules_of(connection, run)?))
}

/// The rules that judge a run now.
pub(super) fn rules_of(connection: &Connection, run: RunId) -> Result<Arc<RuleSet<RuleKey>>, RunError> {
    RuleSet::compile(rules::of_run(connection, run)?)
        .map(Arc::new)
        .map_err(|error| RunError::Corrupt { run, what: error.to_string() })
}

/// Whether records may still change what is known of the machine.
fn takes_records(state: RunState) -> bool {
    match state {
        RunState::Running | RunState::Rebooting => true,
        RunState::Queued
        | RunState::Waking
        | RunState::Booting
        | RunState::Reporting
        | RunState::Completed
        | RunState::FailedHolding
        | RunState::Released
        | RunState::Aborted => false,
    }
}
