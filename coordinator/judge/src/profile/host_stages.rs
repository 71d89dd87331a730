//! Stages of one host: what its spec changes in the stages of a profile, adds to them, or switches off.
//!
//! ```yaml
//! stages:
//!   - {stage: Storage, profiles: [quick], limit: 20m, fio_read: 60s, note: "slow disks"}
//!   - {stage: PSU, disabled: true, note: "its BMC hangs under load"}
//!   - {stage: Reboot, profiles: [quick], limit: 10m, restarts: 2, note: "came back from repair"}
//! ```
//!
//! An entry is for the stage of that name in the profiles it names, or in all. What it does not say stays as the profile
//! has it; where the profile has no such stage, it is one of its own and must be complete. A stage that the profile
//! requires can neither be switched off nor made one that need not pass: nothing that a host says makes a run pass
//! without it.

use serde::{Deserialize, Serialize};
use vetting_protocol::ids::StageName;
use vetting_protocol::profile::{ProfileName, StageChange, StageChangeKind};

use super::stage_entry::FlatStage;
use super::{Profile, Registry};
use crate::spec::{Spec, SpecError};
use crate::yaml::{self, Mistake};

/// An entry of `stages` in a spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "FlatStage", into = "FlatStage")]
pub struct HostStage {
    flat: FlatStage,
}

/// A stage that a profile cannot have as the spec says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stage {stage} cannot be so in the profile {profile}: {what}")]
pub struct HostStageError {
    /// Of the entry, from 0.
    position: usize,
    stage: StageName,
    profile: ProfileName,
    what: String,
}

impl TryFrom<FlatStage> for HostStage {
    type Error = String;

    fn try_from(flat: FlatStage) -> Result<Self, String> {
        if flat.note.as_ref().is_none_or(|note| note.trim().is_empty()) {
            return Err("`note` is missing; say why this host is tested otherwise".to_owned());
        }
        if flat.profiles.as_ref().is_some_and(Vec::is_empty) {
            return Err("`profiles` names none; leave it out for all".to_owned());
        }
        flat.check()?;
        if flat.disabled && !flat.is_empty() {
            return Err(
                "a stage that is `disabled` is not run; keep only stage, profiles and note".to_owned()
            );
        }
        if !flat.disabled && flat.is_empty() {
            return Err(
                "says nothing of the stage; write its limit or parameters, or `disabled: true`".to_owned()
            );
        }
        Ok(Self { flat })
    }
}

impl From<HostStage> for FlatStage {
    fn from(stage: HostStage) -> Self {
        stage.flat
    }
}

impl HostStage {
    fn is_for(&self, profile: ProfileName) -> bool {
        self.flat.profiles.as_ref().is_none_or(|profiles| profiles.contains(&profile))
    }

    fn change(&self, kind: StageChangeKind, now: Option<String>, was: Option<String>) -> StageChange {
        let note = self.flat.note.clone().unwrap_or_default();
        StageChange { stage: self.flat.stage, kind, now, was, note }
    }
}

/// Reads the entries of a spec. Refuses two for the same stage of a profile.
pub(crate) fn distinct<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<HostStage>>, D::Error> {
    let entries = Vec::<HostStage>::deserialize(deserializer)?;
    for (position, entry) in entries.iter().enumerate() {
        let stage = entry.flat.stage;
        let both = |profile: &&ProfileName| {
            let mut earlier = entries[..position].iter().filter(|earlier| earlier.flat.stage == stage);
            entry.is_for(**profile) && earlier.any(|earlier| earlier.is_for(**profile))
        };
        if let Some(profile) = ProfileName::ALL.iter().find(both) {
            return Err(serde::de::Error::custom(format!(
                "the stage {stage} stands there twice for the profile {profile}; remove one"
            )));
        }
    }
    Ok(Some(entries))
}

/// The entries of a model and of a host together: for a stage of a profile, the host's own.
pub(crate) fn over_model(model: Vec<HostStage>, own: Vec<HostStage>) -> Vec<HostStage> {
    let left = model.into_iter().filter_map(|mut entry| {
        let is_own = |profile: ProfileName| {
            own.iter().any(|own| own.flat.stage == entry.flat.stage && own.is_for(profile))
        };
        let profiles = ProfileName::ALL.iter().copied();
        let profiles: Vec<_> =
            profiles.filter(|profile| entry.is_for(*profile) && !is_own(*profile)).collect();
        if profiles.is_empty() {
            return None;
        }
        if profiles.len() < ProfileName::ALL.len() {
            entry.flat.profiles = Some(profiles);
        }
        Some(entry)
    });
    let left: Vec<_> = left.collect();
    left.into_iter().chain(own).collect()
}

/// The stages of the host in its spec. None of a spec that cannot be read: no run passes by it whatever the stages.
pub fn of_spec(yaml_text: &str) -> Vec<HostStage> {
    Spec::parse(yaml_text).ok().and_then(|spec| spec.stages).unwrap_or_default()
}

