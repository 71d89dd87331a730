//! One rule and how it judges one sample. A rule states what is good: `temp lt 95`.
//!
//! A value that is missing, not a finite number, or in another unit than the rule's never passes.

mod change;
mod sustain;

use std::fmt;

use serde::{Deserialize, Serialize};
use vetting_protocol::diff::Severity;
use vetting_protocol::ids::StageName;
use vetting_protocol::named_enum;

use crate::glob::TextGlob;
use crate::quantity::{in_words, trimmed};

pub(crate) use change::compare_strictness;
pub use change::{Change, RuleChange};
pub use sustain::Sustain;

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
        /// A limit that the hardware itself gives; never stored in `thresholds`.
        Hardware = "hardware",
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
    /// It stands back for a sensor for which the hardware gives a limit on the same side, of the same severity.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fallback: bool,
    /// How long samples must be out of it before that counts.
    #[serde(default = "at_once", skip_serializing_if = "Sustain::is_at_once")]
    pub sustain: Sustain,
    /// Going on would harm the machine: the stage is ended as soon as a breach counts, not at its end.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ends_stage: bool,
    /// It must meet a sample: one that meets none fails the run, as far as its stage passed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub required: bool,
    /// What the host's own rules made of it; absent where it is as the profile or the hardware has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<RuleChange>,
}

