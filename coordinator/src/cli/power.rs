//! `host power` and `host bmc`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use reqwest::Method;
use serde_json::json;
use vetting_protocol::ids::{ParseIdError, Sha256Hex};
use vetting_protocol::power::{
    BmcSettings, FirmwareMode, HTTPS_PORT, IPMI_PORT, MediaOrder, PowerAction, PowerView, Trust,
};

use super::client::Client;
use super::{CommandError, output};

#[derive(Debug, Args)]
pub(super) struct Power {
    /// Name of the machine.
    name: String,
    #[command(subcommand)]
    wish: Wish,
}

/// What is wanted.
#[derive(Debug, Subcommand)]
enum Wish {
    /// Ask whether it is on.
    Status,
    /// Switch it on.
    On,
    /// Switch it off at once.
    Off,
    /// Off, and on again.
    Cycle,
    /// Ask its system to shut down.
    Soft,
    /// Its virtual drive (Redfish).
    #[command(subcommand)]
    Media(Media),
}

#[derive(Debug, Subcommand)]
enum Media {
    /// Put an image in; what was in there is taken out.
    #[command(after_help = "Example:\n  vetting-coordinator host power rack1-u07 media insert \
                            http://10.0.0.5:8080/boot/files/vetting.iso --boot-once")]
    Insert {
        /// Where the BMC fetches it: http, https, nfs or cifs.
        url: String,
        /// The machine's next boot, and only that, comes from it.
        #[arg(long)]
        boot_once: bool,
    },
    /// Take out what is in there.
    Eject,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("kind").required(true))]
pub(super) struct Bmc {
    /// Name of the machine.
    name: String,
    /// Name or address of a BMC that speaks IPMI 2.0 over LAN.
    #[arg(long, value_name = "HOST", requires = "user", requires = "secret", group = "kind")]
    ipmi: Option<String>,
    /// Name or address of a BMC that speaks Redfish.
    #[arg(
        long,
        value_name = "HOST",
        requires = "user",
        requires = "secret",
        requires = "trust",
        group = "kind"
    )]
    redfish: Option<String>,
    /// Who the BMC knows the coordinator as.
    #[arg(long, requires = "kind")]
    user: Option<String>,
    /// Name of the password.
    #[arg(long, value_name = "NAME", requires = "kind")]
    secret: Option<String>,
    /// Port of the BMC: by itself 623 for IPMI, 443 for Redfish.
    #[arg(long)]
    port: Option<u16>,
    /// The machine boots by UEFI.
    #[arg(long)]
    uefi: bool,
    /// The machine boots by the BIOS's rules, and Redfish is to say so; by itself it is left as it is set.
    #[arg(long, requires = "redfish", conflicts_with = "uefi")]
    legacy: bool,
    /// IPMI's cipher suite, such as 3 for old BMCs or 17; by itself the BMC is asked for its best, which some never answer.
    #[arg(long, value_name = "N", requires = "ipmi", value_parser = clap::value_parser!(u8).range(0..=17))]
    cipher_suite: Option<u8>,
    /// Which of the BMC's systems the machine is, where it has several.
    #[arg(long, value_name = "ID", requires = "redfish")]
    system: Option<String>,
    #[command(flatten)]
    trust: TrustFlags,
    /// It has none any more.
    #[arg(long, group = "kind", conflicts_with_all = ["user", "secret"])]
    none: bool,
}

/// Whose certificate is believed.
#[derive(Debug, Args)]
#[group(id = "trust", multiple = false)]
pub(super) struct TrustFlags {
    /// The SHA-256 of the BMC's certificate, as `openssl x509 -fingerprint -sha256` prints it.
    #[arg(long, value_name = "HEX", value_parser = fingerprint)]
    fingerprint: Option<Sha256Hex>,
    /// File with the authorities that sign such certificates: PEM.
    #[arg(long, value_name = "FILE")]
    bmc_ca: Option<PathBuf>,
    /// The authorities of the coordinator's system sign them.
    #[arg(long)]
    system_ca: bool,
    /// Any certificate: whoever is in between reads the password.
    #[arg(long)]
    insecure: bool,
}

