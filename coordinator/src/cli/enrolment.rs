//! `enrolment …`: tokens that let machines in; and what `host …` does with machines that wait, with cards and identity.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use vetting_judge::duration::HumanDuration;
use vetting_protocol::enrolment::{
    Adopt, Adopted, EnrolmentTokenCreate, EnrolmentTokenCreated, EnrolmentTokenView, Identity, MacAdd,
    PendingView,
};
use vetting_protocol::operator_api::HostView;
use vetting_protocol::profile::ProfileName;

use super::client::Client;
use super::{CommandError, hosts, output};

/// Terms of a token of which nothing is said.
const DEFAULT_USES: u32 = 1;
const DEFAULT_VALID_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum EnrolmentCommand {
    /// Make a token that registers machines without asking; its text is shown this one time.
    #[command(
        after_help = "Examples:\n  vetting-coordinator enrolment create --uses 12 --valid 2d --spec r640.yaml --start-run\n  \
                            vetting-coordinator enrolment create --name 'rack3-{serial}' --spec r640.yaml\n\n\
                            The token goes into the vetting.yaml of a stick, or on the kernel's command line as \
                            vetting.enrol=TOKEN."
    )]
    Create(Create),
    /// All tokens, without their texts.
    List,
    /// Make a token useless, at once. Machines it has registered stay.
    Revoke {
        /// Its number in the list.
        id: i64,
    },
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    terms: Terms,
    /// How deep that run goes: quick, deep or soak.
    #[arg(long, default_value_t = ProfileName::Quick)]
    profile: ProfileName,
}

/// What a token allows.
#[derive(Debug, Args)]
pub(super) struct Terms {
    /// Machines it may register [default: 1].
    #[arg(long, value_name = "N")]
    uses: Option<u32>,
    /// For how long: 30m, 12h, 7d [default: 7d].
    #[arg(long, value_name = "DURATION")]
    valid: Option<HumanDuration>,
    /// Names of its machines; {vendor}, {product}, {serial} and {mac} are filled in [default: {vendor}-{serial}].
    #[arg(long, value_name = "PATTERN")]
    name: Option<String>,
    /// YAML file with the expected spec of its machines; without it they get no run before they are described.
    #[arg(long, visible_alias = "model", value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Start a run of each machine at once.
    #[arg(long, requires = "spec")]
    start_run: bool,
}

impl Terms {
    /// Whether anything was said of them.
    pub(super) fn are_said(&self) -> bool {
        let Self { uses, valid, name, spec, start_run } = self;
        uses.is_some() || valid.is_some() || name.is_some() || spec.is_some() || *start_run
    }

    /// Makes a token of these terms; `profile` is that of the runs it starts.
    pub(super) async fn token(
        &self,
        client: &Client,
        profile: ProfileName,
    ) -> Result<EnrolmentTokenCreated, CommandError> {
        let body = EnrolmentTokenCreate {
            uses: self.uses.unwrap_or(DEFAULT_USES),
            valid_ms: self.valid.map_or(DEFAULT_VALID_MS, HumanDuration::as_ms),
            name_pattern: self.name.clone(),
            expected_spec_yaml: self.spec.as_deref().map(hosts::read).transpose()?,
            start_run: self.start_run.then_some(profile),
        };
        Ok(client.put_in(Method::POST, &["enrolment", "tokens"], &body).await?)
    }
}

impl EnrolmentCommand {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        match self {
            Self::Create(create) => {
                let made = create.terms.token(client, create.profile).await?;
                if json {
                    return Ok(output::json(&made)?);
                }
                // the text alone on stdout, so that a script can take it
                eprintln!(
                    "enrolment token {} for {} machines until {} UTC; this text is not shown again:",
                    made.view.id, made.view.uses_allowed, made.view.expires_at
                );
                Ok(output::line(made.token.expose())?)
            }
            Self::List => list(&client.get(&["enrolment", "tokens"], &[]).await?, json),
            Self::Revoke { id } => {
                client.delete(&["enrolment", "tokens", &id.to_string()], &[]).await?;
                if json {
                    return Ok(output::json(&serde_json::json!({"revoked": id}))?);
                }
                Ok(output::line(&format!("enrolment token {id} is revoked"))?)
            }
        }
    }
}

fn list(tokens: &Vec<EnrolmentTokenView>, json: bool) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(tokens)?);
    }
    let rows = tokens.iter().map(|token| {
        [
            token.id.to_string(),
            format!("{} of {}", token.uses, token.uses_allowed),
            token.expires_at.clone(),
            output::or_dash(token.revoked_at.as_ref()),
            token.name_pattern.clone(),
            if token.has_spec { "yes".to_owned() } else { "no".to_owned() },
            output::or_dash(token.start_run),
        ]
    });
    let nothing = "there are no enrolment tokens; `vetting-coordinator enrolment create --help` shows how";
    let header = ["ID", "USED", "EXPIRES (UTC)", "REVOKED (UTC)", "NAMES", "SPEC", "STARTS RUN"];
    Ok(output::table(&header, rows, nothing)?)
}

