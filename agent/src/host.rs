//! The only reader of the machine: files below `/sys`, `/proc`, `/dev` and the firmware tables.
//!
//! Every path is relative to a root, so a recorded tree reads exactly as a live machine does.

use std::path::{Path, PathBuf};

/// A machine: the live one (root `/`) or a recorded tree.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

/// A file of the machine that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}")]
pub struct HostError {
    /// The path as the machine knows it, without the root.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

impl Host {
    /// The machine this runs on.
    pub fn live() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// A recorded tree.
    pub fn recorded(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether this is the machine this runs on, so that tools may be started and disks written.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where an absolute path of the machine lies here. `..` in it is refused by the callers' own construction:
    /// names come from directory listings of the kernel, never from the network.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// A text file, without surrounding white space.
    pub fn text(&self, absolute: &str) -> Result<String, HostError> {
        let bytes = self.bytes(absolute)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A file's bytes.
    pub fn bytes(&self, absolute: &str) -> Result<Vec<u8>, HostError> {
        std::fs::read(self.path(absolute))
            .map_err(|source| HostError { path: PathBuf::from(absolute), source })
    }
}
