//! The judge's rules as rows, and rows as the judge's rules.

use vetting_judge::glob::TextGlob;
use vetting_judge::threshold::{Rule, RuleChange, RuleSeverity, RuleSource, Sustain};
use vetting_protocol::diff::Severity;
use vetting_protocol::ids::RunId;
use vetting_protocol::limit::{Bound, HardwareLimit, LimitGrade};

use super::error::RunError;
use crate::store::Connection;
use crate::store::limits::{self, LimitValues};
use crate::store::thresholds::{self, TermsValues, ThresholdOp, ThresholdSource, ThresholdValues};

/// `stage_name` of a rule of any stage, and of what was measured between stages.
pub const ANY_STAGE: &str = "*";

/// A rule as a row of `thresholds`; none for a limit of the hardware, which has its own table.
pub fn stored(rule: &Rule) -> Option<ThresholdValues> {
    use vetting_judge::threshold::Op;
    Some(ThresholdValues {
        stage_name: rule.stage.map_or(ANY_STAGE, |stage| stage.as_str()).to_owned(),
        kind: rule.kind.clone(),
        key: rule.key.as_str().to_owned(),
        op: match rule.op {
            Op::Lt => ThresholdOp::Lt,
            Op::Lte => ThresholdOp::Lte,
            Op::Gt => ThresholdOp::Gt,
            Op::Gte => ThresholdOp::Gte,
            Op::WithinPct => ThresholdOp::WithinPct,
        },
        threshold: rule.threshold,
        nominal: rule.nominal,
        unit: rule.unit.clone(),
        severity: rule.severity.into(),
        source: match rule.source {
            RuleSource::Profile => ThresholdSource::Profile,
            RuleSource::HostOverride => ThresholdSource::HostOverride,
            RuleSource::Hardware => return None,
        },
        fallback: rule.fallback,
        terms: stored_terms(rule),
    })
}

fn stored_terms(rule: &Rule) -> TermsValues {
    let change = rule.change.as_ref();
    TermsValues {
        sustain_samples: match rule.sustain {
            Sustain::Samples(samples) => Some(samples),
            Sustain::AtOnce | Sustain::ForMs(_) => None,
        },
        sustain_ms: match rule.sustain {
            Sustain::ForMs(ms) => Some(ms),
            Sustain::AtOnce | Sustain::Samples(_) => None,
        },
        ends_stage: rule.ends_stage,
        required: rule.required,
        change: change.map(|change| change.kind.to_string()),
        was: change.and_then(|change| change.was.clone()),
        note: change.map(|change| change.note.clone()),
    }
}

/// A row as a rule.
///
/// # Errors
/// A row that no rule of the judge has written.
pub fn read(run: RunId, values: &ThresholdValues) -> Result<Rule, RunError> {
    let corrupt = |what: String| RunError::Corrupt {
        run,
        what: format!("threshold {} {}: {what}", values.kind, values.key),
    };
    let stage = match values.stage_name.as_str() {
        ANY_STAGE => None,
        name => Some(
            name.parse().map_err(|error: vetting_protocol::ids::ParseIdError| corrupt(error.to_string()))?,
        ),
    };
    Ok(Rule {
        stage,
        kind: values.kind.clone(),
        key: values
            .key
            .parse()
            .map_err(|error: vetting_judge::glob::GlobError| corrupt(error.to_string()))?,
        op: values
            .op
            .as_str()
            .parse()
            .map_err(|error: vetting_protocol::ids::ParseIdError| corrupt(error.to_string()))?,
        threshold: values.threshold,
        nominal: values.nominal,
        unit: values.unit.clone(),
        severity: match values.severity {
            Severity::Critical => RuleSeverity::Critical,
            Severity::Warning => RuleSeverity::Warning,
            Severity::Info => return Err(corrupt("a rule cannot have the severity info".to_owned())),
        },
        source: match values.source {
            ThresholdSource::Profile => RuleSource::Profile,
            ThresholdSource::HostOverride => RuleSource::HostOverride,
        },
        fallback: values.fallback,
        sustain: match (values.terms.sustain_samples, values.terms.sustain_ms) {
            (None, None) => Sustain::AtOnce,
            (Some(samples), None) => Sustain::Samples(samples),
            (None, Some(ms)) => Sustain::ForMs(ms),
            (Some(_), Some(_)) => return Err(corrupt("it counts after samples and after a time".to_owned())),
        },
        ends_stage: values.terms.ends_stage,
        required: values.terms.required,
        change: match &values.terms.change {
            None => None,
            Some(kind) => Some(RuleChange {
                kind: kind
                    .parse()
                    .map_err(|error: vetting_protocol::ids::ParseIdError| corrupt(error.to_string()))?,
                was: values.terms.was.clone(),
                note: values.terms.note.clone().unwrap_or_default(),
            }),
        },
    })
}

