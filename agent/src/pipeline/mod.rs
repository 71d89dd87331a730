//! Works through the plan: one stage after the other, each announced, limited in time, reported, acknowledged.
//!
//! Owns the order of records around stages and what ends a run early. A stage starts only when everything before
//! it is durable at the coordinator, which says whether the pipeline goes on: only it knows which stages are required.
//! Judges nothing: the verdict comes from the coordinator.

mod held;
mod stage_thread;

use std::sync::Arc;
use std::time::Duration;

use vetting_protocol::agent_api::{AfterRun, Directive, EventLevel, HoldOrder, Record};
use vetting_protocol::ids::StageName;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::{Plan, PlannedStage};
use vetting_protocol::run::{BootTarget, RunResult};

use crate::cancel::Cancel;
use crate::clock;
use crate::console::{Console, verdict_lines};
use crate::counterpart::Counterpart;
use crate::host::Host;
use crate::inventory;
use crate::reporter::{Reporter, Tee};
use crate::sensors::{Sidecar, StageCell};
use crate::stages::{Facts, PlannedReboot, Reboots, Stage};
use crate::tools::runner::{ToolRunner, Transcript};
use crate::uplink::{Link, UplinkError};
use stage_thread::{Bounds, StageEnd, StageThread};

pub use held::{AfterHold, stay};
pub use stage_thread::Work;

/// A stage that was told to end has this long to do so before it is left behind.
pub const STAGE_GRACE: Duration = Duration::from_secs(30);

/// Kind of the artifact that holds, word for word, what the tools of a stage wrote.
const TOOL_OUTPUT: &str = "tool_output";

/// What a pipeline works with.
pub struct Pipeline {
    /// What to do.
    pub plan: Plan,
    /// What the verdict is about, for the console: `host rack1-u07, run 7`.
    pub subject: String,
    /// The stages there are.
    pub stages: &'static [&'static dyn Stage],
    /// The machine.
    pub host: Host,
    /// Its tools.
    pub tools: Arc<dyn ToolRunner>,
    /// The coordinator.
    pub link: Arc<dyn Link>,
    /// Where records are shown as well.
    pub shown: Arc<dyn Reporter>,
    /// Where the verdict is shown.
    pub console: Arc<dyn Console>,
    /// The other end of network tests.
    pub counterpart: Arc<dyn Counterpart>,
    /// Why the inventory may lack devices; it is then an error.
    pub inventory_doubt: Option<String>,
    /// Whether this process may have the machine restarted, and a coordinator gives it its run back afterwards.
    pub restarts: bool,
    /// Raised by a signal, or by the link when the coordinator ends the run.
    pub cancel: Cancel,
    /// [`STAGE_GRACE`], shorter in tests.
    pub grace: Duration,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum RunEnd {
    /// With a verdict.
    Finished {
        /// The verdict.
        result: RunResult,
        /// Its reasons.
        reasons: Vec<String>,
        /// What becomes of the machine.
        then: AfterRun,
        /// How a person gets in while it stays.
        hold: Option<HoldOrder>,
    },
    /// An operator aborted it.
    Aborted {
        /// Why.
        reason: String,
        /// What becomes of the machine.
        then: AfterRun,
    },
    /// A stage needs the machine restarted, which the coordinator knows: the run goes on after it.
    Rebooting {
        /// Why.
        reason: String,
        /// What it is to boot: for a cold start it switches itself off.
        target: BootTarget,
    },
    /// A signal ended it here.
    Interrupted,
    /// The coordinator cannot be reported to any more.
    Lost(UplinkError),
}

impl RunEnd {
    /// What becomes of the machine, if the coordinator said.
    pub fn then(&self) -> Option<AfterRun> {
        match self {
            Self::Finished { then, .. } | Self::Aborted { then, .. } => Some(*then),
            Self::Rebooting { .. } | Self::Interrupted | Self::Lost(_) => None,
        }
    }