fn fingerprint(text: &str) -> Result<Sha256Hex, ParseIdError> {
    text.chars().filter(|character| *character != ':').collect::<String>().parse()
}

impl TrustFlags {
    pub(super) fn read(self) -> Result<Option<Trust>, CommandError> {
        if let Some(pin) = self.fingerprint {
            return Ok(Some(Trust::Fingerprint(pin)));
        }
        if let Some(path) = self.bmc_ca {
            let pem = std::fs::read_to_string(&path).map_err(|source| CommandError::File { path, source })?;
            return Ok(Some(Trust::Ca(pem)));
        }
        let said = [(self.system_ca, Trust::System), (self.insecure, Trust::Insecure)];
        Ok(said.into_iter().find_map(|(said, trust)| said.then_some(trust)))
    }
}

impl Power {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        let action = match self.wish {
            Wish::Status => return self.status(client, json).await,
            Wish::On => PowerAction::On,
            Wish::Off => PowerAction::Off,
            Wish::Cycle => PowerAction::Cycle,
            Wish::Soft => PowerAction::Soft,
            Wish::Media(Media::Insert { url, boot_once }) => {
                let order = MediaOrder { url, boot_once };
                client.order(Method::PUT, &["hosts", &self.name, "media"], &order).await?;
                let text = format!("{} has {} in its virtual drive", self.name, order.url);
                return output::done(json, &json!({"host": self.name, "media": order.url}), &text);
            }
            Wish::Media(Media::Eject) => {
                client.delete(&["hosts", &self.name, "media"], &[]).await?;
                let text = format!("the virtual drive of {} is empty", self.name);
                return output::done(json, &json!({"host": self.name, "media": null}), &text);
            }
        };
        client.order(Method::POST, &["hosts", &self.name, "power", action.as_str()], &json!({})).await?;
        let text = format!("{}: {action}, as it was told", self.name);
        output::done(json, &json!({"host": self.name, "action": action}), &text)
    }

    async fn status(self, client: &Client, json: bool) -> Result<(), CommandError> {
        let view: PowerView = client.get(&["hosts", &self.name, "power"], &[]).await?;
        if json {
            return Ok(output::json(&view)?);
        }
        let PowerView { state, problem, .. } = view;
        let text = match (state, problem) {
            (Some(state), _) => format!("{} is {state}", self.name),
            (None, Some(problem)) => format!("{}: not known: {problem}", self.name),
            (None, None) => format!("{} has no BMC and no outlet here, so nobody can be asked", self.name),
        };
        Ok(output::line(&text)?)
    }
}

impl Bmc {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        let name = self.name.clone();
        let path = ["hosts", &name, "bmc"];
        let Some(settings) = self.settings()? else {
            client.delete(&path, &[]).await?;
            let text = format!("{name} has no BMC here any more");
            return output::done(json, &json!({"host": name, "bmc": null}), &text);
        };
        client.order(Method::PUT, &path, &settings).await?;
        let text = format!("{name} has a BMC; `host power {name} status` asks it");
        output::done(json, &json!({"host": name, "bmc": settings}), &text)
    }

    /// Of none: it is to be forgotten.
    fn settings(self) -> Result<Option<BmcSettings>, CommandError> {
        let (Some(user), Some(secret)) = (self.user, self.secret) else { return Ok(None) };
        let trust = self.trust.read()?;
        Ok(match (self.ipmi, self.redfish, trust) {
            (Some(host), _, _) => Some(BmcSettings::Ipmi {
                host,
                port: self.port.unwrap_or(IPMI_PORT),
                user,
                secret,
                uefi: self.uefi,
                cipher_suite: self.cipher_suite,
            }),
            (None, Some(host), Some(trust)) => {
                let boot_mode = match (self.uefi, self.legacy) {
                    (true, _) => Some(FirmwareMode::Uefi),
                    (false, true) => Some(FirmwareMode::Legacy),
                    (false, false) => None,
                };
                let (port, system) = (self.port.unwrap_or(HTTPS_PORT), self.system);
                Some(BmcSettings::Redfish { host, port, user, secret, system, trust, boot_mode })
            }
            // clap asks for one of them, and for whom Redfish is to believe
            (None, _, _) => None,
        })
    }
}
