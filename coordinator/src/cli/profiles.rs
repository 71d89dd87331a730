//! `profile …`: the profiles that the coordinator has. `check` looks at a file of this box and needs no coordinator.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use vetting_judge::duration::HumanDuration;
use vetting_judge::profile::{ProfileError, Registry};
use vetting_protocol::profile::{ProfileName, ProfileView};

use super::client::Client;
use super::{CommandError, hosts, output};

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
    /// Whether a file can replace a profile. Needs no coordinator.
    Check {
        /// YAML file.
        file: PathBuf,
    },
}

impl ProfileCommand {
    /// Whether it needs no coordinator.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Check { .. } => true,
            Self::List | Self::Show { .. } => false,
        }
    }

    pub(super) async fn run(
        self,
        connect: &dyn Fn() -> Result<Client, CommandError>,
        as_json: bool,
    ) -> Result<(), CommandError> {
        match self {
            Self::List => list(&connect()?.get(&["profiles"], &[]).await?, as_json),
            Self::Show { name, yaml } => {
                let profile: ProfileView = connect()?.get(&["profiles", name.as_str()], &[]).await?;
                match (as_json, yaml) {
                    (true, true) => Ok(output::json(&json!({"yaml": profile.yaml}))?),
                    (true, false) => Ok(output::json(&profile)?),
                    (false, true) => Ok(output::line(profile.yaml.trim_end())?),
                    (false, false) => show(&profile),
                }
            }
            Self::Check { file } => check(&file, as_json),
        }
    }
}

fn list(profiles: &Vec<ProfileView>, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return Ok(output::json(profiles)?);
    }
    let rows = profiles.iter().map(|profile| {
        [
            profile.name.to_string(),
            if profile.own { "own" } else { "shipped" }.to_owned(),
            HumanDuration::from_ms(profile.longest_ms).to_string(),
            profile.stages.len().to_string(),
            profile.rules.len().to_string(),
            profile.description.clone(),
        ]
    });
    Ok(output::table(&["PROFILE", "WHOSE", "AT MOST", "STAGES", "RULES", "WHAT FOR"], rows, "")?)
}

fn show(profile: &ProfileView) -> Result<(), CommandError> {
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
    let rules = profile.rules.iter().map(|rule| {
        [
            rule.stage.map_or("*", |stage| stage.as_str()).to_owned(),
            format!("{} {}", rule.kind, rule.key),
            rule.good.clone(),
            rule.severity.to_string(),
            if rule.ends_stage { "ends the stage" } else { "" }.to_owned(),
            rule.note.clone(),
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
