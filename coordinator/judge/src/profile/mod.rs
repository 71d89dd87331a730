//! The profile registry: quick, deep and soak as data in `profiles/*.yaml`, each replaceable by an operator's file.
//!
//! ```yaml
//! name: quick
//! description: Is it what was ordered, and does anything fail at once?
//! sampling_interval: 5s
//! stages:                       # in the order they run
//!   - {stage: Inventory, limit: 2m}
//!   - {stage: SMART, limit: 6m, self_test: short, required: false}
//!   - {stage: CPUStress, limit: 12m, cpu: 2m, per_core: 2m, memory: 2m, memory_percent: 80}
//!   - {stage: Storage, limit: 20m, fio_read: 15s, fio_random: 5s, surface: {mode: read_zones, zones: 16, zone_mib: 64}}
//! thresholds:                   # each states what is good
//!   - {stage: "*", kind: temp, key: "cpu/*", op: lt, threshold: 95, unit: celsius, severity: critical, note: "…"}
//! ```
//!
//! Refuses unknown keys, parameters of another stage, a stage named twice, a limit shorter than the work, and
//! thresholds that cannot judge; each with file, line and column.

mod document;
pub mod host_stages;
mod stage_entry;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vetting_protocol::ids::StageName;
use vetting_protocol::plan::{PlannedStage, StageWork};
use vetting_protocol::profile::{ProfileName, StageChange};

use self::host_stages::{HostStage, HostStageError};
use crate::host_rules::{HostRule, applied};
use crate::threshold::Rule;
use crate::yaml::Mistake;

/// How a machine is vetted.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Which of the three it is.
    pub name: ProfileName,
    /// What it is for, in a sentence.
    pub description: String,
    /// Interval of the sensor sidecar, milliseconds.
    pub sampling_interval_ms: u64,
    /// In the order they run; no stage twice.
    pub stages: Vec<ProfileStage>,
    /// Rules that every run of this profile starts with.
    pub thresholds: Vec<ProfileThreshold>,
    rules: Vec<Rule>,
    /// The stages as they are written.
    entries: Vec<stage_entry::FlatStage>,
    stage_changes: Vec<StageChange>,
    /// Not the one that comes with the program: an operator's file stood in for it.
    pub own: bool,
}

impl Profile {
    /// The same for a machine of which nobody said what it should be: SpecValidate, which can only skip, is not
    /// required.
    #[must_use]
    pub fn without_spec(mut self) -> Self {
        for stage in &mut self.stages {
            stage.required &= stage.work.name() != StageName::SpecValidate;
        }
        self
    }

    /// The same for a machine with rules of its own.
    #[must_use]
    pub fn with_host_rules(mut self, host: &[HostRule]) -> Self {
        self.rules = applied(self.thresholds.iter().map(|threshold| &threshold.rule), host);
        self
    }

    /// The same for a machine whose spec has stages of its own.
    ///
    /// # Errors
    /// One that cannot be so in this profile.
    pub fn with_host_stages(mut self, host: &[HostStage]) -> Result<Self, HostStageError> {
        host_stages::apply(&mut self, host)?;
        Ok(self)
    }

    /// The stages that the machine's spec has otherwise.
    pub fn stage_changes(&self) -> &[StageChange] {
        &self.stage_changes
    }

    /// The stages as the agent gets them.
    pub fn planned_stages(&self) -> Vec<PlannedStage> {
        self.stages
            .iter()
            .map(|stage| PlannedStage {
                limit_ms: stage.limit_ms,
                needs_turn: false,
                work: stage.work.clone(),
            })
            .collect()
    }

    /// Without the stages that restart the machine.
    #[must_use]
    pub fn without_restarts(self) -> Self {
        self.keep_stages(|work| !matches!(work.name(), StageName::Reboot | StageName::Memtest))
    }

