//! `import`: takes the results of runs without a coordinator into the database of this box.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use vetting_protocol::run::RunResult;

use super::{CommandError, output};
use crate::clock::Clock;
use crate::config::Config;
use crate::error_chain;
use crate::results_folder::{self, FolderError, ResultsFolder};
use crate::run::error::RunError;
use crate::run::import::{self, Imported, News};
use crate::store::Store;

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(after_help = "Works on this box's database, with or without the coordinator running.

Examples:
  vetting-coordinator import /media/VETTING
  vetting-coordinator import /media/VETTING/results/20261125-162300-SN42 --host rack1-u07")]
pub(super) struct Import {
    /// A results folder, or the place where the stick is mounted.
    dir: PathBuf,
    /// Name of the machine; without it, it is found by its network cards, or registered under its serial number.
    #[arg(long)]
    host: Option<String>,
    /// Also take a run that broke off (power cut, stick pulled out); it counts as failed.
    #[arg(long)]
    incomplete: bool,
    /// Take a run although its records give another verdict here than in its report. The verdict made here counts.
    #[arg(long)]
    other_verdict: bool,
}

/// Why a folder was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The database.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The folder of files cannot be made.
    #[error("cannot make {}", path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `--host` for more than one.
    #[error("{} holds {count} runs; with --host name the folder of one of them", path.display())]
    ManyForOneHost {
        /// The folder.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// The report does not follow from the records.
    #[error(
        "{}: its report does not follow from its records: {differences}. Somebody changed it, or this version judges \
         otherwise; --other-verdict imports it with the verdict made here",
        path.display()
    )]
    OtherVerdict {
        /// The folder.
        path: PathBuf,
        /// In what.
        differences: String,
    },
    /// Some were not imported; each was told.
    #[error("{failed} of {count} runs were not imported")]
    Partly {
        /// So many.
        failed: usize,
        /// Of so many.
        count: usize,
    },
}

impl Import {
    pub(super) async fn run(self, config: &Config, json: bool) -> Result<(), CommandError> {
        let folders = results_folder::find(&self.dir).map_err(ImportError::from)?;
        if folders.len() > 1 && self.host.is_some() {
            return Err(ImportError::ManyForOneHost { path: self.dir, count: folders.len() }.into());
        }
        let artifacts_dir = config.artifacts_dir();
        let made = std::fs::create_dir_all(&artifacts_dir).and_then(|()| artifacts_dir.canonicalize());
        let artifacts_dir = made.map_err(|source| ImportError::Make { path: artifacts_dir, source })?;
        let store = Store::open(&config.database.path)?;
        let mut done = Vec::new();
        let mut failed = Vec::new();
        for folder in &folders {
            match self.one(&store, &artifacts_dir, folder).await {
                Ok((imported, differences)) => {
                    if !json {
                        show(folder, &imported, &differences)?;
                    }
                    done.push(as_json(folder, &imported, &differences));
                }
                Err(error) => failed.push(error),
            }
        }
        if json {
            output::json(&done)?;
        }
        let (count, failures) = (folders.len(), failed.len());
        match (failed.pop(), failures) {
            (None, _) => Ok(()),
            (Some(only), 1) if count == 1 => Err(only.into()),
            (Some(last), _) => {
                for error in failed.iter().chain([&last]) {
                    tracing::error!("{}", error_chain(error));
                }
                Err(ImportError::Partly { failed: failures, count }.into())
            }
        }
    }

    async fn one(
        &self,
        store: &Store,
        artifacts_dir: &Path,
        path: &Path,
    ) -> Result<(Imported, Vec<String>), ImportError> {
        let folder = ResultsFolder::read(path, self.incomplete)?;
        let differences = folder.differences.clone();
        if !differences.is_empty() && !self.other_verdict {
            let differences = differences.join("; ");
            return Err(ImportError::OtherVerdict { path: path.to_owned(), differences });
        }
        let now_ms = Clock::system().now_ms();
        let imported = import::import(store, artifacts_dir, folder, self.host.clone(), now_ms).await?;
        Ok((imported, differences))
    }
}

fn show(folder: &Path, imported: &Imported, differences: &[String]) -> Result<(), CommandError> {
    let Imported { run, host, result, news } = imported;
    let verdict = match result {
        RunResult::Pass => "PASS",
        RunResult::Fail => "FAIL",
    };
    let what = match news {
        News::Known => format!("was imported before as run {run} of {host}; nothing was done"),
        News::Run => format!("is run {run} of {host}"),
        News::Host => format!("is run {run} of {host}, which is registered now"),
    };
    output::line(&format!("{}: {verdict}, {what}", folder.display()))?;
    for difference in differences {
        output::line(&format!("  differs from its report: {difference}"))?;
    }
    Ok(())
}

fn as_json(folder: &Path, imported: &Imported, differences: &[String]) -> serde_json::Value {
    let Imported { run, host, result, news } = imported;
    json!({
        "folder": folder,
        "run": run,
        "host": host,
        "result": result,
        "new_run": *news != News::Known,
        "new_host": *news == News::Host,
        "differences": differences,
    })
}
