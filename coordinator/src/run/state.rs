//! The life of a run: `step()` says what each event does in each state. Pure and total.
//!
//! Owns every transition; there is no wildcard arm, so a new state or event does not compile until each pair has
//! its answer. Does no I/O, reads no clock and stores nothing: `driver` does what is decided here.
//!
//! Every ending but an abort of a machine that never came goes through `Reporting`, so that a report is always made.

use serde::{Deserialize, Serialize};
use vetting_protocol::run::{RunResult, RunState};

/// What closed the pipeline. Stored with the run, so that a restart in `Reporting` judges the same thing again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The agent worked to the end of its plan, or halted it as it was told.
    PipelineFinished,
    /// The machine did not claim its run in time.
    NeverAppeared,
    /// The agent said nothing for too long.
    WentSilent,
    /// The machine came back with another boot_id and nobody had announced a reboot.
    UnplannedReboot,
    /// The agent process died.
    AgentCrashed,
    /// An operator ended the run while its machine was at work.
    Aborted,
}

impl EndedBy {
    /// Every one, in declaration order.
    pub const ALL: [Self; 6] = [
        Self::PipelineFinished,
        Self::NeverAppeared,
        Self::WentSilent,
        Self::UnplannedReboot,
        Self::AgentCrashed,
        Self::Aborted,
    ];

    /// Whether an agent is there to hold the machine up for a person.
    pub fn leaves_agent_alive(self) -> bool {
        match self {
            Self::PipelineFinished | Self::Aborted | Self::UnplannedReboot => true,
            Self::NeverAppeared | Self::WentSilent | Self::AgentCrashed => false,
        }
    }
}

/// What happened to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEvent {
    /// A magic packet left the coordinator.
    WakeSent,
    /// The machine fetched its boot script.
    BootScriptServed,
    /// The agent exchanged the one-time secret for the run.
    Claimed,
    /// The machine went through the run without a coordinator; its records follow.
    Imported,
    /// The agent announced a reboot.
    RebootPlanned,
    /// The agent claimed again with another boot_id after it had announced a reboot.
    ReturnedFromReboot,
    /// The agent reported the last record of its session.
    PipelineFinished,
    /// Verdict and report are stored.
    Judged {
        /// What had closed the pipeline.
        ended_by: EndedBy,
        /// The verdict.
        result: RunResult,
        /// Keep a failed machine up.
        hold: bool,
    },
    /// The time to claim the run is over.
    NeverAppeared,
    /// The time without a word from the agent, or to come back from a planned reboot, is over.
    WentSilent,
    /// Another boot_id turned up unannounced.
    UnplannedReboot,
    /// PID 1 reported the agent's death.
    AgentCrashed,
    /// An operator ends the run.
    AbortRequested,
    /// The time to look at a held machine is over.
    HoldExpired,
    /// An operator lets a held machine go.
    ReleaseRequested,
    /// An operator has one stage run again on a held machine.
    RetryRequested,
    /// An operator has the run go on with what did not pass.
    ResumeRequested,
}

/// What the driver does once the new state is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Make verdict and report, then feed [`RunEvent::Judged`].
    Judge {
        /// What closed the pipeline.
        ended_by: EndedBy,
    },
    /// Write result and completion time, in the same transaction as the state.
    Complete {
        /// The result.
        result: RunResult,
    },
    /// Note the agent's address in `runs.hold_ip`, in the same transaction.
    NoteHoldAddress,
    /// Forget result and end, in the same transaction: the run goes on.
    Reopen,
    /// Nobody is let in to the machine any more: the key goes.
    ForgetHoldKey,
    /// The limits of the new state start now.
    SetDeadline,
    /// Nobody may claim this run any more.
    RevokeClaim,
}

/// What an event does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The run changes its state.
    Move {
        /// The new state.
        to: RunState,
        /// What follows.
        effects: Vec<Effect>,
    },
    /// Nothing changes, and that is as it should be: a repetition, or a timer that ran out too late.
    Stay,
    /// It cannot happen now.
    Refused {
        /// Why, for whoever caused it.
        why: &'static str,
    },
}

