//! `events`: the event log.

use std::time::Duration;

use clap::Args;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::EventView;

use super::client::Client;
use super::{CommandError, output};

/// Pause between two questions for more.
const FOLLOW_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Events {
    /// Only those of this run.
    #[arg(long)]
    run: Option<RunId>,
    /// Only those after the one with this number.
    #[arg(long, default_value_t = 0)]
    after: i64,
    /// Go on showing new ones until Ctrl-C. With --json: one object a line.
    #[arg(long, short)]
    follow: bool,
}

impl Events {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        let mut after = self.after;
        loop {
            let mut query = vec![("after", after.to_string())];
            query.extend(self.run.map(|run| ("run", run.to_string())));
            let events: Vec<EventView> = client.get(&["events"], &query).await?;
            if json && !self.follow {
                return Ok(output::json(&events)?);
            }
            for event in &events {
                after = after.max(event.id);
                if json {
                    output::line(&serde_json::to_string(event).map_err(std::io::Error::other)?)?;
                } else {
                    output::line(&sentence(event))?;
                }
            }
            if !self.follow && events.is_empty() {
                return Ok(());
            }
            if events.is_empty() {
                tokio::time::sleep(FOLLOW_PAUSE).await;
            }
        }
    }
}

fn sentence(event: &EventView) -> String {
    let run = event.run_id.map(|run| format!("run {run}: ")).unwrap_or_default();
    format!("{:>6}  {}  {:<7}  {:<20}  {run}{}", event.id, event.ts, event.level, event.kind, event.message)
}
