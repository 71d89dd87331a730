//! The rules of one run, and which of them a sample meets.
//!
//! [`RuleSet`] is immutable and can be shared between threads. [`Matcher`] adds the memo that makes ingest quick:
//! one a thread, `&mut self`, no lock; its memory is bounded since keys come from the network.

use std::collections::HashMap;
use std::sync::Arc;

use vetting_protocol::ids::StageName;

use crate::threshold::{Rule, RuleError};

/// Most (stage, kind, key) combinations a memo holds before it starts afresh.
const MEMO_LIMIT: usize = 65_536;

/// The rules of one run, each with the caller's key of it (the database's row id).
#[derive(Debug, Clone)]
pub struct RuleSet<Id> {
    rules: Box<[(Id, Rule)]>,
}

impl<Id: Copy> RuleSet<Id> {
    /// Checks every rule. Order is kept.
    pub fn compile(rules: Vec<(Id, Rule)>) -> Result<Self, RuleError> {
        rules.iter().try_for_each(|(_, rule)| rule.check())?;
        Ok(Self { rules: rules.into_boxed_slice() })
    }

    /// Every rule, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Rule)> {
        self.rules.iter().map(|(id, rule)| (*id, rule))
    }

    /// The rules that judge samples of this stage, kind and key; found by trying every rule. A fallback is not among
    /// them where the hardware gives a limit of its own.
    pub fn matching<'a>(
        &'a self,
        stage: Option<StageName>,
        kind: &'a str,
        key: &'a str,
    ) -> impl Iterator<Item = (Id, &'a Rule)> {
        self.matching_positions(stage, kind, key).filter_map(|position| {
            let (id, rule) = self.rules.get(position)?;
            Some((*id, rule))
        })
    }

    /// Those that apply, without the fallbacks that a limit of the hardware stands in for.
    fn matching_positions(
        &self,
        stage: Option<StageName>,
        kind: &str,
        key: &str,
    ) -> impl Iterator<Item = usize> + use<Id> {
        let applying: Vec<usize> = self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, (_, rule))| rule.applies_to(stage, kind, key))
            .map(|(position, _)| position)
            .collect();
        let rule = |position: &usize| &self.rules[*position].1;
        let stands =
            |position: &usize| applying.iter().any(|other| rule(other).stands_in_for(rule(position)));
        let chosen: Vec<usize> = applying.iter().copied().filter(|position| !stands(position)).collect();
        chosen.into_iter()
    }
}

type KeyMemo = HashMap<String, Box<[usize]>>;

/// A rule set with a memo of what matched before.
#[derive(Debug, Clone)]
pub struct Matcher<Id> {
    rules: Arc<RuleSet<Id>>,
    memo: HashMap<Option<StageName>, HashMap<String, KeyMemo>>,
    remembered: usize,
}

impl<Id: Copy> Matcher<Id> {
    /// With an empty memo.
    pub fn new(rules: Arc<RuleSet<Id>>) -> Self {
        Self { rules, memo: HashMap::new(), remembered: 0 }
    }

    /// The rules behind it.
    pub fn rules(&self) -> &RuleSet<Id> {
        &self.rules
    }

    /// The rules that judge samples of this stage, kind and key. Allocates only the first time it sees them.
    pub fn matching(
        &mut self,
        stage: Option<StageName>,
        kind: &str,
        key: &str,
    ) -> impl ExactSizeIterator<Item = (Id, &Rule)> {
        if !self.remembers(stage, kind, key) {
            self.remember(stage, kind, key);
        }
        let found: &[usize] = self
            .memo
            .get(&stage)
            .and_then(|kinds| kinds.get(kind))
            .and_then(|keys| keys.get(key))
            .map_or(&[], |found| found);
        let rules = &self.rules.rules;
        found.iter().map(move |position| {
            let (id, rule) = &rules[*position];
            (*id, rule)
        })
    }

    fn remembers(&self, stage: Option<StageName>, kind: &str, key: &str) -> bool {
        self.memo.get(&stage).and_then(|kinds| kinds.get(kind)).is_some_and(|keys| keys.contains_key(key))
    }

