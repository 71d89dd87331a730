//! The judge's rules as rows, and rows as the judge's rules.

use vetting_judge::threshold::{Rule, RuleSeverity, RuleSource};
use vetting_protocol::diff::Severity;
use vetting_protocol::ids::RunId;

use super::error::RunError;
use crate::store::Connection;
use crate::store::thresholds::{self, ThresholdOp, ThresholdSource, ThresholdValues};

/// `stage_name` of a rule of any stage, and of what was measured between stages.
pub const ANY_STAGE: &str = "*";

/// A rule as a row.
pub fn stored(rule: &Rule) -> ThresholdValues {
    use vetting_judge::threshold::Op;
    ThresholdValues {
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
        },
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
    })
}

/// The rules of a run with their keys, in the order they were seeded.
pub fn of_run(connection: &Connection, run: RunId) -> Result<Vec<(i64, Rule)>, RunError> {
    thresholds::list(connection, run)?.into_iter().map(|row| Ok((row.id, read(run, &row.values)?))).collect()
}
