//! The claim: a one-time secret for the bearer token of the run. Owns who may speak for a run.

use std::net::SocketAddr;

use serde_json::json;
use vetting_judge::facts::Ending;
use vetting_protocol::PROTOCOL_VERSION;
use vetting_protocol::agent_api::{ClaimRequest, ClaimResponse, EventLevel, PlanAnswer};
use vetting_protocol::host_mode;
use vetting_protocol::ids::{RunId, Sha256Hex, StageName};
use vetting_protocol::plan::{DiskConsent, Plan, PlannedStage};
use vetting_protocol::run::{RunPlace, RunState};

use super::claimant::identify;
use super::crash;
use super::driver::{Driver, Transition, of_run, to_its_end, transition};
use super::error::RunError;
use super::power::controls;
use super::stages::running_stage;
use super::state::RunEvent;
use super::{reboot, secrets};
use crate::store::runs::RunRow;
use crate::store::sessions::{self, Claim, ClaimOutcome, SessionId, TimelineEntry};
use crate::store::{Connection, StoreError, events, hosts, models, plans, runs, serial_consoles, stages};

/// What Storage gets on top of its limit where it erases the disks, for large rotating ones: ms.
const ERASE_MS: u64 = 48 * 60 * 60 * 1000;

/// A request whose token was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The run it may speak for.
    pub run: RunId,
    /// Its claim.
    pub id: SessionId,
    /// The boot that claimed.
    pub boot_id: String,
}