const RUN_IS_OVER: &str = "the run is over";
const BEING_JUDGED: &str = "the run is being judged";
const NOT_CLAIMED: &str = "no agent has claimed the run";

fn to(state: RunState, effects: Vec<Effect>) -> Step {
    Step::Move { to: state, effects }
}

fn close(ended_by: EndedBy) -> Step {
    to(RunState::Reporting, vec![Effect::RevokeClaim, Effect::Judge { ended_by }])
}

fn complete(state: RunState, result: RunResult) -> Step {
    to(state, vec![Effect::Complete { result }])
}

fn refused(why: &'static str) -> Step {
    Step::Refused { why }
}

/// What `event` does to a run in `state`.
pub fn step(state: RunState, event: RunEvent) -> Step {
    match event {
        RunEvent::WakeSent => wake_sent(state),
        RunEvent::BootScriptServed => boot_script_served(state),
        RunEvent::Claimed => claimed(state),
        RunEvent::Imported => imported(state),
        RunEvent::RebootPlanned => reboot_planned(state),
        RunEvent::ReturnedFromReboot => returned_from_reboot(state),
        RunEvent::PipelineFinished => pipeline_finished(state),
        RunEvent::Judged { ended_by, result, hold } => judged(state, ended_by, result, hold),
        RunEvent::NeverAppeared => never_appeared(state),
        RunEvent::WentSilent => lost_at_work(state, EndedBy::WentSilent),
        RunEvent::AgentCrashed => lost_at_work(state, EndedBy::AgentCrashed),
        RunEvent::UnplannedReboot => unplanned_reboot(state),
        RunEvent::AbortRequested => abort_requested(state),
        RunEvent::HoldExpired => hold_expired(state),
        RunEvent::ReleaseRequested => release_requested(state),
        RunEvent::RetryRequested => retry_requested(state),
        RunEvent::ResumeRequested => resume_requested(state),
    }
}

/// Why `event` cannot happen to a run in `state`; absent if it can.
pub fn refusal(state: RunState, event: RunEvent) -> Option<&'static str> {
    match step(state, event) {
        Step::Refused { why } => Some(why),
        Step::Move { .. } | Step::Stay => None,
    }
}

fn wake_sent(state: RunState) -> Step {
    match state {
        RunState::Queued => to(RunState::Waking, vec![Effect::SetDeadline]),
        // the machine was on already and quicker than the packet's bookkeeping
        RunState::Waking
        | RunState::Booting
        | RunState::Running
        | RunState::Rebooting
        | RunState::Reporting => Step::Stay,
        RunState::Completed | RunState::FailedHolding | RunState::Released | RunState::Aborted => {
            refused(RUN_IS_OVER)
        }
    }
}

fn boot_script_served(state: RunState) -> Step {
    match state {
        RunState::Queued | RunState::Waking => to(RunState::Booting, vec![Effect::SetDeadline]),
        // in Running and Rebooting it is the claim that tells a planned reboot from a crash
        RunState::Booting | RunState::Running | RunState::Rebooting => Step::Stay,
        RunState::Reporting => refused(BEING_JUDGED),
        RunState::Completed | RunState::FailedHolding | RunState::Released | RunState::Aborted => {
            refused(RUN_IS_OVER)
        }
    }
}

fn claimed(state: RunState) -> Step {
    match state {
        RunState::Booting => to(RunState::Running, vec![Effect::SetDeadline]),
        RunState::Queued | RunState::Waking => refused("no boot script was served for this run"),
        RunState::Running | RunState::Rebooting => refused("the run is claimed already"),
        RunState::Reporting => refused(BEING_JUDGED),
        RunState::Completed | RunState::FailedHolding | RunState::Released | RunState::Aborted => {
            refused(RUN_IS_OVER)
        }
    }
}

