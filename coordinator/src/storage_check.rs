//! What is looked at before a coordinator starts to write: room on the disks, and whether the database is sound.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::byte_size::ByteSize;
use crate::config::Config;
use crate::disk_space::{self, Room};
use crate::store::StoreError;
use crate::store::snapshot::{self, Depth, Soundness};

/// Why a coordinator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No room.
    #[error(
        "only {free} are free at {}, and `free_space.refuse` asks for {wanted}: make room there, or lower it",
        folder.display()
    )]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// What is left.
        free: ByteSize,
        /// What the config asks for.
        wanted: ByteSize,
    },
    /// A folder cannot be looked at.
    #[error("cannot see how much room there is at {}", folder.display())]
    Look {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database is damaged.
    #[error(
        "the database {} is damaged ({}); check disk and memory of this box, then put the newest backup back \
         (`vetting-coordinator restore FILE`: what is there now stays beside it)",
        path.display(), faults.join("; ")
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        faults: Vec<String>,
    },
    /// The database cannot be opened.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
}

/// Looks at disks and database; what is only a warning goes to the log. Blocks.
///
/// # Errors
/// There is not enough room, or the database is damaged.
pub fn at_start(config: &Config) -> Result<(), StorageError> {
    match room(config)? {
        Room::Enough => {}
        Room::Low { folder, free } => {
            tracing::warn!(folder = %folder.display(), %free, "there is little room on the disk");
        }
        Room::TooLittle { folder, free } => {
            return Err(StorageError::NoRoom { folder, free, wanted: config.free_space.refuse });
        }
    }
    let (path, limit) = (&config.database.path, Duration::from_millis(config.database.startup_check.as_ms()));
    // one that was just made is empty
    if limit.is_zero() || !path.metadata().is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    match snapshot::examine(path, Depth::Quick(limit))? {
        Soundness::Sound => Ok(()),
        Soundness::Unfinished => {
            tracing::info!("no damage was found in the database in the time of `database.startup_check`");
            Ok(())
        }
        Soundness::Broken(faults) => Err(StorageError::Damaged { path: path.clone(), faults }),
    }
}

/// How much room there is where the coordinator writes. Folders that are not there yet will be made on the same disk as
/// the folder above.
pub fn room(config: &Config) -> Result<Room, StorageError> {
    let database = config.database.path.parent().unwrap_or(Path::new("."));
    let folders = [there(database), there(&config.state_dir)];
    let looked = disk_space::look(&folders, config.free_space.warning, config.free_space.refuse);
    looked.map_err(|source| StorageError::Look { folder: folders[0].to_owned(), source })
}

/// The first folder upwards that is there.
fn there(path: &Path) -> &Path {
    let found = path.ancestors().find(|folder| folder.is_dir());
    found.unwrap_or(Path::new("."))
}
