//! Adds up what the rules said of many samples: one [`Evaluation`] a rule and key.
//!
//! Feed it every measurement of a run, as they come or from the database; it keeps no samples.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vetting_protocol::ids::StageName;
use vetting_protocol::measurement::Measurement;

use crate::rules::{Matcher, RuleSet};
use crate::threshold::{Judged, Rule, RuleSeverity, RuleSource, Sustain};

/// What one rule said of all samples of one key in one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The rule.
    pub rule: Rule,
    /// The rule in words.
    pub rule_text: String,
    /// The stage the samples were taken in; absent for between stages.
    pub stage: Option<StageName>,
    /// Which one of the rule's kind.
    pub key: String,
    /// Samples that the rule matched.
    pub samples: u64,
    /// Of these, out of the rule.
    pub breaches: u64,
    /// Of these, without a value.
    pub without_value: u64,
    /// Of these, in another unit than the rule's.
    pub in_wrong_unit: u64,
    /// The worst value seen, in the rule's unit; absent if none could be compared or none was a finite number.
    pub worst: Option<f64>,
    /// The first breach, milliseconds since the epoch.
    pub first_breach_ms: Option<i64>,
    /// The unit of the last sample that was in another unit than the rule's.
    pub wrong_unit: Option<String>,
    /// For a rule whose breaches count only after a while: when the first that counts began, ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sustained_ms: Option<i64>,
    /// For such a rule: the samples out of it that the newest ones are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streak: Option<Streak>,
}

/// Samples in a row that were out of a rule. Those without a value or in another unit end none: nothing is known of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streak {
    /// When it began, ms since the epoch.
    pub since_ms: i64,
    /// When its newest sample was taken, ms since the epoch.
    pub last_ms: i64,
    /// How many they are.
    pub samples: u32,
    /// How long it lasts, ms. A clock that is set back takes nothing away.
    pub lasted_ms: u64,
}

impl Streak {
    fn and(streak: Option<Self>, ts_ms: i64) -> Self {
        let Some(Self { since_ms, last_ms, samples, lasted_ms }) = streak else {
            return Self { since_ms: ts_ms, last_ms: ts_ms, samples: 1, lasted_ms: 0 };
        };
        let since_last = u64::try_from(ts_ms.saturating_sub(last_ms)).unwrap_or(0);
        let lasted_ms = lasted_ms.saturating_add(since_last);
        Self { since_ms, last_ms: ts_ms, samples: samples.saturating_add(1), lasted_ms }
    }

    fn is_long_enough(self, sustain: Sustain) -> bool {
        match sustain {
            Sustain::AtOnce => true,
            Sustain::Samples(samples) => self.samples >= samples,
            Sustain::ForMs(ms) => self.lasted_ms >= ms,
        }
    }
}

impl Evaluation {
    /// Nothing judged yet.
    pub fn empty(rule: Rule, stage: Option<StageName>, key: String) -> Self {
        let rule_text = rule.describe();
        Self {
            rule,
            rule_text,
            stage,
            key,
            samples: 0,
            breaches: 0,
            without_value: 0,
            in_wrong_unit: 0,
            worst: None,
            first_breach_ms: None,
            wrong_unit: None,
            sustained_ms: None,
            streak: None,
        }
    }

    /// Adds one sample.
    pub fn observe(&mut self, ts_ms: i64, value: Option<f64>, unit: &str) -> Judged {
        self.samples += 1;
        let judged = self.rule.judge_sample(value, unit);
        match judged {
            Judged::Within => self.streak = None,
            Judged::Breach => {
                self.breaches += 1;
                self.first_breach_ms.get_or_insert(ts_ms);
                if self.rule.sustain != Sustain::AtOnce {
                    let streak = Streak::and(self.streak, ts_ms);
                    self.streak = Some(streak);
                    if streak.is_long_enough(self.rule.sustain) {
                        self.sustained_ms.get_or_insert(streak.since_ms);
                    }
                }
            }
            Judged::NoValue => self.without_value += 1,
            Judged::UnitMismatch => {
                self.in_wrong_unit += 1;
                self.wrong_unit = Some(unit.to_owned());
            }
        }
        if let (Judged::Within | Judged::Breach, Some(value)) =
            (judged, value.filter(|value| value.is_finite()))
        {
            let is_worse = self.worst.is_none_or(|worst| self.rule.excess(value) > self.rule.excess(worst));
            if is_worse {
                self.worst = Some(value);
            }
        }
        judged
    }

