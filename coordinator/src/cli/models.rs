//! `model …` and `component …`: specs that hosts share, and where parts were.

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use vetting_protocol::models::{ComponentView, ModelCreate, ModelEdit, ModelView};

use super::client::Client;
use super::{CommandError, hosts, output};

#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// Name a spec that several machines share.
    #[command(after_help = "Example:\n  vetting-coordinator model add r640 --spec r640.yaml\n  \
                            vetting-coordinator host add rack1-u07 --mac 3c:ec:ef:12:34:56 --model r640")]
    Add {
        /// Unique name: letters, digits, `.`, `_`, `-`.
        name: String,
        /// YAML file with the expected spec.
        #[arg(long)]
        spec: PathBuf,
    },
    /// All models, with the machines that take them.
    List,
    /// One model, with its spec.
    Show {
        /// Its name.
        name: String,
    },
    /// Give a model another spec, for all runs ordered from now on.
    Edit {
        /// Its name.
        name: String,
        /// YAML file with the new spec.
        #[arg(long)]
        spec: PathBuf,
    },
    /// Remove a model that no machine takes.
    Remove {
        /// Its name.
        name: String,
    },
}

impl ModelCommand {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        match self {
            Self::Add { name, spec } => {
                let body = ModelCreate { name, expected_spec_yaml: hosts::read(&spec)? };
                said(&client.put_in(Method::POST, &["models"], &body).await?, json, "known")
            }
            Self::Edit { name, spec } => {
                let body = ModelEdit { expected_spec_yaml: hosts::read(&spec)? };
                said(&client.put_in(Method::PATCH, &["models", &name], &body).await?, json, "changed")
            }
            Self::List => list(&client.get(&["models"], &[]).await?, json),
            Self::Show { name } => {
                let model: ModelView = client.get(&["models", &name], &[]).await?;
                if json {
                    return Ok(output::json(&model)?);
                }
                Ok(output::line(model.expected_spec_yaml.trim_end())?)
            }
            Self::Remove { name } => {
                client.delete(&["models", &name], &[]).await?;
                if json {
                    return Ok(output::json(&serde_json::json!({"removed": name}))?);
                }
                Ok(output::line(&format!("{name} is removed"))?)
            }
        }
    }
}

fn said(model: &ModelView, json: bool, what: &str) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(model)?);
    }
    Ok(output::line(&format!("model {} is {what}; {} machines take it", model.name, model.hosts.len()))?)
}

fn list(models: &Vec<ModelView>, json: bool) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(models)?);
    }
    let rows = models.iter().map(|model| {
        [model.name.clone(), model.hosts.len().to_string(), model.hosts.join(" "), model.updated_at.clone()]
    });
    let nothing = "there is no model yet; `vetting-coordinator model add --help` shows how";
    Ok(output::table(&["MODEL", "HOSTS", "", "CHANGED (UTC)"], rows, nothing)?)
}

#[derive(Debug, Subcommand)]
pub(super) enum ComponentCommand {
    /// In which machines a part was, and what became of their runs.
    #[command(after_help = "Example:\n  vetting-coordinator component show S3Z8NX0K")]
    Show {
        /// Its serial number; of a network card its MAC address.
        serial: String,
    },
}

impl ComponentCommand {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        let Self::Show { serial } = self;
        let places: Vec<ComponentView> =
            client.get(&["components", &serial], &[("limit", "1000".to_owned())]).await?;
        if json {
            return Ok(output::json(&places)?);
        }
        let rows = places.iter().map(|place| {
            [
                place.run.host.clone(),
                place.place.clone(),
                place.kind.clone(),
                output::or_dash(place.model.as_ref()),
                place.run.id.to_string(),
                place.run.started_at.clone(),
                output::or_dash(place.run.result),
                output::or_dash(place.run.failed_stage.as_ref()),
            ]
        });
        let header = ["HOST", "PLACE", "KIND", "MODEL", "RUN", "STARTED (UTC)", "RESULT", "FAILED STAGE"];
        Ok(output::table(&header, rows, "")?)
    }
}
