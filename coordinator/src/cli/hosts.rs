//! `host …`: registered machines.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use vetting_protocol::operator_api::{HostCreate, HostEdit, HostView};

use super::client::Client;
use super::{CommandError, enrolment, output, power};

#[derive(Debug, Subcommand)]
pub(super) enum HostCommand {
    /// Register a machine with the spec it should meet.
    #[command(
        after_help = "Example:\n  vetting-coordinator host add rack1-u07 --mac 3c:ec:ef:12:34:56 --spec model.yaml\n\n\
                            `vetting-agent inventory --spec` on a machine you trust prints a spec to start from."
    )]
    Add(Add),
    /// All registered machines.
    List,
    /// One machine, with its spec.
    Show {
        /// Its name.
        name: String,
    },
    /// Change a machine; what is not named stays.
    #[command(after_help = "Example:\n  vetting-coordinator host edit rack1-u07 --spec model-v2.yaml")]
    Edit(Edit),
    /// Machines that nobody registered and that wait in the live image.
    Pending,
    /// Take in a machine that waits, by the code on its console.
    #[command(
        after_help = "Examples:\n  vetting-coordinator host adopt K7R-4QX --spec r640.yaml --start-run\n  \
                            vetting-coordinator host adopt K7R4QX --into rack1-u07    # its board was replaced"
    )]
    Adopt(enrolment::AdoptArguments),
    /// Turn away a machine that waits.
    Reject {
        /// The code on its console.
        code: String,
    },
    /// The cards by which a machine may boot.
    #[command(subcommand)]
    Mac(enrolment::MacCommand),
    /// Forget by which UUID a machine is recognised, after its board was replaced.
    ForgetIdentity {
        /// Its name.
        name: String,
    },
    /// Switch a machine on or off by its BMC, or ask how it is.
    #[command(
        after_help = "Without a BMC (`host bmc`) a machine can only be asked to come up, by Wake-on-LAN.\n\n\
                            Examples:\n  vetting-coordinator host power rack1-u07 status\n  \
                            vetting-coordinator host power rack1-u07 cycle"
    )]
    Power(power::Power),
    /// Tell how a machine's BMC is reached.
    #[command(
        after_help = "The password has a name and is not given here: it stands in the file that `power.secrets` of the\n\
                            configuration names, or in the coordinator's environment.\n\nExamples:\n  \
                            vetting-coordinator host bmc rack1-u07 --ipmi 10.0.9.7 --user ADMIN --secret rack1\n  \
                            vetting-coordinator host bmc rack1-u07 --none"
    )]
    Bmc(power::Bmc),
    /// Remove a machine.
    Remove {
        /// Its name.
        name: String,
        /// Also remove every run of it, with its results and files.
        #[arg(long)]
        with_runs: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// Unique name: letters, digits, `.`, `_`, `-`.
    name: String,
    /// MAC address of the card it boots from, in any common notation.
    #[arg(long)]
    mac: String,
    /// YAML file with the expected spec.
    #[arg(long)]
    spec: PathBuf,
    #[command(flatten)]
    rest: Rest,
}

#[derive(Debug, Args)]
pub(super) struct Edit {
    /// Its name.
    name: String,
    /// Another name.
    #[arg(long)]
    rename: Option<String>,
    /// Another MAC address.
    #[arg(long)]
    mac: Option<String>,
    /// YAML file with another spec.
    #[arg(long)]
    spec: Option<PathBuf>,
    #[command(flatten)]
    rest: Rest,
}

#[derive(Debug, Args)]
struct Rest {
    /// Broadcast address for Wake-on-LAN [default for a new machine: 255.255.255.255].
    #[arg(long, value_name = "ADDRESS")]
    wol_broadcast_ip: Option<Ipv4Addr>,
    /// UDP port for Wake-on-LAN [default for a new machine: 9].
    #[arg(long, value_name = "PORT")]
    wol_port: Option<u16>,
    /// Notes.
    #[arg(long)]
    notes: Option<String>,
}

