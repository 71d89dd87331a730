//! One rule and how it judges one sample. A rule states what is good: `temp lt 95`.
//!
//! A value that is missing, not a finite number, or in another unit than the rule's never passes.

use std::fmt;

use serde::{Deserialize, Serialize};
use vetting_protocol::diff::Severity;
use vetting_protocol::ids::StageName;
use vetting_protocol::named_enum;

use crate::glob::TextGlob;

named_enum! {
    /// How a value is compared. `thresholds.op`.
    Op, "a comparison (lt, lte, gt, gte, within_pct)" {
        /// Less than the threshold.
        Lt = "lt",
        /// At most the threshold.
        Lte = "lte",
        /// Greater than the threshold.
        Gt = "gt",
        /// At least the threshold.
        Gte = "gte",
        /// No further from the nominal value than so many percent of it.
        WithinPct = "within_pct",
    }
}

named_enum! {
    /// How much a breach weighs. `thresholds.severity`.
    RuleSeverity, "a rule's severity (critical, warning)" {
        /// Fails the run at the end of its stage.
        Critical = "critical",
        /// Shown, does not fail.
        Warning = "warning",
    }
}

impl From<RuleSeverity> for Severity {
    fn from(severity: RuleSeverity) -> Self {
        match severity {
            RuleSeverity::Critical => Self::Critical,
            RuleSeverity::Warning => Self::Warning,
        }
    }
}

named_enum! {
    /// Where a rule comes from. `thresholds.source`.
    RuleSource, "a rule's source (profile, host_override)" {
        /// The profile registry.
        Profile = "profile",
        /// The host's own settings.
        HostOverride = "host_override",
    }
}

/// A rule that can judge nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The threshold or the nominal value is infinite or not a number.
    #[error("the rule for `{kind}` `{key}` has a {field} that is not a finite number")]
    NotFinite {
        /// `threshold` or `nominal`.
        field: &'static str,
        /// The rule's kind.
        kind: String,
        /// The rule's key glob.
        key: String,
    },
    /// `within_pct` of nothing.
    #[error("the rule for `{kind}` `{key}` is within_pct; it needs a nominal value other than 0")]
    NoNominal {
        /// The rule's kind.
        kind: String,
        /// The rule's key glob.
        key: String,
    },
    /// `within_pct` of less than nothing.
    #[error(
        "the rule for `{kind}` `{key}` is within_pct; its threshold is a percentage and cannot be negative"
    )]
    NegativePercentage {
        /// The rule's kind.
        kind: String,
        /// The rule's key glob.
        key: String,
    },
    /// No kind.
    #[error("the rule for key `{key}` names no kind of measurement")]
    NoKind {
        /// The rule's key glob.
        key: String,
    },
}

/// A rule. A row of `thresholds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The stage it holds in; absent for any, also between stages (`*` in the database).
    pub stage: Option<StageName>,
    /// The measurement's kind, exactly.
    pub kind: String,
    /// Which keys of that kind.
    pub key: TextGlob,
    /// What is good.
    pub op: Op,
    /// In `unit`; for `within_pct` in percent of `nominal`.
    pub threshold: f64,
    /// The reference of `within_pct`, in `unit`; 0 for the other comparisons.
    pub nominal: f64,
    /// The unit the measurement must be in; empty if it may be any.
    pub unit: String,
    /// What a breach weighs.
    pub severity: RuleSeverity,
    /// Where the rule comes from.
    pub source: RuleSource,
}

/// What a rule says of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// Good.
    Within,
    /// Not good; so is a value that is no finite number.
    Breach,
    /// The sample has no value: nothing is known, so it is not good.
    NoValue,
    /// The sample is in another unit: it cannot be compared, so it is not good.
    UnitMismatch,
}

impl Rule {
    /// Whether the rule can judge at all.
    pub fn check(&self) -> Result<(), RuleError> {
        let (kind, key) = (|| self.kind.clone(), || self.key.to_string());
        if self.kind.is_empty() {
            return Err(RuleError::NoKind { key: key() });
        }
        for (field, number) in [("threshold", self.threshold), ("nominal", self.nominal)] {
            if !number.is_finite() {
                return Err(RuleError::NotFinite { field, kind: kind(), key: key() });
            }
        }
        if self.op == Op::WithinPct {
            if self.nominal == 0.0 {
                return Err(RuleError::NoNominal { kind: kind(), key: key() });
            }
            if self.threshold < 0.0 {
                return Err(RuleError::NegativePercentage { kind: kind(), key: key() });
            }
        }
        Ok(())
    }

    /// Whether it judges samples of this stage, kind and key. A rule of one stage leaves samples between stages alone.
    pub fn applies_to(&self, stage: Option<StageName>, kind: &str, key: &str) -> bool {
        (self.stage.is_none() || self.stage == stage) && self.kind == kind && self.key.matches(key)
    }

    /// Judges a value that is in the rule's unit.
    pub fn judge(&self, value: f64) -> Judged {
        if value.is_finite() && self.excess(value) <= 0.0 && !self.is_excluded_boundary(value) {
            Judged::Within
        } else {
            Judged::Breach
        }
    }

    /// Judges a sample as it was measured.
    pub fn judge_sample(&self, value: Option<f64>, unit: &str) -> Judged {
        match value {
            _ if !self.unit.is_empty() && self.unit != unit => Judged::UnitMismatch,
            None => Judged::NoValue,
            Some(value) => self.judge(value),
        }
    }

    /// How far a value is on the bad side: the greater, the worse; a value that is no number is the worst.
    pub fn excess(&self, value: f64) -> f64 {
        if !value.is_finite() {
            return f64::INFINITY;
        }
        match self.op {
            Op::Lt | Op::Lte => value - self.threshold,
            Op::Gt | Op::Gte => self.threshold - value,
            Op::WithinPct => (value - self.nominal).abs() - self.tolerance(),
        }
    }

    /// The lower and the upper limit of what is good, in `unit`.
    pub fn limits(&self) -> (Option<f64>, Option<f64>) {
        match self.op {
            Op::Lt | Op::Lte => (None, Some(self.threshold)),
            Op::Gt | Op::Gte => (Some(self.threshold), None),
            Op::WithinPct => (Some(self.nominal - self.tolerance()), Some(self.nominal + self.tolerance())),
        }
    }

    /// The rule in words: `must be < 95 celsius`.
    pub fn describe(&self) -> String {
        let space = if self.unit.is_empty() { "" } else { " " };
        let (threshold, unit) = (self.threshold, &self.unit);
        match self.op {
            Op::Lt => format!("must be < {threshold}{space}{unit}"),
            Op::Lte => format!("must be <= {threshold}{space}{unit}"),
            Op::Gt => format!("must be > {threshold}{space}{unit}"),
            Op::Gte => format!("must be >= {threshold}{space}{unit}"),
            Op::WithinPct => format!("must be within {threshold} % of {}{space}{unit}", self.nominal),
        }
    }

    fn tolerance(&self) -> f64 {
        self.nominal.abs() * self.threshold / 100.0
    }

    #[expect(clippy::float_cmp, reason = "lt and gt exclude exactly the threshold itself")]
    fn is_excluded_boundary(&self, value: f64) -> bool {
        matches!(self.op, Op::Lt | Op::Gt) && value == self.threshold
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.kind, self.key, self.describe())
    }
}