/// Whether every profile can have the stages of a spec that was read from `yaml_text`.
///
/// # Errors
/// The first that cannot be, with its place.
pub fn check(yaml_text: &str, spec: &Spec, profiles: &Registry) -> Result<(), SpecError> {
    let entries = spec.stages.as_deref().unwrap_or_default();
    let first = ProfileName::ALL
        .iter()
        .filter_map(|name| apply(&mut profiles.get(*name).clone(), entries).err())
        .min_by_key(|error| error.position);
    first.map_or(Ok(()), |error| {
        let (line, column) = yaml::place_of_item(yaml_text, "stages", error.position);
        let path = format!("stages[{}]", error.position);
        Err(SpecError { mistake: Mistake { line, column, path, what: error.to_string() } })
    })
}

/// Makes the stages of a profile those of a run of the host.
pub(super) fn apply(profile: &mut Profile, host: &[HostStage]) -> Result<(), HostStageError> {
    let name = profile.name;
    for (position, own) in host.iter().enumerate().filter(|(_, own)| own.is_for(name)) {
        let stage = own.flat.stage;
        let done = match profile.entries.iter().find(|entry| entry.stage == stage).cloned() {
            Some(entry) if own.flat.disabled => switch_off(profile, own, &entry),
            Some(entry) => change(profile, own, &entry),
            None if own.flat.disabled => Ok(()),
            None => add(profile, own),
        };
        done.map_err(|what| HostStageError { position, stage, profile: name, what })?;
    }
    Ok(())
}

fn switch_off(profile: &mut Profile, own: &HostStage, entry: &FlatStage) -> Result<(), String> {
    if entry.is_required() {
        return Err(
            "it is required there, so that no run could pass without it; a host cannot switch it off"
                .to_owned(),
        );
    }
    profile.stages.retain(|stage| stage.work.name() != entry.stage);
    profile.stage_changes.push(own.change(StageChangeKind::Off, None, Some(joined(&entry.in_words()))));
    Ok(())
}

fn change(profile: &mut Profile, own: &HostStage, entry: &FlatStage) -> Result<(), String> {
    if entry.is_required() && own.flat.required == Some(false) {
        return Err("it is required there; a host cannot take that away".to_owned());
    }
    let now = own.flat.over(entry);
    let stage = now.complete()?;
    let (now, was) = (now.in_words(), entry.in_words());
    let only = |these: &[(String, String)], others: &[(String, String)]| {
        let differ: Vec<_> = these.iter().filter(|this| !others.contains(this)).cloned().collect();
        joined(&differ)
    };
    if now != was {
        let (now, was) = (only(&now, &was), only(&was, &now));
        let was = if was.is_empty() { "not said".to_owned() } else { was };
        profile.stage_changes.push(own.change(StageChangeKind::Changed, Some(now), Some(was)));
    }
    for old in profile.stages.iter_mut().filter(|old| old.work.name() == entry.stage) {
        *old = stage.clone();
    }
    Ok(())
}

/// It comes after the last stage that it follows in the order of all stages.
fn add(profile: &mut Profile, own: &HostStage) -> Result<(), String> {
    let stage =
        own.flat.complete().map_err(|what| format!("it has none, so the entry stands alone: {what}"))?;
    let before = profile.stages.iter().rposition(|other| other.work.name() < own.flat.stage);
    profile.stages.insert(before.map_or(0, |before| before + 1), stage);
    let words = joined(&own.flat.in_words());
    profile.stage_changes.push(own.change(StageChangeKind::Added, Some(words), None));
    Ok(())
}

