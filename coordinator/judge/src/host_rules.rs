//! Rules of one host: what its spec adds to the rules of the profile, changes in them, or switches off.
//!
//! ```yaml
//! thresholds:
//!   - {kind: temp, key: "cpu/*", op: lt, threshold: 85, unit: celsius, severity: critical, note: "cold aisle"}
//!   - {kind: smart_attr, key: "*/5_*", op: lte, severity: warning, disabled: true, note: "refurbished disks"}
//! ```
//!
//! An entry is for the rule of the profile that has the same stage, kind, key, comparison and severity; where there is
//! none, it is a rule of its own. Nothing is removed: a rule that is switched off stays among the run's rules and says so.

use serde::{Deserialize, Serialize};
use vetting_protocol::ids::StageName;

use crate::duration::HumanDuration;
use crate::glob::{GlobError, TextGlob};
use crate::spec::Spec;
use crate::threshold::{Change, Op, Rule, RuleChange, RuleSeverity, RuleSource, Sustain, compare_strictness};

/// An entry of `thresholds` in a spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "FlatHostRule", into = "FlatHostRule")]
pub struct HostRule {
    flat: FlatHostRule,
    stage: Option<StageName>,
    sustain: Sustain,
    /// It must meet a sample. No entry says so; what a spec asks for of parts does.
    required: bool,
}

/// What a stage measures.
pub(crate) struct Quantity {
    /// The stage.
    pub stage: StageName,
    /// The quantity.
    pub kind: &'static str,
    /// Its unit.
    pub unit: &'static str,
}

/// Flat, so that an unknown key is reported where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatHostRule {
    #[serde(default = "any_stage")]
    stage: String,
    kind: String,
    key: TextGlob,
    op: Op,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nominal: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    severity: RuleSeverity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    samples: Option<u32>,
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    lasting: Option<HumanDuration>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ends_stage: bool,
    // not `off`, which other readers of YAML take for a truth value
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
    note: String,
}

fn any_stage() -> String {
    "*".to_owned()
}

impl TryFrom<FlatHostRule> for HostRule {
    type Error = String;

    fn try_from(flat: FlatHostRule) -> Result<Self, String> {
        let stage = match flat.stage.as_str() {
            "*" => None,
            name => Some(name.parse::<StageName>().map_err(|error| format!("stage: {error} or `*`"))?),
        };
        if flat.note.trim().is_empty() {
            return Err("`note` is empty; say why this host is judged otherwise".to_owned());
        }
        let sustain = Sustain::of(flat.samples, flat.lasting)?;
        let says_what_is_good = flat.threshold.is_some()
            || flat.nominal.is_some()
            || flat.unit.is_some()
            || flat.ends_stage
            || sustain != Sustain::AtOnce;
        if flat.disabled && says_what_is_good {
            return Err(
                "a rule that is `disabled` judges nothing; keep only stage, kind, key, op, severity and note"
                    .to_owned(),
            );
        }
        let rule = Self { flat, stage, sustain, required: false };
        if !rule.flat.disabled {
            rule.rule()?.check().map_err(|error| error.to_string())?;
        }
        Ok(rule)
    }
}

impl From<HostRule> for FlatHostRule {
    fn from(rule: HostRule) -> Self {
        rule.flat
    }
}

impl HostRule {
    /// One that what a spec asks for of parts becomes: a value must be told, and be no more than `max`.
    ///
    /// # Errors
    /// The key is no glob.
    pub(crate) fn at_most(
        what: &Quantity,
        key: &str,
        max: f64,
        severity: RuleSeverity,
        note: &str,
    ) -> Result<Self, String> {
        let Quantity { stage, kind, unit } = *what;
        let flat = FlatHostRule {
            stage: stage.to_string(),
            kind: kind.to_owned(),
            key: key.parse().map_err(|error: GlobError| error.to_string())?,
            op: Op::Lte,
            threshold: Some(max),
            nominal: None,
            unit: Some(unit.to_owned()),
            severity,
            samples: None,
            lasting: None,
            ends_stage: false,
            disabled: false,
            note: note.to_owned(),
        };
        Ok(Self { flat, stage: Some(stage), sustain: Sustain::AtOnce, required: true })
    }

