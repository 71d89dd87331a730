//! A run as its records tell it, kept in memory: for a run without a coordinator, while it goes on and when its record
//! stream is read again.
//!
//! Takes the records that the coordinator's ingest takes, refuses what that refuses, and judges stages by the same
//! [`StageEnd`]: the same stream gives the same verdict in both. The coordinator keeps in the database what this keeps
//! in memory; the stream itself is the caller's to store.

use std::collections::BTreeMap;
use std::sync::Arc;

use vetting_protocol::agent_api::{EventLevel, Record};
use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::limit::HardwareLimit;
use vetting_protocol::measurement::Measurement;
use vetting_protocol::operator_api::BootView;
use vetting_protocol::outcome::{Outcome, StepState};
use vetting_protocol::profile::StageChange;

use crate::facts::{
    CHARTED, DiffFacts, Ending, EventFacts, HostFacts, MOST_EVENTS, MOST_POINTS, RunFacts, RunHeader, Series,
    StageFacts, SubStepFacts,
};
use crate::limit::{self, LimitsTold};
use crate::profile::Profile;
use crate::rules::RuleSet;
use crate::step::{
    BROKE_OFF, FINISHED_WITHOUT_IT, SPEC_COMPARED, STAGE_FINISHED, STAGE_STARTED, StageEnd, StepSummary,
    compared_words, halt_words,
};
use crate::tally::Tally;
use crate::threshold::{Rule, RuleError};

/// A record that does not fit the run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CourseError {
    /// Not in the plan.
    #[error("the plan has no stage {stage}")]
    UnknownStage {
        /// Which.
        stage: StageName,
    },
    /// A record of a stage that is over.
    #[error("stage {stage} is over ({state}); it takes no more records")]
    StageFinished {
        /// Which.
        stage: StageName,
        /// How.
        state: StepState,
    },
    /// Never started, or over.
    #[error("stage {stage} has no open sub-step {ordinal}")]
    SubStep {
        /// The stage.
        stage: StageName,
        /// The sub-step.
        ordinal: u32,
    },
    /// A limit of the hardware that no rule can be made of.
    #[error("a limit of the hardware is no rule")]
    Limit(#[from] RuleError),
    /// After the last record.
    #[error("a record came after the end of the pipeline")]
    Over,
}

/// A run under way or over.
#[derive(Debug)]
pub struct Course {
    stages: Vec<Track>,
    stage_changes: Vec<StageChange>,
    rules: Vec<Rule>,
    tally: Tally<usize>,
    diffs: Option<Vec<DiffFacts>>,
    inventory: Option<Inventory>,
    firmware: Option<FirmwareReport>,
    events: Vec<EventFacts>,
    series: BTreeMap<(&'static str, String), Line>,
    latest_ms: i64,
    halted: Option<String>,
    finished_ms: Option<i64>,
}

/// The samples of one line of a chart.
#[derive(Debug)]
struct Line {
    unit: String,
    points: Vec<(i64, f64)>,
}

#[derive(Debug)]
struct Track {
    name: StageName,
    required: bool,
    state: StepState,
    started_ms: Option<i64>,
    ended_ms: Option<i64>,
    summary: Option<StepSummary>,
    sub_steps: BTreeMap<u32, SubStepFacts>,
}

impl Course {
    /// Nothing told yet. `started_ms` stands for now until a record tells a time.
    ///
    /// # Errors
    /// A rule of the profile that cannot judge.
    pub fn new(profile: &Profile, started_ms: i64) -> Result<Self, RuleError> {
        let rules: Vec<Rule> = profile.rules().cloned().collect();
        let set = RuleSet::compile(rules.iter().cloned().enumerate().collect())?;
        let track = |stage: &crate::profile::ProfileStage| Track {
            name: stage.work.name(),
            required: stage.required,
            state: StepState::Pending,
            started_ms: None,
            ended_ms: None,
            summary: None,
            sub_steps: BTreeMap::new(),
        };
        Ok(Self {
            stages: profile.stages.iter().map(track).collect(),
            stage_changes: profile.stage_changes().to_vec(),
            rules,
            tally: Tally::new(Arc::new(set)),
            diffs: None,
            inventory: None,
            firmware: None,
            events: Vec::new(),
            series: BTreeMap::new(),
            latest_ms: started_ms,
            halted: None,
            finished_ms: None,
        })
    }