fn joined(words: &[(String, String)]) -> String {
    let words: Vec<_> = words.iter().map(|(key, value)| format!("{key} {value}")).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use vetting_protocol::plan::StageWork;

    use super::*;
    use crate::fixtures;
    use crate::spec::HostSpec;

    fn spec(entries: &str) -> String {
        format!("cpu: {{sockets: 2}}\nstages:\n{entries}")
    }

    fn of(entries: &str, name: ProfileName) -> Profile {
        let entries = of_spec(&spec(entries));
        assert!(!entries.is_empty());
        fixtures::registry().get(name).clone().with_host_stages(&entries).unwrap()
    }

    fn work(profile: &Profile, name: StageName) -> Option<StageWork> {
        profile.stages.iter().map(|stage| stage.work.clone()).find(|work| work.name() == name)
    }

    #[test]
    fn parameters_and_limits_are_changed_in_the_profiles_that_are_named() {
        let entry = "  - {stage: Burn, profiles: [quick], limit: 30m, duration: 10m, note: x}\n";
        let quick = of(entry, ProfileName::Quick);
        // what the entry does not say is the profile's
        let expected = StageWork::Burn { duration_ms: 600_000, memory_percent: 50 };
        assert_eq!(work(&quick, StageName::Burn), Some(expected));
        let told = quick.stage_changes();
        assert_eq!(
            told[0].to_string(),
            "Burn: limit 30m, duration 10m, instead of: limit 2m, duration 30s (x)"
        );
        assert_eq!((told.len(), told[0].kind), (1, StageChangeKind::Changed));
        let deep = of(entry, ProfileName::Deep);
        assert_eq!(&deep, fixtures::registry().get(ProfileName::Deep));
        // the same as the profile is no change
        assert!(
            of("  - {stage: Burn, memory_percent: 50, note: x}\n", ProfileName::Quick)
                .stage_changes()
                .is_empty()
        );
    }

    #[test]
    fn a_stage_is_switched_off_or_added_or_must_pass() {
        let off = of("  - {stage: PSU, disabled: true, note: x}\n", ProfileName::Quick);
        assert_eq!(work(&off, StageName::Psu), None);
        assert_eq!(
            off.stage_changes()[0].to_string(),
            "PSU is switched off, instead of: limit 1m, required false, load 20s (x)"
        );
        let added = of(
            "  - {stage: Reboot, profiles: [quick], limit: 10m, restarts: 2, note: x}\n",
            ProfileName::Quick,
        );
        let last = added.stages.last().unwrap();
        assert_eq!(last.work, StageWork::Reboot { restarts: 2, cold: 0 });
        assert!(last.required && added.requires(StageName::Reboot));
        assert_eq!(
            added.stage_changes()[0].to_string(),
            "Reboot is added: limit 10m, required true, restarts 2 (x)"
        );
        assert!(added.without_restarts().stage_changes().is_empty());
        let stricter = of("  - {stage: GPU, required: true, note: x}\n", ProfileName::Quick);
        assert!(stricter.requires(StageName::Gpu));
    }

    #[test]
    fn what_no_profile_can_have_is_told_with_its_place() {
        for (entry, part) in [
            ("{stage: Storage, disabled: true, note: x}", "required there"),
            ("{stage: Storage, required: false, note: x}", "cannot take that away"),
            ("{stage: CPUStress, profiles: [quick], cpu: 10m, note: x}", "raise it"),
            ("{stage: CPUStress, cpu: 0s, per_core: 0s, memory: 0s, note: x}", "would do nothing"),
            ("{stage: Reboot, restarts: 2, note: x}", "the profile quick: it has none"),
            ("{stage: Memtest, profiles: [deep], kernel_patterns: 0, passes: 0, note: x}", "tests nothing"),
        ] {
            let text = spec(&format!("  - {{stage: Memory, fade: 1s, note: x}}\n  - {entry}\n"));
            let parsed = Spec::parse(&text).unwrap_or_else(|error| panic!("{error}"));
            let told = check(&text, &parsed, fixtures::registry()).unwrap_err().to_string();
            assert!(told.contains(part) && told.contains("line 4, column 5: stages[1]"), "{told}");
        }
    }

    #[test]
    fn what_no_stage_can_have_is_refused_with_its_place() {
        for (entry, part) in [
            ("{stage: Burn, durration: 10m, note: x}", "unknown field `durration`"),
            ("{stage: Burn, fio_read: 10m, note: x}", "takes no `fio_read`"),
            ("{stage: Burn, memory_percent: 96, note: x}", "must be 1 to 95"),
            ("{stage: Burn, duration: 10, note: x}", "duration"),
            ("{stage: Burn, duration: 10m}", "`note` is missing"),
            ("{stage: Burn, note: x}", "says nothing"),
            ("{stage: Burn, disabled: true, limit: 5m, note: x}", "is not run"),
            ("{stage: Burn, profiles: [], limit: 5m, note: x}", "names none"),
            ("{stage: Burn, profiles: [fast], limit: 5m, note: x}", "fast"),
            ("{stage: Bake, limit: 5m, note: x}", "Bake"),
        ] {
            let told = Spec::parse(&spec(&format!("  - {entry}\n"))).unwrap_err().to_string();
            assert!(told.contains(part) && told.contains("line 3"), "{told}");
        }
        let twice = "  - {stage: Burn, limit: 5m, note: x}\n  - {stage: Burn, profiles: [deep], limit: 5m, note: x}\n";
        let told = Spec::parse(&spec(twice)).unwrap_err().to_string();
        assert!(told.contains("twice for the profile deep"), "{told}");
        let apart = "  - {stage: Burn, profiles: [quick], limit: 5m, note: x}\n  - {stage: Burn, profiles: [deep], limit: 5h, note: x}\n";
        assert!(Spec::parse(&spec(apart)).is_ok());
    }

    #[test]
    fn a_hosts_entry_takes_the_place_of_its_models_for_the_same_profile() {
        let model = Spec::parse(&spec("  - {stage: Burn, memory_percent: 30, note: model}\n")).unwrap();
        let host = "model: m\nstages:\n  - {stage: Burn, profiles: [quick], limit: 4h, note: host}\n";
        let both = HostSpec::parse(host).unwrap().over(model);
        // as it is stored with the run
        let entries = of_spec(&both.to_yaml().unwrap());
        for (name, note) in ProfileName::ALL.iter().zip(["host", "model", "model"]) {
            let profile = fixtures::registry().get(*name).clone().with_host_stages(&entries).unwrap();
            let notes: Vec<&str> =
                profile.stage_changes().iter().map(|change| change.note.as_str()).collect();
            assert_eq!(notes, [note], "{name}");
        }
    }
}
