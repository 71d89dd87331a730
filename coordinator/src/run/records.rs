//! Applies the records of one batch to the database, inside its transaction.

use vetting_judge::facts::StageFacts;
use vetting_judge::verdict::reasons_to_halt;
use vetting_protocol::agent_api::{EventLevel, Record};
use vetting_protocol::diff::Severity;
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::limit::HardwareLimit;
use vetting_protocol::measurement::Measurement;
use vetting_protocol::outcome::{Outcome, StepState};

use super::driver::of_run;
use super::error::RunError;
use super::ingest::rules_of;
use super::live::{Live, Progress};
use super::rules::{self, ANY_STAGE, RuleKey};
use super::stages::{StepSummary, close_sub_steps, halt_after};
use crate::store::measurements::{self, EvaluationValues, MeasurementValues};
use crate::store::plans::PlanStage;
use crate::store::stages::{self, StageRow};
use crate::store::{Connection, diffs, events, firmware, limits, plans};

/// Kind of the event that says the machine was compared with its spec.
pub(super) const SPEC_COMPARED: &str = "spec_compared";

/// Limits named in one line of the event log.
const IGNORED_A_LINE: usize = 10;

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
                // tells a machine without differences from one that was never compared
                let message = format!("{} differences from the spec", found.len());
                self.tell(self.now_ms, EventLevel::Info, SPEC_COMPARED, message)
            }
            Record::StageFinished { stage, outcome, details, ts_ms } => {
                self.stage_finished(stage, outcome, details, ts_ms)
            }
            Record::Event { level, kind, message, ts_ms } => self.tell(ts_ms, level, &kind, message),
            Record::Inventory(_) | Record::RebootPlanned { .. } | Record::PipelineFinished { .. } => Ok(()),
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
        let (mut taken, mut ignored) = (0_u64, Vec::new());
        for limit in found {
            let (values, rule) = rules::stored_limit(limit);
            if limits::insert(self.connection, self.run, &values)?.is_none() {
                continue;
            }
            match (rule, values.ignored) {
                (Some(_), _) => taken += 1,
                (None, reason) => ignored.push(format!(
                    "{} {} ({}): {}",
                    limit.kind,
                    limit.key,
                    limit.origin,
                    reason.unwrap_or_default()
                )),
            }
        }
        if taken > 0 {
            self.live.replace_rules(rules_of(self.connection, self.run)?);
            let message =
                format!("{taken} limits that the hardware gives for its sensors are rules of this run");
            self.tell(self.now_ms, EventLevel::Info, "hardware_limits", message)?;
        }
        for chunk in ignored.chunks(IGNORED_A_LINE) {
            let message = format!("limits of the hardware that are not believed: {}", chunk.join("; "));
            self.tell(self.now_ms, EventLevel::Info, "hardware_limit_ignored", message)?;
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
        self.tell(ts_ms, EventLevel::Info, "stage_started", stage.as_str())
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
        let reasons = self.halting_reasons(stage, &reported)?;
        let mut summary = StepSummary::ended(reported.clone(), details);
        if reported == Outcome::Pass && !reasons.is_empty() {
            summary.outcome = Some(Outcome::fail(reasons.join(" ")));
            summary.reported = Some(reported);
        }
        stages::finish(self.connection, self.run, stage, summary.state(), ts_ms, &summary.stored())?;
        self.live.forget_progress(stage);
        let level = match summary.outcome {
            Some(Outcome::Pass | Outcome::Skip { .. }) if reasons.is_empty() => EventLevel::Info,
            Some(_) | None => EventLevel::Warning,
        };
        let message = match summary.reason() {
            Some(reason) => format!("{stage} {}: {reason}", summary.state()),
            None => format!("{stage} {}", summary.state()),
        };
        self.tell(ts_ms, level, "stage_finished", message)?;
        if !reasons.is_empty() {
            halt_after(self.connection, self.run, stage, self.now_ms)?;
        }
        self.rows = stages::list(self.connection, self.run)?;
        Ok(())
    }

    /// Why no further stage may start; empty if it may.
    fn halting_reasons(&self, stage: StageName, reported: &Outcome) -> Result<Vec<String>, RunError> {
        let facts = StageFacts {
            name: stage.to_string(),
            required: plans::requires(&self.plan, stage),
            outcome: Some(reported.clone()),
            started_ms: None,
            ended_ms: None,
            details: serde_json::Value::Null,
            sub_steps: Vec::new(),
        };
        let mut reasons: Vec<String> =
            reasons_to_halt(&facts, self.live.evaluations()).into_iter().map(|reason| reason.text).collect();
        if stage == StageName::SpecValidate {
            for row in diffs::list(self.connection, self.run)? {
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
