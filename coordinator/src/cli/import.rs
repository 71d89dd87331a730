//! `import`: takes the results of runs without a coordinator into the database of this box, or hands them to a coordinator
//! elsewhere.

use std::io::{BufWriter, Seek as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use vetting_protocol::exchange::RunImportView;
use vetting_protocol::run::RunResult;

use super::client::{Client, ClientError};
use super::{CommandError, output};
use crate::clock::Clock;
use crate::config::Config;
use crate::error_chain;
use crate::results_folder::{self, FolderError, ResultsFolder};
use crate::run::error::RunError;
use crate::run::import;
use crate::store::Store;

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Works on this box's database, with or without the coordinator running. With a coordinator elsewhere (--url, or
client.yaml on a box that has none) the results are sent to it, each folder by itself.

Examples:
  vetting-coordinator import /media/VETTING
  vetting-coordinator --url https://192.0.2.10:8443 import /media/VETTING
  vetting-coordinator import /media/VETTING/results/20261125-162300-SN42 --host rack1-u07"
)]
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
    /// It cannot be packed.
    #[error("{}: its files cannot be packed", path.display())]
    Pack {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The coordinator elsewhere did not take it.
    #[error("{}: not imported", path.display())]
    NotTaken {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: ClientError,
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

/// Where results go.
pub(super) enum Target {
    /// The database of this box.
    Here { store: Store, artifacts_dir: PathBuf },
    /// A coordinator on another box.
    Elsewhere(Client),
}

impl Target {
    /// That of a configuration of this box.
    pub(super) fn here(config: &Config) -> Result<Self, CommandError> {
        let artifacts_dir = config.artifacts_dir();
        let made = std::fs::create_dir_all(&artifacts_dir).and_then(|()| artifacts_dir.canonicalize());
        let artifacts_dir = made.map_err(|source| ImportError::Make { path: artifacts_dir, source })?;
        Ok(Self::Here { store: Store::open(&config.database.path)?, artifacts_dir })
    }
}

impl Import {
    pub(super) async fn run(self, target: &Target, json: bool) -> Result<(), CommandError> {
        let folders = results_folder::find(&self.dir).map_err(ImportError::from)?;
        if folders.len() > 1 && self.host.is_some() {
            return Err(ImportError::ManyForOneHost { path: self.dir, count: folders.len() }.into());
        }
        let mut done = Vec::new();
        let mut failed = Vec::new();
        for folder in &folders {
            let taken = match target {
                Target::Here { store, artifacts_dir } => self.here(store, artifacts_dir, folder).await,
                Target::Elsewhere(client) => self.elsewhere(client, folder).await,
            };
            match taken {
                Ok(view) => {
                    if !json {
                        show(folder, &view)?;
                    }
                    done.push(Taken { folder, view });
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

    async fn here(
        &self,
        store: &Store,
        artifacts_dir: &Path,
        path: &Path,
    ) -> Result<RunImportView, ImportError> {
        let folder = ResultsFolder::read(path, self.incomplete)?;
        let differences = folder.differences.clone();
        if !differences.is_empty() && !self.other_verdict {
            let differences = differences.join("; ");
            return Err(ImportError::OtherVerdict { path: path.to_owned(), differences });
        }
        let now_ms = Clock::system().now_ms();
        let imported = import::import(store, artifacts_dir, folder, self.host.clone(), None, now_ms).await?;
        Ok(imported.into_view(differences))
    }

    async fn elsewhere(&self, client: &Client, path: &Path) -> Result<RunImportView, ImportError> {
        let (file, length) =
            pack(path).map_err(|source| ImportError::Pack { path: path.to_owned(), source })?;
        let mut query = Vec::new();
        query.extend(self.host.clone().map(|host| ("host", host)));
        let flags = [("incomplete", self.incomplete), ("other_verdict", self.other_verdict)];
        query.extend(flags.into_iter().filter(|(_, set)| *set).map(|(flag, _)| (flag, "true".to_owned())));
        let taken = client.post_file(&["run-imports"], &query, file, length).await;
        taken.map_err(|source| ImportError::NotTaken { path: path.to_owned(), source })
    }
}

/// The files of a results folder as a tar, and its length, bytes. The file is gone with its last user.
fn pack(folder: &Path) -> std::io::Result<(std::fs::File, u64)> {
    let mut tar = tar::Builder::new(BufWriter::new(tempfile::tempfile()?));
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_file() && name.to_str().is_some_and(results_folder::is_part) {
            tar.append_file(Path::new(&name), &mut std::fs::File::open(entry.path())?)?;
        }
    }
    let mut file = tar.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    let length = file.stream_position()?;
    file.rewind()?;
    Ok((file, length))
}

fn show(folder: &Path, view: &RunImportView) -> Result<(), CommandError> {
    let RunImportView { run, host, result, new_run, new_host, differences } = view;
    let verdict = match result {
        RunResult::Pass => "PASS",
        RunResult::Fail => "FAIL",
    };
    let what = match (new_run, new_host) {
        (false, _) => format!("was imported before as run {run} of {host}; nothing was done"),
        (true, false) => format!("is run {run} of {host}"),
        (true, true) => format!("is run {run} of {host}, which is registered now"),
    };
    output::line(&format!("{}: {verdict}, {what}", folder.display()))?;
    for difference in differences {
        output::line(&format!("  differs from its report: {difference}"))?;
    }
    Ok(())
}

/// What became of a folder.
#[derive(Serialize)]
struct Taken<'a> {
    folder: &'a Path,
    #[serde(flatten)]
    view: RunImportView,
}
