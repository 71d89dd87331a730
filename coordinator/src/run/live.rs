//! What the coordinator keeps in memory of a run under way: what the rules said of each quantity, and how far its
//! stages are. A restart rebuilds the first from the stored samples and waits for the agent to tell the second anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use vetting_judge::rules::{Matcher, RuleSet};
use vetting_judge::tally::Evaluation;
use vetting_judge::threshold::Judged;
use vetting_protocol::ids::StageName;
use vetting_protocol::measurement::Measurement;

use super::rules::RuleKey;

/// How far a stage or sub-step is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// 0 to 100.
    pub percent: f64,
    /// Time left, ms.
    pub eta_ms: Option<u64>,
}

/// A sample that a rule could judge: a row of `threshold_evaluations` or of `hardware_limit_evaluations`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluated {
    /// The rule's row.
    pub rule: RuleKey,
    /// The value.
    pub observed: f64,
    /// Within the rule.
    pub passed: bool,
}

type ByKey = HashMap<String, Evaluation>;

/// One run's memory.
#[derive(Debug)]
pub struct Live {
    matcher: Matcher<RuleKey>,
    evaluations: BTreeMap<(RuleKey, Option<StageName>), ByKey>,
    progress: BTreeMap<(StageName, Option<u32>), Progress>,
}

impl Live {
    /// Nothing seen yet.
    pub fn new(rules: Arc<RuleSet<RuleKey>>) -> Self {
        Self { matcher: Matcher::new(rules), evaluations: BTreeMap::new(), progress: BTreeMap::new() }
    }

    /// Judges by these rules from now on. What was judged by those that stay is kept.
    pub fn replace_rules(&mut self, rules: Arc<RuleSet<RuleKey>>) {
        self.matcher = Matcher::new(rules);
    }

    /// Judges one sample. What no rule could compare (no value, another unit) gives no row, but is remembered.
    pub fn observe(&mut self, sample: &Measurement) -> Vec<Evaluated> {
        let mut rows = Vec::new();
        for (id, rule) in self.matcher.matching(sample.stage, &sample.kind, &sample.key) {
            let keys = self.evaluations.entry((id, sample.stage)).or_default();
            // entry() would copy the key of each sample
            if !keys.contains_key(&sample.key) {
                keys.insert(
                    sample.key.clone(),
                    Evaluation::empty(rule.clone(), sample.stage, sample.key.clone()),
                );
            }
            let Some(evaluation) = keys.get_mut(&sample.key) else { continue };
            let judged = evaluation.observe(sample.ts_ms, sample.value, &sample.unit);
            let passed = match judged {
                Judged::Within => true,
                Judged::Breach => false,
                Judged::NoValue | Judged::UnitMismatch => continue,
            };
            if let Some(observed) = sample.value {
                rows.push(Evaluated { rule: id, observed, passed });
            }
        }
        rows
    }

    /// What the rules said so far.
    pub fn evaluations(&self) -> impl Iterator<Item = &Evaluation> {
        self.evaluations.values().flat_map(HashMap::values)
    }

    /// Notes how far something is.
    pub fn set_progress(&mut self, stage: StageName, sub_step: Option<u32>, progress: Progress) {
        self.progress.insert((stage, sub_step), progress);
    }

    /// How far a stage is.
    pub fn progress(&self, stage: StageName) -> Option<Progress> {
        self.progress.get(&(stage, None)).copied()
    }

    /// A stage is over: it is no longer on its way.
    pub fn forget_progress(&mut self, stage: StageName) {
        self.progress.retain(|(of, _), _| *of != stage);
    }
}

#[cfg(test)]
mod tests {
    use vetting_judge::threshold::{Op, Rule, RuleSeverity, RuleSource};

    use super::*;

    fn live() -> Live {
        let rule = |kind: &str, severity| Rule {
            stage: None,
            kind: kind.to_owned(),
            key: "*".parse().unwrap(),
            op: Op::Lt,
            threshold: 95.0,
            nominal: 0.0,
            unit: "celsius".to_owned(),
            severity,
            source: RuleSource::Profile,
            fallback: false,
        };
        let rules = vec![
            (RuleKey::Threshold(7), rule("temp", RuleSeverity::Critical)),
            (RuleKey::HardwareLimit(7), rule("warm", RuleSeverity::Warning)),
        ];
        Live::new(Arc::new(RuleSet::compile(rules).unwrap()))
    }

    fn sample(kind: &str, value: Option<f64>) -> Measurement {
        Measurement {
            ts_ms: 1,
            stage: Some(StageName::CpuStress),
            kind: kind.to_owned(),
            key: "cpu/0".to_owned(),
            value,
            unit: "celsius".to_owned(),
        }
    }

    fn fatal(live: &Live) -> usize {
        live.evaluations().filter(|evaluation| evaluation.is_fatal()).count()
    }

    #[test]
    fn a_breach_is_a_row_and_fatal() {
        let mut live = live();
        let row = Evaluated { rule: RuleKey::Threshold(7), observed: 99.0, passed: false };
        assert_eq!(live.observe(&sample("temp", Some(99.0))), [row]);
        assert!(live.observe(&sample("temp", Some(50.0)))[0].passed);
        assert_eq!(fatal(&live), 1);
    }

    #[test]
    fn a_warning_is_not_fatal() {
        let mut live = live();
        assert!(!live.observe(&sample("warm", Some(99.0)))[0].passed);
        assert_eq!(fatal(&live), 0);
    }

    #[test]
    fn no_value_is_no_row_and_fatal_while_there_is_no_other() {
        let mut live = live();
        assert!(live.observe(&sample("temp", None)).is_empty());
        assert_eq!(fatal(&live), 1);
        live.observe(&sample("temp", Some(20.0)));
        assert_eq!(fatal(&live), 0);
    }
}