impl HostCommand {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        match self {
            Self::Add(add) => {
                let Rest { wol_broadcast_ip, wol_port, notes } = add.rest;
                let body = HostCreate {
                    name: add.name,
                    mac: add.mac,
                    wol_broadcast_ip,
                    wol_port,
                    expected_spec_yaml: read(&add.spec)?,
                    notes: notes.unwrap_or_default(),
                };
                let host: HostView = client.put_in(Method::POST, &["hosts"], &body).await?;
                said(&host, json, "registered")
            }
            Self::Pending => enrolment::pending(client, json).await,
            Self::Adopt(adopt) => enrolment::adopt(client, json, adopt).await,
            Self::Reject { code } => enrolment::reject(client, json, &code).await,
            Self::Mac(command) => command.run(client, json).await,
            Self::ForgetIdentity { name } => enrolment::forget_identity(client, json, &name).await,
            Self::List => list(&client.get(&["hosts"], &[]).await?, json),
            Self::Show { name } => show(&client.get(&["hosts", &name], &[]).await?, json),
            Self::Edit(edit) => {
                let Rest { wol_broadcast_ip, wol_port, notes } = edit.rest;
                let expected_spec_yaml = edit.spec.as_deref().map(read).transpose()?;
                let body = HostEdit {
                    name: edit.rename,
                    mac: edit.mac,
                    wol_broadcast_ip,
                    wol_port,
                    expected_spec_yaml,
                    notes,
                };
                let host: HostView = client.put_in(Method::PATCH, &["hosts", &edit.name], &body).await?;
                said(&host, json, "changed")
            }
            Self::Power(order) => order.run(client, json).await,
            Self::Bmc(bmc) => bmc.run(client).await,
            Self::Remove { name, with_runs } => {
                client.delete(&["hosts", &name], &[("with_runs", with_runs.to_string())]).await?;
                if json {
                    return Ok(output::json(&serde_json::json!({"removed": name}))?);
                }
                Ok(output::line(&format!("{name} is removed"))?)
            }
        }
    }
}

pub(super) fn read(path: &Path) -> Result<String, CommandError> {
    std::fs::read_to_string(path).map_err(|source| CommandError::File { path: path.to_owned(), source })
}

fn said(host: &HostView, json: bool, what: &str) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(host)?);
    }
    Ok(output::line(&format!("{} ({}) is {what}", host.name, host.mac))?)
}

fn list(hosts: &Vec<HostView>, json: bool) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(hosts)?);
    }
    let rows = hosts.iter().map(|host| {
        let run = host.latest_run.as_ref();
        [
            host.name.clone(),
            host.mac.to_string(),
            output::or_dash(run.map(|run| run.id)),
            output::or_dash(run.map(|run| run.state)),
            output::or_dash(run.and_then(|run| run.result)),
        ]
    });
    let nothing = "no machine is registered yet; `vetting-coordinator host add --help` shows how";
    Ok(output::table(&["NAME", "MAC", "LAST RUN", "STATE", "RESULT"], rows, nothing)?)
}

fn show(host: &HostView, json: bool) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(host)?);
    }
    let run = host.latest_run.as_ref().map(|run| format!("{} ({})", run.id, run.state));
    let further: Vec<String> = host.further_macs.iter().map(ToString::to_string).collect();
    let spec = match host.expected_spec_yaml.as_str() {
        "" => {
            format!("none yet; `host edit {} --spec FILE` describes it, and no run starts before", host.name)
        }
        yaml => format!("\n{yaml}"),
    };
    let lines = [
        format!("name        {}", host.name),
        format!("MAC         {}", host.mac),
        format!("also        {}", if further.is_empty() { "-".to_owned() } else { further.join(" ") }),
        format!("UUID        {}", output::or_dash(host.identity.as_ref().map(|known| &known.system_uuid))),
        format!("wake        {}:{}", host.wol_broadcast_ip, host.wol_port),
        format!("registered  {}", host.created_at),
        format!("changed     {}", host.updated_at),
        format!("last run    {}", output::or_dash(run)),
        format!("notes       {}", host.notes),
        format!("spec{}{spec}", if spec.starts_with('\n') { "" } else { "        " }),
    ];
    Ok(output::line(&lines.join("\n"))?)
}