fn imported(state: RunState) -> Step {
    match state {
        RunState::Queued => to(RunState::Running, Vec::new()),
        RunState::Waking | RunState::Booting | RunState::Running | RunState::Rebooting => {
            refused("the run has a machine of its own")
        }
        RunState::Reporting => refused(BEING_JUDGED),
        RunState::Completed | RunState::FailedHolding | RunState::Released | RunState::Aborted => {
            refused(RUN_IS_OVER)
        }
    }
}

fn reboot_planned(state: RunState) -> Step {
    match state {
        RunState::Running => to(RunState::Rebooting, vec![Effect::SetDeadline]),
        RunState::Rebooting => Step::Stay,
        RunState::Queued | RunState::Waking | RunState::Booting => refused(NOT_CLAIMED),
        RunState::Reporting => refused(BEING_JUDGED),
        RunState::Completed | RunState::FailedHolding | RunState::Released | RunState::Aborted => {
            refused(RUN_IS_OVER)
        }
    }
}

fn returned_from_reboot(state: RunState) -> Step {
    match state {
        RunState::Rebooting => to(RunState::Running, vec![Effect::SetDeadline]),
        RunState::Running => refused("no reboot was announced"),
        RunState::Queued | RunState::Waking | RunState::Booting => refused(NOT_CLAIMED),
        RunState::Reporting => refused(BEING_JUDGED),
        RunState::Completed | RunState::FailedHolding | RunState::Released | RunState::Aborted => {
            refused(RUN_IS_OVER)
        }
    }
}

fn pipeline_finished(state: RunState) -> Step {
    match state {
        RunState::Running => close(EndedBy::PipelineFinished),
        RunState::Rebooting => refused("a reboot was announced; the pipeline cannot end before it"),
        RunState::Queued | RunState::Waking | RunState::Booting => refused(NOT_CLAIMED),
        RunState::Reporting => refused(BEING_JUDGED),
        RunState::Completed | RunState::FailedHolding | RunState::Released | RunState::Aborted => {
            refused(RUN_IS_OVER)
        }
    }
}

fn judged(state: RunState, ended_by: EndedBy, result: RunResult, hold: bool) -> Step {
    match state {
        RunState::Reporting => verdict(ended_by, result, hold),
        RunState::Queued | RunState::Waking | RunState::Booting | RunState::Running | RunState::Rebooting => {
            refused("the pipeline is not over")
        }
        RunState::Completed | RunState::FailedHolding | RunState::Released | RunState::Aborted => {
            refused(RUN_IS_OVER)
        }
    }
}

/// A pass needs a pipeline that was worked to its end, whatever the judge says of what was measured before.
fn verdict(ended_by: EndedBy, result: RunResult, hold: bool) -> Step {
    let failed = || {
        if hold && ended_by.leaves_agent_alive() {
            to(
                RunState::FailedHolding,
                vec![
                    Effect::Complete { result: RunResult::Fail },
                    Effect::NoteHoldAddress,
                    Effect::SetDeadline,
                ],
            )
        } else {
            complete(RunState::Completed, RunResult::Fail)
        }
    };
    match (ended_by, result) {
        (EndedBy::PipelineFinished, RunResult::Pass) => complete(RunState::Completed, RunResult::Pass),
        (EndedBy::PipelineFinished, RunResult::Fail)
        | (
            EndedBy::NeverAppeared | EndedBy::WentSilent | EndedBy::UnplannedReboot | EndedBy::AgentCrashed,
            RunResult::Pass | RunResult::Fail,
        ) => failed(),
        (EndedBy::Aborted, RunResult::Pass | RunResult::Fail) => complete(RunState::Aborted, RunResult::Fail),
    }
}

fn never_appeared(state: RunState) -> Step {
    match state {
        RunState::Queued | RunState::Waking | RunState::Booting => close(EndedBy::NeverAppeared),
        // the claim came between the timer's end and its event
        RunState::Running
        | RunState::Rebooting
        | RunState::Reporting
        | RunState::Completed
        | RunState::FailedHolding
        | RunState::Released
        | RunState::Aborted => Step::Stay,
    }
}

