//! `events`: the event log.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::EventView;

use super::client::{Client, ClientError};
use super::watch::{Away, Connect};
use super::{CommandError, output};

/// Pause between two questions for more.
const FOLLOW_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Events {
    /// Only those of this run.
    #[arg(long, conflicts_with = "host")]
    run: Option<RunId>,
    /// Only those of this host, its runs' among them.
    #[arg(long)]
    host: Option<String>,
    /// Only those of this kind; `*` stands for anything: `hold_*`.
    #[arg(long)]
    kind: Option<String>,
    /// Only those after the one with this number.
    #[arg(long, default_value_t = 0)]
    after: i64,
    /// Go on showing new ones until Ctrl-C, also over a restart of the coordinator. With --json: one object a line.
    #[arg(long, short)]
    follow: bool,
}

impl Events {
    pub(super) async fn run(self, connect: Connect<'_>, json: bool) -> Result<(), CommandError> {
        let mut client = connect()?;
        let (mut after, mut away, mut all) = (self.after, Away::default(), Vec::new());
        loop {
            let events = match self.page(&client, after).await {
                Ok(events) => events,
                Err(error) if self.follow => {
                    if let Some(line) = away.bear(error, Instant::now())? {
                        eprintln!("{line}");
                    }
                    tokio::time::sleep(FOLLOW_PAUSE).await;
                    // it may be on another port after a restart
                    if let Ok(fresh) = connect() {
                        client = fresh;
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if away.is_over() {
                eprintln!("the coordinator answers again");
            }
            let read = events.len();
            for event in events {
                after = after.max(event.id);
                if json && self.follow {
                    output::line(&serde_json::to_string(&event).map_err(std::io::Error::other)?)?;
                } else if json {
                    all.push(event);
                } else {
                    output::line(&sentence(&event))?;
                }
            }
            match (read, self.follow) {
                (0, true) => tokio::time::sleep(FOLLOW_PAUSE).await,
                (0, false) if json => return Ok(output::json(&all)?),
                (0, false) => return Ok(()),
                _ => {}
            }
        }
    }

    async fn page(&self, client: &Client, after: i64) -> Result<Vec<EventView>, ClientError> {
        let mut query = vec![("after", after.to_string())];
        query.extend(self.run.map(|run| ("run", run.to_string())));
        query.extend(self.host.clone().map(|host| ("host", host)));
        query.extend(self.kind.clone().map(|kind| ("kind", kind)));
        client.get(&["events"], &query).await
    }
}

fn sentence(event: &EventView) -> String {
    let run = event.run_id.map(|run| format!("run {run}: ")).unwrap_or_default();
    format!("{:>6}  {}  {:<7}  {:<20}  {run}{}", event.id, event.ts, event.level, event.kind, event.message)
}
