//! `token …`: operator tokens.

use clap::Subcommand;
use reqwest::Method;
use vetting_protocol::operator_api::{TokenCreate, TokenCreated, TokenView};

use super::client::Client;
use super::{CommandError, output};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token; its text is shown this one time.
    #[command(after_help = "Example:\n  vetting-coordinator token create ansible")]
    Create {
        /// What it is for; unique.
        name: String,
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
            Self::Create { name } => {
                let created: TokenCreated =
                    client.put_in(Method::POST, &["tokens"], &TokenCreate { name }).await?;
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
                        token.created_at.clone(),
                        output::or_dash(token.last_used_at.as_ref()),
                        output::or_dash(token.revoked_at.as_ref()),
                    ]
                });
                Ok(output::table(
                    &["ID", "NAME", "CREATED", "LAST USED", "REVOKED"],
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