    /// The rule in words, with who gave it where that is the hardware.
    pub fn rule_in_words(&self) -> String {
        match self.rule.source {
            RuleSource::Hardware => format!("{} (the limit that the hardware gives)", self.rule_text),
            RuleSource::Profile | RuleSource::HostOverride => self.rule_text.clone(),
        }
    }

    /// Samples that could be compared.
    pub fn judged(&self) -> u64 {
        self.samples.saturating_sub(self.without_value).saturating_sub(self.in_wrong_unit)
    }

    /// It is a critical rule, and it was breached or could judge none of its samples.
    pub fn is_fatal(&self) -> bool {
        self.rule.severity == RuleSeverity::Critical && (self.is_breached() || self.is_unjudged())
    }

    /// Samples were out of the rule for as long as counts, or still are: nobody knows whether those come back.
    pub fn is_breached(&self) -> bool {
        match self.rule.sustain {
            Sustain::AtOnce => self.breaches > 0,
            Sustain::Samples(_) | Sustain::ForMs(_) => self.sustained_ms.is_some() || self.streak.is_some(),
        }
    }

    /// Samples were out of the rule, but came back before that counted.
    pub fn is_glitch(&self) -> bool {
        self.breaches > 0 && !self.is_breached()
    }

    /// Going on with the stage would harm the machine.
    pub fn must_end_stage(&self) -> bool {
        let counts = match self.rule.sustain {
            Sustain::AtOnce => self.breaches > 0,
            Sustain::Samples(_) | Sustain::ForMs(_) => self.sustained_ms.is_some(),
        };
        counts && self.rule.ends_stage && self.rule.severity == RuleSeverity::Critical
    }

    /// There were samples, and none could be compared.
    pub fn is_unjudged(&self) -> bool {
        self.samples > 0 && self.judged() == 0
    }
}

/// A sample that a rule could judge. A row of `threshold_evaluations`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluated<Id> {
    /// Key of the rule.
    pub rule: Id,
    /// The value.
    pub observed: f64,
    /// Within the rule.
    pub passed: bool,
}

/// Adds up evaluations while samples go by.
#[derive(Debug, Clone)]
pub struct Tally<Id> {
    matcher: Matcher<Id>,
    /// Boxed, since most rules judge one key or two, and each node of a tree has room for eleven values.
    evaluations: BTreeMap<(Id, Option<StageName>), BTreeMap<String, Box<Evaluation>>>,
    samples: u64,
    /// Stages that must not go on, each with the first reason.
    ended: BTreeMap<StageName, String>,
}

impl<Id: Copy + Ord> Tally<Id> {
    /// Nothing seen yet.
    pub fn new(rules: Arc<RuleSet<Id>>) -> Self {
        Self {
            matcher: Matcher::new(rules),
            evaluations: BTreeMap::new(),
            samples: 0,
            ended: BTreeMap::new(),
        }
    }

    /// Judges one sample by every rule that matches it. What a rule could not compare (no value, another unit) is not
    /// in the answer, but is remembered.
    pub fn observe(&mut self, sample: &Measurement) -> Vec<Evaluated<Id>> {
        self.samples += 1;
        let mut evaluated = Vec::new();
        for (id, rule) in self.matcher.matching(sample.stage, &sample.kind, &sample.key) {
            let keys = self.evaluations.entry((id, sample.stage)).or_default();
            // entry() would copy the key of each sample
            if !keys.contains_key(&sample.key) {
                let evaluation = Evaluation::empty(rule.clone(), sample.stage, sample.key.clone());
                keys.insert(sample.key.clone(), Box::new(evaluation));
            }
            let Some(evaluation) = keys.get_mut(&sample.key) else { continue };
            let judged = evaluation.observe(sample.ts_ms, sample.value, &sample.unit);
            if let (Judged::Breach, Some(stage), true) = (judged, sample.stage, evaluation.must_end_stage()) {
                self.ended.entry(stage).or_insert_with(|| {
                    let worst = evaluation.worst.map_or_else(
                        || "no number".to_owned(),
                        |worst| crate::quantity::in_words(worst, &evaluation.rule.unit),
                    );
                    format!("{} {} {}, but was {worst}", sample.kind, sample.key, evaluation.rule_in_words())
                });
            }
            let passed = match judged {
                Judged::Within => true,
                Judged::Breach => false,
                Judged::NoValue | Judged::UnitMismatch => continue,
            };
            if let Some(observed) = sample.value {
                evaluated.push(Evaluated { rule: id, observed, passed });
            }
        }
        evaluated
    }

