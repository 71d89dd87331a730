//! Compressing cpio archives with zstd, once for each content.
//!
//! Owns: `archives/` of the cache, named by SHA-256 of the uncompressed archive. Refuses: other compressors (the
//! kernel unpacks zstd in half the time of gzip and xz, see docs/decisions).

use std::path::{Path, PathBuf};

use crate::command::{CommandError, Tool};
use crate::digest;

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
    /// zstd failed.
    #[error("compressing the initramfs")]
    Zstd {
        /// What it said.
        #[from]
        source: CommandError,
    },
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
pub fn compress(cpio: &[u8], level: u8, cache: &Path) -> Result<(Vec<u8>, Cached), ArchiveError> {
    let folder = cache.join("archives");
    std::fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
    let name = format!("{}-{level}", digest::of_bytes(cpio));
    let finished = folder.join(format!("{name}.zst"));
    match std::fs::read(&finished) {
        Ok(bytes) => return Ok((bytes, Cached::Yes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed(&finished, source)),
    }
    let work = tempfile::tempdir_in(&folder).map_err(|source| failed(&folder, source))?;
    let (input, output) = (work.path().join("cpio"), work.path().join("zst"));
    std::fs::write(&input, cpio).map_err(|source| failed(&input, source))?;
    Tool::new("zstd").args(["-q", "-T0"]).arg(format!("-{level}")).arg("-o").args([&output, &input]).run()?;
    let bytes = std::fs::read(&output).map_err(|source| failed(&output, source))?;
    std::fs::rename(&output, &finished).map_err(|source| failed(&finished, source))?;
    Ok((bytes, Cached::No))
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
        assert_eq!((first.1, second.1), (Cached::No, Cached::Yes));
        assert_eq!(first.0, second.0);
        assert!(first.0.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    }

    #[test]
    fn another_cache_gives_the_same_bytes() {
        let data: Vec<u8> =
            (0..40_u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(compress(&data, 1, one.path()).unwrap().0, compress(&data, 1, other.path()).unwrap().0);
    }
}
