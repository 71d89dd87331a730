//! What the coordinator keeps in memory of a run under way: what the rules said of each quantity, and how far its
//! stages are. A restart rebuilds the first from the stored samples and waits for the agent to tell the second anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use vetting_judge::rules::{Matcher, RuleSet};
use vetting_judge::tally::Evaluation;
use vetting_judge::threshold::{Judged, Rule};
use vetting_protocol::ids::StageName;
use vetting_protocol::measurement::Measurement;

/// How far a stage or sub-step is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// 0 to 100.
    pub percent: f64,
    /// Time left, ms.
    pub eta_ms: Option<u64>,
}

/// A sample that a rule could judge: a row of `threshold_evaluations`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluated {
    /// Key of the rule's row.
    pub threshold_id: i64,
    /// The value.
    pub observed: f64,
    /// Within the rule.
    pub passed: bool,
}

type ByKey = HashMap<String, Evaluation>;

/// One run's memory.
#[derive(Debug)]
pub struct Live {
    matcher: Matcher<i64>,
    evaluations: BTreeMap<(i64, Option<StageName>), ByKey>,
    progress: BTreeMap<(StageName, Option<u32>), Progress>,
}

impl Live {
    /// Nothing seen yet.
    pub fn new(rules: Arc<RuleSet<i64>>) -> Self {
        Self { matcher: Matcher::new(rules), evaluations: BTreeMap::new(), progress: BTreeMap::new() }
    }

    /// Judges one sample. What no rule could compare (no value, another unit) gives no row, but is remembered.
    pub fn observe(&mut self, sample: &Measurement) -> Vec<Evaluated> {
        let mut rows = Vec::new();
        for (threshold_id, rule) in self.matcher.matching(sample.stage, &sample.kind, &sample.key) {
            let keys = self.evaluations.entry((threshold_id, sample.stage)).or_default();
            // entry() would copy the key of each sample
            if !keys.contains_key(&sample.key) {
                keys.insert(sample.key.clone(), Evaluation::empty(rule.clone(), sample.stage, sample.key.clone()));
            }
            let Some(evaluation) = keys.get_mut(&sample.key) else { continue };
            let judged = evaluation.observe(sample.ts_ms, sample.value, &sample.unit);
            let passed = match judged {
                Judged::Within => true,
                Judged::Breach => false,
                Judged::NoValue | Judged::UnitMismatch => continue,
            };
            if let Some(observed) = sample.value {
                rows.push(Evaluated { threshold_id, observed, passed });
            }
        }
        rows
    }

    /// What fails `stage` by its critical rules, a sentence each: breaches, and quantities that none of whose samples
    /// could be judged.
    pub fn fatal_in(&self, stage: StageName) -> Vec<String> {
        self.evaluations
            .iter()
            .filter(|((_, of), _)| *of == Some(stage))
            .flat_map(|(_, keys)| {
                let mut keys: Vec<&Evaluation> = keys.values().collect();
                keys.sort_by(|one, other| one.key.cmp(&other.key));
                keys
            })
            .filter(|evaluation| evaluation.is_fatal())
            .map(sentence)
            .collect()
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

fn sentence(evaluation: &Evaluation) -> String {
    let Evaluation { rule, rule_text, key, breaches, samples, worst, .. } = evaluation;
    let Rule { kind, unit, .. } = rule;
    match (evaluation.is_unjudged(), worst) {
        (true, _) => format!("{kind} {key} {rule_text}, but none of {samples} samples could be judged"),
        (false, Some(worst)) => {
            let space = if unit.is_empty() { "" } else { " " };
            format!("{kind} {key} {rule_text}, was {worst}{space}{unit} ({breaches} of {samples} samples out)")
        }
        (false, None) => format!("{kind} {key} {rule_text}; {breaches} of {samples} samples were out"),
    }
}

#[cfg(test)]
mod tests {
    use vetting_judge::threshold::{Op, RuleSeverity, RuleSource};

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
        };
        let rules = vec![(7, rule("temp", RuleSeverity::Critical)), (8, rule("warm", RuleSeverity::Warning))];
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

    #[test]
    fn a_breach_is_a_row_and_fails_its_stage_only() {
        let mut live = live();
        assert_eq!(
            live.observe(&sample("temp", Some(99.0))),
            [Evaluated { threshold_id: 7, observed: 99.0, passed: false }]
        );
        assert_eq!(live.observe(&sample("temp", Some(50.0)))[0].passed, true);
        assert_eq!(
            live.fatal_in(StageName::CpuStress),
            ["temp cpu/0 must be < 95 celsius, was 99 celsius (1 of 2 samples out)"]
        );
        assert!(live.fatal_in(StageName::Storage).is_empty());
    }

    #[test]
    fn a_warning_fails_nothing() {
        let mut live = live();
        assert!(!live.observe(&sample("warm", Some(99.0)))[0].passed);
        assert!(live.fatal_in(StageName::CpuStress).is_empty());
    }

    #[test]
    fn no_value_is_no_row_and_no_pass() {
        let mut live = live();
        assert!(live.observe(&sample("temp", None)).is_empty());
        assert_eq!(
            live.fatal_in(StageName::CpuStress),
            ["temp cpu/0 must be < 95 celsius, but none of 1 samples could be judged"]
        );
        live.observe(&sample("temp", Some(20.0)));
        assert!(live.fatal_in(StageName::CpuStress).is_empty());
    }
}
