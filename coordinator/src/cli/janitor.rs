//! `janitor`: removes old files of runs now, or tells which would go.

use clap::Args;
use reqwest::Method;
use vetting_protocol::housekeeping::{SweepOrder, SweepView};

use super::client::Client;
use super::{CommandError, output};
use crate::byte_size::ByteSize;

#[derive(Debug, Args)]
#[command(
    after_help = "The coordinator does this by itself once a day, as `artifacts.retention_days` and `logs.retention_days` say.
Only files go, every row of the database stays. Files of runs that are under way or held are never touched.

Examples:
  vetting-coordinator janitor --dry-run
  vetting-coordinator janitor --orphans"
)]
pub(super) struct Janitor {
    /// Only tell what would go.
    #[arg(long)]
    dry_run: bool,
    /// Also remove files in the folders of runs that no row of the database knows and that are a day old.
    #[arg(long)]
    orphans: bool,
}

impl Janitor {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        let order = SweepOrder { dry_run: self.dry_run, orphans: self.orphans };
        let view: SweepView = client.put_in(Method::POST, &["janitor"], &order).await?;
        if json { Ok(output::json(&view)?) } else { told(&view) }
    }
}

fn told(view: &SweepView) -> Result<(), CommandError> {
    let SweepView { dry_run, artifacts_days, logs_days, removed, orphans, problems } = view;
    for file in removed {
        let size = ByteSize(file.size_bytes);
        output::line(&format!("run {}  {:<24} {size:>10}  {}", file.run, file.kind, file.path))?;
    }
    for file in orphans {
        let what = if file.removed { "orphan" } else { "orphan, stays" };
        let size = ByteSize(file.size_bytes);
        output::line(&format!("{what:<31} {size:>10}  {}", file.path))?;
    }
    for problem in problems {
        output::line(&format!("left alone: {problem}"))?;
    }
    let bytes = ByteSize(removed.iter().map(|file| file.size_bytes).sum());
    let verb = if *dry_run { "would go" } else { "are removed" };
    let days =
        |days: &Option<u32>| days.map_or("kept for ever".to_owned(), |days| format!("kept {days} days"));
    output::line(&format!(
        "{} files ({bytes}) {verb}; artifacts are {}, logs {}",
        removed.len(),
        days(artifacts_days),
        days(logs_days)
    ))?;
    if orphans.iter().any(|orphan| !orphan.removed) {
        output::line("files that no row knows go with --orphans")?;
    }
    Ok(())
}