    fn remember(&mut self, stage: Option<StageName>, kind: &str, key: &str) {
        if self.remembered >= MEMO_LIMIT {
            self.memo.clear();
            self.remembered = 0;
        }
        let found = self.rules.matching_positions(stage, kind, key).collect();
        self.memo.entry(stage).or_default().entry(kind.to_owned()).or_default().insert(key.to_owned(), found);
        self.remembered += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures;
    use vetting_protocol::limit::{Bound, LimitGrade};
    use vetting_protocol::profile::ProfileName;

    fn rules() -> Arc<RuleSet<i64>> {
        let rules = fixtures::registry().get(ProfileName::Quick).rules().cloned();
        Arc::new(RuleSet::compile((1..).zip(rules).collect()).unwrap())
    }

    fn found(rules: &RuleSet<i64>, stage: Option<StageName>, kind: &str, key: &str) -> Vec<String> {
        rules.matching(stage, kind, key).map(|(_, rule)| rule.to_string()).collect()
    }

    #[test]
    fn a_rule_of_one_stage_leaves_the_others_alone() {
        let rules = rules();
        let key = "cpu/verify_failures";
        assert_eq!(
            found(&rules, Some(StageName::CpuStress), "stress", key),
            ["stress cpu/verify_failures must be <= 0"]
        );
        assert!(found(&rules, Some(StageName::Storage), "stress", key).is_empty());
        assert!(found(&rules, None, "stress", key).is_empty());
        assert_eq!(found(&rules, None, "temp", "cpu/0").len(), 2);
        assert!(found(&rules, None, "TEMP", "cpu/0").is_empty());
    }

    #[test]
    fn attribute_5_is_not_attribute_195() {
        let rules = rules();
        let smart = Some(StageName::Smart);
        assert_eq!(found(&rules, smart, "smart_attr", "sda/5_reallocated_sector_ct").len(), 1);
        assert!(found(&rules, smart, "smart_attr", "sda/195_hardware_ecc_recovered").is_empty());
    }

    #[test]
    fn a_flood_of_keys_does_not_grow_the_memo_without_end() {
        let mut matcher = Matcher::new(rules());
        for number in 0..=MEMO_LIMIT {
            let _ = matcher.matching(None, "temp", &format!("cpu/{number}"));
        }
        assert!(matcher.remembered <= MEMO_LIMIT);
        assert_eq!(matcher.matching(None, "temp", "cpu/0").len(), 2);
    }

    #[test]
    fn a_limit_of_the_hardware_stands_in_for_the_fallback_of_its_severity() {
        let registry = fixtures::registry().get(ProfileName::Quick).rules().cloned();
        let limit = |value, bound, grade| {
            crate::limit::rule(&vetting_protocol::limit::HardwareLimit {
                kind: "temp".to_owned(),
                key: "cpu/0".to_owned(),
                bound,
                grade,
                value,
                unit: "celsius".to_owned(),
                origin: String::new(),
                observed: None,
                asserted: None,
            })
            .unwrap()
        };
        let critical = limit(105.0, Bound::Upper, LimitGrade::Critical);
        let lower = limit(5.0, Bound::Lower, LimitGrade::Warning);
        let rules: Vec<(i64, Rule)> = (1..).zip(registry.chain([critical, lower])).collect();
        let rules = RuleSet::compile(rules).unwrap();
        assert_eq!(
            found(&rules, None, "temp", "cpu/0"),
            [
                "temp cpu/* must be < 90 °C",
                "temp cpu/0 must be < 105 °C (2 samples in a row count)",
                "temp cpu/0 must be > 5 °C"
            ]
        );
        assert_eq!(found(&rules, None, "temp", "cpu/1").len(), 2, "the other has no limit of its own");
    }

    proptest! {
        #[test]
        fn the_memo_changes_nothing(
            samples in prop::collection::vec(
                (
                    prop::option::of(prop::sample::select(StageName::ALL)),
                    prop::sample::select(vec!["temp", "fio", "smart_attr", "stress", "odd"]),
                    "(cpu|sda|nvme0n1|disk)/(0|sda|nvme0n1|5_x|read_errors|verify_failures)",
                ),
                1..40,
            )
        ) {
            let rules = rules();
            let mut matcher = Matcher::new(Arc::clone(&rules));
            for (stage, kind, key) in samples.iter().chain(&samples) {
                let plain: Vec<i64> = rules.matching(*stage, kind, key).map(|(id, _)| id).collect();
                let remembered: Vec<i64> = matcher.matching(*stage, kind, key).map(|(id, _)| id).collect();
                prop_assert_eq!(plain, remembered);
            }
        }
    }
}
