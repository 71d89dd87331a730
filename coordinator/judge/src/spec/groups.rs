//! Which part belongs to which group of a spec, and what is missing, different or too much.
//!
//! Parts are assigned so that as many groups as possible are full (augmenting paths, as in bipartite matching). A group
//! that stays short is filled with the left-over parts that come closest, so that a wrong part is told by the fields
//! that are wrong; what is still short is told as a count.

use vetting_protocol::diff::{Severity, SpecDiff};

use super::expectation::ExpectedNumber;

/// A field of a part that is not as its group asks.
#[derive(Debug, Clone)]
pub(super) struct Mismatch {
    /// Name of the field.
    pub field: &'static str,
    /// What the group asks, in words.
    pub expected: String,
    /// What the part tells; absent if it does not.
    pub actual: Option<String>,
    /// What it weighs.
    pub severity: Severity,
}

/// A group of a spec.
pub(super) struct Group {
    /// How many parts.
    pub count: ExpectedNumber,
    /// What each must be, in words; empty for anything.
    pub words: String,
    /// For each part, in what it is not as asked.
    pub mismatches: Vec<Vec<Mismatch>>,
}

/// Compares the groups of `list` (`disks`) with the parts, given in words (`sda: …`).
pub(super) fn compare(list: &str, groups: &[Group], parts: &[String]) -> Vec<SpecDiff> {
    if groups.is_empty() {
        return none_expected(list, parts);
    }
    let mut assignment = Assignment::new(groups, parts.len());
    assignment.fill();
    let mut diffs = Vec::new();
    for (position, group) in groups.iter().enumerate() {
        let matching = assignment.count(position);
        let mut taken_anyway = 0;
        while matching + taken_anyway < least(group) {
            let Some(part) = assignment.closest_left_over(position) else { break };
            assignment.owner[part] = Some(position);
            taken_anyway += 1;
            diffs.extend(group.mismatches[part].iter().map(|mismatch| SpecDiff {
                field: format!("{list}[{position}].{}", mismatch.field),
                expected: Some(mismatch.expected.clone()),
                actual:
                    mismatch.actual.as_ref().map(|actual| format!("{actual} ({})", name_of(&parts[part]))),
                severity: mismatch.severity,
            }));
        }
        let surplus = assignment.left_over_that_match(position);
        if matching + taken_anyway < least(group) || !surplus.is_empty() {
            let mut found: Vec<usize> = assignment.owned_by(position);
            found.extend(&surplus);
            diffs.push(count_diff(list, position, group, &found, parts));
            for part in surplus {
                assignment.owner[part] = Some(position);
            }
        }
    }
    diffs.extend(assignment.left_over().map(|part| SpecDiff {
        field: format!("{list}.{}", name_of(&parts[part])),
        expected: None,
        actual: Some(parts[part].clone()),
        severity: Severity::Warning,
    }));
    diffs
}

fn none_expected(list: &str, parts: &[String]) -> Vec<SpecDiff> {
    let names: Vec<&str> = parts.iter().map(|part| name_of(part)).collect();
    if names.is_empty() {
        return Vec::new();
    }
    vec![SpecDiff {
        field: format!("{list}.count"),
        expected: Some("0".to_owned()),
        actual: Some(format!("{} ({})", names.len(), names.join(", "))),
        severity: Severity::Critical,
    }]
}

fn count_diff(list: &str, position: usize, group: &Group, found: &[usize], parts: &[String]) -> SpecDiff {
    let names: Vec<&str> = found.iter().map(|part| name_of(&parts[*part])).collect();
    let of = if group.words.is_empty() { String::new() } else { format!(" with {}", group.words) };
    SpecDiff {
        field: format!("{list}[{position}].count"),
        expected: Some(format!("{}{of}", group.count.range)),
        actual: (!names.is_empty()).then(|| format!("{} ({})", names.len(), names.join(", "))),
        severity: group.count.severity,
    }
}

fn name_of(part: &str) -> &str {
    part.split_once(": ").map_or(part, |(name, _)| name)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are small and not negative"
)]
fn least(group: &Group) -> usize {
    group.count.range.bounds().0.map_or(0, |least| least.ceil() as usize)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are small and not negative"
)]
fn most(group: &Group) -> usize {
    group.count.range.bounds().1.map_or(usize::MAX, |most| most.floor() as usize)
}

struct Assignment<'a> {
    groups: &'a [Group],
    /// For each part, the group it is counted in.
    owner: Vec<Option<usize>>,
}

impl<'a> Assignment<'a> {
    fn new(groups: &'a [Group], parts: usize) -> Self {
        Self { groups, owner: vec![None; parts] }
    }

    /// First what each group needs at least, the choosiest first, then what it may have.
    fn fill(&mut self) {
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        order.sort_by_key(|position| {
            self.groups[*position].mismatches.iter().filter(|mismatches| mismatches.is_empty()).count()
        });
        for position in order {
            while self.count(position) < least(&self.groups[position]) {
                let mut tried = vec![false; self.owner.len()];
                if !self.augment(position, &mut tried) {
                    break;
                }
            }
        }
        for part in 0..self.owner.len() {
            if self.owner[part].is_none() {
                self.owner[part] = (0..self.groups.len()).find(|position| {
                    self.matches(*position, part) && self.count(*position) < most(&self.groups[*position])
                });
            }
        }
    }

    fn augment(&mut self, position: usize, tried: &mut [bool]) -> bool {
        for part in 0..self.owner.len() {
            if tried[part] || !self.matches(position, part) || self.owner[part] == Some(position) {
                continue;
            }
            tried[part] = true;
            let free = match self.owner[part] {
                None => true,
                Some(other) => self.augment(other, tried),
            };
            if free {
                self.owner[part] = Some(position);
                return true;
            }
        }
        false
    }

    fn matches(&self, position: usize, part: usize) -> bool {
        self.groups[position].mismatches[part].is_empty()
    }

    fn owned_by(&self, position: usize) -> Vec<usize> {
        (0..self.owner.len()).filter(|part| self.owner[*part] == Some(position)).collect()
    }

    fn count(&self, position: usize) -> usize {
        self.owner.iter().filter(|owner| **owner == Some(position)).count()
    }

    fn left_over(&self) -> impl Iterator<Item = usize> {
        (0..self.owner.len()).filter(|part| self.owner[*part].is_none())
    }

    fn left_over_that_match(&self, position: usize) -> Vec<usize> {
        self.left_over().filter(|part| self.matches(position, *part)).collect()
    }

    fn closest_left_over(&self, position: usize) -> Option<usize> {
        self.left_over().min_by_key(|part| self.groups[position].mismatches[*part].len())
    }
}
