//! Files of runs: `<artifacts>/run-<id>/…`, each whole or not there, each with its row and digest.
//!
//! Refuses names that could leave the run's folder, and a body that is not the announced one.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use vetting_protocol::agent_api::ArtifactReceipt;
use vetting_protocol::ids::{RunId, Sha256Hex};

use super::claim::Session;
use super::driver::Driver;
use super::error::RunError;
use super::secrets;
use crate::durable_file;
use crate::store::artifacts::{self, ArtifactValues};
use crate::store::{Connection, StoreError};

/// Kinds that only the coordinator makes.
const OWN_KINDS: [&str; 5] = ["firmware", HOLD_KEY, "inventory", "report", "report_html"];
/// The private key that lets a person in to a held machine.
pub(crate) const HOLD_KEY: &str = "hold_key";
/// What the names of files on their way in begin with.
const UPLOAD_PREFIX: &str = ".upload-";

/// A file that is on the disk and waits for its row.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    kind: String,
    path: PathBuf,
    sha256: Sha256Hex,
    size_bytes: u64,
}

impl Stored {
    /// A file that was written whole.
    pub fn of(kind: &str, path: PathBuf, bytes: &[u8]) -> Self {
        let size_bytes = bytes.len() as u64;
        Self { kind: kind.to_owned(), path, sha256: Sha256Hex::of(bytes), size_bytes }
    }

    /// Writes the row; one of the same path is replaced.
    pub fn insert(&self, connection: &Connection, run: RunId) -> Result<(), StoreError> {
        let row = ArtifactValues {
            stage_id: None,
            kind: self.kind.clone(),
            path: self.path.to_string_lossy().into_owned(),
            sha256: self.sha256,
            size_bytes: self.size_bytes,
        };
        artifacts::insert(connection, run, &row).map(drop)
    }
}

/// A file on its way in.
#[derive(Debug)]
pub struct Upload {
    run: RunId,
    kind: String,
    path: PathBuf,
    temporary: PathBuf,
    file: tokio::fs::File,
    digest: Sha256,
    size_bytes: u64,
    finished: bool,
}

