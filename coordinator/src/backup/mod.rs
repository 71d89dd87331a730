//! Backups: one tar file with the database of one moment, the keys, and if wanted the files of runs; and the way back.
//!
//! Owns the form of the file: `vetting.db`, `tls/…`, `signing/…`, `operator.token`, `artifacts/…` and, last,
//! `manifest.json` with the digest of each. A file without its manifest was cut short and is refused. The configuration
//! and the files with passwords that it names are not the coordinator's own, and not in it.

mod pack;
mod restore;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vetting_protocol::ids::Sha256Hex;

pub use pack::{Packed, pack};
pub use restore::{Restored, restore};

use crate::durable_file::WriteError;
use crate::state_lock::LockError;
use crate::store::StoreError;

/// The form of the file that this version writes and reads.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const DATABASE: &str = "vetting.db";
const ARTIFACTS: &str = "artifacts";
/// Folders and files of the state folder that are always in a backup.
const KEPT: [&str; 3] = ["operator.token", "signing", "tls"];

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    made_by: String,
    made_at: String,
    /// Where the files of runs lay: the database names them by their whole paths.
    artifacts_dir: String,
    with_artifacts: bool,
    files: Vec<Entry>,
}

/// A file in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    size_bytes: u64,
    sha256: Sha256Hex,
}

/// What is being done, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The database is copied.
    Copying,
    /// The copy is looked through.
    Checking,
    /// Files are written into the backup.
    Packing,
    /// Files are read from the backup.
    Unpacking,
}

/// How far it is; both zero where that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub work: Work,
    /// Bytes of it that are done.
    pub done_bytes: u64,
    /// Bytes of it altogether.
    pub total_bytes: u64,
}

/// A backup that was not made or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file is in the way.
    #[error("{} is there already; --force replaces it", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// There is nothing to save.
    #[error("{} is not there: no coordinator ever ran with this configuration", path.display())]
    NoDatabase {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The finished file.
    #[error("the backup cannot be finished")]
    Write(#[from] WriteError),
    /// The database.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// The database is damaged.
    #[error(
        "the database {} is damaged ({}); no backup was made of it. Keep the backups there are, and see \
         `docs/deployment.md`, Backup",
        path.display(), faults.join("; ")
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        faults: Vec<String>,
    },
    /// The manifest has no text.
    #[error("the list of files cannot be written")]
    List(#[from] serde_json::Error),
    /// It is no backup, or a broken one.
    #[error("{} is not a whole backup: {why}. Nothing was changed", path.display())]
    NotWhole {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A coordinator runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The person stopped it.
    #[error("stopped; nothing was changed")]
    Stopped,
}
