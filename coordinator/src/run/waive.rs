//! What operators decide not to count: the run is judged again, and has a new report beside the old one.
//!
//! One at a time, so that of two operators the second decides on what the first left. Waiver, report, verdict and events
//! become durable together. Refuses a run that is not over, and a finding that the run does not have (any more).

use serde_json::json;
use vetting_judge::facts::{RunFacts, RunHeader};
use vetting_judge::report::Report;
use vetting_judge::verdict::{Verdict, judge};
use vetting_judge::waiver::{Waiver, Withdrawn, author, of_diff};
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{VerdictView, WaiverCreate, WaiverWithdraw};
use vetting_protocol::run::{RunResult, RunState};

use super::driver::{Driver, Transition, of_run, to_its_end, transition};
use super::error::RunError;
use super::report::Made;
use super::state::RunEvent;
use super::{facts, views};
use crate::store::waivers::{self, WaiverValues, WithdrawnValues};
use crate::store::{Connection, StoreError, diffs, events, runs};

/// Longest name of an operator, characters.
const LONGEST_NAME: usize = 60;
/// Longest reason, characters.
const LONGEST_REASON: usize = 1_000;

/// What an operator decided.
enum What {
    Waive(WaiverCreate),
    Withdraw { number: i64, order: WaiverWithdraw },
}

/// The same with the token or user that sent it: `by` in an order is what somebody typed.
struct Decision {
    what: What,
    caller: String,
}

impl Driver {
    /// Does not count a finding of a run that is over. `caller` is the token or user that says so.
    ///
    /// # Errors
    /// `NotNow` while the run is not over; `Invalid` for a finding it does not have, and for a reason or name that says
    /// nothing; a conflict where another operator waived it already.
    pub async fn waive(&self, run: RunId, order: WaiverCreate, caller: &str) -> Result<(), RunError> {
        let (reason, by) =
            (said("reason", &order.reason, LONGEST_REASON)?, said("by", &order.by, LONGEST_NAME)?);
        let what = What::Waive(WaiverCreate { reason, by, ..order });
        self.take_decision(run, Decision { what, caller: caller.to_owned() }).await
    }

    /// Takes a waiver back.
    ///
    /// # Errors
    /// As [`Driver::waive`]; no such waiver stands.
    pub async fn withdraw_waiver(
        &self,
        run: RunId,
        number: i64,
        order: WaiverWithdraw,
        caller: &str,
    ) -> Result<(), RunError> {
        let (reason, by) =
            (said("reason", &order.reason, LONGEST_REASON)?, said("by", &order.by, LONGEST_NAME)?);
        let what = What::Withdraw { number, order: WaiverWithdraw { reason, by } };
        self.take_decision(run, Decision { what, caller: caller.to_owned() }).await
    }

    /// The verdict of a run with its reasons, remarks and waivers.
    pub async fn verdict(&self, run: RunId) -> Result<VerdictView, RunError> {
        let driver = self.clone();
        self.store
            .read(move |connection| {
                let row = runs::get(connection, run)?;
                let waivers = waivers::list(connection, run)?;
                let (version, verdict) = match waivers::latest_judgement(connection, run)? {
                    Some(judgement) => {
                        let verdict: Verdict =
                            serde_json::from_value(judgement.verdict).map_err(|error| RunError::Corrupt {
                                run,
                                what: format!("its verdict cannot be read: {error}"),
                            })?;
                        (judgement.version, Some(verdict))
                    }
                    // judged before verdicts were kept: the same facts give the same verdict
                    None if may_be_judged_again(row.state) => {
                        let facts = driver.gather_again(connection, run)?;
                        (facts.run.report_version.saturating_sub(1), Some(judge(&facts)))
                    }
                    None => (0, None),
                };
                Ok(views::verdict(&row, version, verdict, waivers)?)
            })
            .await
    }

    async fn take_decision(&self, run: RunId, decision: Decision) -> Result<(), RunError> {
        let driver = self.clone();
        to_its_end(async move {
            let _one_at_a_time = driver.waiving.lock().await;
            driver.judge_again(run, decision).await
        })
        .await
    }

