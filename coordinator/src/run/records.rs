//! Applies the records of one batch to the database, inside its transaction.

use vetting_judge::facts::StageFacts;
use vetting_judge::profile::Registry;
use vetting_judge::verdict::reasons_to_halt;
use vetting_protocol::agent_api::{EventLevel, Record};
use vetting_protocol::diff::Severity;
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::measurement::Measurement;
use vetting_protocol::outcome::{Outcome, StepState};

use super::error::RunError;
use super::live::{Live, Progress};
use super::stages::{StepSummary, close_sub_steps, halt_after};
use crate::store::{self, Tx};

/// One batch on its way into the database.
pub(super) struct Applier<'a, 'tx> {
    tx: &'a Tx<'tx>,
    live: &'a mut Live,
    run: RunId,
    now_ms: i64,
    profiles: &'a Registry,
    stages: Vec<store::stages::StageRow>,
}

impl<'a, 'tx> Applier<'a, 'tx> {
    /// Looks up the run's stages.
    pub fn new(
        tx: &'a Tx<'tx>,
        live: &'a mut Live,
        run: RunId,
        now_ms: i64,
        profiles: &'a Registry,
    ) -> Result<Self, RunError> {
        let stages = store::stages::of_run(tx, run)?;
        Ok(Self { tx, live, run, now_ms, profiles, stages })
    }

    /// Applies one record. Those that move the run or need a file are not its business and change nothing here.
    pub fn apply(&mut self, record: Record) -> Result<(), RunError> {
        match record {
            Record::Measurement(sample) => self.measurement(&sample),
            Record::StageStarted { stage, ts_ms } => self.stage_started(stage, ts_ms),
            Record::SubStepStarted { stage, ordinal, name, ts_ms } => {
                self.open_stage(stage)?;
                store::sub_steps::start(self.tx, self.run, stage.as_str(), ordinal, &name, ts_ms)?;
                Ok(())
            }
            Record::Progress { stage, sub_step, percent, eta_ms, .. } => {
                self.open_stage(stage)?;
                let percent = percent.clamp(0.0, 100.0);
                self.live.set_progress(stage, sub_step, Progress { percent, eta_ms });
                Ok(())
            }
            Record::SubStepFinished { stage, ordinal, outcome, details, ts_ms } => {
                self.open_stage(stage)?;
                let row = store::sub_steps::get(self.tx, self.run, stage.as_str(), ordinal)?
                    .ok_or(RunError::UnknownSubStep { stage, ordinal })?;
                let summary = StepSummary::ended(outcome, details);
                store::sub_steps::finish(self.tx, row.id, summary.state(), &summary.text(), ts_ms)?;
                Ok(())
            }
            Record::Firmware(report) => {
                store::firmware::insert(self.tx, self.run, &report)?;
                Ok(())
            }
            Record::SpecDiffs { diffs } => {
                store::diffs::insert(self.tx, self.run, &diffs)?;
                Ok(())
            }
            Record::StageFinished { stage, outcome, details, ts_ms } => {
                self.stage_finished(stage, outcome, details, ts_ms)
            }
            Record::Event { level, kind, message, ts_ms } => {
                store::events::of_run(self.tx, ts_ms, self.run, level, &kind, &message, None)?;
                Ok(())
            }
            Record::Inventory(_) | Record::RebootPlanned { .. } | Record::PipelineFinished { .. } => Ok(()),
        }
    }

    /// The row of a stage that takes records.
    fn open_stage(&mut self, stage: StageName) -> Result<&mut store::stages::StageRow, RunError> {
        let row = self
            .stages
            .iter_mut()
            .find(|row| row.name == stage.as_str())
            .ok_or(RunError::UnknownStage { stage })?;
        if row.state.is_finished() {
            return Err(RunError::StageFinished { stage, state: row.state });
        }
        Ok(row)
    }

    fn measurement(&mut self, sample: &Measurement) -> Result<(), RunError> {
        let stage_id = match sample.stage {
            Some(stage) => Some(self.open_stage(stage)?.id),
            None => None,
        };
        store::measurements::insert(self.tx, self.run, stage_id, sample)?;
        for row in self.live.observe(sample) {
            store::evaluations::insert(self.tx, self.run, sample, &row)?;
        }
        Ok(())
    }

    fn stage_started(&mut self, stage: StageName, ts_ms: i64) -> Result<(), RunError> {
        let (tx, run) = (self.tx, self.run);
        let row = self.open_stage(stage)?;
        // a stage that a planned reboot interrupted begins again
        row.state = StepState::Running;
        store::stages::start(tx, row.id, ts_ms)?;
        store::events::of_run(tx, ts_ms, run, EventLevel::Info, "stage_started", stage.as_str(), None)?;
        Ok(())
    }

    fn stage_finished(
        &mut self,
        stage: StageName,
        reported: Outcome,
        details: serde_json::Value,
        ts_ms: i64,
    ) -> Result<(), RunError> {
        let id = self.open_stage(stage)?.id;
        close_sub_steps(self.tx, self.run, stage.as_str(), "the stage ended before it", ts_ms)?;
        let reasons = self.halting_reasons(stage, &reported)?;
        let mut summary = StepSummary::ended(reported.clone(), details);
        if reported == Outcome::Pass && !reasons.is_empty() {
            summary.outcome = Some(Outcome::fail(reasons.join(" ")));
            summary.reported = Some(reported);
        }
        store::stages::finish(self.tx, id, summary.state(), &summary.text(), ts_ms)?;
        self.live.forget_progress(stage);
        let level = if reasons.is_empty() { EventLevel::Info } else { EventLevel::Warning };
        let message = match summary.reason() {
            Some(reason) => format!("{stage} {}: {reason}", summary.state()),
            None => format!("{stage} {}", summary.state()),
        };
        store::events::of_run(self.tx, ts_ms, self.run, level, "stage_finished", &message, None)?;
        if !reasons.is_empty() {
            halt_after(self.tx, self.run, stage, self.now_ms)?;
        }
        self.stages = store::stages::of_run(self.tx, self.run)?;
        Ok(())
    }

    /// Why no further stage may start; empty if it may.
    fn halting_reasons(&self, stage: StageName, reported: &Outcome) -> Result<Vec<String>, RunError> {
        let profile = store::runs::get(self.tx, self.run)?.ok_or(RunError::NoRun { run: self.run })?.profile;
        let facts = StageFacts {
            name: stage.to_string(),
            required: self.profiles.get(profile).requires(stage),
            outcome: Some(reported.clone()),
            started_ms: None,
            ended_ms: None,
            details: serde_json::Value::Null,
            sub_steps: Vec::new(),
        };
        let mut reasons: Vec<String> = reasons_to_halt(&facts, self.live.evaluations())
            .into_iter()
            .map(|reason| reason.text)
            .collect();
        if stage == StageName::SpecValidate {
            for row in store::diffs::of_run(self.tx, self.run)? {
                if row.diff.severity == Severity::Critical && !row.ignored {
                    let expected = row.diff.expected.as_deref().unwrap_or("nothing");
                    let actual = row.diff.actual.as_deref().unwrap_or("nothing");
                    reasons.push(format!("{}: expected {expected}, found {actual}.", row.diff.field));
                }
            }
        }
        Ok(reasons)
    }
}