/// Which row a rule stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKey {
    /// Of `thresholds`.
    Threshold(i64),
    /// Of `hardware_limits`.
    HardwareLimit(i64),
}

/// A limit of the hardware as a row, and the rule that it becomes, if it can be believed.
pub fn stored_limit(limit: &HardwareLimit) -> (LimitValues, Option<Rule>) {
    let (rule, ignored) = match vetting_judge::limit::rule(limit) {
        Ok(rule) => (Some(rule), None),
        Err(reason) => (None, Some(reason.to_string())),
    };
    let values = LimitValues {
        kind: limit.kind.clone(),
        key: limit.key.clone(),
        op: match limit.bound {
            Bound::Upper => ThresholdOp::Lt,
            Bound::Lower => ThresholdOp::Gt,
        },
        threshold: limit.value,
        unit: limit.unit.clone(),
        severity: match limit.grade {
            LimitGrade::Critical => Severity::Critical,
            LimitGrade::Warning => Severity::Warning,
        },
        origin: limit.origin.clone(),
        observed: limit.observed,
        ignored,
    };
    (values, rule)
}

/// A row of a limit as a rule; none of one that is not believed.
fn read_limit(run: RunId, values: &LimitValues) -> Result<Option<Rule>, RunError> {
    if values.ignored.is_some() {
        return Ok(None);
    }
    let bound = match values.op {
        ThresholdOp::Lt | ThresholdOp::Lte => Bound::Upper,
        ThresholdOp::Gt | ThresholdOp::Gte | ThresholdOp::WithinPct => Bound::Lower,
    };
    let is_critical = values.severity == Severity::Critical;
    let (sustain, ends_stage) = vetting_judge::limit::terms(&values.kind, bound, is_critical);
    let rule = read(
        run,
        &ThresholdValues {
            stage_name: ANY_STAGE.to_owned(),
            kind: values.kind.clone(),
            key: TextGlob::literal(&values.key)
                .map_err(|error| RunError::Corrupt {
                    run,
                    what: format!("a limit of the hardware: {error}"),
                })?
                .as_str()
                .to_owned(),
            op: values.op,
            threshold: values.threshold,
            nominal: 0.0,
            unit: values.unit.clone(),
            severity: values.severity,
            source: ThresholdSource::Profile,
            fallback: false,
            terms: TermsValues::default(),
        },
    )?;
    Ok(Some(Rule { source: RuleSource::Hardware, sustain, ends_stage, ..rule }))
}

/// The rules of a run with their keys: those it was created with, then the limits of its hardware, each in the order they
/// came.
pub fn of_run(connection: &Connection, run: RunId) -> Result<Vec<(RuleKey, Rule)>, RunError> {
    let mut rules = Vec::new();
    for row in thresholds::list(connection, run)? {
        rules.push((RuleKey::Threshold(row.id), read(run, &row.values)?));
    }
    for row in limits::list(connection, run)? {
        if let Some(rule) = read_limit(run, &row.values)? {
            rules.push((RuleKey::HardwareLimit(row.id), rule));
        }
    }
    Ok(rules)
}
