//! Compressing what the image is made of, once for each content: cpio archives with zstd, `/usr` as a squashfs.
//!
//! Owns: `archives/` of the cache, named by SHA-256 of the uncompressed content. Refuses: other compressors (the
//! kernel unpacks zstd in half the time of gzip and xz).

use std::path::{Path, PathBuf};

use crate::command::{CommandError, Tool};
use crate::digest;
use crate::tree::{Tree, TreeError};

/// Why an archive cannot be compressed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file of the cache failed.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// zstd or mksquashfs failed.
    #[error("compressing the image")]
    Tool {
        /// What it said.
        #[from]
        source: CommandError,
    },
    /// The tree could not be read or written.
    #[error("compressing the image")]
    Tree {
        /// Why.
        #[from]
        source: TreeError,
    },
}

/// A compressed archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where they were from.
    pub cached: Cached,
    /// Its name in the cache.
    pub name: String,
}

/// Whether compressing had been done before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// Yes: the cache had it.
    Yes,
    /// No: it took time.
    No,
}

/// The zstd-compressed form of `cpio` at this level (1 to 19).
///
/// zstd's multi-threaded mode cuts its input into jobs by size alone, so the result is the same for any number of
/// cores.
pub fn compress(cpio: &[u8], level: u8, cache: &Path) -> Result<Packed, ArchiveError> {
    once(format!("{}-{level}.zst", digest::of_bytes(cpio)), cache, |input, output| {
        std::fs::write(input, cpio).map_err(|source| failed(input, source))?;
        Tool::new("zstd")
            .args(["-q", "-T0"])
            .arg(format!("-{level}"))
            .arg("-o")
            .args([output, input])
            .run()?;
        Ok(())
    })
}

/// The tree as a squashfs, zstd-compressed at this level in blocks of 256 KiB (larger ones save 4 %, and cost at
/// each small read).
pub fn squash(tree: &Tree, level: u8, cache: &Path) -> Result<Packed, ArchiveError> {
    let key = digest::of_bytes(&tree.to_cpio()?);
    once(format!("{key}-{level}.squashfs"), cache, |input, output| {
        std::fs::create_dir(input).map_err(|source| failed(input, source))?;
        tree.write_to(input)?;
        Tool::new("mksquashfs")
            .args([input, output])
            .args(["-comp", "zstd", "-Xcompression-level", &level.to_string(), "-b", "256K"])
            .args(["-all-root", "-all-time", "0", "-mkfs-time", "0", "-root-mode", "755"])
            .args(["-no-xattrs", "-noappend", "-no-progress", "-quiet", "-reproducible"])
            .run()?;
        Ok(())
    })
}

/// The cached file `name`, or what `make` makes of it: called with a path for its input and one for its output.
fn once(
    name: String,
    cache: &Path,
    make: impl FnOnce(&Path, &Path) -> Result<(), ArchiveError>,
) -> Result<Packed, ArchiveError> {
    let folder = cache.join("archives");
    std::fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
    let finished = folder.join(&name);
    match std::fs::read(&finished) {
        Ok(bytes) => return Ok(Packed { bytes, cached: Cached::Yes, name }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed(&finished, source)),
    }
    let work = tempfile::tempdir_in(&folder).map_err(|source| failed(&folder, source))?;
    let (input, output) = (work.path().join("input"), work.path().join("output"));
    make(&input, &output)?;
    let bytes = std::fs::read(&output).map_err(|source| failed(&output, source))?;
    std::fs::rename(&output, &finished).map_err(|source| failed(&finished, source))?;
    Ok(Packed { bytes, cached: Cached::No, name })
}

fn failed(path: &Path, source: std::io::Error) -> ArchiveError {
    ArchiveError::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_time_comes_from_the_cache_and_is_the_same() {
        let cache = tempfile::tempdir().unwrap();
        let first = compress(b"some archive", 3, cache.path()).unwrap();
        let second = compress(b"some archive", 3, cache.path()).unwrap();
        assert_eq!((first.cached, second.cached), (Cached::No, Cached::Yes));
        assert_eq!((&first.bytes, &first.name), (&second.bytes, &second.name));
        assert!(first.bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    }

    #[test]
    fn another_cache_gives_the_same_bytes() {
        let data: Vec<u8> =
            (0..40_u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(
            compress(&data, 1, one.path()).unwrap().bytes,
            compress(&data, 1, other.path()).unwrap().bytes
        );
    }
}
