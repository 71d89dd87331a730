//! `spec …`: expected specs, checked, made from a machine, and machines compared.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use vetting_judge::spec::{HostSpec, SCHEMA, Spec, SpecError, compare};
use vetting_protocol::diff::SpecDiff;
use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::ids::RunId;
use vetting_protocol::inventory::Inventory;

use super::client::Client;
use super::{CommandError, hosts, output};

#[derive(Debug, Subcommand)]
pub(super) enum SpecCommand {
    /// Whether a file is a spec that can be used. Needs no coordinator.
    Check {
        /// YAML file.
        file: PathBuf,
    },
    /// Print the JSON Schema of a spec, for editors. Needs no coordinator.
    Schema,
    /// Print the spec that exactly the machine of a run meets: a start for its siblings.
    #[command(after_help = "Example:\n  vetting-coordinator spec from-run 12 > r640.yaml")]
    FromRun {
        /// Number of the run.
        run: RunId,
    },
    /// In what the machine of a run differs from a spec, or from the machine of another run.
    #[command(after_help = "Examples:\n  vetting-coordinator spec diff 12 15          # two runs\n  \
                            vetting-coordinator spec diff r640.yaml 15   # a spec and a run")]
    Diff {
        /// What is expected: the number of a run, or a YAML file.
        expected: String,
        /// Number of the run whose machine is compared with it.
        run: RunId,
    },
}

/// Why a spec was not used.
#[derive(Debug, thiserror::Error)]
pub enum SpecCommandError {
    /// It is no spec.
    #[error("{}: {mistake}", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// Where and what.
        mistake: SpecError,
    },
    /// A spec that was made cannot be written.
    #[error("the spec has no text")]
    Text(#[from] serde_yaml::Error),
}

impl SpecCommand {
    /// Whether it needs no coordinator.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Check { .. } | Self::Schema => true,
            Self::FromRun { .. } | Self::Diff { .. } => false,
        }
    }

    pub(super) async fn run(
        self,
        connect: &dyn Fn() -> Result<Client, CommandError>,
        json: bool,
    ) -> Result<(), CommandError> {
        match self {
            Self::Check { file } => check(&file, json),
            Self::Schema => Ok(output::line(SCHEMA.trim_end())?),
            Self::FromRun { run } => {
                let (inventory, firmware) = machine(&connect()?, run).await?;
                let yaml =
                    Spec::from_inventory(&inventory, &firmware).to_yaml().map_err(SpecCommandError::from)?;
                if json {
                    return Ok(output::json(&serde_json::json!({"expected_spec_yaml": yaml}))?);
                }
                Ok(output::line(yaml.trim_end())?)
            }
            Self::Diff { expected, run } => {
                let client = connect()?;
                let spec = match expected.parse::<RunId>() {
                    Ok(good) => {
                        let (inventory, firmware) = machine(&client, good).await?;
                        Spec::from_inventory(&inventory, &firmware)
                    }
                    Err(_) => read(Path::new(&expected))?,
                };
                let (inventory, firmware) = machine(&client, run).await?;
                show(&compare(&spec, &inventory, &firmware), json)
            }
        }
    }
}

fn read(path: &Path) -> Result<Spec, CommandError> {
    let spec = Spec::parse(&hosts::read(path)?);
    Ok(spec.map_err(|mistake| SpecCommandError::Spec { path: path.to_owned(), mistake })?)
}

fn check(path: &Path, json: bool) -> Result<(), CommandError> {
    let spec = HostSpec::parse(&hosts::read(path)?)
        .map_err(|mistake| SpecCommandError::Spec { path: path.to_owned(), mistake })?;
    if json {
        return Ok(output::json(&serde_json::json!({"good": true, "model": spec.model}))?);
    }
    let model =
        spec.model.map(|model| format!("; for the rest it takes the model {model}")).unwrap_or_default();
    Ok(output::line(&format!("{} can be used{model}", path.display()))?)
}

/// What a run found its machine to be.
async fn machine(client: &Client, run: RunId) -> Result<(Inventory, FirmwareReport), CommandError> {
    let run = run.to_string();
    let inventory = client.get(&["runs", &run, "artifacts", "inventory"], &[]).await?;
    let firmware = client.get(&["runs", &run, "artifacts", "firmware"], &[]).await?;
    Ok((inventory, firmware))
}

fn show(diffs: &Vec<SpecDiff>, json: bool) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(diffs)?);
    }
    let rows = diffs.iter().map(|diff| {
        [
            diff.field.clone(),
            output::or_dash(diff.expected.as_ref()),
            output::or_dash(diff.actual.as_ref()),
            diff.severity.to_string(),
        ]
    });
    Ok(output::table(&["FIELD", "EXPECTED", "FOUND", "SEVERITY"], rows, "no difference")?)
}
