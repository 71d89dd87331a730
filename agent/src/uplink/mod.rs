//! The stream to the coordinator: buffered, in order, resumed after every interruption, each batch counted once.
//!
//! Owns the connection, the trust in it, the numbering of batches and the newest directive. The only async part
//! of the agent: one thread with its own runtime. Refuses nothing it is given and drops nothing; what cannot be
//! delivered for good ends the run.

mod ask;
mod backoff;
mod claim;
mod client;
mod counterpart;
mod crash;
mod enrol;
mod host_mode;
mod spool;
mod tls;
mod worker;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use vetting_protocol::agent_api::{ArtifactReceipt, Directive, MAX_ARTIFACT_BYTES, Record};
use vetting_protocol::ids::RunId;
use vetting_protocol::secret::Secret;

pub use ask::{ask_for_plan, report_hold};
pub use claim::{ClaimError, claim};
pub use client::{Client, ClientError, RequestError};
pub use counterpart::CoordinatorEnd;
pub use crash::report_crash;
pub use enrol::{EnrolError, Enrolled, enrol};
pub use host_mode::{HostModeError, attend};

use crate::cancel::Cancel;
use crate::console::Console;
use crate::reporter::Reporter;
use spool::{Artifact, SharedSpool, Spool};
use worker::Worker;

/// How patient the uplink is.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A batch is sent at the latest when its oldest record is this old.
    pub batch_age: Duration,
    /// A heartbeat is sent when nothing else was for this long.
    pub heartbeat: Duration,
    /// The same while the verdict is awaited.
    pub verdict_poll: Duration,
    /// Wait after the first failure.
    pub first_retry: Duration,
    /// Longest wait between two tries.
    pub longest_retry: Duration,
}

impl Timing {
    /// What the live image uses.
    pub const NORMAL: Self = Self {
        batch_age: Duration::from_secs(1),
        heartbeat: Duration::from_secs(5),
        verdict_poll: Duration::from_millis(500),
        first_retry: Duration::from_millis(500),
        longest_retry: Duration::from_secs(15),
    };
}

/// How often a wait looks whether the work was cancelled.
const CANCEL_LOOK: Duration = Duration::from_millis(50);

/// Most bytes that wait in memory before the sensors have to wait.
pub const SPOOL_LIMIT_BYTES: usize = 256 * 1024 * 1024;

/// What a claim gave.
#[derive(Debug, Clone)]
pub struct Session {
    /// The run.
    pub run: RunId,
    /// Its bearer token.
    pub token: Secret,
    /// The boot that claimed it.
    pub boot_id: String,
    /// The last batch of it that the coordinator has; 0 after a claim.
    pub sequence: u64,
}

/// Why the uplink ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UplinkError {
    /// The coordinator refuses for good, or is not one.
    #[error(transparent)]
    Request(RequestError),
    /// It answered a batch without having it.
    #[error("the coordinator acknowledged batch {acknowledged} when {sent} was sent")]
    NotAcknowledged {
        /// The batch sent.
        sent: u64,
        /// What it has.
        acknowledged: u64,
    },
    /// A record cannot be written as JSON.
    #[error("a record cannot be written: {what}")]
    Record {
        /// What is wrong with it.
        what: String,
    },
    /// A run without a coordinator cannot go on.
    #[error("{what}")]
    Alone {
        /// Why.
        what: String,
    },
    /// The coordinator stored something else than what was sent.
    #[error("artifact {path} arrived damaged")]
    ArtifactDamaged {
        /// Its kind and name.
        path: String,
    },
    /// An artifact is over the limit.
    #[error("artifact {path} has {size_bytes} bytes; at most {MAX_ARTIFACT_BYTES} are taken")]
    ArtifactTooLarge {
        /// Its kind and name.
        path: String,
        /// Its size.
        size_bytes: u64,
    },
    /// After a crash the coordinator did not say what becomes of the machine.
    #[error("the coordinator does not say what becomes of the machine")]
    Undecided,
    /// Its thread could not be started.
    #[error("the uplink cannot be started: {why}")]
    Start {
        /// Why.
        why: String,
    },
    /// The work was cancelled while it waited.
    #[error("interrupted")]
    Interrupted,
}