    /// Judges by these rules from now on. What was said by those that stay, by their ids, is kept.
    pub fn replace_rules(&mut self, rules: Arc<RuleSet<Id>>) {
        self.matcher = Matcher::new(rules);
    }

    /// The stages that must not go on, each with the reason.
    pub fn ended(&self) -> impl Iterator<Item = (StageName, &str)> {
        self.ended.iter().map(|(stage, reason)| (*stage, reason.as_str()))
    }

    /// Samples seen, judged or not.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// One a rule, stage and key that had samples, by rule, then stage, then key.
    pub fn evaluations(&self) -> impl Iterator<Item = &Evaluation> {
        self.evaluations.values().flat_map(BTreeMap::values).map(Box::as_ref)
    }

    /// The same, by value.
    pub fn into_evaluations(self) -> Vec<Evaluation> {
        self.evaluations.into_values().flat_map(BTreeMap::into_values).map(|evaluation| *evaluation).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threshold::Op;

    fn rule(op: Op, threshold: f64, severity: RuleSeverity) -> Rule {
        Rule {
            stage: None,
            kind: "temp".to_owned(),
            key: "cpu/*".parse().unwrap(),
            op,
            threshold,
            nominal: 0.0,
            unit: "celsius".to_owned(),
            severity,
            source: RuleSource::Profile,
            fallback: false,
            sustain: Sustain::AtOnce,
            ends_stage: false,
            required: false,
            change: None,
        }
    }

    #[test]
    fn each_rule_stage_and_key_is_added_up_alone() {
        let rules = vec![
            (1_i64, rule(Op::Lt, 90.0, RuleSeverity::Critical)),
            (2, rule(Op::Gt, 10.0, RuleSeverity::Warning)),
        ];
        let mut tally = Tally::new(Arc::new(RuleSet::compile(rules).unwrap()));
        let cpu = Some(StageName::CpuStress);
        for (ts_ms, stage, key, value, unit) in [
            (1, cpu, "cpu/0", Some(70.0), "celsius"),
            (2, cpu, "cpu/0", Some(95.0), "celsius"),
            (3, cpu, "cpu/0", Some(92.0), "celsius"),
            (4, cpu, "cpu/0", Some(f64::NAN), "celsius"),
            (5, cpu, "cpu/0", None, "celsius"),
            (6, None, "cpu/0", Some(300.0), "kelvin"),
            (7, cpu, "disk/sda", Some(300.0), "celsius"),
        ] {
            let (kind, key, unit) = ("temp".to_owned(), key.to_owned(), unit.to_owned());
            tally.observe(&Measurement { ts_ms, stage, kind, key, value, unit });
        }
        assert_eq!(tally.samples(), 7);
        let found = tally.into_evaluations();
        let counts: Vec<_> = found
            .iter()
            .map(|found| {
                (found.stage, found.samples, found.breaches, found.without_value, found.in_wrong_unit)
            })
            .collect();
        assert_eq!(counts, [(None, 1, 0, 0, 1), (cpu, 5, 3, 1, 0), (None, 1, 0, 0, 1), (cpu, 5, 1, 1, 0)]);
        let hot = &found[1];
        assert_eq!((hot.worst, hot.first_breach_ms, hot.judged()), (Some(95.0), Some(2), 4));
        assert!(hot.is_fatal() && found[0].is_fatal() && !found[2].is_fatal() && !found[3].is_fatal());
        assert_eq!(found[0].wrong_unit.as_deref(), Some("kelvin"));
        assert_eq!(found[3].worst, Some(70.0));
    }

    fn sample(value: Option<f64>) -> Measurement {
        Measurement {
            ts_ms: 1,
            stage: Some(StageName::CpuStress),
            kind: "temp".to_owned(),
            key: "cpu/0".to_owned(),
            value,
            unit: "celsius".to_owned(),
        }
    }

    fn tally(severity: RuleSeverity) -> Tally<i64> {
        Tally::new(Arc::new(RuleSet::compile(vec![(7, rule(Op::Lt, 95.0, severity))]).unwrap()))
    }

    fn fatal(tally: &Tally<i64>) -> usize {
        tally.evaluations().filter(|evaluation| evaluation.is_fatal()).count()
    }

    #[test]
    fn a_breach_is_a_row_and_fatal() {
        let mut tally = tally(RuleSeverity::Critical);
        let row = Evaluated { rule: 7, observed: 99.0, passed: false };
        assert_eq!(tally.observe(&sample(Some(99.0))), [row]);
        assert!(tally.observe(&sample(Some(50.0)))[0].passed);
        assert_eq!(fatal(&tally), 1);
    }

    #[test]
    fn a_warning_is_not_fatal() {
        let mut tally = tally(RuleSeverity::Warning);
        assert!(!tally.observe(&sample(Some(99.0)))[0].passed);
        assert_eq!(fatal(&tally), 0);
    }

    #[test]
    fn no_value_is_no_row_and_fatal_while_there_is_no_other() {
        let mut tally = tally(RuleSeverity::Critical);
        assert!(tally.observe(&sample(None)).is_empty());
        assert_eq!(fatal(&tally), 1);
        tally.observe(&sample(Some(20.0)));
        assert_eq!(fatal(&tally), 0);
    }

    fn lasting(sustain: Sustain, samples: &[(i64, Option<f64>)]) -> Evaluation {
        let rule = Rule { sustain, ends_stage: true, ..rule(Op::Lt, 95.0, RuleSeverity::Critical) };
        let mut evaluation = Evaluation::empty(rule, Some(StageName::CpuStress), "cpu/0".to_owned());
        for (ts_ms, value) in samples {
            evaluation.observe(*ts_ms, *value, "celsius");
        }
        evaluation
    }

    #[test]
    fn a_glitch_is_counted_and_does_not_fail() {
        let (hot, cool) = (Some(99.0), Some(50.0));
        for (sustain, samples, breached, ends) in [
            (Sustain::AtOnce, vec![(0, hot), (5, cool)], true, true),
            (Sustain::Samples(2), vec![(0, hot), (5, cool), (10, hot), (15, cool)], false, false),
            (Sustain::Samples(2), vec![(0, hot), (5, hot), (10, cool)], true, true),
            // nothing is known of the sample between
            (Sustain::Samples(2), vec![(0, hot), (5, None), (10, hot), (15, cool)], true, true),
            (Sustain::Samples(2), vec![(0, hot), (5, Some(f64::NAN)), (10, cool)], true, true),
            // it has not come back
            (Sustain::Samples(3), vec![(0, cool), (5, hot)], true, false),
            (Sustain::ForMs(10), vec![(0, hot), (9, hot), (10, cool)], false, false),
            (Sustain::ForMs(10), vec![(0, hot), (10, hot), (11, cool)], true, true),
            (Sustain::ForMs(10), vec![(0, hot), (20, cool), (30, hot), (35, cool)], false, false),
            // the clock was set back on the way
            (
                Sustain::ForMs(10),
                vec![(1_000, hot), (1_006, hot), (3, hot), (9, hot), (11, cool)],
                true,
                true,
            ),
        ] {
            let found = lasting(sustain, &samples);
            assert_eq!(
                (found.is_breached(), found.must_end_stage()),
                (breached, ends),
                "{sustain:?} {samples:?}"
            );
            assert_eq!(found.is_fatal(), breached);
            assert_eq!(found.is_glitch(), !breached);
            assert!(found.breaches > 0);
        }
    }

    #[test]
    fn a_stage_ends_once_a_breach_counts_and_only_that_stage() {
        let hot = Rule {
            sustain: Sustain::Samples(2),
            ends_stage: true,
            ..rule(Op::Lt, 95.0, RuleSeverity::Critical)
        };
        let mut tally = Tally::new(Arc::new(RuleSet::compile(vec![(7_i64, hot)]).unwrap()));
        tally.observe(&sample(Some(99.0)));
        assert_eq!(tally.ended().count(), 0);
        tally.observe(&sample(Some(101.0)));
        tally.observe(&sample(Some(50.0)));
        let reason = "temp cpu/0 must be < 95 °C (2 samples in a row count), but was 101 °C";
        assert_eq!(tally.ended().collect::<Vec<_>>(), [(StageName::CpuStress, reason)]);
    }
}