/// `ended_by` is `WentSilent` or `AgentCrashed`.
fn lost_at_work(state: RunState, ended_by: EndedBy) -> Step {
    match state {
        RunState::Running | RunState::Rebooting => close(ended_by),
        RunState::Queued
        | RunState::Waking
        | RunState::Booting
        | RunState::Reporting
        | RunState::Completed
        | RunState::FailedHolding
        | RunState::Released
        | RunState::Aborted => Step::Stay,
    }
}

fn unplanned_reboot(state: RunState) -> Step {
    match state {
        RunState::Running => close(EndedBy::UnplannedReboot),
        RunState::Rebooting => refused("a reboot was announced"),
        RunState::Queued | RunState::Waking | RunState::Booting => refused(NOT_CLAIMED),
        RunState::Reporting
        | RunState::Completed
        | RunState::FailedHolding
        | RunState::Released
        | RunState::Aborted => Step::Stay,
    }
}

fn abort_requested(state: RunState) -> Step {
    match state {
        RunState::Queued | RunState::Waking | RunState::Booting => {
            to(RunState::Aborted, vec![Effect::Complete { result: RunResult::Fail }, Effect::RevokeClaim])
        }
        RunState::Running | RunState::Rebooting => close(EndedBy::Aborted),
        RunState::Aborted => Step::Stay,
        RunState::Reporting => refused(BEING_JUDGED),
        RunState::FailedHolding => refused("the run is over and its machine held; release it instead"),
        RunState::Completed | RunState::Released => refused(RUN_IS_OVER),
    }
}

fn hold_expired(state: RunState) -> Step {
    match state {
        RunState::FailedHolding => to(RunState::Released, vec![Effect::ForgetHoldKey]),
        RunState::Queued
        | RunState::Waking
        | RunState::Booting
        | RunState::Running
        | RunState::Rebooting
        | RunState::Reporting
        | RunState::Completed
        | RunState::Released
        | RunState::Aborted => Step::Stay,
    }
}

fn release_requested(state: RunState) -> Step {
    match state {
        RunState::FailedHolding => to(RunState::Released, vec![Effect::ForgetHoldKey]),
        RunState::Released => Step::Stay,
        RunState::Queued
        | RunState::Waking
        | RunState::Booting
        | RunState::Running
        | RunState::Rebooting
        | RunState::Reporting => refused("the run is not over; abort it instead"),
        RunState::Completed | RunState::Aborted => refused("the machine is not held"),
    }
}

const NOT_OVER: &str = "the run is not over";

fn go_on(state: RunState) -> Step {
    to(state, vec![Effect::ForgetHoldKey, Effect::Reopen, Effect::SetDeadline])
}

fn retry_requested(state: RunState) -> Step {
    match state {
        RunState::FailedHolding => go_on(RunState::Running),
        RunState::Queued
        | RunState::Waking
        | RunState::Booting
        | RunState::Running
        | RunState::Rebooting
        | RunState::Reporting => refused(NOT_OVER),
        RunState::Completed => refused("the machine is not held; `run resume` boots it again"),
        RunState::Released | RunState::Aborted => refused("the machine is not held; start a new run"),
    }
}

/// A machine that crashed is not there to be held: it boots anew. That only a failed run is resumed is the driver's to see.
fn resume_requested(state: RunState) -> Step {
    match state {
        RunState::FailedHolding => go_on(RunState::Running),
        RunState::Completed => go_on(RunState::Queued),
        RunState::Queued
        | RunState::Waking
        | RunState::Booting
        | RunState::Running
        | RunState::Rebooting
        | RunState::Reporting => refused(NOT_OVER),
        RunState::Released => refused("the machine was let go; start a new run"),
        RunState::Aborted => refused("an operator ended the run; start a new one"),
    }
}

#[cfg(test)]
mod tests;