    fn is_for(&self, rule: &Rule) -> bool {
        let flat = &self.flat;
        rule.source == RuleSource::Profile
            && (rule.stage, &rule.kind, &rule.key, rule.op, rule.severity)
                == (self.stage, &flat.kind, &flat.key, flat.op, flat.severity)
    }

    /// Whether it is for the same rule as another entry.
    pub(crate) fn is_about_the_same(&self, other: &Self) -> bool {
        let of = |rule: &Self| {
            (rule.stage, rule.flat.kind.clone(), rule.flat.key.to_string(), rule.flat.op, rule.flat.severity)
        };
        of(self) == of(other)
    }

    /// The rule as it stands here, as one of its own.
    fn rule(&self) -> Result<Rule, String> {
        let flat = &self.flat;
        let threshold = flat.threshold.ok_or("`threshold` is missing; or write `disabled: true`")?;
        let unit = flat.unit.clone().ok_or("`unit` is missing; `\"\"` stands for any")?;
        if flat.op != Op::WithinPct && flat.nominal.is_some() {
            return Err(format!("`nominal` means nothing with `{}`; remove it", flat.op));
        }
        Ok(Rule {
            stage: self.stage,
            kind: flat.kind.clone(),
            key: flat.key.clone(),
            op: flat.op,
            threshold,
            nominal: flat.nominal.unwrap_or(0.0),
            unit,
            severity: flat.severity,
            source: RuleSource::HostOverride,
            fallback: false,
            sustain: self.sustain,
            ends_stage: flat.ends_stage,
            required: self.required,
            change: Some(self.change(Change::Added, None)),
        })
    }

    fn change(&self, kind: Change, was: Option<&Rule>) -> RuleChange {
        RuleChange { kind, was: was.map(Rule::describe), note: self.flat.note.clone() }
    }
}

/// The rules of the host in its spec: its `thresholds`, and what it asks for of the past of its disks. None of a spec that
/// cannot be read: no run passes by it whatever the rules.
pub fn of_spec(yaml_text: &str) -> Vec<HostRule> {
    let Ok(spec) = Spec::parse(yaml_text) else { return Vec::new() };
    let of_disks = spec.disk_rules();
    spec.thresholds.into_iter().flatten().chain(of_disks).collect()
}

