//! Puts a backup back: all of it is read and checked before anything is changed, and what was there stays beside it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufReader, Read as _, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use vetting_protocol::ids::Sha256Hex;

use super::{ARTIFACTS, BackupError, DATABASE, FORMAT, KEPT, MANIFEST, Manifest, Progress, Work};
use crate::clock::{Clock, seconds_text};
use crate::config::Config;
use crate::durable_file;
use crate::state_lock::{StateLock, give_to_owner_of};
use crate::store::snapshot::{self, Depth, Soundness};

/// Longest list of files that is believed, bytes: some hundred for each.
const MOST_MANIFEST_BYTES: u64 = 512 << 20;
const CHUNK_BYTES: usize = 256 * 1024;

/// A backup that was put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// When it was made, UTC.
    pub made_at: String,
    /// By which version.
    pub made_by: String,
    /// What is in place now.
    pub restored: Vec<PathBuf>,
    /// What was there before, by the names it has now.
    pub kept: Vec<PathBuf>,
    /// Whether the files of runs came with it.
    pub with_artifacts: bool,
}

/// Removes what was unpacked, unless it was put in place.
struct Staged {
    folder: PathBuf,
    database: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // what was put in place was renamed
        let _ = std::fs::remove_dir_all(&self.folder);
        let _ = std::fs::remove_file(&self.database);
    }
}

/// Puts the backup `file` in place of what this configuration names. Stops where `told` says so, while nothing is
/// changed. Blocks.
///
/// # Errors
/// A coordinator runs, the file is not a whole backup, or it is of a newer version: then nothing was changed. A disk
/// that fails while files are put in place may leave some of them under their old and some under their new names.
pub fn restore(
    config: &Config,
    file: &Path,
    told: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Restored, BackupError> {
    let database = &config.database.path;
    let parent = database.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for folder in [&*config.state_dir, parent] {
        private_folder(folder)?;
    }
    let _lock = StateLock::take(&config.state_dir)?;
    let staged = Staged {
        folder: config.state_dir.join("restore.part"),
        database: durable_file::temporary_beside(database),
    };
    if staged.folder.exists() {
        std::fs::remove_dir_all(&staged.folder)
            .map_err(|source| BackupError::File { path: staged.folder.clone(), source })?;
    }
    private_folder(&staged.folder)?;
    let manifest = unpack(file, &staged, told)?;
    if told(Progress { work: Work::Checking, done_bytes: 0, total_bytes: 0 }).is_break() {
        return Err(BackupError::Stopped);
    }
    check_database(config, file, &staged, &manifest)?;
    let (restored, kept) = put_in_place(config, &staged, manifest.with_artifacts)?;
    let Manifest { made_at, made_by, with_artifacts, .. } = manifest;
    Ok(Restored { made_at, made_by, restored, kept, with_artifacts })
}

fn private_folder(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| BackupError::File { path: path.to_owned(), source })
}

/// Reads the whole file; what it holds lies in `staged` then, and is what its list says.
fn unpack(
    file: &Path,
    staged: &Staged,
    told: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Manifest, BackupError> {
    let failed = |source| BackupError::File { path: file.to_owned(), source };
    let not_whole = |why: String| BackupError::NotWhole { path: file.to_owned(), why };
    let opened = File::open(file).map_err(failed)?;
    let total_bytes = opened.metadata().map_err(failed)?.len();
    let mut archive = tar::Archive::new(BufReader::new(opened));
    let mut found = BTreeMap::new();
    let mut manifest: Option<Manifest> = None;
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(|error| not_whole(error.to_string()))?;
        let done_bytes = entry.raw_file_position();
        if told(Progress { work: Work::Unpacking, done_bytes, total_bytes }).is_break() {
            return Err(BackupError::Stopped);
        }
        let path = entry.path().map_err(|error| not_whole(error.to_string()))?.into_owned();
        let name = path.to_string_lossy().into_owned();
        if manifest.is_some() || entry.header().entry_type() != tar::EntryType::Regular {
            return Err(not_whole(format!("`{name}` does not belong in there")));
        }
        if name == MANIFEST {
            let mut text = Vec::new();
            let read = (&mut entry).take(MOST_MANIFEST_BYTES).read_to_end(&mut text);
            read.map_err(|error| not_whole(error.to_string()))?;
            let read = serde_json::from_slice(&text);
            manifest = Some(read.map_err(|error| not_whole(format!("its list of files: {error}")))?);
            continue;
        }
        let target =
            place(staged, &path).ok_or_else(|| not_whole(format!("`{name}` does not belong in there")))?;
        let size_bytes = entry.size();
        let mode = entry.header().mode().map_err(|error| not_whole(error.to_string()))? & 0o777;
        let sha256 = write_out(&mut entry, mode, &target, file)?;
        if found.insert(name.clone(), (size_bytes, sha256)).is_some() {
            return Err(not_whole(format!("`{name}` is in there twice")));
        }
    }
    let manifest =
        manifest.ok_or_else(|| not_whole("its list of files is missing; it was cut short".to_owned()))?;
    check_list(&manifest, &found).map_err(not_whole)?;
    Ok(manifest)
}

