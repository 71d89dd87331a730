//! What the coordinator keeps in memory of a run under way: what the rules said of each quantity, and how far its
//! stages are. A restart rebuilds the first from the stored samples and waits for the agent to tell the second anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use vetting_judge::rules::RuleSet;
use vetting_judge::tally::{Evaluated, Evaluation, Tally};
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

/// One run's memory.
#[derive(Debug)]
pub struct Live {
    tally: Tally<RuleKey>,
    progress: BTreeMap<(StageName, Option<u32>), Progress>,
    /// The newest value of each temperature sensor.
    celsius: BTreeMap<String, f64>,
}

/// What there is to see of a run under way at a glance.
#[derive(Debug, Clone, PartialEq)]
pub struct Glance {
    progress: Vec<(StageName, Progress)>,
    /// The sensor that is hottest now, °C.
    pub hottest: Option<(String, f64)>,
}

impl Glance {
    /// How far a stage is, by its name.
    pub fn progress_of(&self, stage: &str) -> Option<Progress> {
        self.progress.iter().find(|(name, _)| name.as_str() == stage).map(|(_, progress)| *progress)
    }
}

impl Live {
    /// Nothing seen yet.
    pub fn new(rules: Arc<RuleSet<RuleKey>>) -> Self {
        Self { tally: Tally::new(rules), progress: BTreeMap::new(), celsius: BTreeMap::new() }
    }

    /// Judges by these rules from now on. What was judged by those that stay is kept.
    pub fn replace_rules(&mut self, rules: Arc<RuleSet<RuleKey>>) {
        self.tally.replace_rules(rules);
    }

    /// Judges one sample by the rules, whose ids are the keys of their rows.
    pub fn observe(&mut self, sample: &Measurement) -> Vec<Evaluated<RuleKey>> {
        if sample.kind == "temp" && sample.unit == "celsius" {
            match sample.value {
                Some(celsius) if celsius.is_finite() => match self.celsius.get_mut(&sample.key) {
                    Some(last) => *last = celsius,
                    None => drop(self.celsius.insert(sample.key.clone(), celsius)),
                },
                // a sensor that says nothing is not hot and not cold
                Some(_) | None => drop(self.celsius.remove(&sample.key)),
            }
        }
        self.tally.observe(sample)
    }

    /// What the rules said so far.
    pub fn evaluations(&self) -> impl Iterator<Item = &Evaluation> {
        self.tally.evaluations()
    }

    /// The stages that must not go on, each with the reason; nearly always none.
    pub fn ended(&self) -> Vec<(StageName, String)> {
        self.tally.ended().map(|(stage, reason)| (stage, reason.to_owned())).collect()
    }

    /// Notes how far something is.
    pub fn set_progress(&mut self, stage: StageName, sub_step: Option<u32>, progress: Progress) {
        self.progress.insert((stage, sub_step), progress);
    }

    /// How far a stage is.
    pub fn progress(&self, stage: StageName) -> Option<Progress> {
        self.progress.get(&(stage, None)).copied()
    }

    /// What there is to see of it at a glance.
    pub fn glance(&self) -> Glance {
        let whole = self.progress.iter().filter(|((_, sub_step), _)| sub_step.is_none());
        let hottest = self.celsius.iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
        Glance {
            progress: whole.map(|((stage, _), progress)| (*stage, *progress)).collect(),
            hottest: hottest.map(|(key, celsius)| (key.clone(), *celsius)),
        }
    }

    /// A stage is over: it is no longer on its way.
    pub fn forget_progress(&mut self, stage: StageName) {
        self.progress.retain(|(of, _), _| *of != stage);
    }
}
