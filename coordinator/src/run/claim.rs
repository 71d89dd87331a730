//! The claim: a one-time secret for the bearer token of the run. Owns who may speak for a run.

use std::net::SocketAddr;

use serde_json::json;
use vetting_judge::facts::Ending;
use vetting_protocol::PROTOCOL_VERSION;
use vetting_protocol::agent_api::{ClaimRequest, ClaimResponse, EventLevel};
use vetting_protocol::ids::{RunId, Sha256Hex};
use vetting_protocol::plan::{DiskConsent, Plan};
use vetting_protocol::run::RunState;

use super::driver::{Driver, Transition, transition};
use super::error::RunError;
use super::secrets;
use super::state::RunEvent;
use crate::store::{self, Tx};

/// A request whose token was found good.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// The run it may speak for.
    pub run: RunId,
}

/// What a claim is, judged by the session it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The run's first.
    First,
    /// After an announced reboot.
    Return,
    /// After a reboot that nobody had announced.
    Crash,
    /// The same boot asks again: the answer to its claim was lost.
    Repeated,
}

impl Driver {
    /// The session that a token opens, if it is one of `run`.
    pub async fn session(&self, run: RunId, token: Sha256Hex) -> Result<Session, RunError> {
        let owner = self
            .store
            .read(move |connection| Ok::<_, RunError>(store::runs::with_token(connection, token)?))
            .await?;
        match owner {
            Some(owner) if owner == run => Ok(Session { run }),
            Some(_) => Err(RunError::OtherRun { run }),
            None => Err(RunError::TokenUnknown),
        }
    }

    /// Gives the run to the machine that holds the secret of its newest boot script.
    ///
    /// # Errors
    /// A secret that is unknown, expired or used, or another protocol: each is also written to the events.
    pub async fn claim(&self, claim: ClaimRequest, remote: SocketAddr) -> Result<ClaimResponse, RunError> {
        let run = claim.run_id;
        let claimed = self.try_claim(claim, remote).await;
        if let Err(refusal) = &claimed {
            self.tell_of_refused_claim(run, refusal, remote).await?;
        }
        claimed
    }

    async fn try_claim(&self, claim: ClaimRequest, remote: SocketAddr) -> Result<ClaimResponse, RunError> {
        let run = claim.run_id;
        if claim.protocol_version != PROTOCOL_VERSION {
            return Err(RunError::ProtocolVersion { agent: claim.protocol_version, coordinator: PROTOCOL_VERSION });
        }
        let now_ms = self.clock.now_ms();
        let token = secrets::fresh()?;
        let token_hash = token.sha256();
        let driver = self.clone();
        let (done, plan) = self
            .store
            .write(move |tx| {
                let kind = judge_claim(tx, &claim, now_ms)?;
                let done = enter(tx, &claim, kind, remote, now_ms)?;
                if kind == Kind::First {
                    driver.seed_stages(tx, run)?;
                }
                store::sessions::open(
                    tx,
                    run,
                    &store::sessions::Opened {
                        token_hash,
                        boot_id: &claim.boot_id,
                        remote: remote.ip(),
                        now_ms,
                        timeline: &claim.timeline,
                        first: kind == Kind::First,
                    },
                )?;
                let plan = driver.plan(tx, run)?;
                Ok::<_, RunError>((done, plan))
            })
            .await?;
        if let Some(done) = done {
            self.perform(done);
        }
        Ok(ClaimResponse { token, server_time_ms: self.clock.now_ms(), plan })
    }

    fn seed_stages(&self, tx: &Tx<'_>, run: RunId) -> Result<(), RunError> {
        let row = store::runs::get(tx, run)?.ok_or(RunError::NoRun { run })?;
        let names: Vec<_> =
            self.profiles.get(row.profile).stages.iter().map(|stage| stage.work.name()).collect();
        store::stages::seed(tx, run, &names)?;
        Ok(())
    }