/// The rules of a run: those of its profile, with what its host adds, changes and switches off. A rule for a profile that
/// has no such rule is added; one that is switched off there is not in it.
pub fn applied<'a>(profile: impl IntoIterator<Item = &'a Rule>, host: &[HostRule]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = profile.into_iter().cloned().collect();
    for own in host {
        let mut is_new = true;
        for rule in rules.iter_mut().filter(|rule| own.is_for(rule)) {
            is_new = false;
            // `rule()` was tried when the entry was read
            *rule = match own.rule() {
                Ok(new) if !own.flat.disabled => {
                    let kind = compare_strictness(&new, rule);
                    Rule {
                        required: rule.required || own.required,
                        change: Some(own.change(kind, Some(rule))),
                        ..new
                    }
                }
                Ok(_) | Err(_) => Rule {
                    source: RuleSource::HostOverride,
                    change: Some(own.change(Change::Off, Some(rule))),
                    ..rule.clone()
                },
            };
        }
        if is_new && !own.flat.disabled {
            rules.extend(own.rule());
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use vetting_protocol::profile::ProfileName;

    use super::*;
    use crate::fixtures;

    fn host_rules(entries: &str) -> Vec<HostRule> {
        let spec = format!("cpu: {{sockets: 2}}\nthresholds:\n{entries}");
        Spec::parse(&spec).unwrap_or_else(|error| panic!("{error}")).thresholds.unwrap()
    }

    fn judged(entries: &str) -> Vec<Rule> {
        applied(fixtures::registry().get(ProfileName::Quick).rules(), &host_rules(entries))
    }

    fn changed(rules: &[Rule]) -> Vec<(Change, String)> {
        let change = |rule: &Rule| rule.change.as_ref().map(|change| (change.kind, rule.to_string()));
        rules.iter().filter_map(change).collect()
    }

    #[test]
    fn a_rule_is_made_stricter_looser_or_added() {
        let before = fixtures::registry().get(ProfileName::Quick).rules().count();
        let base = "kind: temp, key: 'cpu/*', op: lt, unit: celsius, severity: critical, note: x";
        for (threshold, terms, kind) in [
            (85, ", samples: 2, ends_stage: true", Change::Stricter),
            (99, ", samples: 2, ends_stage: true", Change::Looser),
            (85, ", samples: 9", Change::Changed),
            (95, "", Change::Stricter),
        ] {
            let rules = judged(&format!("  - {{{base}, threshold: {threshold}{terms}}}\n"));
            assert_eq!(rules.len(), before);
            let found = changed(&rules);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].0, kind, "{found:?}");
            assert!(found[0].1.contains(&format!("< {threshold} °C")), "{found:?}");
            let rule = rules.iter().find(|rule| rule.change.is_some()).unwrap();
            assert_eq!(rule.source, RuleSource::HostOverride);
            assert!(rule.change.as_ref().unwrap().was.as_ref().unwrap().contains("95 °C"));
        }
        let rules = judged(
            "  - {kind: volt, key: '+12V', op: within_pct, threshold: 3, nominal: 12, unit: volts, severity: critical, note: x}\n",
        );
        assert_eq!(rules.len(), before + 1);
        assert_eq!(changed(&rules)[0].0, Change::Added);
    }

    #[test]
    fn a_rule_that_is_switched_off_stays_and_judges_nothing() {
        let rules = judged(
            "  - {kind: smart_attr, key: '*/5_*', op: lte, severity: warning, disabled: true, note: refurbished}\n",
        );
        let off = rules.iter().find(|rule| rule.is_off()).unwrap();
        assert!(!off.applies_to(None, "smart_attr", "sda/5_reallocated_sector_ct"));
        assert_eq!(off.source, RuleSource::HostOverride);
        // of another severity, or of no rule of the profile
        for other in ["severity: critical", "severity: warning, stage: Storage"] {
            let entry = format!(
                "  - {{kind: smart_attr, key: '*/5_*', op: lte, {other}, disabled: true, note: x}}\n"
            );
            assert!(changed(&judged(&entry)).is_empty(), "{entry}");
        }
    }

    #[test]
    fn what_judges_nothing_or_says_no_reason_is_refused() {
        for (entry, part) in [
            ("{kind: temp, key: a, op: lt, unit: c, severity: critical, note: x}", "`threshold` is missing"),
            ("{kind: temp, key: a, op: lt, threshold: 1, severity: critical, note: x}", "`unit` is missing"),
            (
                "{kind: temp, key: a, op: lt, threshold: 1, unit: c, severity: critical, note: ' '}",
                "`note` is empty",
            ),
            (
                "{kind: temp, key: a, op: lt, threshold: 1, severity: critical, disabled: true, note: x}",
                "judges nothing",
            ),
            (
                "{kind: temp, key: a, op: within_pct, threshold: 1, unit: c, severity: critical, note: x}",
                "nominal",
            ),
            (
                "{kind: temp, key: a, op: lt, threshold: 1, unit: c, severity: critical, samples: 0, note: x}",
                "samples",
            ),
            ("{kind: temp, key: a, op: lt, threshold: .nan, unit: c, severity: critical, note: x}", "finite"),
            (
                "{stage: Nowhere, kind: temp, key: a, op: lt, severity: critical, disabled: true, note: x}",
                "stage",
            ),
            ("{kind: temp, key: a, op: lt, threshold: 1, unit: c, severity: info, note: x}", "severity"),
        ] {
            let error = Spec::parse(&format!("cpu: {{sockets: 2}}\nthresholds:\n  - {entry}\n")).unwrap_err();
            let told = error.to_string();
            assert!(told.contains(part) && told.contains("line 3"), "{told}");
        }
    }

    #[test]
    fn entries_are_written_as_they_were_read() {
        let yaml = "cpu: {sockets: 2}\nthresholds:\n  - {kind: temp, key: 'cpu/*', op: lt, threshold: 85.0, unit: celsius, severity: critical, for: 30s, note: x}\n";
        let spec = Spec::parse(yaml).unwrap();
        assert_eq!(Spec::parse(&spec.to_yaml().unwrap()).unwrap(), spec);
    }
}
