//! Where results are put: a folder of this machine, or a stick that may be read-only, full, or pulled out and put back.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::medium::{self, Medium, RESULTS_LABEL};
use crate::cancel::Cancel;
use crate::console::chain;
use crate::tools::runner::ToolRunner;

/// A place for results.
pub trait Shelf: Send + Sync {
    /// The folder to write in, made ready for it. `afresh` after a write that failed: the stick may have been pulled
    /// out and put back.
    ///
    /// # Errors
    /// Why it cannot be written, in words.
    fn open(&self, afresh: bool) -> Result<PathBuf, String>;

    /// Everything is written: the stick may be pulled out.
    fn close(&self);

    /// What it is called on the console: `the stick`.
    fn name(&self) -> String;
}

/// A folder.
pub struct Folder(pub PathBuf);

impl Shelf for Folder {
    fn open(&self, _afresh: bool) -> Result<PathBuf, String> {
        Ok(self.0.clone())
    }

    fn close(&self) {}

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

/// The medium that the machine started from; where that is a disc, a stick labelled [`RESULTS_LABEL`].
pub struct Stick {
    tools: Arc<dyn ToolRunner>,
    label: String,
    directory: PathBuf,
    open: Mutex<Option<Medium>>,
}

impl Stick {
    /// A stick that is found by its label when it is needed.
    pub fn new(tools: Arc<dyn ToolRunner>, label: String, directory: PathBuf) -> Self {
        Self { tools, label, directory, open: Mutex::new(None) }
    }

    fn mount_writable(&self) -> Result<Medium, String> {
        let cancel = Cancel::new();
        let mount = |label: &str, directory: PathBuf| {
            let found = medium::find(&*self.tools, label, &cancel)?;
            let medium = Medium::mount(found, &directory)?;
            medium.make_writable()?;
            Ok::<_, medium::MediumError>(medium)
        };
        mount(&self.label, self.directory.clone()).or_else(|error| {
            mount(RESULTS_LABEL, self.directory.with_file_name("results-medium")).map_err(|_| chain(&error))
        })
    }
}

impl Shelf for Stick {
    fn open(&self, afresh: bool) -> Result<PathBuf, String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if afresh && let Some(medium) = open.take() {
            medium.unmount();
        }
        if open.is_none() {
            *open = Some(self.mount_writable()?);
        }
        Ok(open.as_ref().map(|medium| medium.directory.clone()).unwrap_or_default())
    }

    fn close(&self) {
        if let Some(medium) = self.open.lock().unwrap_or_else(PoisonError::into_inner).take() {
            medium.make_read_only();
        }
    }

    fn name(&self) -> String {
        "the stick".to_owned()
    }
}
