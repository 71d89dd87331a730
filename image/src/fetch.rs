//! Getting locked packages: downloaded by apt's own downloader into a cache, verified by SHA-256, unpacked once each.
//!
//! Owns: `debs/` and `unpacked/` of the cache. Refuses: a file whose SHA-256 is not the lock's, also one from the cache.

use std::path::{Path, PathBuf};

use crate::command::{CommandError, Tool};
use crate::digest;
use crate::lock::LockedPackage;
use crate::mirror::Mirror;

const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// Why a package could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A file of the cache could not be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The mirror does not have these files (any more), or cannot be reached.
    #[error("{} of the locked packages cannot be downloaded, {first} the first", count)]
    Download {
        /// How many are missing.
        count: usize,
        /// Path of the first.
        first: String,
        /// What the downloader said.
        source: CommandError,
    },
    /// The lock names an archive nobody knows.
    #[error("the lock file names the unknown archive {archive:?}")]
    UnknownArchive {
        /// The archive.
        archive: String,
    },
    /// The file is not the locked one.
    #[error("{path} has SHA-256 {found}, the lock file says {expected}")]
    WrongHash {
        /// Locked path.
        path: String,
        /// SHA-256 of the file.
        found: String,
        /// SHA-256 of the lock.
        expected: String,
    },
    /// dpkg-deb failed.
    #[error("unpacking {package}")]
    Unpack {
        /// Package name.
        package: String,
        /// What it said.
        source: CommandError,
    },
}

/// A package on disk.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// What the lock says of it.
    pub package: LockedPackage,
    /// Folder with its files.
    pub root: PathBuf,
}

/// Download what the cache lacks, verify everything that is not unpacked yet, unpack it.
pub fn fetch(packages: &[LockedPackage], mirror: &Mirror, cache: &Path) -> Result<Vec<Unpacked>, FetchError> {
    let debs = cache.join("debs");
    let roots = cache.join("unpacked");
    for folder in [&debs, &roots] {
        std::fs::create_dir_all(folder).map_err(|source| file_error(folder, source))?;
    }
    let new: Vec<_> = packages.iter().filter(|package| !roots.join(&package.sha256).is_dir()).collect();
    download(&new, mirror, &debs)?;
    for package in new {
        unpack(package, &deb_path(&debs, package), &roots)?;
    }
    Ok(packages
        .iter()
        .map(|package| Unpacked { package: package.clone(), root: roots.join(&package.sha256) })
        .collect())
}

fn deb_path(debs: &Path, package: &LockedPackage) -> PathBuf {
    debs.join(format!("{}.deb", package.sha256))
}

fn download(packages: &[&LockedPackage], mirror: &Mirror, debs: &Path) -> Result<(), FetchError> {
    let mut arguments = Vec::new();
    let mut missing = Vec::new();
    for package in packages {
        let target = deb_path(debs, package);
        if verified(package, &target)? {
            continue;
        }
        let (archive, path) = package.archive_and_path();
        let url = mirror
            .url(archive, path)
            .ok_or_else(|| FetchError::UnknownArchive { archive: archive.to_owned() })?;
        arguments.extend([url, target.display().to_string(), format!("SHA256:{}", package.sha256)]);
        missing.push(*package);
    }
    let Some(first) = missing.first() else { return Ok(()) };
    let outcome = Tool::new(APT_HELPER)
        .args(["-o", "APT::Sandbox::User=root", "-qq", "download-file"])
        .args(&arguments)
        .run();
    outcome.map_err(|source| FetchError::Download {
        count: missing.len(),
        first: first.path.clone(),
        source,
    })?;
    for package in missing {
        if !verified(package, &deb_path(debs, package))? {
            return Err(FetchError::WrongHash {
                path: package.path.clone(),
                found: "none: the file was not downloaded".to_owned(),
                expected: package.sha256.clone(),
            });
        }
    }
    Ok(())
}

/// Whether the cached file is there and is the locked one; a damaged one is an error.
fn verified(package: &LockedPackage, file: &Path) -> Result<bool, FetchError> {
    match digest::of_file(file) {
        Ok(found) if found == package.sha256 => Ok(true),
        Ok(found) => {
            std::fs::remove_file(file).map_err(|source| file_error(file, source))?;
            Err(FetchError::WrongHash { path: package.path.clone(), found, expected: package.sha256.clone() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(file_error(file, source)),
    }
}

/// A package that is not of the mirror but a file on this host, unpacked once into the cache.
pub fn unpack_own(package: LockedPackage, deb: &Path, cache: &Path) -> Result<Unpacked, FetchError> {
    let roots = cache.join("unpacked");
    std::fs::create_dir_all(&roots).map_err(|source| file_error(&roots, source))?;
    let root = roots.join(&package.sha256);
    if !root.is_dir() {
        unpack(&package, deb, &roots)?;
    }
    Ok(Unpacked { package, root })
}

/// Unpack beside, then rename: a folder under its final name is always complete.
fn unpack(package: &LockedPackage, deb: &Path, roots: &Path) -> Result<(), FetchError> {
    let beside = roots.join(format!("{}.new", package.sha256));
    if beside.exists() {
        std::fs::remove_dir_all(&beside).map_err(|source| file_error(&beside, source))?;
    }
    Tool::new("dpkg-deb")
        .arg("-x")
        .args([deb, &beside])
        .run()
        .map_err(|source| FetchError::Unpack { package: package.name.clone(), source })?;
    let root = roots.join(&package.sha256);
    std::fs::rename(&beside, &root).map_err(|source| file_error(&root, source))
}

fn file_error(path: &Path, source: std::io::Error) -> FetchError {
    FetchError::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(sha256: String) -> LockedPackage {
        let path = "debian/pool/main/a/a.deb".to_owned();
        LockedPackage { name: "a".to_owned(), version: "1".to_owned(), path, size_bytes: 1, sha256 }
    }

    #[test]
    fn a_damaged_cached_file_is_refused_and_removed() {
        let debs = tempfile::tempdir().unwrap();
        let package = package(digest::of_bytes(b"good"));
        let file = deb_path(debs.path(), &package);
        std::fs::write(&file, b"good").unwrap();
        assert!(verified(&package, &file).unwrap());
        std::fs::write(&file, b"evil").unwrap();
        assert!(matches!(verified(&package, &file), Err(FetchError::WrongHash { .. })));
        assert!(!file.exists());
    }

    #[test]
    fn a_vanished_package_is_a_download_error() {
        let cache = tempfile::tempdir().unwrap();
        // a file URL keeps the test off the network
        let mirror = Mirror::at(&format!("file://{}", cache.path().display()));
        let error = fetch(&[package("0".repeat(64))], &mirror, cache.path()).unwrap_err();
        assert!(matches!(error, FetchError::Download { count: 1, .. }), "{error:?}");
    }
}
