//! `notify …`: who is told what happened, and whether they are.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;
use vetting_protocol::housekeeping::{NotificationsView, RetriedView};

use super::client::Client;
use super::{CommandError, output};

#[derive(Debug, Subcommand)]
pub(super) enum NotifyCommand {
    /// Send a test to a receiver now, and tell whether it took it.
    #[command(after_help = "Example:\n  vetting-coordinator notify test phone")]
    Test {
        /// Its name in the configuration.
        receiver: String,
    },
    /// Receivers, and what is pending, failed or was delivered lately.
    List,
    /// Try again what was given up, and at once what waits.
    #[command(after_help = "Example:\n  vetting-coordinator notify retry mail")]
    Retry {
        /// Only for this receiver.
        receiver: Option<String>,
    },
}

impl NotifyCommand {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        match self {
            Self::Test { receiver } => {
                client.order(Method::POST, &["notifications", &receiver, "test"], &json!({})).await?;
                if json {
                    return Ok(output::json(&json!({"told": receiver}))?);
                }
                Ok(output::line(&format!("{receiver} took the test"))?)
            }
            Self::Retry { receiver } => {
                let order = json!({ "receiver": receiver });
                let view: RetriedView =
                    client.put_in(Method::POST, &["notifications", "retry"], &order).await?;
                if json {
                    return Ok(output::json(&view)?);
                }
                let retried = view.retried;
                Ok(output::line(&format!(
                    "{retried} that were given up are tried again; what waits is tried now"
                ))?)
            }
            Self::List => {
                let view: NotificationsView = client.get(&["notifications"], &[]).await?;
                if json { Ok(output::json(&view)?) } else { told(&view) }
            }
        }
    }
}

fn told(view: &NotificationsView) -> Result<(), CommandError> {
    let receivers = view.receivers.iter().map(|receiver| {
        let counts = [receiver.pending.to_string(), receiver.failed.to_string()];
        [receiver.name.clone(), receiver.by.clone()].into_iter().chain(counts)
    });
    let nobody = "nobody is told: `notifications.receivers` of the configuration is empty";
    output::table(&["receiver", "by", "pending", "failed"], receivers, nobody)?;
    let rows = view.notifications.iter().map(|row| {
        [
            row.id.to_string(),
            row.created_at.clone(),
            row.receiver.clone(),
            row.state.to_string(),
            row.attempts.to_string(),
            output::or_dash(row.next_attempt_at.as_ref()),
            row.title.clone(),
            output::or_dash(row.last_error.as_ref()),
        ]
    });
    let header = ["id", "made", "receiver", "state", "tries", "next try", "what", "last error"];
    Ok(output::table(&header, rows, "nothing was to be told lately")?)
}