    async fn judge_again(&self, run: RunId, decision: Decision) -> Result<(), RunError> {
        let now_ms = self.clock.now_ms();
        let driver = self.clone();
        let mut facts = self
            .store
            .read(move |connection| {
                refuse_unless_over(run, runs::get(connection, run)?.state)?;
                driver.gather_again(connection, run)
            })
            .await?;
        let waiver = decision.apply(run, &mut facts, now_ms)?;
        // what is stored with the waiver holds for this judgement already
        for diff in facts.diffs.iter_mut().flatten() {
            if of_diff(&diff.diff).as_ref() == Some(&waiver.finding) {
                diff.ignored = waiver.withdrawn.is_none();
            }
        }
        let made = self.make_report(run, facts).await?;
        let done = self.store.write(move |connection| store(connection, run, &waiver, &made, now_ms)).await;
        if matches!(done, Err(RunError::Store(StoreError::NotFound { .. }))) {
            // its host was removed meanwhile, with the folder that the report was then written to
            self.remove_files(vec![run]).await;
        }
        if let Some(done) = done? {
            self.perform(done);
        }
        Ok(())
    }

    /// The facts of a run that has a verdict. What its newest report says of the run itself stays: an imported run, or one
    /// of a profile that was replaced since, would not be told right from today's configuration.
    fn gather_again(&self, connection: &Connection, run: RunId) -> Result<RunFacts, RunError> {
        let profiles = |name| self.profiles.get(name).clone();
        let (mut facts, _) = facts::gather_ended(profiles, connection, run, self.clock.now_ms())?;
        let path = runs::get(connection, run)?.report_path;
        let newest = path.and_then(|path| std::fs::read(path).ok());
        let newest = newest.and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok());
        if let Some(Report { facts: told, .. }) = newest {
            let RunHeader { report_version, judged_by, .. } = facts.run;
            facts.run = RunHeader { report_version, judged_by, ..told.run };
        }
        Ok(facts)
    }
}

impl Decision {
    /// Puts it into the facts; gives the waiver as it is to be stored.
    fn apply(self, run: RunId, facts: &mut RunFacts, now_ms: i64) -> Result<Waiver, RunError> {
        let caller = Some(self.caller);
        match self.what {
            What::Waive(WaiverCreate { finding, reason, by }) => {
                let standing = facts
                    .waivers
                    .iter()
                    .find(|waiver| waiver.finding == finding && waiver.withdrawn.is_none());
                if let Some(waiver) = standing {
                    let what = format!(
                        "{} waived {finding} of run {run} already: {}",
                        waiver.author(),
                        waiver.reason
                    );
                    return Err(StoreError::conflict(what).into());
                }
                let verdict = judge(facts);
                let found = verdict.reasons.iter().find(|reason| reason.finding.as_ref() == Some(&finding));
                let Some(found) = found else {
                    let what = format!(
                        "run {run} has no finding {finding} that counts against it; `run verdict {run}` shows those it has"
                    );
                    return Err(RunError::Invalid { what });
                };
                let id = facts.waivers.iter().map(|waiver| waiver.id).max().unwrap_or(0) + 1;
                let found = found.text.clone();
                let waiver =
                    Waiver { id, finding, found, reason, by, caller, given_ms: now_ms, withdrawn: None };
                facts.waivers.push(waiver.clone());
                Ok(waiver)
            }
            What::Withdraw { number, order: WaiverWithdraw { reason, by } } => {
                let waiver = facts.waivers.iter_mut().find(|waiver| waiver.id == number);
                let standing = waiver.filter(|waiver| waiver.withdrawn.is_none());
                let Some(waiver) = standing else {
                    return Err(
                        StoreError::not_found(format!("standing waiver {number} of run {run}")).into()
                    );
                };
                waiver.withdrawn = Some(Withdrawn { reason, by, caller, at_ms: now_ms });
                Ok(waiver.clone())
            }
        }
    }
}

/// A text that says something, without the white space around it.
fn said(field: &str, text: &str, longest: usize) -> Result<String, RunError> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > longest || text.chars().any(char::is_control) {
        let what = format!("`{field}` must be one line of 1 to {longest} characters");
        return Err(RunError::Invalid { what });
    }
    Ok(text.to_owned())
}

fn may_be_judged_again(state: RunState) -> bool {
    match state {
        RunState::Completed | RunState::FailedHolding | RunState::Released => true,
        RunState::Queued
        | RunState::Waking
        | RunState::Booting
        | RunState::Running
        | RunState::Rebooting
        | RunState::Reporting
        | RunState::Aborted => false,
    }
}