impl Upload {
    /// Takes the next piece.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), RunError> {
        self.digest.update(chunk);
        self.size_bytes += chunk.len() as u64;
        self.file
            .write_all(chunk)
            .await
            .map_err(|source| RunError::Io { path: self.temporary.clone(), source })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.finished {
            // broken off or refused; what cannot be removed is not in the way
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

impl Driver {
    /// Makes room for a file of a run.
    ///
    /// # Errors
    /// A kind or name that is not a plain file name.
    pub async fn begin_upload(&self, session: Session, kind: &str, name: &str) -> Result<Upload, RunError> {
        check_kind(kind)?;
        check_name(name)?;
        let run = session.run;
        let folder = self.run_dir(run).join(kind);
        let io = |source| RunError::Io { path: folder.clone(), source };
        tokio::fs::create_dir_all(&folder).await.map_err(io)?;
        // two uploads of one name at a time must not mix
        let unique = secrets::fresh()?;
        let temporary = folder.join(format!("{UPLOAD_PREFIX}{}", &unique.expose()[..16]));
        let file = tokio::fs::File::create_new(&temporary)
            .await
            .map_err(|source| RunError::Io { path: temporary.clone(), source })?;
        Ok(Upload {
            run,
            kind: kind.to_owned(),
            path: folder.join(name),
            temporary,
            file,
            digest: Sha256::new(),
            size_bytes: 0,
            finished: false,
        })
    }

    /// Keeps the file if it is the announced one; durable when this returns.
    pub async fn finish_upload(
        &self,
        mut upload: Upload,
        announced: Sha256Hex,
    ) -> Result<ArtifactReceipt, RunError> {
        let found = Sha256Hex::from_bytes(std::mem::take(&mut upload.digest).finalize().into());
        if found != announced {
            return Err(RunError::DigestMismatch { announced, found });
        }
        let io = |source| RunError::Io { path: upload.temporary.clone(), source };
        upload.file.flush().await.map_err(io)?;
        upload.file.sync_all().await.map_err(io)?;
        let (temporary, path) = (upload.temporary.clone(), upload.path.clone());
        tokio::task::spawn_blocking(move || durable_file::publish(&temporary, &path)).await??;
        upload.finished = true;
        let stored = Stored {
            kind: upload.kind.clone(),
            path: upload.path.clone(),
            sha256: found,
            size_bytes: upload.size_bytes,
        };
        let run = upload.run;
        self.store.write(move |connection| stored.insert(connection, run)).await?;
        Ok(ArtifactReceipt { sha256: found, size_bytes: upload.size_bytes })
    }

    /// Forgets what was on its way in when the coordinator died. To be called before uploads are taken.
    pub async fn sweep_uploads(&self) -> Result<(), RunError> {
        let folder = self.settings.artifacts_dir.clone();
        tokio::task::spawn_blocking(move || sweep(&folder)).await?
    }

    /// Removes the files of runs whose rows are gone. What cannot be removed is told in the log.
    pub async fn remove_files(&self, runs: Vec<RunId>) {
        let folders: Vec<_> = runs.into_iter().map(|run| self.run_dir(run)).collect();
        let removed = tokio::task::spawn_blocking(move || {
            for folder in folders {
                match std::fs::remove_dir_all(&folder) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        tracing::warn!(folder = %folder.display(), %error, "files of a removed run stay");
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        });
        if let Err(error) = removed.await {
            tracing::error!(%error, "the task that removes files died");
        }
    }

    /// Writes a file of the coordinator's own. `name` is made by this program.
    pub(super) async fn store_artifact(
        &self,
        run: RunId,
        kind: &'static str,
        name: impl Into<String>,
        bytes: Vec<u8>,
    ) -> Result<Stored, RunError> {
        let (folder, name) = (self.run_dir(run), name.into());
        tokio::task::spawn_blocking(move || write_artifact(&folder, kind, &name, &bytes)).await?
    }

    /// The folder of a run's files, absolute where the config's is.
    pub(super) fn run_dir(&self, run: RunId) -> PathBuf {
        self.settings.artifacts_dir.join(format!("run-{run}"))
    }
}

/// Writes a file of a run whole, for its row to follow. `name` is made by this program or was checked. Blocks.
pub(super) fn write_artifact(
    folder: &Path,
    kind: &str,
    name: &str,
    bytes: &[u8],
) -> Result<Stored, RunError> {
    std::fs::create_dir_all(folder).map_err(|source| RunError::Io { path: folder.to_owned(), source })?;
    let path = folder.join(name);
    durable_file::write(&path, 0o644, bytes)?;
    Ok(Stored::of(kind, path, bytes))
}

impl Stored {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes `run-*/<kind>/.upload-*` below `artifacts`.
fn sweep(artifacts: &Path) -> Result<(), RunError> {
    for run in entries(artifacts)? {
        for kind in entries(&run)? {
            for file in entries(&kind)? {
                let name = file.file_name().unwrap_or_default();
                if name.as_encoded_bytes().starts_with(UPLOAD_PREFIX.as_bytes()) {
                    std::fs::remove_file(&file).map_err(|source| RunError::Io { path: file, source })?;
                }
            }
        }
    }
    Ok(())
}

/// What is in a folder; nothing in what is none.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, RunError> {
    let failed = |source| RunError::Io { path: folder.to_owned(), source };
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

pub(super) fn check_kind(kind: &str) -> Result<(), RunError> {
    let plain = !kind.is_empty()
        && kind.len() <= 40
        && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if plain && !OWN_KINDS.contains(&kind) {
        return Ok(());
    }
    Err(RunError::Invalid {
        what: format!(
            "`{kind}` is no kind an agent can store; use a-z, 0-9 and _, and not {}",
            OWN_KINDS.join(", ")
        ),
    })
}

pub(super) fn check_name(name: &str) -> Result<(), RunError> {
    let plain = !name.is_empty()
        && name.len() <= 120
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if plain {
        return Ok(());
    }
    Err(RunError::Invalid {
        what: format!(
            "`{name}` is no file name an agent can store; use letters, digits, `.`, `-`, `_`, and no `.` first"
        ),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sweep_takes_only_what_was_on_its_way() {
        let folder = tempfile::tempdir().unwrap();
        let kind = folder.path().join("run-1/fio");
        std::fs::create_dir_all(&kind).unwrap();
        for file in ["run-1/report.json", "run-1/fio/sda.json", "run-1/fio/.upload-0123"] {
            std::fs::write(folder.path().join(file), "x").unwrap();
        }
        sweep(folder.path()).unwrap();
        assert_eq!(entries(&kind).unwrap(), [kind.join("sda.json")]);
        assert!(folder.path().join("run-1/report.json").exists());
    }

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "%2e%2e", "a b", "a\0"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for kind in ["", "..", "Report", "report", "inventory", "a/b", "a-b"] {
            assert!(check_kind(kind).is_err(), "{kind:?}");
        }
        assert!(check_name("sda-fio.json").is_ok() && check_kind("fio").is_ok());
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_component(name in ".{0,130}") {
            if check_name(&name).is_ok() {
                let components: Vec<_> = Path::new(&name).components().collect();
                prop_assert!(matches!(components[..], [std::path::Component::Normal(_)]));
            }
        }
    }
}