    fn from_directive(directive: &Directive) -> Option<Self> {
        match directive {
            Directive::Abort { reason, then } => Some(Self::Aborted { reason: reason.clone(), then: *then }),
            Directive::Finished { result, reasons, then, hold } => Some(Self::Finished {
                result: *result,
                reasons: reasons.clone(),
                then: *then,
                hold: hold.clone(),
            }),
            Directive::Continue
            | Directive::AwaitTurn { .. }
            | Directive::HaltPipeline { .. }
            | Directive::EndStage { .. }
            | Directive::AwaitVerdict => None,
        }
    }
}

/// Whether the pipeline goes on after a step.
enum Onward {
    Next,
    Halt,
    End(RunEnd),
}

impl Pipeline {
    /// Runs every stage and waits for the verdict, which is shown.
    pub fn run(self) -> RunEnd {
        let end = self.stages_then_verdict();
        self.show(&end);
        end
    }

    fn stages_then_verdict(&self) -> RunEnd {
        let current = StageCell::new();
        let sampled = Arc::clone(&self.link) as Arc<dyn Reporter>;
        let interval = Duration::from_millis(self.plan.sampling_interval_ms.max(100));
        let sidecar =
            Sidecar::start(self.host.clone(), Arc::clone(&self.tools), sampled, current.clone(), interval);
        if let Err(error) = &sidecar {
            self.without_sensors(&format!("the sensors are not sampled: {error}"));
        }
        if let Some(doubt) = &self.inventory_doubt {
            self.event(EventLevel::Warning, "devices_not_ready", doubt);
        }
        let early_end = self.stages_in_order(&current);
        if let Ok(sidecar) = sidecar
            && let Err(died) = sidecar.stop()
        {
            self.without_sensors(&died.to_string());
        }
        if let Some(end) = early_end {
            return end;
        }
        self.link.record(Record::PipelineFinished { ts_ms: clock::now_ms() });
        match self.link.flush(&self.cancel) {
            Ok(_) => self.await_end(),
            Err(error) => self.why_it_stopped(error),
        }
    }

    fn without_sensors(&self, message: &str) {
        self.event(EventLevel::Error, "sensors_unavailable", message);
    }

    /// For the event log, and on the console.
    fn event(&self, level: EventLevel, kind: &str, message: &str) {
        self.console.line(message);
        self.link.record(Record::Event {
            level,
            kind: kind.to_owned(),
            message: message.to_owned(),
            ts_ms: clock::now_ms(),
        });
    }

    /// What stages left that the plan does not have (any more): those that are over are left out when a run goes on
    /// after a reboot or a hold, but what comes after them needs their facts. The inventory is recorded: it shows whether
    /// this is still the machine that was tested before.
    fn facts_before(&self) -> Facts {
        let mut facts = Facts::default();
        let planned = |name| self.plan.stages.iter().any(|planned| planned.work.name() == name);
        if self.plan.stages.is_empty() || planned(StageName::Inventory) {
            return facts;
        }
        let inventory = inventory::collect(&self.host, &*self.tools);
        self.link.record(Record::Inventory(Box::new(inventory.clone())));
        if planned(StageName::SpecValidate) && !planned(StageName::Firmware) {
            facts.firmware = Some(inventory::firmware::collect(&self.host, &*self.tools, &inventory));
        }
        facts.inventory = Some(inventory);
        facts
    }

    fn stages_in_order(&self, current: &StageCell) -> Option<RunEnd> {
        let mut facts = self.facts_before();
        for planned in &self.plan.stages {
            match self.one_stage(planned, current, &mut facts) {
                Onward::Next => {}
                Onward::Halt => return None,
                Onward::End(end) => return Some(end),
            }
        }
        None
    }

