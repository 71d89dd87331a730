//! `completions` and `man`: what a package installs for shells and readers.

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{CommandError, CommandLine, output};

/// As which the program is called.
const NAME: &str = "vetting-coordinator";

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Which shell.
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManualPages {
    /// The folder, such as /usr/local/share/man/man1; it is made if it is not there.
    folder: PathBuf,
}

impl Completions {
    pub(super) fn run(&self, json: bool) -> Result<(), CommandError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut CommandLine::command(), NAME, &mut script);
        let script = String::from_utf8(script).map_err(io::Error::other)?;
        if json {
            let shell = self.shell.to_string();
            return Ok(output::json(&serde_json::json!({"shell": shell, "script": script}))?);
        }
        Ok(output::line(script.trim_end())?)
    }
}

impl ManualPages {
    pub(super) fn run(&self, json: bool) -> Result<(), CommandError> {
        let failed = |source| CommandError::Write { path: self.folder.clone(), source };
        std::fs::create_dir_all(&self.folder)
            .and_then(|()| clap_mangen::generate_to(CommandLine::command(), &self.folder))
            .map_err(failed)?;
        if json {
            return Ok(output::json(&serde_json::json!({"folder": self.folder}))?);
        }
        let pages = self.folder.display();
        Ok(output::line(&format!("the manual pages are in {pages}; `man {pages}/{NAME}.1` shows the first"))?)
    }
}