/// What a claim means for its run.
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
        let found: Result<_, StoreError> =
            self.store.read(move |connection| sessions::by_token(connection, token)).await;
        match found? {
            Some(row) if row.superseded => Err(RunError::TokenUnknown),
            Some(row) if row.run_id == run => Ok(Session { run, id: row.id, boot_id: row.boot_id }),
            Some(_) => Err(RunError::OtherRun { run }),
            None => Err(RunError::TokenUnknown),
        }
    }

    /// Lets pass what only a run under way may ask for.
    ///
    /// # Errors
    /// It is not, or not any more.
    pub async fn require_running(&self, run: RunId) -> Result<(), RunError> {
        let state =
            self.store.read(move |connection| runs::get(connection, run).map(|row| row.state)).await?;
        if state == RunState::Running {
            return Ok(());
        }
        Err(RunError::NotNow { run, state, why: "its machine is not under test now" })
    }

    /// Gives the run to the machine that holds the secret of its newest boot script.
    ///
    /// # Errors
    /// A secret that is unknown, expired or used, or another protocol: each is also written to the events.
    pub async fn claim(&self, claim: ClaimRequest, remote: SocketAddr) -> Result<ClaimResponse, RunError> {
        let driver = self.clone();
        to_its_end(async move { driver.take_claim(claim, remote).await }).await
    }

    async fn take_claim(&self, claim: ClaimRequest, remote: SocketAddr) -> Result<ClaimResponse, RunError> {
        let run = claim.run_id;
        let claimed = self.try_claim(claim, remote).await;
        if let Err(refusal) = &claimed
            && refusal.is_refusal()
        {
            self.tell_of_refused_claim(run, refusal, remote).await?;
        }
        claimed
    }

    async fn try_claim(&self, claim: ClaimRequest, remote: SocketAddr) -> Result<ClaimResponse, RunError> {
        let run = claim.run_id;
        if claim.protocol_version != PROTOCOL_VERSION {
            return Err(RunError::ProtocolVersion {
                agent: claim.protocol_version,
                coordinator: PROTOCOL_VERSION,
            });
        }
        let now_ms = self.clock.now_ms();
        let token = secrets::fresh()?;
        let token_hash = token.sha256();
        let driver = self.clone();
        let (done, plan) = self
            .store
            .write(move |connection| {
                let before_ms = crash::claimed_ms(connection, run)?;
                let kind = exchange(connection, &claim, token_hash, remote, now_ms)?;
                identify(connection, &claim, &driver.settings.enrolment.ignored_uuids, now_ms)?;
                let done = enter(connection, &claim, kind, before_ms, remote, now_ms)?;
                if kind == Kind::Return {
                    reboot::returned(connection, run, now_ms)?;
                }
                if kind == Kind::First {
                    seed_stages(connection, run)?;
                    note_first_claim(connection, &claim, now_ms)?;
                }
                sessions::note(connection, run, TimelineEntry::LastContact(now_ms, remote.ip()))?;
                let plan = driver.plan(connection, run)?;
                Ok::<_, RunError>((done, plan))
            })
            .await?;
        self.memory().since.heard(run, self.clock.steady_ms());
        if let Some(done) = done {
            self.perform(done);
        }
        Ok(ClaimResponse { token, server_time_ms: self.clock.now_ms(), plan })
    }

    /// What is left to do for an agent whose run goes on after a hold.
    pub async fn plan_of(&self, session: Session) -> Result<PlanAnswer, RunError> {
        let (run, driver) = (session.run, self.clone());
        self.memory().since.heard(run, self.clock.steady_ms());
        self.store
            .read(move |connection| {
                Ok(PlanAnswer {
                    acknowledged_sequence: sessions::last_sequence(connection, session.id)?,
                    plan: driver.plan(connection, run)?,
                })
            })
            .await
    }

    /// What is left to do: nothing for a run whose pipeline is over.
    fn plan(&self, connection: &Connection, run: RunId) -> Result<Plan, RunError> {
        let row = runs::get(connection, run)?;
        let host = hosts::get(connection, row.host_id)?;
        let profile = self.profiles.get(row.profile);
        let mut planned = self.planned(connection, &row)?;
        if row.state == RunState::Running {
            let rows = stages::list(connection, run)?;
            planned.retain(|planned| {
                rows.iter().any(|row| row.name == planned.work.name() && !row.state.is_finished())
            });
        } else {
            planned.clear();
        }
        if row.override_flags.place == RunPlace::InstalledSystem {
            planned = host_mode::tame(planned);
        }
        for stage in &mut planned {
            stage.needs_turn = self.needs_turn(stage.work.name());
        }
        let consent = row.consent();
        if consent == DiskConsent::EraseDisks {
            for storage in planned.iter_mut().filter(|planned| planned.work.name() == StageName::Storage) {
                storage.limit_ms = storage.limit_ms.saturating_add(ERASE_MS);
            }
        }
        Ok(Plan {
            run_id: run,
            host_name: host.name,
            profile: row.profile,
            sampling_interval_ms: profile.sampling_interval_ms,
            expected_spec_yaml: models::of_run(connection, run)?
                .map_or(host.expected_spec_yaml, |spec| spec.expected_spec_yaml),
            consent,
            resumed: reboot::resumed(connection, run)?,
            serial_console: serial_consoles::get(connection, host.id)?.is_some(),
            power_control: controls(connection, host.id)?.is_some(),
            stages: planned,
        })
    }

    /// The stages that a run was ordered with, whether or not they are over.
    pub(super) fn planned(
        &self,
        connection: &Connection,
        row: &RunRow,
    ) -> Result<Vec<PlannedStage>, StoreError> {
        // for runs that were ordered before their parameters were kept
        let of_profile = self.profiles.get(row.profile).planned_stages();
        let of_name = |name| of_profile.iter().find(|planned| planned.work.name() == name).cloned();
        let plan = plans::list(connection, row.id)?;
        Ok(plan.into_iter().filter_map(|stage| stage.planned.or_else(|| of_name(stage.name))).collect())
    }

    async fn tell_of_refused_claim(
        &self,
        run: RunId,
        refusal: &RunError,
        remote: SocketAddr,
    ) -> Result<(), RunError> {
        let message = format!("a claim from {} was refused: {refusal}", remote.ip());
        tracing::warn!(%run, %remote, "{message}");
        let mut line = of_run(run, self.clock.now_ms(), EventLevel::Warning, "claim_refused", message);
        line.data = Some(json!({"remote": remote.ip(), "claimed_run": run}));
        let written: Result<_, StoreError> = self
            .store
            .write(move |connection| {
                // the number came from the network: there may be no such run
                if matches!(runs::get(connection, run), Err(StoreError::NotFound { .. })) {
                    line.run_id = None;
                }
                events::insert(connection, &line)
            })
            .await;
        written?;
        Ok(())
    }
}

