//! Writes a file whole or not at all: temporary file in the same folder, fsync, rename, fsync of the folder.
//! Owns no paths: callers say where, and never with a name from the network.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct WriteError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

/// Puts `bytes` at `path` with the permissions `mode`, replacing what was there. Blocks on the disk.
///
/// # Errors
/// The folder is missing, or the disk is full or failing; then `path` is as it was before.
pub fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), WriteError> {
    let failed = |source| WriteError { path: path.to_owned(), source };
    let temporary = temporary_beside(path);
    let written = (|| {
        // left over from a crash; create_new makes sure that nobody else's file or link is written through
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    })();
    if let Err(source) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(failed(source));
    }
    publish(&temporary, path)
}

/// Renames the finished `temporary` to `path` and makes the rename durable.
///
/// # Errors
/// They are on different file systems, or the disk is failing.
pub fn publish(temporary: &Path, path: &Path) -> Result<(), WriteError> {
    let failed = |source| WriteError { path: path.to_owned(), source };
    std::fs::rename(temporary, path).map_err(failed)?;
    let Some(folder) = path.parent() else { return Ok(()) };
    // of a bare file name the parent is empty
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// The name that `path` has while it is being written.
pub fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_replaces_the_file_keeps_the_mode_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(temporary_beside(&path), "left over").unwrap();
        write(&path, 0o600, b"one").unwrap();
        write(&path, 0o600, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = write(Path::new("/nonexistent/folder/file"), 0o644, b"x").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/folder/file"));
    }
}
