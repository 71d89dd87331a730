//! The image's file tree before it is written: paths, modes, contents, and the part each belongs to.
//!
//! Owns: one name for one file (merged `/usr`, parents made as needed, sorted). Refuses: two different contents under
//! one path, except by [`Tree::replace`].

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use crate::cpio::CpioWriter;

/// Folders that are links into `/usr` on every current Debian.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In a file of the build host.
    File(PathBuf),
    /// Here.
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File { content: Content, executable: bool },
    Symlink { target: String },
}

#[derive(Debug, Clone)]
struct Entry {
    node: Node,
    part: String,
}

/// A tree of files to be.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// What went wrong with the tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file could not be read or written.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Two parts want different things under one path.
    #[error("{path} is wanted by {first} and, with another content, by {second}")]
    Conflict {
        /// Path in the image.
        path: String,
        /// The part that has it.
        first: String,
        /// The part that wants it too.
        second: String,
    },
    /// The archive could not be written.
    #[error("writing the cpio archive")]
    Write {
        /// The operating system's answer.
        source: io::Error,
    },
}

/// A path of the image in its only form: no leading `/`, and `bin`, `sbin`, `lib`, `lib64` below `usr`. None if it has
/// `..` or other parts that are no names.
pub fn canonical(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    if parts.first().is_some_and(|first| MERGED.contains(first)) {
        parts.insert(0, "usr");
    }
    Some(parts.join("/"))
}

impl Tree {
    /// A tree with the folders and links every root file system has.
    pub fn with_skeleton() -> Self {
        let mut tree = Self::default();
        tree.add_skeleton();
        tree
    }

    /// Add the folders and links every root file system has.
    pub fn add_skeleton(&mut self) {
        let folders = [
            "dev",
            "etc",
            "mnt",
            "proc",
            "root",
            "run",
            "sys",
            "tmp",
            "usr/bin",
            "usr/lib",
            "usr/lib64",
            "usr/sbin",
            "var/lib",
            "var/log",
        ];
        for folder in folders {
            self.make_parents(&format!("{folder}/x"), "skeleton");
        }
        for link in MERGED {
            let node = Node::Symlink { target: format!("usr/{link}") };
            self.entries.insert(link.to_owned(), Entry { node, part: "skeleton".to_owned() });
        }
    }

    /// Take everything below `folder` out, into a tree of its own with paths relative to it.
    #[must_use]
    pub fn split_off(&mut self, folder: &str) -> Self {
        let prefix = format!("{folder}/");
        let mut below = Self::default();
        let all = std::mem::take(&mut self.entries);
        for (path, entry) in all {
            match path.strip_prefix(&prefix) {
                Some(rest) => below.entries.insert(rest.to_owned(), entry),
                None => self.entries.insert(path, entry),
            };
        }
        below
    }