    /// Without the stages that are not to be kept.
    #[must_use]
    pub fn keep_stages(mut self, keep: impl Fn(&StageWork) -> bool) -> Self {
        let (kept, dropped): (Vec<_>, Vec<_>) = self.stages.into_iter().partition(|stage| keep(&stage.work));
        self.stages = kept;
        self.stage_changes.retain(|change| !dropped.iter().any(|stage| stage.work.name() == change.stage));
        self
    }

    /// Whether a run passes only if this stage does. A stage the profile does not have is not required.
    pub fn requires(&self, stage: StageName) -> bool {
        self.stages.iter().any(|planned| planned.work.name() == stage && planned.required)
    }

    /// The rules, without their notes; those of the host are among them.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }
}

/// A stage of a profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileStage {
    /// Which stage, and how.
    pub work: StageWork,
    /// Time after which it is ended as an error, milliseconds.
    pub limit_ms: u64,
    /// Whether the run can pass only if it does.
    pub required: bool,
}

/// A rule with where its numbers come from.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileThreshold {
    /// The rule.
    pub rule: Rule,
    /// Its source in the literature, or why it is what it is.
    pub note: String,
}

/// A profile that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// A mistake in the file.
    #[error("{file}: {mistake}")]
    Malformed {
        /// The file's name, as the caller gave it.
        file: String,
        /// Where and what.
        mistake: Mistake,
    },
    /// The file holds another profile than it should replace.
    #[error(
        "{file}: it holds the profile `{found}` but should replace `{wanted}`; correct `name:` or the config"
    )]
    OtherName {
        /// The file's name.
        file: String,
        /// What `name:` says.
        found: ProfileName,
        /// What it should say.
        wanted: ProfileName,
    },
}

/// The text of a profile that comes with the program.
pub fn builtin_text(name: ProfileName) -> &'static str {
    match name {
        ProfileName::Quick => include_str!("../../profiles/quick.yaml"),
        ProfileName::Deep => include_str!("../../profiles/deep.yaml"),
        ProfileName::Soak => include_str!("../../profiles/soak.yaml"),
    }
}

/// The three profiles.
#[derive(Debug, Clone, PartialEq)]
pub struct Registry {
    quick: Profile,
    deep: Profile,
    soak: Profile,
    own_texts: BTreeMap<ProfileName, String>,
}

impl Registry {
    /// The profiles that come with the program. They are checked by this crate's tests.
    pub fn builtin() -> Result<Self, ProfileError> {
        Ok(Self {
            quick: document::parse(builtin_text(ProfileName::Quick), "quick.yaml (built in)")?,
            deep: document::parse(builtin_text(ProfileName::Deep), "deep.yaml (built in)")?,
            soak: document::parse(builtin_text(ProfileName::Soak), "soak.yaml (built in)")?,
            own_texts: BTreeMap::new(),
        })
    }

    /// The same with one profile read from a file's text instead.
    pub fn with_replacement(
        mut self,
        name: ProfileName,
        yaml_text: &str,
        file_name: &str,
    ) -> Result<Self, ProfileError> {
        let profile = Profile { own: true, ..document::parse(yaml_text, file_name)? };
        if profile.name != name {
            return Err(ProfileError::OtherName {
                file: file_name.to_owned(),
                found: profile.name,
                wanted: name,
            });
        }
        match name {
            ProfileName::Quick => self.quick = profile,
            ProfileName::Deep => self.deep = profile,
            ProfileName::Soak => self.soak = profile,
        }
        self.own_texts.insert(name, yaml_text.to_owned());
        Ok(self)
    }

    /// One of them.
    pub fn get(&self, name: ProfileName) -> &Profile {
        match name {
            ProfileName::Quick => &self.quick,
            ProfileName::Deep => &self.deep,
            ProfileName::Soak => &self.soak,
        }
    }

    /// The YAML that one of them was read from.
    pub fn text(&self, name: ProfileName) -> &str {
        self.own_texts.get(&name).map_or_else(|| builtin_text(name), String::as_str)
    }
}
