//! `token …`: operator tokens.

use clap::Subcommand;
use reqwest::Method;
use vetting_judge::duration::HumanDuration;
use vetting_protocol::operator_api::{TokenCreate, TokenCreated, TokenView};
use vetting_protocol::users::Role;

use super::client::Client;
use super::{CommandError, output};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token; its text is shown this one time.
    #[command(after_help = "Examples:\n  vetting-coordinator token create ansible\n  \
                            vetting-coordinator token create grafana --role viewer --valid 365d")]
    Create {
        /// What it is for; unique.
        name: String,
        /// viewer (reads) or operator (everything).
        #[arg(long, default_value = "operator")]
        role: Role,
        /// How long it is good, such as 90d [default: until it is revoked].
        #[arg(long)]
        valid: Option<HumanDuration>,
    },
    /// All tokens, without their texts.
    List,
    /// Make a token useless, at once.
    Revoke {
        /// Its number in the list.
        id: i64,
    },
}

impl TokenCommand {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        match self {
            Self::Create { name, role, valid } => {
                let body = TokenCreate { name, role, valid_ms: valid.map(HumanDuration::as_ms) };
                let created: TokenCreated = client.put_in(Method::POST, &["tokens"], &body).await?;
                if json {
                    return Ok(output::json(&created)?);
                }
                // the text alone on stdout, so that a script can take it
                eprintln!("token {} ({}); this text is not shown again:", created.view.id, created.view.name);
                Ok(output::line(created.token.expose())?)
            }
            Self::List => {
                let tokens: Vec<TokenView> = client.get(&["tokens"], &[]).await?;
                if json {
                    return Ok(output::json(&tokens)?);
                }
                let rows = tokens.iter().map(|token| {
                    [
                        token.id.to_string(),
                        token.name.clone(),
                        token.role.to_string(),
                        token.created_at.clone(),
                        output::or_dash(token.last_used_at.as_ref()),
                        output::or_dash(token.expires_at.as_ref()),
                        output::or_dash(token.revoked_at.as_ref()),
                    ]
                });
                Ok(output::table(
                    &["ID", "NAME", "ROLE", "CREATED", "LAST USED", "EXPIRES", "REVOKED"],
                    rows,
                    "there are no tokens",
                )?)
            }
            Self::Revoke { id } => {
                client.delete(&["tokens", &id.to_string()], &[]).await?;
                if json {
                    return Ok(output::json(&serde_json::json!({"revoked": id}))?);
                }
                Ok(output::line(&format!("token {id} is revoked"))?)
            }
        }
    }
}
