//! Applies the records of one batch to the database, inside its transaction.

use vetting_judge::facts::DiffFacts;
use vetting_judge::limit::LimitsTold;
use vetting_judge::step::{
    SPEC_COMPARED, STAGE_FINISHED, STAGE_STARTED, StageEnd, StepSummary, compared_words,
};
use vetting_protocol::agent_api::{EventLevel, Record};
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::limit::HardwareLimit;
use vetting_protocol::measurement::Measurement;
use vetting_protocol::outcome::{Outcome, StepState};

use super::driver::of_run;
use super::error::RunError;
use super::figures;
use super::ingest::rules_of;
use super::live::{Live, Progress};
use super::rules::{self, ANY_STAGE, RuleKey};
use super::stages::{close_sub_steps, halt_after};
use super::turns;
use super::waive::ignore_waived;
use crate::store::measurements::{self, EvaluationValues, MeasurementValues};
use crate::store::plans::PlanStage;
use crate::store::stages::{self, StageRow};
use crate::store::{self, Connection, diffs, events, firmware, limits, plans};

/// One batch on its way into the database.
pub(super) struct Applier<'a> {
    connection: &'a Connection,
    live: &'a mut Live,
    run: RunId,
    now_ms: i64,
    plan: Vec<PlanStage>,
    rows: Vec<StageRow>,
    samples: Vec<MeasurementValues>,
    evaluations: Vec<EvaluationValues>,
    /// Of limits of the hardware.
    limit_evaluations: Vec<EvaluationValues>,
}

