//! `host …`: registered machines.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use vetting_protocol::operator_api::{HostAgentToken, HostCreate, HostEdit, HostView};

use super::client::Client;
use super::{CommandError, enrolment, host_import, output, pdu, power};

#[derive(Debug, Subcommand)]
pub(super) enum HostCommand {
    /// Register a machine with the spec it should meet.
    #[command(
        after_help = "Example:\n  vetting-coordinator host add rack1-u07 --mac 3c:ec:ef:12:34:56 --spec model.yaml\n  \
                            vetting-coordinator host add rack1-u08 --mac 3c:ec:ef:12:34:57 --model r640\n\n\
                            `vetting-agent inventory --spec` on a machine you trust prints a spec to start from."
    )]
    Add(Add),
    /// Register many machines, all or none.
    #[command(
        after_help = "Columns or keys: name, mac, further_macs, model, spec, notes, wol_broadcast_ip, wol_port, serial_console,\n\
                            burn_watts. Every mistake is told with its line and column before anything is registered.\n\nExamples:\n  \
                            vetting-coordinator host import rack1.csv --model r640 --dry-run\n  \
                            vetting-coordinator host import --netbox https://netbox.example.org --netbox-token-file token \\\n    \
                            --filter site=lab --filter role=server --skip-existing"
    )]
    Import(host_import::Import),
    /// All registered machines.
    List,
    /// One machine, with its spec.
    Show {
        /// Its name.
        name: String,
    },
    /// Change a machine; what is not named stays.
    #[command(after_help = "Examples:\n  vetting-coordinator host edit rack1-u07 --spec model-v2.yaml\n  \
                            vetting-coordinator host edit rack1-u07 --serial tcp://console.lab.example:7001?port=ttyS1")]
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
    /// Make the token of the agent on a machine's installed system; its text is shown this one time.
    #[command(after_help = "Example:\n  vetting-coordinator host agent-token rack1-u07 > token    \
                            # then on the machine: /etc/vetting/agent.token, mode 0600")]
    AgentToken {
        /// Its name.
        name: String,
    },
    /// Make it useless, at once.
    AgentRevoke {
        /// Its name.
        name: String,
    },
    /// Switch a machine on or off by its BMC, or else by its outlet, or ask how it is.
    #[command(
        after_help = "Without a BMC (`host bmc`) and an outlet (`host pdu`) a machine can only be asked to come up, by Wake-on-LAN.\n\n\
                            Examples:\n  vetting-coordinator host power rack1-u07 status\n  \
                            vetting-coordinator host power rack1-u07 cycle\n  \
                            vetting-coordinator host power rack1-u07 media insert \
                            http://10.0.0.5:8080/boot/files/vetting.iso"
    )]
    Power(power::Power),
    /// Tell how a machine's BMC is reached.
    #[command(
        after_help = "The password has a name and is not given here: it stands in the file that `power.secrets` of the\n\
                            configuration names, or in the coordinator's environment.\n\nExamples:\n  \
                            vetting-coordinator host bmc rack1-u07 --ipmi 10.0.9.7 --user ADMIN --secret rack1\n  \
                            vetting-coordinator host bmc rack1-u08 --redfish 10.0.9.8 --user ADMIN --secret rack1 \\\n    \
                            --fingerprint 8F:0C:…    \
                            # of its certificate: openssl s_client -connect 10.0.9.8:443 | openssl x509 -noout -fingerprint -sha256\n  \
                            vetting-coordinator host bmc rack1-u07 --none"
    )]
    Bmc(power::Bmc),
    /// Switch the outlet that a machine hangs on, or tell which it is.
    #[command(
        after_help = "Examples:\n  vetting-coordinator host pdu rack1-u07 set --hook plug --outlet 0\n  \
                            vetting-coordinator host pdu rack1-u07 cycle"
    )]
    Pdu(pdu::Pdu),
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
    #[arg(long, required_unless_present = "model")]
    spec: Option<PathBuf>,
    /// Take the spec of this model; a --spec beside it has what is otherwise here.
    #[arg(long)]
    model: Option<String>,
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
    /// YAML file with another spec, and with rules of its own (`thresholds`).
    #[arg(long)]
    spec: Option<PathBuf>,
    /// Take the spec of this model; a --spec beside it has what is otherwise here.
    #[arg(long)]
    model: Option<String>,
    /// What it draws in its hardest stage, watts, for the power budget; 0: as measured, or assumed.
    #[arg(long, value_name = "WATTS")]
    burn_watts: Option<u32>,
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
    /// Its serial line, for memtest86+: tcp://HOST:PORT of a serial console server, device:/dev/ttyUSB0 of this box, or
    /// ipmi://BMC[:PORT]; `?port=ttyS1` after it where the machine's end is not ttyS0; `none` takes it away.
    #[arg(long, value_name = "LINE")]
    serial: Option<String>,
}

