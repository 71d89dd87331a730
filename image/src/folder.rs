//! Folders of the build host in an order that does not depend on its file system, so that equal inputs give equal images.

use std::io;
use std::path::{Path, PathBuf};

/// What is in a folder, sorted.
pub fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<PathBuf> = entries.collect::<io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}
