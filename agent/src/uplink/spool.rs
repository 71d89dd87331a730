//! What waits for the coordinator: records in order, in memory, until they are acknowledged.
//!
//! Owns the order and the count. Records are kept as the JSON they are sent as, so their size is known. Nothing is
//! dropped and nothing is merged: when the spool is full, the sensors wait, the stages do not.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use vetting_protocol::agent_api::{Acknowledgement, ArtifactReceipt, Directive, MAX_BATCH_RECORDS, Record};

use super::UplinkError;
use crate::cancel::Cancel;
use crate::clock;

/// Records in one batch take at most this many bytes, so that the body stays under the coordinator's limit.
const BATCH_BYTES: usize = 3 * 1024 * 1024;
/// How often a waiting thread looks whether its work was cancelled.
const LOOK: Duration = Duration::from_millis(100);

/// The place where records wait.
pub(super) struct Spool {
    state: Mutex<State>,
    /// Told whenever the state changed, to threads that wait.
    changed: Condvar,
    /// Told whenever there is something to do, to the task that sends.
    pub(super) work: Notify,
    limit_bytes: usize,
}

struct State {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Records ever taken in, and of these acknowledged.
    taken: u64,
    acknowledged: u64,
    /// Someone waits for this many to be acknowledged.
    wanted: u64,
    artifacts: VecDeque<Artifact>,
    directive: Directive,
    /// Answers ever received.
    answers: u64,
    failure: Option<UplinkError>,
    closed: bool,
}

struct Waiting {
    json: Box<RawValue>,
    since: Instant,
}

/// A file on its way to the coordinator.
#[derive(Clone)]
pub(super) struct Artifact {
    pub(super) path: String,
    pub(super) body: bytes::Bytes,
    pub(super) answer: crossbeam_channel::Sender<ArtifactReceipt>,
}

/// What the sending task does next.
pub(super) enum Job {
    /// Send these; `count` records.
    Batch { records: Vec<Box<RawValue>>, count: u64 },
    /// Send this file.
    Artifact(Artifact),
    /// Nothing until then, unless [`Spool::work`] is told.
    Wait(Option<Instant>),
    /// End.
    Close,
}