fn refuse_unless_over(run: RunId, state: RunState) -> Result<(), RunError> {
    if may_be_judged_again(state) {
        return Ok(());
    }
    let why = match state {
        RunState::Aborted => "an aborted run cannot pass, whatever is waived; start a new one",
        RunState::Queued
        | RunState::Waking
        | RunState::Booting
        | RunState::Running
        | RunState::Rebooting
        | RunState::Reporting
        | RunState::Completed
        | RunState::FailedHolding
        | RunState::Released => "what it found is not known before it is over",
    };
    Err(RunError::NotNow { run, state, why })
}

/// Makes waiver, verdict and report durable.
fn store(
    connection: &Connection,
    run: RunId,
    waiver: &Waiver,
    made: &Made,
    now_ms: i64,
) -> Result<Option<Transition>, RunError> {
    let row = runs::get(connection, run)?;
    // it may have been let go or gone on meanwhile
    refuse_unless_over(run, row.state)?;
    note(connection, run, waiver)?;
    let Waiver { id, finding, found, .. } = waiver;
    let (kind, reason, by, caller, did) = match &waiver.withdrawn {
        None => ("finding_waived", &waiver.reason, &waiver.by, &waiver.caller, "waived".to_owned()),
        Some(Withdrawn { reason, by, caller, .. }) => {
            ("waiver_withdrawn", reason, by, caller, format!("took back waiver {id}"))
        }
    };
    let message = format!("{} {did}: {found} ({reason})", author(by, caller.as_deref()));
    let data = json!({
        "waiver": id, "finding": finding, "found": found, "reason": reason, "by": by, "caller": caller,
    });
    let mut line = of_run(run, now_ms, EventLevel::Warning, kind, message);
    line.data = Some(data);
    events::insert(connection, &line)?;
    made.insert(connection, run, now_ms)?;
    let verdict = &made.verdict;
    runs::set_judged(connection, run, verdict.result, verdict.failed_stage.as_deref())?;
    let message =
        format!("report version {}: {}: {}", made.version(), verdict.result, made.reasons().join(" "));
    events::insert(connection, &of_run(run, now_ms, EventLevel::Info, "judged_again", message))?;
    if row.state == RunState::FailedHolding && verdict.result == RunResult::Pass {
        let why = "what it failed by is waived";
        return transition(connection, now_ms, run, RunEvent::ReleaseRequested, why, None).map(Some);
    }
    Ok(None)
}

/// The waiver's row, and `spec_diffs.ignored` where it is for a difference from the spec.
fn note(connection: &Connection, run: RunId, waiver: &Waiver) -> Result<(), StoreError> {
    match &waiver.withdrawn {
        None => {
            let values = WaiverValues {
                number: waiver.id,
                finding: waiver.finding.clone(),
                found: waiver.found.clone(),
                reason: waiver.reason.clone(),
                operator: waiver.by.clone(),
                caller: waiver.caller.clone(),
                given_at_ms: waiver.given_ms,
            };
            waivers::insert(connection, run, &values)?;
        }
        Some(Withdrawn { reason, by, caller, at_ms }) => {
            let (reason, operator, caller) = (reason.clone(), by.clone(), caller.clone());
            let values = WithdrawnValues { reason, operator, caller, at_ms: *at_ms };
            waivers::withdraw(connection, run, waiver.id, &values)?;
        }
    }
    for row in diffs::list(connection, run)? {
        if of_diff(&row.diff).as_ref() == Some(&waiver.finding) {
            diffs::set_ignored(connection, row.id, waiver.withdrawn.is_none())?;
        }
    }
    Ok(())
}

/// Marks the diffs that a standing waiver is for; to be called when a run's diffs were found anew.
pub(super) fn ignore_waived(connection: &Connection, run: RunId) -> Result<(), StoreError> {
    let waivers = waivers::list(connection, run)?;
    let standing: Vec<_> = waivers.iter().filter(|row| row.withdrawn.is_none()).collect();
    if standing.is_empty() {
        return Ok(());
    }
    for row in diffs::list(connection, run)? {
        let finding = of_diff(&row.diff);
        if standing.iter().any(|waiver| Some(&waiver.values.finding) == finding.as_ref()) {
            diffs::set_ignored(connection, row.id, true)?;
        }
    }
    Ok(())
}
