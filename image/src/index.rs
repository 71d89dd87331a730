//! Which unpacked package has which file, as if all were installed in one root.
//!
//! Owns: lookups by path, with symbolic links followed inside the packages. Refuses: following a link out of them
//! onto the build host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::fetch::Unpacked;
use crate::tree::canonical;

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Package name.
    pub package: String,
    /// The file (or symbolic link) on the build host.
    pub source: PathBuf,
    /// Where it points, if it is a symbolic link.
    pub link: Option<String>,
}

/// All files of all packages.
#[derive(Debug, Clone, Default)]
pub struct Index {
    files: BTreeMap<String, Found>,
}

/// Why the index cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("reading the unpacked package in {}", path.display())]
pub struct IndexError {
    /// File or folder.
    path: PathBuf,
    /// The operating system's answer.
    source: std::io::Error,
}

/// What a path leads to: the links on the way, then the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Canonical paths of the symbolic links on the way.
    pub links: Vec<String>,
    /// Canonical path of the file.
    pub file: String,
}

impl Index {
    /// Read the folders of all unpacked packages. Where two have the same file, it is the later one's.
    pub fn read<'a>(packages: impl IntoIterator<Item = &'a Unpacked>) -> Result<Self, IndexError> {
        let mut index = Self::default();
        for unpacked in packages {
            index.read_folder(&unpacked.package.name, &unpacked.root, "")?;
        }
        Ok(index)
    }

    /// The file or link at a canonical path.
    pub fn get(&self, path: &str) -> Option<&Found> {
        self.files.get(path)
    }

    /// Follow links from a canonical path to a file.
    pub fn resolve(&self, path: &str) -> Option<Resolved> {
        const MAXIMUM_LINKS: usize = 16;
        let mut links = Vec::new();
        let mut path = path.to_owned();
        while links.len() <= MAXIMUM_LINKS {
            match &self.files.get(&path)?.link {
                None => return Some(Resolved { links, file: path }),
                Some(target) => {
                    let next = follow(&path, target)?;
                    links.push(path);
                    path = next;
                }
            }
        }
        None
    }

    /// Every file and link.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Found)> {
        self.files.iter().map(|(path, found)| (path.as_str(), found))
    }

    /// Everything below a canonical folder.
    pub fn below<'a>(&'a self, folder: &str) -> impl Iterator<Item = (&'a str, &'a Found)> {
        let prefix = format!("{folder}/");
        let files = self.files.range(prefix.clone()..);
        files
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, found)| (path.as_str(), found))
    }

    fn read_folder(&mut self, package: &str, folder: &Path, path: &str) -> Result<(), IndexError> {
        let failed = |source| IndexError { path: folder.to_owned(), source };
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let below = if path.is_empty() { name } else { format!("{path}/{name}") };
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                self.read_folder(package, &entry.path(), &below)?;
                continue;
            }
            let link = if kind.is_symlink() {
                let target = std::fs::read_link(entry.path()).map_err(failed)?;
                Some(target.to_string_lossy().into_owned())
            } else {
                None
            };
            if let Some(path) = canonical(&below) {
                let found = Found { package: package.to_owned(), source: entry.path(), link };
                self.files.insert(path, found);
            }
        }
        Ok(())
    }
}

/// Where a link at `path` leads, as a canonical path.
fn follow(path: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return canonical(target);
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    canonical(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::lock::LockedPackage;

    fn unpacked(root: &Path) -> Unpacked {
        let package = LockedPackage {
            name: "kmod".to_owned(),
            version: "1".to_owned(),
            path: "debian/pool/k.deb".to_owned(),
            size_bytes: 1,
            sha256: String::new(),
        };
        Unpacked { package, root: root.to_owned() }
    }

    #[test]
    fn links_are_followed_inside_the_packages() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        std::fs::create_dir_all(root.path().join("sbin")).unwrap();
        std::fs::write(root.path().join("usr/bin/kmod"), b"x").unwrap();
        symlink("../bin/kmod", root.path().join("sbin/modprobe")).unwrap();
        symlink("/etc/passwd", root.path().join("usr/bin/out")).unwrap();
        symlink("loop", root.path().join("usr/bin/loop")).unwrap();
        let index = Index::read(&[unpacked(root.path())]).unwrap();
        let resolved = index.resolve("usr/sbin/modprobe").unwrap();
        assert_eq!(resolved.file, "usr/bin/kmod");
        assert_eq!(resolved.links, ["usr/sbin/modprobe"]);
        assert_eq!(index.resolve("usr/bin/out"), None);
        assert_eq!(index.resolve("usr/bin/loop"), None);
        assert_eq!(index.below("usr/bin").count(), 3);
    }

    #[test]
    fn a_link_above_the_root_leads_nowhere() {
        assert_eq!(follow("usr/x", "../../../etc/passwd"), None);
        assert_eq!(follow("usr/bin/x", "../../etc/y").as_deref(), Some("etc/y"));
    }
}