    /// Takes one record.
    ///
    /// # Errors
    /// It does not fit what was told before; then nothing of it was taken.
    pub fn apply(&mut self, record: &Record) -> Result<(), CourseError> {
        if self.finished_ms.is_some() {
            return Err(CourseError::Over);
        }
        match record {
            Record::Measurement(sample) => self.measurement(sample),
            Record::HardwareLimits { limits } => self.hardware_limits(limits),
            Record::StageStarted { stage, ts_ms } => {
                let track = self.open(*stage)?;
                track.state = StepState::Running;
                track.started_ms = Some(*ts_ms);
                self.tell(*ts_ms, EventLevel::Info, STAGE_STARTED, stage.to_string());
                Ok(())
            }
            Record::SubStepStarted { stage, ordinal, name, ts_ms } => {
                self.sub_step_started(*stage, *ordinal, name, *ts_ms)
            }
            Record::Progress { stage, .. } => self.open(*stage).map(drop),
            Record::SubStepFinished { stage, ordinal, outcome, details, ts_ms } => {
                let missing = CourseError::SubStep { stage: *stage, ordinal: *ordinal };
                let sub_step = self.open(*stage)?.sub_steps.get_mut(ordinal);
                let open = sub_step.filter(|sub_step| sub_step.outcome.is_none()).ok_or(missing)?;
                open.outcome = Some(outcome.clone());
                open.details = details.clone();
                open.ended_ms = Some(*ts_ms);
                Ok(())
            }
            Record::Inventory(inventory) => {
                self.inventory = Some((**inventory).clone());
                Ok(())
            }
            Record::Firmware(firmware) => {
                self.firmware = Some(firmware.clone());
                Ok(())
            }
            Record::SpecDiffs { diffs } => {
                let facts = diffs.iter().map(|diff| DiffFacts { diff: diff.clone(), ignored: false });
                self.diffs = Some(facts.collect());
                self.tell(self.latest_ms, EventLevel::Info, SPEC_COMPARED, compared_words(diffs));
                Ok(())
            }
            Record::StageFinished { stage, outcome, details, ts_ms } => {
                self.stage_finished(*stage, outcome, details, *ts_ms)
            }
            Record::Event { level, kind, message, ts_ms } => {
                self.tell(*ts_ms, *level, kind, message.clone());
                Ok(())
            }
            Record::RebootPlanned { .. } | Record::TurnAwaited { .. } => Ok(()),
            Record::PipelineFinished { ts_ms } => {
                self.finished_ms = Some(*ts_ms);
                self.latest_ms = self.latest_ms.max(*ts_ms);
                Ok(())
            }
        }
    }

    /// Why no further stage may start; absent while it may.
    pub fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// The stage that must not go on, and why; absent while all may.
    pub fn must_end(&self) -> Option<(StageName, &str)> {
        let running = self.stages.iter().filter(|track| track.state == StepState::Running);
        let running: Vec<StageName> = running.map(|track| track.name).collect();
        self.tally.ended().find(|(stage, _)| running.contains(stage))
    }

    /// When the agent said that the pipeline is over, ms since the epoch; absent if it did not.
    pub fn finished_ms(&self) -> Option<i64> {
        self.finished_ms
    }

    /// The newest time that a record told, ms since the epoch.
    pub fn latest_ms(&self) -> i64 {
        self.latest_ms
    }

    /// Everything there is to judge. What is still open counts as it would with a coordinator: what ran is an error,
    /// what waited was not reached.
    pub fn facts(&self, host: HostFacts, run: RunHeader, boot: BootView, ending: Ending) -> RunFacts {
        let cut_off = match &ending {
            Ending::Regular => FINISHED_WITHOUT_IT,
            Ending::NeverAppeared { .. }
            | Ending::WentSilent { .. }
            | Ending::UnplannedReboot { .. }
            | Ending::AgentCrashed { .. }
            | Ending::Aborted { .. }
            | Ending::CoordinatorFault { .. } => BROKE_OFF,
        };
        RunFacts {
            host,
            run,
            ending,
            boot,
            stages: self.stages.iter().map(|track| track.facts(cut_off)).collect(),
            attempts: Vec::new(),
            parts_in_doubt: Vec::new(),
            stage_changes: self.stage_changes.clone(),
            diffs: self.diffs.clone(),
            rules: self.rules.clone(),
            evaluations: self.tally.evaluations().cloned().collect(),
            sample_count: self.tally.samples(),
            inventory: self.inventory.clone(),
            firmware: self.firmware.clone(),
            series: self
                .series
                .iter()
                .map(|((kind, key), Line { unit, points })| {
                    Series::thin_out(kind, key, unit, points.iter().copied(), MOST_POINTS as usize)
                })
                .collect(),
            events: self.events.iter().take(MOST_EVENTS as usize).cloned().collect(),
            artifacts: Vec::new(),
            waivers: Vec::new(),
            outliers: Vec::new(),
            parts_before: Vec::new(),
        }
    }

    fn open(&mut self, stage: StageName) -> Result<&mut Track, CourseError> {
        let track = self.stages.iter_mut().find(|track| track.name == stage);
        let track = track.ok_or(CourseError::UnknownStage { stage })?;
        if track.state.is_finished() {
            return Err(CourseError::StageFinished { stage, state: track.state });
        }
        Ok(track)
    }