impl HostCommand {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        match self {
            Self::Add(add) => {
                let Rest { wol_broadcast_ip, wol_port, notes, serial } = add.rest;
                let body = HostCreate {
                    name: add.name,
                    mac: add.mac,
                    wol_broadcast_ip,
                    wol_port,
                    expected_spec_yaml: spec_of(add.model.as_deref(), add.spec.as_deref())?
                        .unwrap_or_default(),
                    notes: notes.unwrap_or_default(),
                    serial_console: serial,
                };
                let host: HostView = client.put_in(Method::POST, &["hosts"], &body).await?;
                said(&host, json, "registered")
            }
            Self::Import(import) => import.run(client, json).await,
            Self::Pending => enrolment::pending(client, json).await,
            Self::Adopt(adopt) => enrolment::adopt(client, json, adopt).await,
            Self::Reject { code } => enrolment::reject(client, json, &code).await,
            Self::Mac(command) => command.run(client, json).await,
            Self::ForgetIdentity { name } => enrolment::forget_identity(client, json, &name).await,
            Self::AgentToken { name } => {
                let path = ["hosts", &name, "agent-token"];
                let made: HostAgentToken = client.put_in(Method::POST, &path, &serde_json::json!({})).await?;
                if json {
                    return Ok(output::json(&made)?);
                }
                // the text alone on stdout, so that a script can take it
                eprintln!("the token of the agent on {name}; this text is not shown again:");
                Ok(output::line(made.token.expose())?)
            }
            Self::AgentRevoke { name } => {
                client.delete(&["hosts", &name, "agent-token"], &[]).await?;
                if json {
                    return Ok(output::json(&serde_json::json!({"revoked": name}))?);
                }
                Ok(output::line(&format!("the agent on {name} has no token any more"))?)
            }
            Self::List => list(&client.get(&["hosts"], &[]).await?, json),
            Self::Show { name } => show(&client.get(&["hosts", &name], &[]).await?, json),
            Self::Edit(edit) => {
                let Rest { wol_broadcast_ip, wol_port, notes, serial } = edit.rest;
                let expected_spec_yaml = spec_of(edit.model.as_deref(), edit.spec.as_deref())?;
                let body = HostEdit {
                    name: edit.rename,
                    mac: edit.mac,
                    wol_broadcast_ip,
                    wol_port,
                    expected_spec_yaml,
                    notes,
                    serial_console: serial,
                    burn_watts: edit.burn_watts,
                };
                let host: HostView = client.put_in(Method::PATCH, &["hosts", &edit.name], &body).await?;
                said(&host, json, "changed")
            }
            Self::Power(order) => order.run(client, json).await,
            Self::Bmc(bmc) => bmc.run(client, json).await,
            Self::Pdu(order) => order.run(client, json).await,
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

/// The spec that model and file give together.
fn spec_of(model: Option<&str>, file: Option<&Path>) -> Result<Option<String>, CommandError> {
    let own = file.map(read).transpose()?;
    // in quotes: a model may be named `true` or `640`
    Ok(match (model, own) {
        (None, own) => own,
        (Some(model), own) => {
            let model = serde_json::Value::from(model);
            Some(format!("model: {model}\n{}", own.unwrap_or_default()))
        }
    })
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
            output::or_dash(host.last_seen_at.as_ref()),
        ]
    });
    let nothing = "no machine is registered yet; `vetting-coordinator host add --help` shows how";
    Ok(output::table(&["NAME", "MAC", "LAST RUN", "STATE", "RESULT", "AGENT SEEN"], rows, nothing)?)
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
        format!("agent seen  {}", output::or_dash(host.last_seen_at.as_ref())),
        format!("last run    {}", output::or_dash(run)),
        format!("serial line {}", output::or_dash(host.serial_console.as_ref())),
        format!(
            "under load  {}",
            output::or_dash(host.burn_watts.map(|watts| format!("{watts} W, as an operator said")))
        ),
        format!("notes       {}", host.notes),
        format!("spec{}{spec}", if spec.starts_with('\n') { "" } else { "        " }),
    ];
    Ok(output::line(&lines.join("\n"))?)
}