impl<'a> Applier<'a> {
    /// Looks up the run's stages.
    pub fn new(
        connection: &'a Connection,
        live: &'a mut Live,
        run: RunId,
        now_ms: i64,
    ) -> Result<Self, RunError> {
        let (plan, rows) = (plans::list(connection, run)?, stages::list(connection, run)?);
        let (samples, evaluations, limit_evaluations) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { connection, live, run, now_ms, plan, rows, samples, evaluations, limit_evaluations })
    }

    /// Applies one record. Those that move the run or need a file are not its business and change nothing here.
    pub fn apply(&mut self, record: Record) -> Result<(), RunError> {
        match record {
            Record::Measurement(sample) => self.measurement(sample),
            Record::HardwareLimits { limits } => self.hardware_limits(&limits),
            Record::StageStarted { stage, ts_ms } => self.stage_started(stage, ts_ms),
            Record::SubStepStarted { stage, ordinal, name, ts_ms } => {
                self.open_stage(stage)?;
                stages::start_sub_step(self.connection, self.run, stage, ordinal, &name, ts_ms)?;
                self.rows = stages::list(self.connection, self.run)?;
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
                let summary = StepSummary::ended(outcome, details);
                let (state, stored) = (summary.state(), summary.stored());
                let row = self.rows.iter().find(|row| row.name == stage);
                if !row.is_some_and(|row| row.sub_steps.iter().any(|sub_step| sub_step.ordinal == ordinal)) {
                    return Err(RunError::UnknownSubStep { stage, ordinal });
                }
                stages::finish_sub_step(self.connection, self.run, stage, ordinal, state, ts_ms, &stored)?;
                Ok(())
            }
            Record::Firmware(report) => {
                firmware::replace(self.connection, self.run, &report.versions)?;
                Ok(())
            }
            Record::SpecDiffs { diffs: found } => {
                diffs::replace(self.connection, self.run, &found)?;
                ignore_waived(self.connection, self.run)?;
                self.tell(self.now_ms, EventLevel::Info, SPEC_COMPARED, compared_words(&found))
            }
            Record::StageFinished { stage, outcome, details, ts_ms } => {
                self.stage_finished(stage, outcome, details, ts_ms)
            }
            Record::TurnAwaited { stage, .. } => {
                self.open_stage(stage)?;
                Ok(turns::ask(self.connection, self.run, stage, self.now_ms)?)
            }
            Record::Event { level, kind, message, ts_ms } => self.tell(ts_ms, level, &kind, message),
            Record::Inventory(inventory) => Ok(figures::note_parts(self.connection, self.run, &inventory)?),
            Record::RebootPlanned { .. } | Record::PipelineFinished { .. } => Ok(()),
        }
    }

    /// The row of a stage that takes records.
    fn open_stage(&mut self, stage: StageName) -> Result<&mut StageRow, RunError> {
        let row =
            self.rows.iter_mut().find(|row| row.name == stage).ok_or(RunError::UnknownStage { stage })?;
        if row.state.is_finished() {
            return Err(RunError::StageFinished { stage, state: row.state });
        }
        Ok(row)
    }

    fn measurement(&mut self, sample: Measurement) -> Result<(), RunError> {
        let stage_id = match sample.stage {
            Some(stage) => Some(self.open_stage(stage)?.id),
            None => None,
        };
        for row in self.live.observe(&sample) {
            let (evaluations, threshold_id) = match row.rule {
                RuleKey::Threshold(id) => (&mut self.evaluations, id),
                RuleKey::HardwareLimit(id) => (&mut self.limit_evaluations, id),
            };
            evaluations.push(EvaluationValues {
                threshold_id,
                stage_name: sample.stage.map_or(ANY_STAGE, |stage| stage.as_str()).to_owned(),
                kind: sample.kind.clone(),
                key: sample.key.clone(),
                ts_ms: sample.ts_ms,
                observed: row.observed,
                passed: row.passed,
            });
        }
        let Measurement { ts_ms, kind, key, value, unit, .. } = sample;
        self.samples.push(MeasurementValues { stage_id, ts_ms, kind, key, value, unit });
        Ok(())
    }

    /// Takes limits of the hardware as rules, as far as they can be believed. The run may have them from an earlier boot.
    fn hardware_limits(&mut self, found: &[HardwareLimit]) -> Result<(), RunError> {
        let mut told = LimitsTold::default();
        for limit in found {
            let (values, rule) = rules::stored_limit(limit);
            if limits::insert(self.connection, self.run, &values)?.is_none() {
                continue;
            }
            match rule {
                Some(_) => told.take(),
                None => told.ignore(limit, &values.ignored.unwrap_or_default()),
            }
        }
        if told.any_taken() {
            self.live.replace_rules(rules_of(self.connection, self.run)?);
        }
        for (kind, message) in told.events() {
            self.tell(self.now_ms, EventLevel::Info, kind, message)?;
        }
        Ok(())
    }

    /// Writes what was collected. To be called once, after the last record.
    pub fn finish(self) -> Result<(), RunError> {
        measurements::insert(self.connection, self.run, &self.samples)?;
        measurements::insert_evaluations(self.connection, self.run, &self.evaluations)?;
        limits::insert_evaluations(self.connection, self.run, &self.limit_evaluations)?;
        Ok(())
    }

    fn tell(
        &self,
        ts_ms: i64,
        level: EventLevel,
        kind: &str,
        message: impl Into<String>,
    ) -> Result<(), RunError> {
        events::insert(self.connection, &of_run(self.run, ts_ms, level, kind, message))?;
        Ok(())
    }

    fn stage_started(&mut self, stage: StageName, ts_ms: i64) -> Result<(), RunError> {
        // a stage that a planned reboot interrupted begins again
        self.open_stage(stage)?.state = StepState::Running;
        stages::start(self.connection, self.run, stage, ts_ms)?;
        self.tell(ts_ms, EventLevel::Info, STAGE_STARTED, stage.as_str())
    }

    fn stage_finished(
        &mut self,
        stage: StageName,
        reported: Outcome,
        details: serde_json::Value,
        ts_ms: i64,
    ) -> Result<(), RunError> {
        self.open_stage(stage)?;
        let rows = stages::list(self.connection, self.run)?;
        if let Some(row) = rows.iter().find(|row| row.name == stage) {
            close_sub_steps(self.connection, self.run, row, ts_ms)?;
        }
        let end = self.judge_stage(stage, reported, details)?;
        let StageEnd { summary, reasons_to_halt } = &end;
        stages::finish(self.connection, self.run, stage, summary.state(), ts_ms, &summary.stored())?;
        store::turns::end(self.connection, self.run, stage)?;
        self.live.forget_progress(stage);
        let (level, message) = end.event(stage);
        self.tell(ts_ms, level, STAGE_FINISHED, message)?;
        if !reasons_to_halt.is_empty() {
            halt_after(self.connection, self.run, stage, self.now_ms)?;
        }
        self.rows = stages::list(self.connection, self.run)?;
        Ok(())
    }

    fn judge_stage(
        &self,
        stage: StageName,
        reported: Outcome,
        details: serde_json::Value,
    ) -> Result<StageEnd, RunError> {
        let required = plans::requires(&self.plan, stage);
        let diffs: Vec<DiffFacts> = diffs::list(self.connection, self.run)?
            .into_iter()
            .map(|row| DiffFacts { diff: row.diff, ignored: row.ignored })
            .collect();
        Ok(StageEnd::judge(stage, required, reported, details, self.live.evaluations(), &diffs))
    }
}