    fn one_stage(&self, planned: &PlannedStage, current: &StageCell, facts: &mut Facts) -> Onward {
        let stage = planned.work.name();
        if planned.needs_turn
            && let Some(onward) = self.await_turn(stage)
        {
            return onward;
        }
        let both: Arc<dyn Reporter> =
            Arc::new(Tee(vec![Arc::clone(&self.shown), Arc::clone(&self.link) as Arc<dyn Reporter>]));
        current.change(Some(stage), || {
            both.record(Record::StageStarted { stage, ts_ms: clock::now_ms() });
        });
        let transcript = Arc::new(Transcript::new(Arc::clone(&self.tools)));
        let tools = Arc::clone(&transcript) as Arc<dyn ToolRunner>;
        let (outcome, details) = match self.end_of(planned, &both, tools, facts) {
            StageEnd::Over(outcome, details) => (outcome, details),
            StageEnd::Reboot(reboot) => return Onward::End(self.reboot(stage, reboot, &both)),
        };
        current.change(None, || {
            both.record(Record::StageFinished { stage, outcome, details, ts_ms: clock::now_ms() });
        });
        let directive = match self.link.flush(&self.cancel) {
            Ok(directive) => directive,
            Err(error) => return Onward::End(self.why_it_stopped(error)),
        };
        if let Some(end) = RunEnd::from_directive(&directive) {
            return Onward::End(end);
        }
        let onward = match directive {
            // the next stage asks for its turn itself
            Directive::Continue | Directive::AwaitTurn { .. } => Onward::Next,
            Directive::HaltPipeline { reason } | Directive::EndStage { reason, .. } => {
                self.console.line(&format!("the testing ends here: {reason}"));
                Onward::Halt
            }
            // the run is over at the coordinator, which takes nothing any more
            Directive::AwaitVerdict | Directive::Abort { .. } | Directive::Finished { .. } => {
                return Onward::Halt;
            }
        };
        let raw = transcript.take();
        if raw.is_empty() {
            return onward;
        }
        match self.link.store(TOOL_OUTPUT, &format!("{stage}.jsonl"), raw, &self.cancel) {
            Ok(()) => onward,
            Err(error) => Onward::End(self.why_it_stopped(error)),
        }
    }

    /// Waits until the coordinator lets a stage begin. The stage is not under way meanwhile, so neither is its time
    /// limit; the uplink's heartbeats go on. Gives what ends the pipeline instead, if something does.
    fn await_turn(&self, stage: StageName) -> Option<Onward> {
        self.link.record(Record::TurnAwaited { stage, ts_ms: clock::now_ms() });
        let mut directive = match self.link.flush(&self.cancel) {
            Ok(directive) => directive,
            Err(error) => return Some(Onward::End(self.why_it_stopped(error))),
        };
        let mut seen = 0;
        let mut shown = String::new();
        loop {
            if let Some(end) = RunEnd::from_directive(&directive) {
                return Some(Onward::End(end));
            }
            match directive {
                Directive::Continue => return None,
                Directive::AwaitTurn { reason, .. } => {
                    if reason != shown {
                        self.console.line(&reason);
                        shown = reason;
                    }
                }
                Directive::HaltPipeline { reason } | Directive::EndStage { reason, .. } => {
                    self.console.line(&format!("the testing ends here: {reason}"));
                    return Some(Onward::Halt);
                }
                Directive::AwaitVerdict | Directive::Abort { .. } | Directive::Finished { .. } => {
                    return Some(Onward::Halt);
                }
            }
            (directive, seen) = match self.link.next_answer(seen, &self.cancel) {
                Ok(answer) => answer,
                Err(error) => return Some(Onward::End(self.why_it_stopped(error))),
            };
        }
    }

    /// Tells of a planned reboot. The machine goes down only when the coordinator knows why.
    fn reboot(&self, stage: StageName, reboot: PlannedReboot, reporter: &Arc<dyn Reporter>) -> RunEnd {
        let PlannedReboot { target, budget, reason } = reboot;
        let budget_ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
        reporter.record(Record::RebootPlanned { stage, target, budget_ms, reason: reason.clone() });
        match self.link.flush(&self.cancel) {
            Ok(directive) => {
                RunEnd::from_directive(&directive).unwrap_or(RunEnd::Rebooting { reason, target })
            }
            Err(error) => self.why_it_stopped(error),
        }
    }

