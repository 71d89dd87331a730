//! One coordinator a state folder: the lock that a serving one holds, and that `restore` asks for.
//!
//! Owns `<state_dir>/coordinator.lock`, with the number of the process in it. The kernel lets go of the lock when the
//! process ends, however it ends; the file stays.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The lock is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error(
        "a coordinator (process {holder}) runs on {}; stop it first (`systemctl stop vetting-coordinator`)",
        folder.display()
    )]
    Held {
        /// The state folder.
        folder: PathBuf,
        /// Number of the process, as it wrote it.
        holder: String,
    },
    /// The file.
    #[error("cannot lock {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Held until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    _file: Flock<std::fs::File>,
}

impl StateLock {
    /// Takes the lock of `folder`, which must be there.
    ///
    /// # Errors
    /// Another process has it, or the file cannot be made.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join("coordinator.lock");
        let failed = |source| LockError::File { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(failed)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                // it may be about to write its number
                let _ = file.read_to_string(&mut holder);
                return Err(LockError::Held { folder: folder.to_owned(), holder: holder.trim().to_owned() });
            }
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        give_to_owner_of(folder, &path).map_err(failed)?;
        let written = (|| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        })();
        written.map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Gives what root made in a folder to that folder's owner: a coordinator that gave up root must be able to use it.
pub(crate) fn give_to_owner_of(folder: &Path, path: &Path) -> std::io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = std::fs::metadata(folder)?;
    std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_free_again_when_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateLock::take(folder.path()).unwrap();
        let said = StateLock::take(folder.path()).unwrap_err().to_string();
        assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
        drop(first);
        StateLock::take(folder.path()).unwrap();
    }
}
