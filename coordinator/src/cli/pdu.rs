//! `host pdu`: the outlet that a machine hangs on.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::json;
use vetting_protocol::power::{
    PduModel, PduObjects, PduSettings, PduStatus, PduView, PowerAction, SNMP_PORT, SnmpAccess, SnmpAuth,
    SnmpPrivacy,
};

use super::client::Client;
use super::{CommandError, output};

#[derive(Debug, Args)]
pub(super) struct Pdu {
    /// Name of the machine.
    name: String,
    #[command(subcommand)]
    wish: Wish,
}

#[derive(Debug, Subcommand)]
enum Wish {
    /// Ask whether the outlet is on.
    Status,
    /// Switch it on.
    On,
    /// Switch it off: the machine loses its mains.
    Off,
    /// Off, and on again after `power.off_pause`.
    Cycle,
    /// Tell which outlet it is and how it is switched.
    #[command(
        after_help = "Communities, passphrases and hooks have names and are not given here: they stand in the \
                            coordinator's configuration.\n\nExamples:\n  \
                            vetting-coordinator host pdu rack1-u07 set --snmp 10.0.9.30 --model apc-rpdu2 --outlet 7 --secret pdu1 \
                            --user vetting\n  \
                            vetting-coordinator host pdu rack1-u07 set --snmp 10.0.9.31 --model raritan-px2 --outlet 7 --secret pdu2\n  \
                            vetting-coordinator host pdu rack1-u07 set --hook plug --outlet 0"
    )]
    Set(Box<Set>),
    /// It hangs on none any more.
    Remove,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("kind").required(true))]
struct Set {
    /// Name or address of a PDU that speaks SNMP.
    #[arg(long, value_name = "HOST", group = "kind", requires = "model", requires = "secret")]
    snmp: Option<String>,
    /// A program or device of the coordinator's configuration (`power.hooks`).
    #[arg(long, value_name = "NAME", group = "kind")]
    hook: Option<String>,
    /// The outlet: with SNMP its number, `7`, or `2.7` for the seventh of the second unit.
    #[arg(long, required_unless_present_any = ["control_oid", "hook"])]
    outlet: Option<String>,
    /// UDP port of the PDU.
    #[arg(long, default_value_t = SNMP_PORT)]
    port: u16,
    /// Which objects switch it.
    #[arg(long, requires = "snmp")]
    model: Option<Model>,
    /// Name of the community, or with --user of the user's passphrase.
    #[arg(long, value_name = "NAME", requires = "snmp")]
    secret: Option<String>,
    /// SNMPv3: who the PDU knows the coordinator as.
    #[arg(long, requires = "snmp")]
    user: Option<String>,
    /// SNMPv3: sha, sha256 or sha512.
    #[arg(long, default_value = "sha", requires = "user")]
    auth: SnmpAuth,
    /// SNMPv3: aes or des.
    #[arg(long, default_value = "aes", requires = "user")]
    privacy: SnmpPrivacy,
    /// SNMPv3: name of the passphrase for privacy, where it is another one.
    #[arg(long, value_name = "NAME", requires = "user")]
    privacy_secret: Option<String>,
    #[command(flatten)]
    objects: Objects,
}

/// `--model oid`.
#[derive(Debug, Args)]
struct Objects {
    /// With --model oid: the object that switches the outlet, in numbers.
    #[arg(long, value_name = "OID", required_if_eq("model", "oid"))]
    control_oid: Option<String>,
    /// Written for on, and for off: ON,OFF.
    #[arg(long, value_name = "ON,OFF", value_parser = pair, required_if_eq("model", "oid"))]
    control_values: Option<(i32, i32)>,
    /// The object that tells the state, where it is another one.
    #[arg(long, value_name = "OID", requires = "status_values")]
    status_oid: Option<String>,
    /// What it is when the outlet is on, and off: ON,OFF.
    #[arg(long, value_name = "ON,OFF", value_parser = pair, requires = "status_oid")]
    status_values: Option<(i32, i32)>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Model {
    ApcRpdu,
    ApcRpdu2,
    RaritanPx2,
    Oid,
}

fn pair(text: &str) -> Result<(i32, i32), String> {
    let numbers = text.split_once(',').and_then(|(on, off)| Some((on.parse().ok()?, off.parse().ok()?)));
    numbers.ok_or_else(|| "two numbers with a comma between, such as 1,2".to_owned())
}

impl Set {
    fn settings(self) -> Option<PduSettings> {
        let outlet = self.outlet.unwrap_or_default();
        if let Some(hook) = self.hook {
            return Some(PduSettings::Hook { hook, outlet });
        }
        // clap asks for these with --snmp
        let (host, model, secret) = (self.snmp?, self.model?, self.secret?);
        let model = match model {
            Model::ApcRpdu => PduModel::ApcRpdu,
            Model::ApcRpdu2 => PduModel::ApcRpdu2,
            Model::RaritanPx2 => PduModel::RaritanPx2,
            Model::Oid => {
                let (on, off) = self.objects.control_values?;
                let status = self.objects.status_oid.zip(self.objects.status_values);
                let status = status.map(|(oid, (on, off))| PduStatus { oid, on, off });
                PduModel::Oid(PduObjects { control: self.objects.control_oid?, on, off, status })
            }
        };
        let access = match self.user {
            None => SnmpAccess::V2c { secret },
            Some(user) => {
                let (auth, privacy, privacy_secret) = (self.auth, self.privacy, self.privacy_secret);
                SnmpAccess::V3 { user, auth, secret, privacy, privacy_secret }
            }
        };
        Some(PduSettings::Snmp { host, port: self.port, outlet, model, access })
    }
}

impl Pdu {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        let path = ["hosts", &self.name, "pdu"];
        let action = match self.wish {
            Wish::On => PowerAction::On,
            Wish::Off => PowerAction::Off,
            Wish::Cycle => PowerAction::Cycle,
            Wish::Status => {
                let view: PduView = client.get(&path, &[]).await?;
                return if json {
                    Ok(output::json(&view)?)
                } else {
                    Ok(output::line(&said(&self.name, view))?)
                };
            }
            Wish::Set(set) => {
                let settings = set.settings();
                client.order(Method::PUT, &path, &settings).await?;
                let text = format!("{0} hangs on it; `host pdu {0} status` asks it", self.name);
                return output::done(json, &json!({"host": self.name, "pdu": settings}), &text);
            }
            Wish::Remove => {
                client.delete(&path, &[]).await?;
                let text = format!("{} hangs on no outlet here any more", self.name);
                return output::done(json, &json!({"host": self.name, "pdu": null}), &text);
            }
        };
        client.order(Method::POST, &["hosts", &self.name, "pdu", action.as_str()], &json!({})).await?;
        let text = format!("the outlet of {}: {action}, as it was told", self.name);
        output::done(json, &json!({"host": self.name, "action": action}), &text)
    }
}

fn said(name: &str, view: PduView) -> String {
    match view {
        PduView { state: Some(state), .. } => format!("the outlet of {name} is {state}"),
        PduView { problem: Some(problem), .. } => format!("the outlet of {name}: not known: {problem}"),
        PduView { state: None, problem: None, .. } => {
            format!("{name} has no outlet here, so nobody can be asked")
        }
    }
}