/// Takes the secret for the token. Refuses one that is not good.
fn exchange(
    connection: &Connection,
    claim: &ClaimRequest,
    token_hash: Sha256Hex,
    remote: SocketAddr,
    now_ms: i64,
) -> Result<Kind, RunError> {
    let run = claim.run_id;
    let before = sessions::latest_claimed(connection, run)?;
    let exchanged = Claim {
        run_id: run,
        secret_hash: claim.claim_secret.sha256(),
        token_hash,
        boot_id: claim.boot_id.clone(),
        from: remote.ip().to_string(),
        now_ms,
    };
    match sessions::claim(connection, &exchanged)? {
        ClaimOutcome::Unknown => return Err(RunError::ClaimUnknown { run }),
        ClaimOutcome::Expired => return Err(RunError::ClaimExpired { run }),
        ClaimOutcome::AlreadyUsed { session } => {
            // a boot_id is 122 random bits that only that machine knows
            let lost_answer = session.boot_id == claim.boot_id
                && session.last_sequence == 0
                && before.is_some_and(|latest| latest.id == session.id);
            if !lost_answer {
                return Err(RunError::ClaimUsed { run });
            }
            sessions::reissue_token(connection, &session, token_hash)?;
            return Ok(Kind::Repeated);
        }
        ClaimOutcome::Claimed { .. } => {}
    }
    let same_boot = before.is_some_and(|session| session.boot_id == claim.boot_id);
    match runs::get(connection, run)?.state {
        RunState::Running | RunState::Rebooting if same_boot => Err(RunError::ClaimUsed { run }),
        RunState::Running => Ok(Kind::Crash),
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
    connection: &Connection,
    claim: &ClaimRequest,
    kind: Kind,
    before_ms: Option<i64>,
    remote: SocketAddr,
    now_ms: i64,
) -> Result<Option<Transition>, RunError> {
    let run = claim.run_id;
    let by = format!("agent {} at {}", claim.agent_version, remote.ip());
    if let (Kind::First | Kind::Return, Some(left)) = (kind, &claim.left_behind) {
        crash::tell_of_earlier(connection, run, left, now_ms)?;
    }
    let (event, why, ending) = match kind {
        Kind::Repeated => return Ok(None),
        Kind::First => (RunEvent::Claimed, format!("claimed by {by}"), None),
        Kind::Return => (RunEvent::ReturnedFromReboot, format!("claimed again by {by}"), None),
        Kind::Crash => {
            let stage = running_stage(connection, run)?;
            let during = stage.map_or_else(|| "between stages".to_owned(), |stage| format!("during {stage}"));
            let why = format!("the machine restarted unannounced {during}; claimed again by {by}");
            let left_behind = claim.left_behind.as_ref();
            crash::note(connection, run, crash::traces(true, before_ms, left_behind))?;
            // what it was is found out before the run is judged
            (RunEvent::UnplannedReboot, why, Some(Ending::UnplannedReboot { stage, evidence: None }))
        }
    };
    transition(connection, now_ms, run, event, &why, ending.as_ref()).map(Some)
}

/// The stages that the run was ordered with.
fn seed_stages(connection: &Connection, run: RunId) -> Result<(), StoreError> {
    let names: Vec<_> = plans::list(connection, run)?.into_iter().map(|stage| stage.name).collect();
    stages::seed(connection, run, &names)
}

fn note_first_claim(connection: &Connection, claim: &ClaimRequest, now_ms: i64) -> Result<(), StoreError> {
    let run = claim.run_id;
    sessions::note(connection, run, TimelineEntry::Claimed(now_ms))?;
    sessions::note(connection, run, TimelineEntry::KernelToClaim(claim.timeline.claim_ms))?;
    let told = [
        claim.timeline.init_ms.map(TimelineEntry::KernelToInit),
        claim.timeline.network_ms.map(TimelineEntry::KernelToNetwork),
    ];
    told.into_iter().flatten().try_for_each(|entry| sessions::note(connection, run, entry))
}