#[derive(Debug, Args)]
pub(super) struct AdoptArguments {
    /// The code on the machine's console.
    code: String,
    /// Name of the new host [default: from its maker and serial number].
    #[arg(long)]
    name: Option<String>,
    /// It is this registered host, with another board or other cards.
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    into: Option<String>,
    /// YAML file with the expected spec; without it the machine gets no run before it is described.
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Start a run at once.
    #[arg(long)]
    start_run: bool,
    /// How deep that run goes: quick, deep or soak.
    #[arg(long, default_value_t = ProfileName::Quick)]
    profile: ProfileName,
}

#[derive(Debug, Subcommand)]
pub(super) enum MacCommand {
    /// Give a host another card, by which it may boot.
    Add {
        /// Name of the host.
        host: String,
        /// MAC address, in any common notation.
        mac: String,
    },
    /// Take a further card from a host.
    Remove {
        /// Name of the host.
        host: String,
        /// MAC address.
        mac: String,
    },
}

/// `host pending`.
pub(super) async fn pending(client: &Client, json: bool) -> Result<(), CommandError> {
    let waiting: Vec<PendingView> = client.get(&["enrolment", "pending"], &[]).await?;
    if json {
        return Ok(output::json(&waiting)?);
    }
    let rows = waiting.iter().map(|machine| {
        let identity = &machine.identity;
        [
            machine.code.clone(),
            machine.address.clone(),
            age(machine.age_ms),
            model(identity),
            output::or_dash(identity.system_serial.as_ref()),
            identity.nics.iter().map(|nic| nic.mac.to_string()).collect::<Vec<_>>().join(" "),
            output::or_dash(machine.note.as_ref()),
        ]
    });
    let nothing = "no machine waits";
    Ok(output::table(&["CODE", "ADDRESS", "WAITS", "MODEL", "SERIAL", "CARDS", "NOTE"], rows, nothing)?)
}

fn model(identity: &Identity) -> String {
    let words = [identity.manufacturer.as_deref(), identity.product.as_deref()];
    let text = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "-".to_owned() } else { text }
}

fn age(ms: u64) -> String {
    let seconds = Duration::from_millis(ms).as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// `host adopt CODE`.
pub(super) async fn adopt(
    client: &Client,
    json: bool,
    arguments: AdoptArguments,
) -> Result<(), CommandError> {
    let AdoptArguments { code, name, into, spec, start_run, profile } = arguments;
    let body = Adopt {
        name,
        into,
        expected_spec_yaml: spec.as_deref().map(hosts::read).transpose()?,
        start_run: start_run.then_some(profile),
    };
    let adopted: Adopted =
        client.put_in(Method::POST, &["enrolment", "pending", &code, "adopt"], &body).await?;
    if json {
        return Ok(output::json(&adopted)?);
    }
    let next = match adopted.run {
        Some(run) => format!("run {run} is ordered"),
        None => format!("`run start {}` orders a run", adopted.name),
    };
    Ok(output::line(&format!("{} is registered; {next}", adopted.name))?)
}

/// `host reject CODE`.
pub(super) async fn reject(client: &Client, json: bool, code: &str) -> Result<(), CommandError> {
    let nothing = serde_json::json!({});
    let answer: serde_json::Value =
        client.put_in(Method::POST, &["enrolment", "pending", code, "reject"], &nothing).await?;
    if json {
        return Ok(output::json(&answer)?);
    }
    Ok(output::line(&format!("the machine with code {code} is turned away"))?)
}

impl MacCommand {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        match self {
            Self::Add { host, mac } => {
                let view: HostView =
                    client.put_in(Method::POST, &["hosts", &host, "macs"], &MacAdd { mac }).await?;
                if json {
                    return Ok(output::json(&view)?);
                }
                let cards: Vec<String> = view.further_macs.iter().map(ToString::to_string).collect();
                Ok(output::line(&format!("{host} boots from {}, or {}", view.mac, cards.join(" ")))?)
            }
            Self::Remove { host, mac } => {
                client.delete(&["hosts", &host, "macs", &mac], &[]).await?;
                if json {
                    return Ok(output::json(&serde_json::json!({"removed": mac}))?);
                }
                Ok(output::line(&format!("{mac} is no card of {host} any more"))?)
            }
        }
    }
}

/// `host forget-identity NAME`.
pub(super) async fn forget_identity(client: &Client, json: bool, name: &str) -> Result<(), CommandError> {
    client.delete(&["hosts", name, "identity"], &[]).await?;
    if json {
        return Ok(output::json(&serde_json::json!({"forgotten": name}))?);
    }
    Ok(output::line(&format!(
        "{name} is recognised by its cards alone until a machine claims its next run; that one's UUID is recorded"
    ))?)
}