impl Spool {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                taken: 0,
                acknowledged: 0,
                wanted: 0,
                artifacts: VecDeque::new(),
                directive: Directive::Continue,
                answers: 0,
                failure: None,
                closed: false,
            }),
            changed: Condvar::new(),
            work: Notify::new(),
            limit_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.notify_all();
        self.work.notify_one();
    }

    pub(super) fn push(&self, record: &Record) {
        let json = match to_json(record) {
            Ok(json) => json,
            Err(error) => {
                let what = error.to_string();
                return self.fail(UplinkError::Record { what });
            }
        };
        let mut state = self.lock();
        state.waiting_bytes += json.get().len();
        state.taken += 1;
        state.waiting.push_back(Waiting { json, since: clock::monotonic() });
        let full_batch = state.waiting.len() >= MAX_BATCH_RECORDS;
        let first = state.waiting.len() == 1;
        drop(state);
        // the first starts the batch's age; the others join it in silence until it is full
        if full_batch || first {
            self.work.notify_one();
        }
    }

    /// Waits while the spool is over its limit, unless the uplink has ended.
    pub(super) fn wait_for_room(&self, cancel: &Cancel) {
        let mut state = self.lock();
        while state.waiting_bytes > self.limit_bytes && !state.has_ended() && !cancel.is_raised() {
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until everything pushed before is acknowledged.
    pub(super) fn flush(&self, cancel: &Cancel) -> Result<Directive, UplinkError> {
        let mut state = self.lock();
        let wanted = state.taken;
        state.wanted = state.wanted.max(wanted);
        self.work.notify_one();
        loop {
            state.check(cancel)?;
            if state.acknowledged >= wanted {
                return Ok(state.directive.clone());
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for an answer after `seen` answers; gives its directive and the number of answers now.
    pub(super) fn next_answer(&self, seen: u64, cancel: &Cancel) -> Result<(Directive, u64), UplinkError> {
        let mut state = self.lock();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.answers > seen {
                return Ok((state.directive.clone(), state.answers));
            }
            if cancel.is_raised() {
                return Err(UplinkError::Interrupted);
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn directive(&self) -> Directive {
        self.lock().directive.clone()
    }

    pub(super) fn failure(&self) -> Option<UplinkError> {
        self.lock().failure.clone()
    }

    pub(super) fn push_artifact(&self, artifact: Artifact) {
        self.lock().artifacts.push_back(artifact);
        self.tell();
    }

    /// No more is sent, also not what waits.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.tell();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().closed
    }

    /// What to send now, if a batch may be `batch_age` old.
    pub(super) fn next_job(&self, batch_age: Duration) -> Job {
        let mut state = self.lock();
        if state.closed || state.failure.is_some() {
            return Job::Close;
        }
        let Some(oldest) = state.waiting.front().map(|first| first.since) else {
            return match state.artifacts.front() {
                Some(artifact) => Job::Artifact(artifact.clone()),
                None => Job::Wait(None),
            };
        };
        let due = state.waiting.len() >= MAX_BATCH_RECORDS
            || state.waiting_bytes >= BATCH_BYTES
            || state.wanted > state.acknowledged
            || !state.artifacts.is_empty()
            || oldest.elapsed() >= batch_age;
        if !due {
            return Job::Wait(Some(oldest + batch_age));
        }
        let records = state.take_batch();
        drop(state);
        self.changed.notify_all();
        Job::Batch { count: records.len() as u64, records }
    }

    /// `count` records, none for a heartbeat, are durable at the coordinator.
    pub(super) fn acknowledged(&self, count: u64, answer: Acknowledgement) {
        let mut state = self.lock();
        state.acknowledged += count;
        state.answers += 1;
        state.directive = answer.directive;
        drop(state);
        self.tell();
    }

    pub(super) fn artifact_stored(&self, receipt: ArtifactReceipt) {
        let stored = self.lock().artifacts.pop_front();
        if let Some(artifact) = stored {
            // whoever waited for it may have given up
            let _ = artifact.answer.send(receipt);
        }
        self.tell();
    }

    /// The uplink has ended with an error; the first one counts.
    pub(super) fn fail(&self, failure: UplinkError) {
        let mut state = self.lock();
        state.failure.get_or_insert(failure);
        // whoever waits for a receipt learns by the closed channel
        state.artifacts.clear();
        drop(state);
        self.tell();
    }
}

impl State {
    fn has_ended(&self) -> bool {
        self.failure.is_some() || self.closed
    }

    fn check(&self, cancel: &Cancel) -> Result<(), UplinkError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if cancel.is_raised() || self.closed {
            return Err(UplinkError::Interrupted);
        }
        Ok(())
    }

    fn take_batch(&mut self) -> Vec<Box<RawValue>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            let size = next.json.get().len();
            let full = records.len() >= MAX_BATCH_RECORDS || bytes + size > BATCH_BYTES;
            // a record larger than a batch goes alone; the coordinator judges it
            if full && !records.is_empty() {
                break;
            }
            if let Some(taken) = self.waiting.pop_front() {
                bytes += size;
                records.push(taken.json);
            }
        }
        self.waiting_bytes -= bytes;
        records
    }
}

/// JSON has no NaN: progress that is not a number is none.
fn to_json(record: &Record) -> Result<Box<RawValue>, serde_json::Error> {
    if let Record::Progress { percent, .. } = record
        && !percent.is_finite()
    {
        let mut record = record.clone();
        if let Record::Progress { percent, .. } = &mut record {
            *percent = 0.0;
        }
        return serde_json::value::to_raw_value(&record);
    }
    serde_json::value::to_raw_value(record)
}

/// A batch as it is sent: [`vetting_protocol::agent_api::Batch`] with its records made already.
#[derive(Serialize)]
pub(super) struct RawBatch<'a> {
    pub(super) sequence: u64,
    pub(super) boot_id: &'a str,
    pub(super) records: &'a [Box<RawValue>],
}

/// Shared by the uplink's handle and its task.
pub(super) type SharedSpool = Arc<Spool>;