/// The pipeline's view of the coordinator.
pub trait Link: Reporter {
    /// Waits until everything recorded before is acknowledged; gives the newest directive.
    fn flush(&self, cancel: &Cancel) -> Result<Directive, UplinkError>;

    /// The newest directive.
    fn directive(&self) -> Directive;

    /// Why the link ended, if it did.
    fn failure(&self) -> Option<UplinkError>;

    /// Waits for an answer after the first `seen`; gives its directive and how many there were.
    fn next_answer(&self, seen: u64, cancel: &Cancel) -> Result<(Directive, u64), UplinkError>;

    /// Stores a file with the run and waits until it is durable. `kind` and `name` are words of this program, not of
    /// the network.
    fn store(&self, kind: &str, name: &str, body: Vec<u8>, cancel: &Cancel) -> Result<(), UplinkError>;
}

/// The running stream. Dropping it ends it without sending what waits: [`Link::flush`] first.
pub struct Uplink {
    spool: SharedSpool,
    thread: Option<JoinHandle<()>>,
    cancel: Cancel,
}

impl Uplink {
    /// Starts sending. `cancel` is raised when the coordinator ends the run or the uplink fails for good.
    pub fn start(
        client: Client,
        session: Session,
        timing: Timing,
        spool_limit_bytes: usize,
        console: Arc<dyn Console>,
        cancel: Cancel,
    ) -> Result<Self, UplinkError> {
        let cannot_start = |error: std::io::Error| UplinkError::Start { why: error.to_string() };
        let spool = Arc::new(Spool::new(spool_limit_bytes));
        let worker =
            Worker { client, session, spool: Arc::clone(&spool), timing, console, cancel: cancel.clone() };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot_start)?;
        let thread = std::thread::Builder::new()
            .name("uplink".to_owned())
            .spawn(move || runtime.block_on(worker.run()))
            .map_err(cannot_start)?;
        Ok(Self { spool, thread: Some(thread), cancel })
    }
}

impl Reporter for Uplink {
    fn record(&self, record: Record) {
        self.spool.push(&record);
    }

    fn wait_for_room(&self) {
        self.spool.wait_for_room(&self.cancel);
    }
}

impl Link for Uplink {
    fn flush(&self, cancel: &Cancel) -> Result<Directive, UplinkError> {
        self.spool.flush(cancel)
    }

    fn directive(&self) -> Directive {
        self.spool.directive()
    }

    fn failure(&self) -> Option<UplinkError> {
        self.spool.failure()
    }

    fn next_answer(&self, seen: u64, cancel: &Cancel) -> Result<(Directive, u64), UplinkError> {
        self.spool.next_answer(seen, cancel)
    }

    fn store(&self, kind: &str, name: &str, body: Vec<u8>, cancel: &Cancel) -> Result<(), UplinkError> {
        let path = format!("{kind}/{name}");
        let size_bytes = body.len() as u64;
        if size_bytes > MAX_ARTIFACT_BYTES {
            return Err(UplinkError::ArtifactTooLarge { path, size_bytes });
        }
        if let Some(failure) = self.spool.failure() {
            return Err(failure);
        }
        let (answer, receipt) = crossbeam_channel::bounded(1);
        self.spool.push_artifact(Artifact { path, body: body.into(), answer });
        loop {
            match receipt.recv_timeout(CANCEL_LOOK) {
                Ok(ArtifactReceipt { .. }) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if cancel.is_raised() => return Err(UplinkError::Interrupted),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.spool.failure().unwrap_or(UplinkError::Interrupted));
                }
            }
        }
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        self.spool.close();
        if let Some(thread) = self.thread.take() {
            // a panic of the thread was printed by its hook
            let _ = thread.join();
        }
    }
}

/// Comes back once the work is to end.
async fn raised(cancel: &Cancel) {
    while !cancel.is_raised() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests;