/// Whether what was found is what the list says.
fn check_list(manifest: &Manifest, found: &BTreeMap<String, (u64, Sha256Hex)>) -> Result<(), String> {
    if manifest.format != FORMAT {
        return Err(format!(
            "it has form {}, and this version reads form {FORMAT}; use the version that made it ({})",
            manifest.format, manifest.made_by
        ));
    }
    if manifest.files.len() != found.len() {
        return Err(format!("it should hold {} files and has {}", manifest.files.len(), found.len()));
    }
    for entry in &manifest.files {
        match found.get(&entry.path) {
            Some(is) if *is == (entry.size_bytes, entry.sha256) => {}
            Some(_) => return Err(format!("`{}` was changed or damaged", entry.path)),
            None => return Err(format!("`{}` is missing", entry.path)),
        }
    }
    if found.contains_key(DATABASE) { Ok(()) } else { Err("it has no database".to_owned()) }
}

/// Where a file of a backup is unpacked to; `None` for a name that no backup has.
fn place(staged: &Staged, path: &Path) -> Option<PathBuf> {
    let mut parts = Vec::new();
    for part in path.components() {
        let Component::Normal(part) = part else { return None };
        parts.push(part.to_str()?);
    }
    match parts[..] {
        [DATABASE] => Some(staged.database.clone()),
        [first, ..] if KEPT.contains(&first) || first == ARTIFACTS => Some(staged.folder.join(path)),
        _ => None,
    }
}

fn write_out(
    entry: &mut impl std::io::Read,
    mode: u32,
    target: &Path,
    file: &Path,
) -> Result<Sha256Hex, BackupError> {
    let failed = |source| BackupError::File { path: target.to_owned(), source };
    if let Some(folder) = target.parent() {
        private_folder(folder)?;
    }
    let mut options = OpenOptions::new();
    // a left-over of the database is written anew; in the fresh folder nothing can be in the way
    let mut out = options.write(true).create(true).truncate(true).mode(mode).open(target).map_err(failed)?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = entry
            .read(&mut chunk)
            .map_err(|error| BackupError::NotWhole { path: file.to_owned(), why: error.to_string() })?;
        if count == 0 {
            break;
        }
        digest.update(&chunk[..count]);
        out.write_all(&chunk[..count]).map_err(failed)?;
    }
    out.sync_all().map_err(failed)?;
    Ok(Sha256Hex::from_bytes(digest.finalize().into()))
}

/// The unpacked database is sound, of this version or an older one, and finds the files of runs where they will be.
fn check_database(
    config: &Config,
    file: &Path,
    staged: &Staged,
    manifest: &Manifest,
) -> Result<(), BackupError> {
    match snapshot::examine(&staged.database, Depth::Full)? {
        Soundness::Sound => {}
        Soundness::Unfinished => return Err(BackupError::Stopped),
        Soundness::Broken(faults) => {
            let why = format!("its database is damaged ({})", faults.join("; "));
            return Err(BackupError::NotWhole { path: file.to_owned(), why });
        }
    }
    snapshot::known_migrations(&staged.database)?;
    let state_dir = config.state_dir.canonicalize();
    let state_dir =
        state_dir.map_err(|source| BackupError::File { path: config.state_dir.clone(), source })?;
    let artifacts = state_dir.join(ARTIFACTS).to_string_lossy().into_owned();
    if artifacts != manifest.artifacts_dir {
        snapshot::move_artifacts(&staged.database, &manifest.artifacts_dir, &artifacts)?;
    }
    Ok(())
}

/// Renames: what is there aside, what was unpacked to its place. The database comes last.
fn put_in_place(
    config: &Config,
    staged: &Staged,
    with_artifacts: bool,
) -> Result<(Vec<PathBuf>, Vec<PathBuf>), BackupError> {
    let now = seconds_text(Clock::system().now_ms()).map_err(crate::store::StoreError::from)?;
    let suffix = format!(".before-restore-{}", now.replace(' ', "T").replace(['-', ':'], ""));
    let aside = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(&suffix);
        PathBuf::from(name)
    };
    let (mut restored, mut kept) = (Vec::new(), Vec::new());
    let mut names = KEPT.to_vec();
    if with_artifacts {
        names.push(ARTIFACTS);
    }
    for name in names {
        let (new, path) = (staged.folder.join(name), config.state_dir.join(name));
        if !new.exists() {
            continue;
        }
        move_aside(&path, &aside(&path), &mut kept)?;
        give_all_to_owner_of(&config.state_dir, &new)?;
        durable_file::publish(&new, &path)?;
        restored.push(path);
    }
    let database = &config.database.path;
    // the WAL belongs to the old database, and would be read into the new one
    for side in ["", "-wal", "-shm"] {
        let of = |path: &Path| PathBuf::from(format!("{}{side}", path.display()));
        move_aside(&of(database), &of(&aside(database)), &mut kept)?;
    }
    give_all_to_owner_of(&config.state_dir, &staged.database)?;
    durable_file::publish(&staged.database, database)?;
    restored.push(database.clone());
    Ok((restored, kept))
}

fn move_aside(path: &Path, aside: &Path, kept: &mut Vec<PathBuf>) -> Result<(), BackupError> {
    match std::fs::rename(path, aside) {
        Ok(()) => kept.push(aside.to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(BackupError::File { path: path.to_owned(), source }),
    }
    Ok(())
}

fn give_all_to_owner_of(folder: &Path, path: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::File { path: path.to_owned(), source };
    give_to_owner_of(folder, path).map_err(failed)?;
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(failed)? {
            give_all_to_owner_of(folder, &entry.map_err(failed)?.path())?;
        }
    }
    Ok(())
}
