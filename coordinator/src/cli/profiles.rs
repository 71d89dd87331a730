//! `profile …`: the profiles that this box's configuration has. Needs no running coordinator.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use vetting_judge::duration::HumanDuration;
use vetting_judge::profile::{Profile, ProfileError, Registry, builtin_text};
use vetting_protocol::profile::ProfileName;

use super::{CommandError, hosts, output};
use crate::config::Config;
use crate::serve;

#[derive(Debug, Subcommand)]
pub(super) enum ProfileCommand {
    /// The three profiles: what they are for, how long they may take, whose they are.
    List,
    /// Stages and rules of a profile.
    #[command(after_help = "Examples:\n  vetting-coordinator profile show quick\n  \
                            vetting-coordinator profile show deep --yaml > my-deep.yaml   # a start for one's own")]
    Show {
        /// quick, deep or soak.
        name: ProfileName,
        /// As the file that would replace it.
        #[arg(long)]
        yaml: bool,
    },
    /// Whether a file can replace a profile.
    Check {
        /// YAML file.
        file: PathBuf,
    },
}

impl ProfileCommand {
    pub(super) fn run(self, config: &Path, as_json: bool) -> Result<(), CommandError> {
        match self {
            Self::List => list(&serve::profiles(&Config::load(config)?)?, as_json),
            Self::Show { name, yaml: true } => yaml(&Config::load(config)?, name, as_json),
            Self::Show { name, yaml: false } => {
                show(serve::profiles(&Config::load(config)?)?.get(name), as_json)
            }
            Self::Check { file } => check(&file, as_json),
        }
    }
}

fn longest_ms(profile: &Profile) -> u64 {
    profile.stages.iter().map(|stage| stage.limit_ms).sum()
}

fn list(registry: &Registry, as_json: bool) -> Result<(), CommandError> {
    let profiles = ProfileName::ALL.iter().map(|name| registry.get(*name));
    if as_json {
        let all: Vec<_> = profiles
            .map(|profile| {
                json!({
                    "name": profile.name, "own": profile.own, "description": profile.description,
                    "stages": profile.stages.len(), "rules": profile.rules().count(), "longest_ms": longest_ms(profile),
                })
            })
            .collect();
        return Ok(output::json(&all)?);
    }
    let rows = profiles.map(|profile| {
        [
            profile.name.to_string(),
            if profile.own { "own" } else { "shipped" }.to_owned(),
            HumanDuration::from_ms(longest_ms(profile)).to_string(),
            profile.stages.len().to_string(),
            profile.rules().count().to_string(),
            profile.description.clone(),
        ]
    });
    Ok(output::table(&["PROFILE", "WHOSE", "AT MOST", "STAGES", "RULES", "WHAT FOR"], rows, "")?)
}

fn yaml(config: &Config, name: ProfileName, as_json: bool) -> Result<(), CommandError> {
    let text = match config.profiles.get(&name) {
        Some(path) => hosts::read(path)?,
        None => builtin_text(name).to_owned(),
    };
    if as_json {
        return Ok(output::json(&json!({"yaml": text}))?);
    }
    Ok(output::line(text.trim_end())?)
}

fn show(profile: &Profile, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        let rules: Vec<_> = profile
            .thresholds
            .iter()
            .map(|threshold| json!({"rule": threshold.rule, "note": threshold.note}))
            .collect();
        return Ok(output::json(&json!({
            "name": profile.name, "own": profile.own, "description": profile.description,
            "sampling_interval_ms": profile.sampling_interval_ms, "stages": profile.stages, "rules": rules,
        }))?);
    }
    output::line(&format!("{}: {}", profile.name, profile.description))?;
    output::line(&format!(
        "sensors are sampled every {}",
        HumanDuration::from_ms(profile.sampling_interval_ms)
    ))?;
    output::line("")?;
    let stages = profile.stages.iter().map(|stage| {
        [
            stage.work.name().to_string(),
            HumanDuration::from_ms(stage.limit_ms).to_string(),
            if stage.required { "yes" } else { "may be skipped" }.to_owned(),
        ]
    });
    output::table(&["STAGE", "AT MOST", "MUST PASS"], stages, "")?;
    output::line("")?;
    let rules = profile.thresholds.iter().map(|threshold| {
        let rule = &threshold.rule;
        [
            rule.stage.map_or("*", |stage| stage.as_str()).to_owned(),
            format!("{} {}", rule.kind, rule.key),
            rule.describe(),
            rule.severity.to_string(),
            if rule.ends_stage { "ends the stage" } else { "" }.to_owned(),
            threshold.note.clone(),
        ]
    });
    Ok(output::table(&["STAGE", "WHAT", "GOOD", "WEIGHT", "", "NOTE"], rules, "no rules")?)
}

fn check(path: &Path, as_json: bool) -> Result<(), CommandError> {
    let text = hosts::read(path)?;
    let name = ProfileName::ALL.iter().find_map(|name| {
        let read = Registry::builtin()
            .and_then(|registry| registry.with_replacement(*name, &text, &path.to_string_lossy()));
        match read {
            // the file is for another of the three
            Err(ProfileError::OtherName { .. }) => None,
            Ok(_) => Some(Ok(*name)),
            Err(error @ ProfileError::Malformed { .. }) => Some(Err(error)),
        }
    });
    // each name a profile can have was tried
    let Some(name) = name.transpose().map_err(CommandError::from)? else { return Ok(()) };
    if as_json {
        return Ok(output::json(&json!({"good": true, "name": name}))?);
    }
    Ok(output::line(&format!("{} can replace the profile {name}", path.display()))?)
}
