//! `backup` and `restore`: this box's results and keys as one file, and back.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use super::progress::Progress;
use super::{CommandError, output};
use crate::backup::{self, BackupError, Packed, Restored, Work};
use crate::byte_size::ByteSize;
use crate::clock::Clock;
use crate::config::Config;
use crate::error_chain;
use crate::store::StoreError;
use crate::store::snapshot;

#[derive(Debug, Args)]
#[command(
    after_help = "The coordinator may run meanwhile. In the file, a tar, are the database of one moment, the keys of the
certificate authority and of reports, and the operator token: keep it as safe as the state folder. Not in it are the
configuration and the files with passwords that it names.

Examples:
  vetting-coordinator backup /backup/vetting.tar --force
  vetting-coordinator backup /backup/vetting-$(date +%F).tar --artifacts"
)]
pub(super) struct Backup {
    /// The file to make.
    file: PathBuf,
    /// Also the files of runs: reports, inventories, outputs of tools.
    #[arg(long)]
    artifacts: bool,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The coordinator must not run. Everything is read and checked before anything is changed, and what was there
stays beside it, as `NAME.before-restore-TIME`. A database of an older version is brought up to date at the next start.

Example:
  vetting-coordinator --config /etc/vetting/vetting.yaml restore /backup/vetting.tar"
)]
pub(super) struct Restore {
    /// A file that `backup` made.
    file: PathBuf,
}

/// Does `work` where it may block, and tells it to stop at Ctrl-C.
async fn stoppable<T: Send + 'static>(
    work: impl FnOnce(&mut dyn FnMut(backup::Progress) -> ControlFlow<()>) -> Result<T, BackupError>
    + Send
    + 'static,
) -> Result<T, CommandError> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let working = tokio::task::spawn_blocking(move || {
        let mut shown = Progress::new();
        work(&mut |progress| {
            let what = match progress.work {
                Work::Copying => "copying the database",
                Work::Checking => "checking the database",
                Work::Packing => "packing",
                Work::Unpacking => "unpacking",
            };
            if progress.total_bytes > 0 {
                shown.show(what, progress.done_bytes, progress.total_bytes);
            }
            if asked.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    tokio::pin!(working);
    let done = tokio::select! {
        done = &mut working => done,
        _ = tokio::signal::ctrl_c() => {
            stop.store(true, Ordering::Relaxed);
            working.await
        }
    };
    Ok(done.map_err(|_| StoreError::JobPanicked)??)
}

impl Backup {
    pub(super) async fn run(self, config: Config, json: bool) -> Result<(), CommandError> {
        let Self { file, artifacts, force } = self;
        let database = config.database.path.clone();
        let packed = stoppable(move |told| backup::pack(&config, &file, artifacts, force, told)).await?;
        let message =
            format!("a backup was made: {}, {}", packed.file.display(), ByteSize(packed.size_bytes));
        if let Err(error) = snapshot::note(&database, Clock::system().now_ms(), "backup_made", message) {
            tracing::warn!(error = %error_chain(&error), "the backup is good, but no event tells of it");
        }
        if json { Ok(output::json(&packed)?) } else { Ok(output::line(&sentence(&packed))?) }
    }
}

fn sentence(packed: &Packed) -> String {
    let Packed { file, size_bytes, database_bytes, files, with_artifacts } = packed;
    let artifacts = if *with_artifacts { "with" } else { "without (--artifacts)" };
    format!(
        "{}: {}; database {} (sound), {files} more files, {artifacts} the files of runs",
        file.display(),
        ByteSize(*size_bytes),
        ByteSize(*database_bytes)
    )
}

impl Restore {
    pub(super) async fn run(self, config: Config, json: bool) -> Result<(), CommandError> {
        let database = config.database.path.clone();
        let restored = stoppable(move |told| backup::restore(&config, &self.file, told)).await?;
        let message = format!("this database is restored from a backup of {}", restored.made_at);
        if let Err(error) = snapshot::note(&database, Clock::system().now_ms(), "backup_restored", message) {
            tracing::warn!(error = %error_chain(&error), "all is restored, but no event tells of it");
        }
        if json { Ok(output::json(&restored)?) } else { told(&restored) }
    }
}

fn told(restored: &Restored) -> Result<(), CommandError> {
    let Restored { made_at, made_by, restored, kept, with_artifacts } = restored;
    output::line(&format!("restored the backup of {made_at} UTC, made by {made_by}"))?;
    for path in restored {
        output::line(&format!("  in place     {}", path.display()))?;
    }
    for path in kept {
        output::line(&format!("  kept beside  {}", path.display()))?;
    }
    if !with_artifacts {
        output::line("the files of runs were not in it: those that are here stay as they are")?;
    }
    Ok(output::line("next: vetting-coordinator serve")?)
}
