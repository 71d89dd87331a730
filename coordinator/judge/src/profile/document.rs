//! The YAML form of a profile, and its way into [`Profile`]. Refuses what would only fail on the machine.

use serde::Deserialize;
use serde::de::Error as _;
use vetting_protocol::ids::StageName;
use vetting_protocol::profile::ProfileName;

use super::stage_entry::StageEntry;
use super::{Profile, ProfileError, ProfileThreshold};
use crate::duration::HumanDuration;
use crate::glob::TextGlob;
use crate::threshold::{Op, Rule, RuleSeverity, RuleSource, Sustain};
use crate::yaml;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: ProfileName,
    description: String,
    #[serde(deserialize_with = "sampling_interval")]
    sampling_interval: HumanDuration,
    #[serde(deserialize_with = "stages")]
    stages: Vec<StageEntry>,
    thresholds: Vec<ThresholdEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatThreshold {
    stage: String,
    kind: String,
    key: TextGlob,
    op: Op,
    threshold: f64,
    #[serde(default)]
    nominal: f64,
    unit: String,
    severity: RuleSeverity,
    #[serde(default)]
    fallback: bool,
    samples: Option<u32>,
    #[serde(rename = "for")]
    lasting: Option<HumanDuration>,
    #[serde(default)]
    ends_stage: bool,
    #[serde(default)]
    required: bool,
    note: String,
}

#[derive(Deserialize)]
#[serde(try_from = "FlatThreshold")]
struct ThresholdEntry(ProfileThreshold);

/// Reads a profile; `file` is for the errors.
pub(super) fn parse(text: &str, file: &str) -> Result<Profile, ProfileError> {
    let document: Document =
        yaml::parse(text, "a profile needs name, description, sampling_interval, stages and thresholds")
            .map_err(|mistake| ProfileError::Malformed { file: file.to_owned(), mistake })?;
    let thresholds: Vec<ProfileThreshold> = document.thresholds.into_iter().map(|entry| entry.0).collect();
    Ok(Profile {
        rules: thresholds.iter().map(|threshold| threshold.rule.clone()).collect(),
        name: document.name,
        description: document.description,
        sampling_interval_ms: document.sampling_interval.as_ms(),
        stages: document.stages.iter().map(|entry| entry.stage.clone()).collect(),
        entries: document.stages.into_iter().map(|entry| entry.flat).collect(),
        thresholds,
        stage_changes: Vec::new(),
        own: false,
    })
}

fn sampling_interval<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<HumanDuration, D::Error> {
    let interval = HumanDuration::deserialize(deserializer)?;
    if (500..=3_600_000).contains(&interval.as_ms()) {
        Ok(interval)
    } else {
        Err(D::Error::custom(format!("{interval} is no useful interval; write 500ms to 1h")))
    }
}

fn stages<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<StageEntry>, D::Error> {
    let stages = Vec::<StageEntry>::deserialize(deserializer)?;
    if !stages.iter().any(|entry| entry.stage.required) {
        return Err(D::Error::custom("no stage is required, so every machine would pass; add one"));
    }
    for (position, entry) in stages.iter().enumerate() {
        let name = entry.flat.stage;
        if stages[..position].iter().any(|earlier| earlier.flat.stage == name) {
            return Err(D::Error::custom(format!("the stage {name} stands there twice; remove one")));
        }
    }
    Ok(stages)
}

impl TryFrom<FlatThreshold> for ThresholdEntry {
    type Error = String;

    fn try_from(flat: FlatThreshold) -> Result<Self, String> {
        let stage = match flat.stage.as_str() {
            "*" => None,
            name => Some(name.parse::<StageName>().map_err(|error| format!("stage: {error} or `*`"))?),
        };
        if flat.op != Op::WithinPct && flat.nominal != 0.0 {
            return Err(format!("`nominal` means nothing with `{}`; remove it", flat.op));
        }
        if flat.fallback && flat.op == Op::WithinPct {
            return Err("`fallback` means nothing with `within_pct`; use two rules, lt and gt".to_owned());
        }
        if flat.ends_stage && flat.severity != RuleSeverity::Critical {
            return Err("`ends_stage` is for critical rules; a warning ends nothing".to_owned());
        }
        if flat.note.trim().is_empty() {
            return Err("`note` is empty; say where the number comes from".to_owned());
        }
        let rule = Rule {
            stage,
            kind: flat.kind,
            key: flat.key,
            op: flat.op,
            threshold: flat.threshold,
            nominal: flat.nominal,
            unit: flat.unit,
            severity: flat.severity,
            source: RuleSource::Profile,
            fallback: flat.fallback,
            sustain: Sustain::of(flat.samples, flat.lasting)?,
            ends_stage: flat.ends_stage,
            required: flat.required,
            change: None,
        };
        rule.check().map_err(|error| error.to_string())?;
        Ok(Self(ProfileThreshold { rule, note: flat.note }))
    }
}
