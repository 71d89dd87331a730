//! Makes a backup. The coordinator may be at work meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use vetting_protocol::ids::Sha256Hex;

use super::{ARTIFACTS, BackupError, DATABASE, Entry, FORMAT, KEPT, MANIFEST, Manifest, Progress, Work};
use crate::clock::{Clock, seconds_text};
use crate::config::Config;
use crate::durable_file;
use crate::run::upload::HOLD_KEY;
use crate::store::snapshot::{self, Depth, Soundness};

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Packed {
    /// Where.
    pub file: PathBuf,
    /// Size of the file, bytes.
    pub size_bytes: u64,
    /// Size of the database, bytes.
    pub database_bytes: u64,
    /// Files in it, the database and the list not counted.
    pub files: usize,
    /// Whether the files of runs are in it.
    pub with_artifacts: bool,
}

/// Removes what was begun, unless it was finished.
struct Begun {
    paths: [PathBuf; 2],
}

impl Drop for Begun {
    fn drop(&mut self) {
        for path in &self.paths {
            // the finished one was renamed; what cannot be removed is not in the way
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A file that goes into the backup.
struct Source {
    from: PathBuf,
    name: String,
    size_bytes: u64,
}

/// Writes a backup to `file`. Stops where `told` says so. Blocks.
///
/// # Errors
/// See [`BackupError`]; then `file` is as it was.
pub fn pack(
    config: &Config,
    file: &Path,
    with_artifacts: bool,
    replace: bool,
    told: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Packed, BackupError> {
    let database = &config.database.path;
    if !database.exists() {
        return Err(BackupError::NoDatabase { path: database.clone() });
    }
    refuse_existing(file, replace)?;
    let part = durable_file::temporary_beside(file);
    let copy = durable_file::temporary_beside(&part);
    let begun = Begun { paths: [part.clone(), copy.clone()] };
    // left over from one that was killed, and now not to be appended to
    for path in &begun.paths {
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(BackupError::File { path: path.clone(), source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    copy_database(database, &copy, told)?;
    let mut sources = vec![source(copy, DATABASE.to_owned())?];
    let database_bytes = sources[0].size_bytes;
    for name in KEPT {
        collect(&config.state_dir.join(name), name, &mut sources)?;
    }
    if with_artifacts {
        collect(&config.artifacts_dir(), ARTIFACTS, &mut sources)?;
    }
    let files = sources.len() - 1;
    let size_bytes = write_tar(config, &part, sources, with_artifacts, told)?;
    refuse_existing(file, replace)?;
    durable_file::publish(&part, file)?;
    Ok(Packed { file: file.to_owned(), size_bytes, database_bytes, files, with_artifacts })
}

fn refuse_existing(file: &Path, replace: bool) -> Result<(), BackupError> {
    if !replace && file.symlink_metadata().is_ok() {
        return Err(BackupError::Exists { path: file.to_owned() });
    }
    Ok(())
}

fn copy_database(
    database: &Path,
    copy: &Path,
    told: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<(), BackupError> {
    // nobody else may read what is in there, not even for a moment
    private_file(copy)?;
    let finished = snapshot::copy(database, copy, |copied| {
        told(Progress { work: Work::Copying, done_bytes: copied.done_bytes, total_bytes: copied.total_bytes })
    })?;
    if !finished || told(Progress { work: Work::Checking, done_bytes: 0, total_bytes: 0 }).is_break() {
        return Err(BackupError::Stopped);
    }
    match snapshot::examine(copy, Depth::Full)? {
        Soundness::Sound => Ok(()),
        Soundness::Unfinished => Err(BackupError::Stopped),
        Soundness::Broken(faults) => Err(BackupError::Damaged { path: database.to_owned(), faults }),
    }
}

fn private_file(path: &Path) -> Result<File, BackupError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|source| BackupError::File { path: path.to_owned(), source })
}

fn source(from: PathBuf, name: String) -> Result<Source, BackupError> {
    match std::fs::metadata(&from) {
        Ok(found) => Ok(Source { size_bytes: found.len(), from, name }),
        Err(source) => Err(BackupError::File { path: from, source }),
    }
}

/// Adds a file, or all files below a folder, by name. Neither links nor what is on its way in (`.upload-…`), nor the
/// key of a held machine, which must not outlive its hold.
fn collect(path: &Path, name: &str, sources: &mut Vec<Source>) -> Result<(), BackupError> {
    let failed = |source| BackupError::File { path: path.to_owned(), source };
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        // never made, or removed meanwhile by the coordinator
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if found.is_file() {
        sources.push(Source { from: path.to_owned(), name: name.to_owned(), size_bytes: found.len() });
    } else if found.is_dir() {
        let entries: Result<Vec<_>, _> = std::fs::read_dir(path).and_then(Iterator::collect);
        let mut entries = entries.map_err(failed)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let file_name = entry.file_name();
            // every name in there was made by this program
            let Some(below) = file_name.to_str().filter(|below| !left_out(below)) else { continue };
            collect(&entry.path(), &format!("{name}/{below}"), sources)?;
        }
    }
    Ok(())
}

fn left_out(name: &str) -> bool {
    name.starts_with('.') || name == HOLD_KEY
}

fn write_tar(
    config: &Config,
    part: &Path,
    sources: Vec<Source>,
    with_artifacts: bool,
    told: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<u64, BackupError> {
    let failed = |source| BackupError::File { path: part.to_owned(), source };
    let mut tar = tar::Builder::new(BufWriter::new(private_file(part)?));
    let total_bytes = sources.iter().map(|source| source.size_bytes).sum();
    let now_ms = Clock::system().now_ms();
    let mtime = u64::try_from(now_ms / 1_000).unwrap_or(0);
    let mut done_bytes = 0;
    let mut files = Vec::new();
    for source in sources {
        if told(Progress { work: Work::Packing, done_bytes, total_bytes }).is_break() {
            return Err(BackupError::Stopped);
        }
        done_bytes += source.size_bytes;
        if let Some(entry) = append(&mut tar, source, mtime, part)? {
            files.push(entry);
        }
    }
    // a bar that never comes to its end worries people
    let _ = told(Progress { work: Work::Packing, done_bytes, total_bytes });
    let artifacts = config.artifacts_dir();
    let manifest = Manifest {
        format: FORMAT,
        made_by: concat!("vetting-coordinator ", env!("CARGO_PKG_VERSION")).to_owned(),
        made_at: seconds_text(now_ms).map_err(crate::store::StoreError::from)?,
        artifacts_dir: artifacts.canonicalize().unwrap_or(artifacts).to_string_lossy().into_owned(),
        with_artifacts,
        files,
    };
    let text = serde_json::to_vec_pretty(&manifest)?;
    tar.append_data(&mut header(text.len() as u64, 0o600, mtime), MANIFEST, &text[..]).map_err(failed)?;
    let mut file = tar.into_inner().map_err(failed)?;
    file.flush().map_err(failed)?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(file.metadata().map_err(failed)?.len())
}

fn header(size_bytes: u64, mode: u32, mtime: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size_bytes);
    header.set_mode(mode);
    header.set_mtime(mtime);
    header
}

/// Writes one file; `None` where it is gone by now, as a host's files may be.
fn append(
    tar: &mut tar::Builder<BufWriter<File>>,
    source: Source,
    mtime: u64,
    part: &Path,
) -> Result<Option<Entry>, BackupError> {
    let mut file = match File::open(&source.from) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BackupError::File { path: source.from, source: error }),
    };
    // it may have been replaced since it was listed
    let opened =
        file.metadata().map_err(|error| BackupError::File { path: source.from.clone(), source: error })?;
    let mut reader = Hashing { file: &mut file, digest: Sha256::new() };
    let (size_bytes, mode) = (opened.len(), opened.mode() & 0o777);
    tar.append_data(&mut header(size_bytes, mode, mtime), &source.name, (&mut reader).take(size_bytes))
        .map_err(|error| BackupError::File { path: part.to_owned(), source: error })?;
    let sha256 = Sha256Hex::from_bytes(reader.digest.finalize().into());
    Ok(Some(Entry { path: source.name, size_bytes, sha256 }))
}

struct Hashing<'a> {
    file: &'a mut File,
    digest: Sha256,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}