    fn end_of(
        &self,
        planned: &PlannedStage,
        reporter: &Arc<dyn Reporter>,
        tools: Arc<dyn ToolRunner>,
        facts: &mut Facts,
    ) -> StageEnd {
        let name = planned.work.name();
        let Some(stage) = self.stages.iter().find(|stage| stage.description().name == name) else {
            let reason =
                format!("this agent has no stage {name}: boot the image that came with the coordinator");
            return StageEnd::Over(Outcome::error(reason), serde_json::Value::Null);
        };
        let limit = Duration::from_millis(planned.limit_ms);
        let work = Work {
            stage: *stage,
            work: planned.work.clone(),
            host: self.host.clone(),
            tools,
            reporter: Arc::clone(reporter),
            consent: self.plan.consent,
            expected_spec_yaml: Some(self.plan.expected_spec_yaml.clone())
                .filter(|yaml| !yaml.trim().is_empty()),
            counterpart: Arc::clone(&self.counterpart),
            reboots: Reboots {
                possible: self.restarts,
                serial_console: self.plan.serial_console,
                power_control: self.plan.power_control,
                resumed: self.plan.resumed.clone(),
            },
            facts: facts.clone(),
        };
        let thread = StageThread::start(work, limit);
        let must_end = || match self.link.directive() {
            Directive::EndStage { stage, reason } if stage == name => Some(reason),
            Directive::Continue
            | Directive::AwaitTurn { .. }
            | Directive::HaltPipeline { .. }
            | Directive::EndStage { .. }
            | Directive::Abort { .. }
            | Directive::AwaitVerdict
            | Directive::Finished { .. } => None,
        };
        let bounds = Bounds { limit, grace: self.grace, cancel: &self.cancel, must_end: &must_end };
        match (&self.inventory_doubt, thread.finish(&bounds, facts)) {
            (Some(doubt), StageEnd::Over(Outcome::Pass, details)) if name == StageName::Inventory => {
                StageEnd::Over(Outcome::error(doubt), details)
            }
            (_, end) => end,
        }
    }

    /// Waits for the verdict; heartbeats are the uplink's business.
    fn await_end(&self) -> RunEnd {
        let mut seen = 0;
        if let Some(end) = RunEnd::from_directive(&self.link.directive()) {
            return end;
        }
        self.console.line("testing is over; waiting for the verdict");
        loop {
            match self.link.next_answer(seen, &self.cancel) {
                Ok((directive, answers)) => {
                    seen = answers;
                    if let Some(end) = RunEnd::from_directive(&directive) {
                        return end;
                    }
                }
                Err(error) => return self.why_it_stopped(error),
            }
        }
    }

    fn why_it_stopped(&self, error: UplinkError) -> RunEnd {
        if let Some(end) = RunEnd::from_directive(&self.link.directive()) {
            return end;
        }
        match error {
            UplinkError::Interrupted => self.link.failure().map_or(RunEnd::Interrupted, RunEnd::Lost),
            lost => RunEnd::Lost(lost),
        }
    }

    fn show(&self, end: &RunEnd) {
        let subject = &self.subject;
        match end {
            RunEnd::Finished { result, reasons, .. } => {
                for line in verdict_lines(subject, *result, reasons) {
                    self.console.line(&line);
                }
            }
            RunEnd::Aborted { reason, .. } => self.console.line(&format!("aborted: {reason} ({subject})")),
            RunEnd::Rebooting { reason, .. } => {
                self.console.line(&format!("the machine restarts for its test: {reason} ({subject})"));
            }
            RunEnd::Interrupted => self.console.line(&format!("interrupted ({subject})")),
            RunEnd::Lost(error) => self.console.line(&format!("the run cannot go on: {error} ({subject})")),
        }
    }
}

/// Runs one stage by itself, as the pipeline would; gives its outcome and details.
pub fn run_alone(
    work: Work,
    limit: Duration,
    grace: Duration,
    cancel: &Cancel,
    facts: &mut Facts,
) -> (Outcome, serde_json::Value) {
    let bounds = Bounds { limit, grace, cancel, must_end: &|| None };
    match StageThread::start(work, limit).finish(&bounds, facts) {
        StageEnd::Over(outcome, details) => (outcome, details),
        StageEnd::Reboot(reboot) => (
            Outcome::skip(format!("nothing restarts this machine: {}", reboot.reason)),
            serde_json::Value::Null,
        ),
    }
}

#[cfg(test)]
mod tests;