fn at_once() -> Sustain {
    Sustain::AtOnce
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !*flag
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
        !self.is_off()
            && (self.stage.is_none() || self.stage == stage)
            && self.kind == kind
            && self.key.matches(key)
    }

    /// The host's own rules switched it off.
    pub fn is_off(&self) -> bool {
        self.change.as_ref().is_some_and(|change| change.kind == Change::Off)
    }

    /// Whether this is a limit of the hardware that takes the place of `other` for the sensors it is for.
    pub fn stands_in_for(&self, other: &Self) -> bool {
        let upper = |op: Op| matches!(op, Op::Lt | Op::Lte);
        self.source == RuleSource::Hardware
            && other.fallback
            && other.op != Op::WithinPct
            && self.severity == other.severity
            && upper(self.op) == upper(other.op)
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

    /// The rule in words: `must be < 95 °C`, `must be <= 0`, `must be within 5 % of 12 volts (30s count)`.
    pub fn describe(&self) -> String {
        let good = self.good_in_words();
        match self.sustain.in_words() {
            Some(sustain) => format!("{good} ({sustain} count)"),
            None => good,
        }
    }

    fn good_in_words(&self) -> String {
        let threshold = || in_words(self.threshold, &self.unit);
        match self.op {
            Op::Lt => format!("must be < {}", threshold()),
            Op::Lte => format!("must be <= {}", threshold()),
            Op::Gt => format!("must be > {}", threshold()),
            Op::Gte => format!("must be >= {}", threshold()),
            Op::WithinPct => {
                format!(
                    "must be within {} % of {}",
                    trimmed(self.threshold),
                    in_words(self.nominal, &self.unit)
                )
            }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(op: Op, threshold: f64, nominal: f64) -> Rule {
        Rule {
            stage: None,
            kind: "volt".to_owned(),
            key: "+12V".parse().unwrap(),
            op,
            threshold,
            nominal,
            unit: "volts".to_owned(),
            severity: RuleSeverity::Critical,
            source: RuleSource::Profile,
            fallback: false,
            sustain: Sustain::AtOnce,
            ends_stage: false,
            required: false,
            change: None,
        }
    }

    #[test]
    fn each_comparison_at_its_boundary() {
        use Judged::{Breach, Within};
        for (op, below, at, above) in [
            (Op::Lt, Within, Breach, Breach),
            (Op::Lte, Within, Within, Breach),
            (Op::Gt, Breach, Breach, Within),
            (Op::Gte, Breach, Within, Within),
        ] {
            let rule = rule(op, 95.0, 0.0);
            let judged = [95.0_f64.next_down(), 95.0, 95.0_f64.next_up()].map(|value| rule.judge(value));
            assert_eq!(judged, [below, at, above], "{op}");
        }
        // 12 V give or take 5 %: 11.40 to 12.60, both good
        let supply = rule(Op::WithinPct, 5.0, 12.0);
        for (value, expected) in
            [(11.39, Breach), (11.4, Within), (12.0, Within), (12.6, Within), (12.61, Breach)]
        {
            assert_eq!(supply.judge(value), expected, "{value}");
        }
        let negative = rule(Op::WithinPct, 10.0, -12.0);
        assert_eq!(
            (negative.judge(-13.1), negative.judge(-13.3), negative.judge(12.0)),
            (Within, Breach, Breach)
        );
    }

    #[test]
    fn what_is_no_number_missing_or_in_another_unit_never_passes() {
        for op in Op::ALL {
            let rule = rule(*op, 5.0, 12.0);
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                assert_eq!(rule.judge_sample(Some(value), "volts"), Judged::Breach, "{op} {value}");
            }
            assert_eq!(rule.judge_sample(None, "volts"), Judged::NoValue);
            assert_eq!(rule.judge_sample(Some(12.0), "millivolts"), Judged::UnitMismatch);
            assert_eq!(rule.judge_sample(None, ""), Judged::UnitMismatch);
        }
        let any_unit = Rule { unit: String::new(), ..rule(Op::Lt, 5.0, 0.0) };
        assert_eq!(any_unit.judge_sample(Some(4.0), "rpm"), Judged::Within);
    }

    #[test]
    fn a_rule_that_cannot_judge_is_refused() {
        assert!(matches!(rule(Op::Lt, f64::NAN, 0.0).check(), Err(RuleError::NotFinite { .. })));
        assert!(matches!(rule(Op::Lt, 1.0, f64::INFINITY).check(), Err(RuleError::NotFinite { .. })));
        assert!(matches!(rule(Op::WithinPct, 5.0, 0.0).check(), Err(RuleError::NoNominal { .. })));
        assert!(matches!(rule(Op::WithinPct, -5.0, 12.0).check(), Err(RuleError::NegativePercentage { .. })));
        assert_eq!(rule(Op::Gte, 0.0, 0.0).check(), Ok(()));
    }

    #[test]
    fn rules_say_what_is_good() {
        assert_eq!(rule(Op::Lt, 95.0, 0.0).describe(), "must be < 95 volts");
        assert_eq!(rule(Op::WithinPct, 5.0, 3.3).describe(), "must be within 5 % of 3.3 volts");
        let errors = Rule { unit: "count".to_owned(), ..rule(Op::Lte, 0.0, 0.0) };
        assert_eq!(errors.to_string(), "volt +12V must be <= 0");
    }

    #[test]
    fn texts_are_those_of_the_database() {
        let texts: Vec<&str> = Op::ALL.iter().map(|op| op.as_str()).collect();
        assert_eq!(texts, ["lt", "lte", "gt", "gte", "within_pct"]);
        assert!("LT".parse::<Op>().is_err() && "info".parse::<RuleSeverity>().is_err());
    }

    #[test]
    fn what_counts_only_after_a_while_says_so() {
        let lasting = |sustain| Rule { sustain, ..rule(Op::Lt, 95.0, 0.0) }.describe();
        assert_eq!(lasting(Sustain::Samples(3)), "must be < 95 volts (3 samples in a row count)");
        assert_eq!(lasting(Sustain::ForMs(90_000)), "must be < 95 volts (1m30s count)");
    }

    #[test]
    fn a_change_is_stricter_or_looser_or_neither() {
        for op in [Op::Lt, Op::Lte, Op::WithinPct, Op::Gt, Op::Gte] {
            let (less, more) = match op {
                Op::Gt | Op::Gte => (Change::Looser, Change::Stricter),
                Op::Lt | Op::Lte | Op::WithinPct => (Change::Stricter, Change::Looser),
            };
            let old = rule(op, 5.0, 12.0);
            assert_eq!(compare_strictness(&rule(op, 4.0, 12.0), &old), less, "{op}");
            assert_eq!(compare_strictness(&rule(op, 6.0, 12.0), &old), more, "{op}");
            assert_eq!(compare_strictness(&old, &old), Change::Changed, "{op}");
            let glitch = Rule { sustain: Sustain::Samples(2), ..old.clone() };
            assert_eq!(compare_strictness(&glitch, &old), Change::Looser, "{op}");
            assert_eq!(compare_strictness(&old, &glitch), Change::Stricter, "{op}");
            let unit = Rule { unit: "millivolts".to_owned(), ..rule(op, 4.0, 12.0) };
            assert_eq!(compare_strictness(&unit, &old), Change::Changed, "{op}");
        }
    }

    proptest! {
        #[test]
        fn judging_is_the_plain_comparison(value: f64, threshold in -1e12..1e12, nominal in 0.1..1e9) {
            let expected = |good: bool| if good && value.is_finite() { Judged::Within } else { Judged::Breach };
            prop_assert_eq!(rule(Op::Lt, threshold, 0.0).judge(value), expected(value < threshold));
            prop_assert_eq!(rule(Op::Lte, threshold, 0.0).judge(value), expected(value <= threshold));
            prop_assert_eq!(rule(Op::Gt, threshold, 0.0).judge(value), expected(value > threshold));
            prop_assert_eq!(rule(Op::Gte, threshold, 0.0).judge(value), expected(value >= threshold));
            let far = nominal * 0.06;
            let near = nominal * 0.04;
            let supply = rule(Op::WithinPct, 5.0, nominal);
            prop_assert_eq!(supply.judge(nominal + near), Judged::Within);
            prop_assert_eq!(supply.judge(nominal - near), Judged::Within);
            prop_assert_eq!(supply.judge(nominal + far), Judged::Breach);
            prop_assert_eq!(supply.judge(nominal - far), Judged::Breach);
        }
    }
}
