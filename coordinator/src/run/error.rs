//! Why something that was asked of a run is not done. `http` gives each its status.

use vetting_protocol::ids::{RunId, Sha256Hex, StageName};
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::RunState;

use super::secrets::RandomError;
use crate::durable_file::WriteError;
use crate::signing::SigningError;
use crate::store::StoreError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database.
    #[error("the database did not take or give it")]
    Store(#[from] StoreError),
    /// A file of the run.
    #[error("a file of the run could not be stored")]
    File(#[from] WriteError),
    /// A file of the run could not be read or made.
    #[error("a file of the run could not be read or made: {path}")]
    Io {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The report cannot be signed.
    #[error("the report cannot be signed")]
    Signing(#[from] SigningError),
    /// No secret could be made.
    #[error("no secret could be made")]
    Random(#[from] RandomError),
    /// What is in the database does not fit this program.
    #[error("run {run}: {what}")]
    Corrupt {
        /// Which.
        run: RunId,
        /// What does not fit.
        what: String,
    },
    /// A file that the janitor removed.
    #[error(
        "the {kind} of run {run} was removed by its age on {removed_at} UTC (`artifacts.retention_days`), so the run \
         can no longer be judged anew; order a new one"
    )]
    Removed {
        /// Which.
        run: RunId,
        /// What kind of file.
        kind: String,
        /// When.
        removed_at: String,
    },
    /// A background task died.
    #[error("a task of the coordinator died")]
    Task(#[from] tokio::task::JoinError),
    /// Contradicting wishes.
    #[error("`wipe` and `non_destructive` exclude each other; leave one out")]
    WipeNonDestructive,
    /// Erasing is the strongest kind of wiping.
    #[error("`erase` destroys all that is on every disk; give `wipe` with it")]
    EraseWithoutWipe,
    /// The installed system would lose its disks.
    #[error("a run on the installed system writes to no disk; leave `wipe` out, or run in the live image")]
    WipeInstalledSystem,
    /// A machine that nobody would let go.
    #[error(
        "a failed machine cannot be kept up: `hold.limit` of the config is 0s; set a time, or choose another `after_fail`"
    )]
    NoHold,
    /// `step()` refused.
    #[error("run {run} is {state}: {why}")]
    NotNow {
        /// Which.
        run: RunId,
        /// Where it stands.
        state: RunState,
        /// Why not.
        why: &'static str,
    },
    /// The agent speaks another protocol.
    #[error("the agent speaks protocol {agent}, this coordinator {coordinator}; rebuild the live image")]
    ProtocolVersion {
        /// The agent's.
        agent: u32,
        /// Ours.
        coordinator: u32,
    },
    /// Not the secret of the newest boot script.
    #[error("the claim secret is not that of the newest boot script of run {run}; boot the machine again")]
    ClaimUnknown {
        /// The run it was for.
        run: RunId,
    },
    /// Too late.
    #[error("the claim secret of run {run} has expired; boot the machine again")]
    ClaimExpired {
        /// The run it was for.
        run: RunId,
    },
    /// A second claim.
    #[error(
        "run {run} was claimed already; if that was not this machine, someone else holds its claim secret"
    )]
    ClaimUsed {
        /// The run it was for.
        run: RunId,
    },
    /// The machine that claims is not the one the run was ordered for.
    #[error("run {run} was ordered for another machine: {why}")]
    OtherMachine {
        /// The run it was for.
        run: RunId,
        /// What speaks against it.
        why: String,
    },
    /// More than is taken at a time.
    #[error("{what}")]
    TooMany {
        /// What is too many, with what to do.
        what: String,
    },
    /// No run has this token.
    #[error("the token is not valid, or a newer claim has replaced it")]
    TokenUnknown,
    /// The token of another run.
    #[error("the token belongs to another run than {run}")]
    OtherRun {
        /// The run in the path.
        run: RunId,
    },
    /// A batch is missing.
    #[error("batch {found} came, but {expected} is expected; send from there")]
    SequenceGap {
        /// The next one in order.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// Another boot.
    #[error(
        "this comes from another boot than the one that claimed run {run}; the run has failed by an unplanned reboot"
    )]
    OtherBoot {
        /// The run.
        run: RunId,
    },
    /// A record of a stage that is over.
    #[error("stage {stage} is over ({state}); it takes no more records")]
    StageFinished {
        /// Which.
        stage: StageName,
        /// How.
        state: StepState,
    },
    /// Not in the plan.
    #[error("the plan has no stage {stage}")]
    UnknownStage {
        /// Which.
        stage: StageName,
    },
    /// Never started.
    #[error("stage {stage} has no sub-step {ordinal}; report its start first")]
    UnknownSubStep {
        /// The stage.
        stage: StageName,
        /// The sub-step.
        ordinal: u32,
    },
    /// Too many.
    #[error("a batch holds {found} records; at most {most} are taken")]
    TooManyRecords {
        /// How many came.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// A machine's power is not as it was told.
    #[error("{what}")]
    Power {
        /// Why.
        what: String,
    },
    /// A value out of its range.
    #[error("{what}")]
    Invalid {
        /// What is wrong, with what to do.
        what: String,
    },
    /// An artifact's digest.
    #[error("{announced} was announced, {found} arrived; send it again")]
    DigestMismatch {
        /// What the header said.
        announced: Sha256Hex,
        /// What came.
        found: Sha256Hex,
    },
}

impl From<crate::power::ControlError> for RunError {
    fn from(error: crate::power::ControlError) -> Self {
        Self::power(&error)
    }
}

impl RunError {
    /// A machine's power was not switched.
    pub(super) fn power(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Power { what: crate::error_chain(error) }
    }

    /// Whether the one who asked was refused; otherwise this coordinator or its disk failed.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Store(_)
            | Self::File(_)
            | Self::Io { .. }
            | Self::Random(_)
            | Self::Signing(_)
            | Self::Corrupt { .. }
            | Self::Power { .. }
            | Self::Task(_) => false,
            Self::WipeNonDestructive
            | Self::EraseWithoutWipe
            | Self::WipeInstalledSystem
            | Self::NoHold
            | Self::Removed { .. }
            | Self::NotNow { .. }
            | Self::ProtocolVersion { .. }
            | Self::ClaimUnknown { .. }
            | Self::ClaimExpired { .. }
            | Self::ClaimUsed { .. }
            | Self::OtherMachine { .. }
            | Self::TooMany { .. }
            | Self::TokenUnknown
            | Self::OtherRun { .. }
            | Self::SequenceGap { .. }
            | Self::OtherBoot { .. }
            | Self::StageFinished { .. }
            | Self::UnknownStage { .. }
            | Self::UnknownSubStep { .. }
            | Self::TooManyRecords { .. }
            | Self::Invalid { .. }
            | Self::DigestMismatch { .. } => true,
        }
    }
}