    /// What is left to do: nothing for a run whose pipeline is over.
    fn plan(&self, tx: &Tx<'_>, run: RunId) -> Result<Plan, RunError> {
        let row = store::runs::get(tx, run)?.ok_or(RunError::NoRun { run })?;
        let host = store::hosts::by_id(tx, row.host_id)?.ok_or(RunError::NoRun { run })?;
        let profile = self.profiles.get(row.profile);
        let mut stages = profile.planned_stages();
        if row.state == RunState::Running {
            let rows = store::stages::of_run(tx, run)?;
            stages.retain(|planned| {
                rows.iter().any(|row| {
                    row.name == planned.work.name().as_str() && !row.state.is_finished()
                })
            });
        } else {
            stages.clear();
        }
        let consent = match (row.non_destructive, row.wipe) {
            (true, _) => DiskConsent::NonDestructive,
            (false, true) => DiskConsent::WipeAllowed,
            (false, false) => DiskConsent::EmptyDisksOnly,
        };
        Ok(Plan {
            run_id: run,
            host_name: host.name,
            profile: row.profile,
            sampling_interval_ms: profile.sampling_interval_ms,
            expected_spec_yaml: host.expected_spec_yaml,
            consent,
            stages,
        })
    }

    async fn tell_of_refused_claim(
        &self,
        run: RunId,
        refusal: &RunError,
        remote: SocketAddr,
    ) -> Result<(), RunError> {
        let now_ms = self.clock.now_ms();
        let message = format!("a claim from {} was refused: {refusal}", remote.ip());
        tracing::warn!(%run, %remote, "{message}");
        let data = json!({"remote": remote.ip(), "claimed_run": run});
        self.store
            .write(move |tx| {
                // the run may not exist: its number came from the network
                let level = EventLevel::Warning;
                if store::runs::get(tx, run)?.is_some() {
                    store::events::of_run(tx, now_ms, run, level, "claim_refused", &message, Some(&data))
                } else {
                    store::events::general(tx, now_ms, level, "claim_refused", &message, Some(&data))
                }
            })
            .await?;
        Ok(())
    }
}

/// Is the secret good, and what does the claim mean?
fn judge_claim(tx: &Tx<'_>, claim: &ClaimRequest, now_ms: i64) -> Result<Kind, RunError> {
    let run = claim.run_id;
    let row = store::runs::get(tx, run)?.ok_or(RunError::ClaimUnknown { run })?;
    let session = store::sessions::get(tx, run)?.ok_or(RunError::ClaimUnknown { run })?;
    if session.claim_hash != Some(claim.claim_secret.sha256()) {
        return Err(RunError::ClaimUnknown { run });
    }
    let same_boot = session.boot_id.as_deref() == Some(claim.boot_id.as_str());
    if session.claim_used {
        // a boot_id is 122 random bits that only that machine knows
        let lost_answer = same_boot && session.acknowledged_sequence == 0 && row.state == RunState::Running;
        return if lost_answer { Ok(Kind::Repeated) } else { Err(RunError::ClaimUsed { run }) };
    }
    if session.claim_expires_ms.is_none_or(|expires_ms| expires_ms < now_ms) {
        return Err(RunError::ClaimExpired { run });
    }
    match row.state {
        RunState::Running if same_boot => Err(RunError::ClaimUsed { run }),
        RunState::Running => Ok(Kind::Crash),
        RunState::Rebooting if same_boot => Err(RunError::ClaimUsed { run }),
        RunState::Rebooting => Ok(Kind::Return),
        RunState::Queued
        | RunState::Waking
        | RunState::Booting
        | RunState::Reporting
        | RunState::Completed
        | RunState::FailedHolding
        | RunState::Released
        | RunState::Aborted => Ok(Kind::First),
    }
}

fn enter(
    tx: &Tx<'_>,
    claim: &ClaimRequest,
    kind: Kind,
    remote: SocketAddr,
    now_ms: i64,
) -> Result<Option<Transition>, RunError> {
    let run = claim.run_id;
    let by = format!("agent {} at {}", claim.agent_version, remote.ip());
    let (event, why, ending) = match kind {
        Kind::Repeated => return Ok(None),
        Kind::First => (RunEvent::Claimed, format!("claimed by {by}"), None),
        Kind::Return => (RunEvent::ReturnedFromReboot, format!("claimed again by {by}"), None),
        Kind::Crash => {
            let stage = store::stages::running(tx, run)?;
            let during = stage.map_or_else(|| "between stages".to_owned(), |stage| format!("during {stage}"));
            let why = format!("the machine restarted unannounced {during}; claimed again by {by}");
            (RunEvent::UnplannedReboot, why, Some(Ending::UnplannedReboot { stage, evidence: None }))
        }
    };
    transition(tx, now_ms, run, event, &why, ending.as_ref()).map(Some)
}
