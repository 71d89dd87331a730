//! What the stick brings for a run without a coordinator: settings, expected spec, profiles. Mistakes are collected, each
//! with file, line and column, for the person at the console.

use std::collections::BTreeMap;

use vetting_judge::profile::{Registry, host_stages};
use vetting_judge::spec::Spec;
use vetting_judge::stick;
use vetting_protocol::profile::ProfileName;
use vetting_protocol::stick::{FILE_NAME, SPEC_FILE_NAME, Start, StickSettings};

use super::menu::Preset;
use crate::host::{Host, HostError};

/// The folder of profiles in the top folder of the stick.
pub const PROFILES_FOLDER: &str = "profiles";

/// The papers of a stick.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Papers {
    /// The settings; absent if there are none that can be read.
    pub settings: Option<StickSettings>,
    /// The expected spec, YAML, checked.
    pub spec: Option<String>,
    /// Profiles that stand in for those of the program, YAML, checked.
    pub profiles: BTreeMap<ProfileName, String>,
    /// What is wrong with any of them.
    pub mistakes: Vec<String>,
}

impl Papers {
    /// Reads them below `directory`.
    pub fn read(host: &Host, directory: &str) -> Self {
        let mut papers = Self::default();
        let file = |name: &str| text(host, &format!("{directory}/{name}"));
        match file(FILE_NAME) {
            Ok(Some(text)) => match stick::read(&text) {
                Ok(settings) => papers.settings = Some(settings),
                Err(mistake) => papers.mistakes.push(format!("{FILE_NAME}: {mistake}")),
            },
            Ok(None) => papers.mistakes.push(format!("the stick has no {FILE_NAME}")),
            Err(why) => papers.mistakes.push(format!("{FILE_NAME}: {why}")),
        }
        match file(SPEC_FILE_NAME) {
            Ok(Some(text)) => match Spec::parse(&text) {
                Ok(_) => papers.spec = Some(text),
                Err(error) => papers.mistakes.push(format!("{SPEC_FILE_NAME}: {error}")),
            },
            Ok(None) => {}
            Err(why) => papers.mistakes.push(format!("{SPEC_FILE_NAME}: {why}")),
        }
        for name in ProfileName::ALL {
            let path = format!("{PROFILES_FOLDER}/{name}.yaml");
            match file(&path) {
                Ok(Some(text)) => {
                    match Registry::builtin().and_then(|all| all.with_replacement(*name, &text, &path)) {
                        Ok(_) => {
                            papers.profiles.insert(*name, text);
                        }
                        Err(error) => papers.mistakes.push(error.to_string()),
                    }
                }
                Ok(None) => {}
                Err(why) => papers.mistakes.push(format!("{path}: {why}")),
            }
        }
        if let Err(mistake) = papers.check_stages() {
            papers.mistakes.push(mistake);
            papers.spec = None;
        }
        papers
    }

    /// Whether the profiles can have the stages of the spec.
    fn check_stages(&self) -> Result<(), String> {
        let Some(text) = &self.spec else { return Ok(()) };
        let mut profiles = Registry::builtin().map_err(|error| error.to_string())?;
        for (name, text) in &self.profiles {
            let replaced = profiles.with_replacement(*name, text, PROFILES_FOLDER);
            profiles = replaced.map_err(|error| error.to_string())?;
        }
        Spec::parse(text)
            .and_then(|spec| host_stages::check(text, &spec, &profiles))
            .map_err(|error| format!("{SPEC_FILE_NAME}: {error}"))
    }

    /// What the menu begins with.
    pub fn preset(&self) -> Preset {
        let settings = self.settings.as_ref();
        Preset {
            profile: settings.and_then(|settings| settings.profile),
            wipe: settings.is_some_and(|settings| settings.wipe),
            start: settings.is_some_and(|settings| settings.start == Start::Auto),
            may_wipe: true,
            mistakes: self.mistakes.clone(),
        }
    }
}

/// A text file, without the mark that some editors put at its begin; `None` if there is none.
fn text(host: &Host, path: &str) -> Result<Option<String>, String> {
    let bytes = match host.bytes(path) {
        Ok(bytes) => bytes,
        Err(error) if HostError::is_missing(&error) => return Ok(None),
        Err(error) => return Err(error.reason()),
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| "it is no UTF-8 text; save it as UTF-8 in your editor".to_owned())?;
    Ok(Some(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &[u8])]) -> Papers {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join("stick").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        Papers::read(&Host::recorded(folder.path()), "/stick")
    }

    #[test]
    fn a_stick_written_on_windows_is_read() {
        let papers = read(&[(FILE_NAME, b"\xef\xbb\xbfmode: offline\r\nprofile: quick\r\nstart: auto\r\n")]);
        assert_eq!(papers.mistakes, Vec::<String>::new());
        let preset = papers.preset();
        assert_eq!((preset.profile, preset.start, preset.wipe), (Some(ProfileName::Quick), true, false));
    }

    #[test]
    fn every_mistake_is_told_with_its_file() {
        let papers = read(&[
            (FILE_NAME, b"mode: auto\nprofil: quick\n"),
            (SPEC_FILE_NAME, b"cpu: {sokets: 2}\n"),
            ("profiles/deep.yaml", b"name: quick\n"),
            ("profiles/soak.yaml", b"\xff\xfen\0"),
        ]);
        assert_eq!(papers.mistakes.len(), 4, "{:?}", papers.mistakes);
        assert!(papers.mistakes[0].starts_with("vetting.yaml: line 2, column 1: "), "{:?}", papers.mistakes);
        assert!(papers.mistakes[1].starts_with("spec.yaml: ") && papers.mistakes[1].contains("line 1"));
        assert!(papers.mistakes[2].starts_with("profiles/deep.yaml: line "));
        assert!(papers.mistakes[3].contains("UTF-8"));
        assert!(papers.settings.is_none() && papers.spec.is_none() && papers.profiles.is_empty());
        assert!(!papers.preset().start);
    }

    #[test]
    fn a_stage_of_the_spec_is_checked_against_the_profiles_of_the_stick() {
        let spec =
            b"cpu: {sockets: 2}\nstages:\n  - {stage: Burn, profiles: [quick], duration: 3m, note: x}\n";
        let quick = vetting_judge::profile::builtin_text(ProfileName::Quick);
        let longer = quick.replace("{stage: Burn, limit: 2m", "{stage: Burn, limit: 9m");
        assert_ne!(longer, quick);
        let settings: &[u8] = b"mode: offline\nprofile: quick\n";
        let papers = read(&[(FILE_NAME, settings), (SPEC_FILE_NAME, spec)]);
        assert_eq!((papers.mistakes.len(), &papers.spec), (1, &None));
        assert!(papers.mistakes[0].starts_with("spec.yaml: the expected spec: line 3, "), "{papers:?}");
        let own = ("profiles/quick.yaml", longer.as_bytes());
        let papers = read(&[(FILE_NAME, settings), (SPEC_FILE_NAME, spec), own]);
        assert_eq!(papers.mistakes, Vec::<String>::new());
        assert!(papers.spec.is_some());
    }

    #[test]
    fn a_stick_without_settings_starts_nothing() {
        assert_eq!(read(&[("other", b"")]).mistakes, ["the stick has no vetting.yaml"]);
    }
}
