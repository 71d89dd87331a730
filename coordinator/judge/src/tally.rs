//! Adds up what the rules said of many samples: one [`Evaluation`] a rule and key.
//!
//! Feed it every measurement of a run, as they come or from the database; it keeps no samples.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vetting_protocol::ids::StageName;
use vetting_protocol::measurement::Measurement;

use crate::rules::{Matcher, RuleSet};
use crate::threshold::{Judged, Rule, RuleSeverity};

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
        }
    }

    /// Adds one sample.
    pub fn observe(&mut self, ts_ms: i64, value: Option<f64>, unit: &str) -> Judged {
        self.samples += 1;
        let judged = self.rule.judge_sample(value, unit);
        match judged {
            Judged::Within => {}
            Judged::Breach => {
                self.breaches += 1;
                self.first_breach_ms.get_or_insert(ts_ms);
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

    /// Samples that could be compared.
    pub fn judged(&self) -> u64 {
        self.samples.saturating_sub(self.without_value).saturating_sub(self.in_wrong_unit)
    }

    /// It is a critical rule, and it was breached or could judge none of its samples.
    pub fn is_fatal(&self) -> bool {
        self.rule.severity == RuleSeverity::Critical && (self.breaches > 0 || self.is_unjudged())
    }

    /// There were samples, and none could be compared.
    pub fn is_unjudged(&self) -> bool {
        self.samples > 0 && self.judged() == 0
    }
}

/// Adds up evaluations while samples go by.
#[derive(Debug, Clone)]
pub struct Tally<Id> {
    matcher: Matcher<Id>,
    evaluations: BTreeMap<(Id, Option<StageName>, String), Evaluation>,
    samples: u64,
}

impl<Id: Copy + Ord> Tally<Id> {
    /// Nothing seen yet.
    pub fn new(rules: Arc<RuleSet<Id>>) -> Self {
        Self { matcher: Matcher::new(rules), evaluations: BTreeMap::new(), samples: 0 }
    }

    /// Judges one sample by every rule that matches it.
    pub fn observe(&mut self, sample: &Measurement) {
        self.samples += 1;
        for (id, rule) in self.matcher.matching(sample.stage, &sample.kind, &sample.key) {
            self.evaluations
                .entry((id, sample.stage, sample.key.clone()))
                .or_insert_with(|| Evaluation::empty(rule.clone(), sample.stage, sample.key.clone()))
                .observe(sample.ts_ms, sample.value, &sample.unit);
        }
    }

    /// Samples seen, judged or not.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// One a rule, stage and key that had samples, by rule, then stage, then key.
    pub fn evaluations(&self) -> impl Iterator<Item = &Evaluation> {
        self.evaluations.values()
    }

    /// The same, by value.
    pub fn into_evaluations(self) -> Vec<Evaluation> {
        self.evaluations.into_values().collect()
    }
}
