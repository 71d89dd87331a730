//! `host power` and `host bmc`.

use clap::Args;
use reqwest::Method;
use serde_json::json;
use vetting_protocol::power::{BmcSettings, IPMI_PORT, PowerAction, PowerView};

use super::client::Client;
use super::{CommandError, output};

#[derive(Debug, Args)]
pub(super) struct Power {
    /// Name of the machine.
    name: String,
    /// on, off, cycle, soft (asks its system to shut down), or status.
    action: Wish,
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Status,
    Action(PowerAction),
}

impl std::str::FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "status" => Ok(Self::Status),
            _ => text.parse().map(Self::Action).map_err(|_| "say on, off, cycle, soft or status".to_owned()),
        }
    }
}

#[derive(Debug, Args)]
#[group(id = "way", required = true)]
pub(super) struct Bmc {
    /// Name of the machine.
    name: String,
    /// Name or address of a BMC that speaks IPMI 2.0 over LAN.
    #[arg(
        long,
        value_name = "HOST",
        requires = "user",
        requires = "secret",
        conflicts_with = "none",
        required_unless_present = "none"
    )]
    ipmi: Option<String>,
    /// Who the BMC knows the coordinator as.
    #[arg(long, requires = "ipmi")]
    user: Option<String>,
    /// Name of the password.
    #[arg(long, value_name = "NAME", requires = "ipmi")]
    secret: Option<String>,
    /// UDP port of the BMC.
    #[arg(long, default_value_t = IPMI_PORT)]
    port: u16,
    /// The machine boots by UEFI.
    #[arg(long)]
    uefi: bool,
    /// It has none any more.
    #[arg(long)]
    none: bool,
}

impl Power {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        if let Wish::Action(action) = self.action {
            client.order(Method::POST, &["hosts", &self.name, "power", action.as_str()], &json!({})).await?;
            return Ok(output::line(&format!("{}: {action}, as it was told", self.name))?);
        }
        let view: PowerView = client.get(&["hosts", &self.name, "power"], &[]).await?;
        if json {
            return Ok(output::json(&view)?);
        }
        let PowerView { bmc, state, problem } = view;
        let text = match (state, problem, bmc) {
            (Some(state), _, _) => format!("{} is {state}", self.name),
            (None, Some(problem), _) => format!("{}: not known: {problem}", self.name),
            (None, None, _) => format!("{} has no BMC here, so nobody can be asked", self.name),
        };
        Ok(output::line(&text)?)
    }
}

impl Bmc {
    pub(super) async fn run(self, client: &Client) -> Result<(), CommandError> {
        let path = ["hosts", &self.name, "bmc"];
        match (self.ipmi, self.user, self.secret) {
            (Some(host), Some(user), Some(secret)) => {
                let settings = BmcSettings::Ipmi { host, port: self.port, user, secret, uefi: self.uefi };
                client.order(Method::PUT, &path, &settings).await?;
                Ok(output::line(&format!(
                    "{} has a BMC; `host power {} status` asks it",
                    self.name, self.name
                ))?)
            }
            _ => Ok(client.delete(&path, &[]).await?),
        }
    }
}