    /// Write the tree into an empty folder of the build host.
    pub fn write_to(&self, folder: &Path) -> Result<(), TreeError> {
        for (path, entry) in &self.entries {
            let target = folder.join(path);
            let failed = |source| TreeError::Read { path: target.clone(), source };
            match &entry.node {
                Node::Directory => std::fs::create_dir_all(&target).map_err(failed)?,
                Node::Symlink { target: to } => std::os::unix::fs::symlink(to, &target).map_err(failed)?,
                Node::File { content, executable } => {
                    std::fs::write(&target, content.read()?).map_err(failed)?;
                    let mode = if *executable { 0o755 } else { 0o644 };
                    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode))
                        .map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    /// Add a file of the build host under a canonical path.
    pub fn add_file(&mut self, path: &str, part: &str, source: &Path) -> Result<(), TreeError> {
        let metadata = std::fs::metadata(source)
            .map_err(|error| TreeError::Read { path: source.to_owned(), source: error })?;
        let executable = metadata.permissions().mode() & 0o111 != 0;
        self.insert(path, part, Node::File { content: Content::File(source.to_owned()), executable })
    }

    /// Add a file with this content.
    pub fn add_bytes(
        &mut self,
        path: &str,
        part: &str,
        bytes: Vec<u8>,
        executable: bool,
    ) -> Result<(), TreeError> {
        self.insert(path, part, Node::File { content: Content::Bytes(bytes), executable })
    }

    /// Add a symbolic link.
    pub fn add_symlink(&mut self, path: &str, part: &str, target: &str) -> Result<(), TreeError> {
        self.insert(path, part, Node::Symlink { target: target.to_owned() })
    }

    /// Put this content under a path, whatever was there.
    pub fn replace(&mut self, path: &str, part: &str, bytes: Vec<u8>, executable: bool) {
        self.make_parents(path, part);
        let node = Node::File { content: Content::Bytes(bytes), executable };
        self.entries.insert(path.to_owned(), Entry { node, part: part.to_owned() });
    }

    /// Take a path out.
    pub fn remove(&mut self, path: &str) {
        self.entries.remove(path);
    }

    /// Whether the path is in the tree.
    pub fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// The files, with their content, in order of path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.entries.iter().filter_map(|(path, entry)| match &entry.node {
            Node::File { content, .. } => Some((path.as_str(), content)),
            Node::Directory | Node::Symlink { .. } => None,
        })
    }

    /// Bytes of the files of each part, before compression.
    pub fn bytes_by_part(&self) -> Result<BTreeMap<String, u64>, TreeError> {
        let mut sizes = BTreeMap::new();
        for entry in self.entries.values() {
            if let Node::File { content, .. } = &entry.node {
                *sizes.entry(entry.part.clone()).or_insert(0) += content.len()?;
            }
        }
        Ok(sizes)
    }

    /// The whole tree as a cpio archive.
    pub fn to_cpio(&self) -> Result<Vec<u8>, TreeError> {
        let write = |source| TreeError::Write { source };
        let mut cpio = CpioWriter::new(Vec::new());
        for (path, entry) in &self.entries {
            match &entry.node {
                Node::Directory => cpio.directory(path, if path == "tmp" { 0o1777 } else { 0o755 }),
                Node::Symlink { target } => cpio.symlink(path, target),
                Node::File { content, executable } => {
                    cpio.file(path, if *executable { 0o755 } else { 0o644 }, &content.read()?)
                }
            }
            .map_err(write)?;
        }
        cpio.finish().map_err(write)
    }

    fn insert(&mut self, path: &str, part: &str, node: Node) -> Result<(), TreeError> {
        if let Some(there) = self.entries.get(path) {
            if there.node == node {
                return Ok(());
            }
            return Err(TreeError::Conflict {
                path: path.to_owned(),
                first: there.part.clone(),
                second: part.to_owned(),
            });
        }
        self.make_parents(path, part);
        self.entries.insert(path.to_owned(), Entry { node, part: part.to_owned() });
        Ok(())
    }

    fn make_parents(&mut self, path: &str, part: &str) {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            if !self.entries.contains_key(parent) {
                let entry = Entry { node: Node::Directory, part: part.to_owned() };
                self.entries.insert(parent.to_owned(), entry);
            }
        }
    }
}

impl Content {
    /// The bytes.
    pub fn read(&self) -> Result<Vec<u8>, TreeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(path) => {
                std::fs::read(path).map_err(|source| TreeError::Read { path: path.clone(), source })
            }
        }
    }

    fn len(&self) -> Result<u64, TreeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => std::fs::metadata(path)
                .map(|metadata| metadata.len())
                .map_err(|source| TreeError::Read { path: path.clone(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usr_is_merged() {
        assert_eq!(canonical("/lib64/ld-linux-x86-64.so.2").unwrap(), "usr/lib64/ld-linux-x86-64.so.2");
        assert_eq!(canonical("etc/./passwd").unwrap(), "etc/passwd");
        assert_eq!(canonical("../etc/passwd"), None);
    }

    #[test]
    fn two_contents_under_one_path_are_a_conflict() {
        let mut tree = Tree::default();
        tree.add_bytes("a/b", "one", b"x".to_vec(), false).unwrap();
        tree.add_bytes("a/b", "one", b"x".to_vec(), false).unwrap();
        let error = tree.add_bytes("a/b", "two", b"y".to_vec(), false).unwrap_err();
        assert!(
            matches!(error, TreeError::Conflict { first, second, .. } if first == "one" && second == "two")
        );
    }

    proptest! {
        #[test]
        fn the_order_of_adding_does_not_show(mut names in prop::collection::hash_set("[a-c]/[a-c]{1,3}", 1..6)) {
            let build = |names: &mut dyn Iterator<Item = String>| {
                let mut tree = Tree::with_skeleton();
                for name in names {
                    tree.add_bytes(&name, "part", name.clone().into_bytes(), false).unwrap();
                }
                tree.to_cpio().unwrap()
            };
            let mut sorted: Vec<String> = names.drain().collect();
            let unsorted = build(&mut sorted.clone().into_iter());
            sorted.sort();
            prop_assert_eq!(unsorted, build(&mut sorted.into_iter()));
        }
    }
}
