//! Limits that the hardware itself gives: which of them can be believed, and the rules they become.
//!
//! Firmware leaves many limits at 0, at the end of a register, or at what a chip holds after power-on. One that is not
//! believed judges nothing, and is told with the reason.

use vetting_protocol::limit::{Bound, HardwareLimit, LimitGrade};

use crate::glob::{GlobError, TextGlob};
use crate::quantity::in_words;
use crate::threshold::{Op, Rule, RuleError, RuleSeverity, RuleSource, Sustain};

/// Why a limit is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// No hardware has such a limit.
    #[error("{value} is no {bound} limit that a sensor for {kind} can have")]
    Absurd {
        /// In words.
        value: String,
        /// Which side.
        bound: Bound,
        /// The quantity.
        kind: String,
    },
    /// The sensor was beyond it from the first look on, and the hardware itself did not mind.
    #[error(
        "the sensor said {observed} when the limit was read, and the hardware does not call that beyond it"
    )]
    NotAsserted {
        /// In words.
        observed: String,
    },
    /// Boards come with voltage and fan limits that nobody set: beyond from the first look on tells of the limit.
    #[error("the sensor said {observed} when the limit was read, so nobody can have set it for this machine")]
    NeverSet {
        /// In words.
        observed: String,
    },
    /// It cannot be a rule.
    #[error("it cannot be judged by")]
    NoRule(#[from] RuleError),
    /// The sensor has no name.
    #[error("the sensor has no name")]
    NoKey(#[from] GlobError),
}

/// The rule that a limit becomes.
///
/// # Errors
/// It cannot be believed.
pub fn rule(limit: &HardwareLimit) -> Result<Rule, NotBelieved> {
    let words = |value| in_words(value, &limit.unit);
    if !is_possible(limit) {
        let (value, kind) = (words(limit.value), limit.kind.clone());
        return Err(NotBelieved::Absurd { value, bound: limit.bound, kind });
    }
    let (sustain, ends_stage) = terms(&limit.kind, limit.bound, limit.grade == LimitGrade::Critical);
    let rule = Rule {
        stage: None,
        kind: limit.kind.clone(),
        key: TextGlob::literal(&limit.key)?,
        op: match limit.bound {
            Bound::Upper => Op::Lt,
            Bound::Lower => Op::Gt,
        },
        threshold: limit.value,
        nominal: 0.0,
        unit: limit.unit.clone(),
        severity: match limit.grade {
            LimitGrade::Critical => RuleSeverity::Critical,
            LimitGrade::Warning => RuleSeverity::Warning,
        },
        source: RuleSource::Hardware,
        fallback: false,
        sustain,
        ends_stage,
        required: false,
        change: None,
    };
    rule.check()?;
    if let Some(observed) = limit.observed.filter(|observed| rule.excess(*observed) >= 0.0) {
        let is_board_default =
            limit.grade == LimitGrade::Warning && matches!(&*limit.kind, "volt" | "fan" | "current");
        if is_board_default {
            return Err(NotBelieved::NeverSet { observed: words(observed) });
        }
        if limit.asserted != Some(true) {
            return Err(NotBelieved::NotAsserted { observed: words(observed) });
        }
    }
    Ok(rule)
}

/// Samples in a row that are too hot before a stage is ended for it: one alone may be a misread.
const SAMPLES_TOO_HOT: u32 = 2;

/// How long a value must be beyond such a limit before that counts, and whether going on would then harm the machine.
pub fn terms(kind: &str, bound: Bound, is_critical: bool) -> (Sustain, bool) {
    match (kind, bound, is_critical) {
        ("temp", Bound::Upper, true) => (Sustain::Samples(SAMPLES_TOO_HOT), true),
        _ => (Sustain::AtOnce, false),
    }
}

/// Limits named in one line of the event log.
const IGNORED_A_LINE: usize = 10;

/// What the event log is told of limits that came together.
#[derive(Debug, Default)]
pub struct LimitsTold {
    taken: u64,
    ignored: Vec<String>,
}

impl LimitsTold {
    /// One became a rule.
    pub fn take(&mut self) {
        self.taken += 1;
    }

    /// One is not believed.
    pub fn ignore(&mut self, limit: &HardwareLimit, reason: &str) {
        self.ignored.push(format!("{} {} ({}): {reason}", limit.kind, limit.key, limit.origin));
    }

    /// At least one became a rule.
    pub fn any_taken(&self) -> bool {
        self.taken > 0
    }

    /// Kind and message of each event.
    pub fn events(&self) -> Vec<(&'static str, String)> {
        let taken =
            format!("{} limits that the hardware gives for its sensors are rules of this run", self.taken);
        let ignored = self.ignored.chunks(IGNORED_A_LINE).map(|chunk| {
            let message = format!("limits of the hardware that are not believed: {}", chunk.join("; "));
            ("hardware_limit_ignored", message)
        });
        self.any_taken().then_some(("hardware_limits", taken)).into_iter().chain(ignored).collect()
    }
}

/// Whether a sensor of this quantity can have it. The ranges are wide: they only sort out registers that nobody wrote.
fn is_possible(limit: &HardwareLimit) -> bool {
    let value = limit.value;
    let possible = match (&*limit.kind, limit.bound) {
        // parts that switch off below 20 °C or above 150 °C do not exist; 255 and 127 + offset are empty registers, and so is
        // 127 with what a chip has behind the point: a disk that gives it would be judged by nothing
        ("temp", Bound::Upper) => (20.0..127.0).contains(&value) || (128.0..=150.0).contains(&value),
        // -273.15 and -128 likewise
        ("temp", Bound::Lower) => (-60.0..=60.0).contains(&value),
        ("fan", Bound::Upper) => (100.0..=60_000.0).contains(&value),
        ("fan", Bound::Lower) => (1.0..=60_000.0).contains(&value),
        // supply rails may be negative; the mains have at most 400 V
        ("volt", _) => value != 0.0 && (-60.0..=400.0).contains(&value),
        ("current" | "power", Bound::Upper) => value > 0.0 && value <= 100_000.0,
        ("level", _) => value > 0.0 && value <= 100.0,
        (_, Bound::Upper | Bound::Lower) => value > 0.0,
    };
    value.is_finite() && possible
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(kind: &str, bound: Bound, value: f64, observed: Option<f64>) -> HardwareLimit {
        HardwareLimit {
            kind: kind.to_owned(),
            key: "hwmon/nct6779/in[0]*".to_owned(),
            bound,
            grade: LimitGrade::Critical,
            value,
            unit: "celsius".to_owned(),
            origin: "/sys/…".to_owned(),
            observed,
            asserted: Some(false),
        }
    }

    #[test]
    fn a_limit_is_a_rule_for_its_sensor_alone() {
        let rule = rule(&limit("temp", Bound::Upper, 100.0, Some(41.0))).unwrap();
        assert!(rule.applies_to(None, "temp", "hwmon/nct6779/in[0]*"));
        assert!(!rule.applies_to(None, "temp", "hwmon/nct6779/in0x"));
        assert_eq!(
            (rule.op, rule.severity, rule.source),
            (Op::Lt, RuleSeverity::Critical, RuleSource::Hardware)
        );
        assert_eq!(super::rule(&limit("fan", Bound::Lower, 600.0, Some(4200.0))).unwrap().op, Op::Gt);
    }

    #[test]
    fn registers_that_nobody_wrote_are_no_limits() {
        for (kind, bound, value) in [
            ("temp", Bound::Upper, 0.0),
            ("temp", Bound::Upper, 19.9),
            ("temp", Bound::Upper, 255.0),
            ("temp", Bound::Upper, 127.0),
            ("temp", Bound::Upper, 127.75),
            ("temp", Bound::Upper, f64::NAN),
            ("temp", Bound::Upper, 65_261.85),
            ("temp", Bound::Lower, -273.15),
            ("temp", Bound::Lower, -128.0),
            ("fan", Bound::Lower, 0.0),
            ("volt", Bound::Upper, 0.0),
            ("power", Bound::Upper, 0.0),
        ] {
            let judged = rule(&limit(kind, bound, value, None));
            assert!(matches!(judged, Err(NotBelieved::Absurd { .. })), "{kind} {bound} {value}: {judged:?}");
        }
    }

    #[test]
    fn beyond_at_the_first_look_counts_only_if_the_hardware_says_so() {
        let hot = limit("temp", Bound::Upper, 90.0, Some(95.0));
        assert!(matches!(rule(&hot), Err(NotBelieved::NotAsserted { .. })));
        assert!(matches!(
            rule(&HardwareLimit { asserted: None, ..hot.clone() }),
            Err(NotBelieved::NotAsserted { .. })
        ));
        assert!(rule(&HardwareLimit { asserted: Some(true), ..hot }).is_ok());
        let rail = HardwareLimit {
            grade: LimitGrade::Warning,
            asserted: Some(true),
            ..limit("volt", Bound::Upper, 1.744, Some(3.3))
        };
        assert!(matches!(rule(&rail), Err(NotBelieved::NeverSet { .. })));
    }

    proptest! {
        #[test]
        fn what_becomes_a_rule_can_judge(value: f64, observed in prop::option::of(any::<f64>()), asserted: bool, key in "\\PC{0,12}") {
            for kind in ["temp", "fan", "volt", "power", "odd"] {
                for bound in Bound::ALL {
                    let limit = HardwareLimit { asserted: Some(asserted), key: key.clone(), ..limit(kind, *bound, value, observed) };
                    if let Ok(rule) = rule(&limit) {
                        prop_assert!(rule.check().is_ok() && rule.applies_to(None, kind, &key));
                    }
                }
            }
        }
    }
}