    fn measurement(&mut self, sample: &Measurement) -> Result<(), CourseError> {
        if let Some(stage) = sample.stage {
            self.open(stage)?;
        }
        self.tally.observe(sample);
        self.latest_ms = self.latest_ms.max(sample.ts_ms);
        let charted = CHARTED.iter().find(|kind| **kind == sample.kind);
        if let (Some(kind), Some(value)) = (charted, sample.value) {
            let line = self.series.entry((kind, sample.key.clone()));
            let fresh = || Line { unit: sample.unit.clone(), points: Vec::new() };
            line.or_insert_with(fresh).points.push((sample.ts_ms, value));
        }
        Ok(())
    }

    /// Takes limits as rules, as far as they can be believed. An earlier boot may have told them already.
    fn hardware_limits(&mut self, limits: &[HardwareLimit]) -> Result<(), CourseError> {
        let mut rules = self.rules.clone();
        let mut told = LimitsTold::default();
        for limit in limits {
            match limit::rule(limit) {
                Ok(rule) if rules.contains(&rule) => {}
                Ok(rule) => {
                    rules.push(rule);
                    told.take();
                }
                Err(reason) => told.ignore(limit, &reason.to_string()),
            }
        }
        if told.any_taken() {
            let set = RuleSet::compile(rules.iter().cloned().enumerate().collect())?;
            self.tally.replace_rules(Arc::new(set));
            self.rules = rules;
        }
        for (kind, message) in told.events() {
            self.tell(self.latest_ms, EventLevel::Info, kind, message);
        }
        Ok(())
    }

    fn sub_step_started(
        &mut self,
        stage: StageName,
        ordinal: u32,
        name: &str,
        ts_ms: i64,
    ) -> Result<(), CourseError> {
        let sub_steps = &mut self.open(stage)?.sub_steps;
        if sub_steps.get(&ordinal).is_some_and(|sub_step| sub_step.outcome.is_some()) {
            return Err(CourseError::SubStep { stage, ordinal });
        }
        let fresh = SubStepFacts {
            name: name.to_owned(),
            outcome: None,
            started_ms: Some(ts_ms),
            ended_ms: None,
            details: serde_json::Value::Null,
        };
        sub_steps.insert(ordinal, fresh);
        Ok(())
    }

    fn stage_finished(
        &mut self,
        stage: StageName,
        reported: &Outcome,
        details: &serde_json::Value,
        ts_ms: i64,
    ) -> Result<(), CourseError> {
        let required = self.open(stage)?.required;
        let diffs = self.diffs.as_deref().unwrap_or_default();
        let evaluations = self.tally.evaluations();
        let end = StageEnd::judge(stage, required, reported.clone(), details.clone(), evaluations, diffs);
        let (level, message) = end.event(stage);
        let track = self.open(stage)?;
        track.close_sub_steps(ts_ms);
        track.state = end.summary.state();
        track.ended_ms = Some(ts_ms);
        track.summary = Some(end.summary.clone());
        self.tell(ts_ms, level, STAGE_FINISHED, message);
        if !end.reasons_to_halt.is_empty() {
            self.halted.get_or_insert_with(|| halt_words(stage, Some(&end.summary)));
            for waiting in self.stages.iter_mut().filter(|track| track.state == StepState::Pending) {
                let summary = StepSummary::halted_after(stage);
                waiting.state = summary.state();
                waiting.summary = Some(summary);
            }
        }
        Ok(())
    }

    fn tell(&mut self, ts_ms: i64, level: EventLevel, kind: &str, message: String) {
        self.latest_ms = self.latest_ms.max(ts_ms);
        self.events.push(EventFacts { ts_ms, level, kind: kind.to_owned(), message });
    }
}

impl Track {
    fn close_sub_steps(&mut self, ts_ms: i64) {
        for open in self.sub_steps.values_mut().filter(|sub_step| sub_step.outcome.is_none()) {
            open.outcome = StepSummary::outlived().outcome;
            open.ended_ms = Some(ts_ms);
        }
    }

    fn facts(&self, cut_off: &str) -> StageFacts {
        let outcome = match (&self.summary, self.state) {
            (Some(summary), _) => summary.outcome.clone(),
            (None, StepState::Running) => Some(Outcome::error(cut_off)),
            (None, _) => None,
        };
        let sub_steps = self.sub_steps.values().cloned().map(|mut sub_step| {
            if sub_step.outcome.is_none() {
                sub_step.outcome = Some(Outcome::error(cut_off));
            }
            sub_step
        });
        StageFacts {
            name: self.name.to_string(),
            required: self.required,
            outcome,
            reported: self.summary.as_ref().and_then(|summary| summary.reported.clone()),
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            details: self.summary.as_ref().map(|summary| summary.details.clone()).unwrap_or_default(),
            sub_steps: sub_steps.collect(),
        }
    }
}
