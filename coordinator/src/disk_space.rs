//! How much room is left where the coordinator writes, and what is said when it gets tight.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use crate::byte_size::ByteSize;

/// Room that is left, by the limits of the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// As much as is wanted.
    Enough,
    /// Less than `free_space.warning`, and where.
    Low {
        /// The folder.
        folder: PathBuf,
        /// What is left.
        free: ByteSize,
    },
    /// Less than `free_space.refuse`, and where.
    TooLittle {
        /// The folder.
        folder: PathBuf,
        /// What is left.
        free: ByteSize,
    },
}

/// Bytes that an ordinary user can still write below `folder`.
///
/// # Errors
/// There is no such folder.
pub fn free(folder: &Path) -> Result<ByteSize, std::io::Error> {
    let found = statvfs(folder)?;
    Ok(ByteSize(found.blocks_available().saturating_mul(found.fragment_size())))
}

/// Looks at each folder; the tightest counts.
///
/// # Errors
/// There is no such folder.
pub fn look(folders: &[&Path], warning: ByteSize, refuse: ByteSize) -> Result<Room, std::io::Error> {
    let mut tightest: Option<(ByteSize, &Path)> = None;
    for folder in folders {
        let left = free(folder)?;
        if tightest.is_none_or(|(least, _)| left < least) {
            tightest = Some((left, folder));
        }
    }
    Ok(match tightest {
        Some((free, folder)) if free < refuse => Room::TooLittle { folder: folder.to_owned(), free },
        Some((free, folder)) if free < warning => Room::Low { folder: folder.to_owned(), free },
        Some(_) | None => Room::Enough,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_decide() {
        let folder = tempfile::tempdir().unwrap();
        let most = ByteSize(u64::MAX);
        let looked = |warning, refuse| look(&[folder.path()], warning, refuse).unwrap();
        assert_eq!(looked(ByteSize(0), ByteSize(0)), Room::Enough);
        assert!(matches!(looked(most, ByteSize(0)), Room::Low { .. }));
        assert!(matches!(looked(most, most), Room::TooLittle { .. }));
        assert!(look(&[Path::new("/nonexistent")], most, most).is_err());
    }
}
