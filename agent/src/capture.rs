//! Records a machine as a test fixture: what inventory and sensors read, and what their tools print, scrubbed.
//!
//! The questions that inventory, firmware and sensors ask of the live machine are logged, and the answers copied, so a
//! capture holds what they need by construction; a short list of patterns adds what later versions may ask. Serial
//! numbers, UUIDs, MAC addresses, world wide names and IP addresses are replaced before anything is written.
//! Refuses a directory that has something in it.

#![expect(clippy::disallowed_methods, reason = "writes the recording, and reads back only what it wrote")]

mod dmi;
mod scrub;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use vetting_protocol::inventory::{DiskBus, Inventory};

use crate::cancel::Cancel;
use crate::host::Host;
use crate::sensors::{Moment, SensorState};
use crate::tools::runner::{Finished, Invocation, RecordError, Stream, ToolError, ToolRunner, record};
use crate::tools::{nvml, smartctl};
use crate::{inventory, sensors};
use scrub::Scrubber;
use tree::Tree;

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
    /// A tool's output could not be written.
    #[error("the output of {tool} cannot be recorded")]
    Tool {
        /// The tool.
        tool: &'static str,
        /// Why.
        source: RecordError,
    },
    /// The directory has something in it.
    #[error("{path}: is not empty; give a new directory")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The machine gave no random numbers, so identifiers could be guessed back from their replacements.
    #[error("the kernel gives no random numbers")]
    Random,
}

/// Records the machine into `directory/root` and `directory/tools`. The directory must be new or empty.
pub fn capture(
    host: &Host,
    tools: &dyn ToolRunner,
    directory: &Path,
) -> Result<CaptureSummary, CaptureError> {
    let failed = |source| CaptureError::Write { path: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    if std::fs::read_dir(directory).map_err(failed)?.next().is_some() {
        return Err(CaptureError::NotEmpty { path: directory.to_owned() });
    }
    let mut salt = [0_u8; 32];
    getrandom::fill(&mut salt).map_err(|_| CaptureError::Random)?;

    let (watched, log) = host.watched();
    let recording = Recording { tools, calls: Mutex::new(Vec::new()) };
    let inventory = inventory::collect(&watched, &recording);
    inventory::firmware::collect(&watched, &recording, &inventory);
    sensors::sample(&watched, &mut SensorState::default(), Moment { ts_ms: 0, uptime_ms: 0 });
    ask_disks(&recording, &inventory);
    ask_gpus(&recording, &inventory);

    let tree = Tree::read(host, &log.accesses());
    let calls = recording.calls.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut scrubber = Scrubber::new(salt);
    scrubber.learn_inventory(&inventory);
    for (path, bytes) in tree.files() {
        scrubber.learn_file(path, bytes);
    }
    for (invocation, finished) in &calls {
        scrubber.learn_output(invocation.tool, &finished.stdout);
    }

    let files = tree.write(&directory.join("root"), &scrubber)?;
    for (invocation, finished) in &calls {
        let nameless = Finished {
            stdout: scrubber.scrub(&finished.stdout),
            stderr: scrubber.scrub(&finished.stderr),
            ..finished.clone()
        };
        record(&directory.join("tools"), invocation, &nameless)
            .map_err(|source| CaptureError::Tool { tool: invocation.tool, source })?;
    }
    Ok(CaptureSummary { files, tool_outputs: calls.len(), scrubbed: scrubber.identifiers() })
}

/// Drive health of every disk that can tell, for the tests of the stages.
fn ask_disks(tools: &dyn ToolRunner, inventory: &Inventory) {
    for disk in inventory.disks.iter().filter(|disk| disk.bus != Some(DiskBus::Virtio)) {
        // Whatever the answer is, the recording has it; a missing smartctl leaves nothing to record.
        let _ = tools.run(
            &smartctl::invocation(&smartctl::Drive::of(format!("/dev/{}", disk.name))),
            &Cancel::new(),
            &mut |_, _| {},
        );
    }
}

/// What NVIDIA's library says of its GPUs, for the tests of the stages.
fn ask_gpus(tools: &dyn ToolRunner, inventory: &Inventory) {
    const NVIDIA: &str = "10de";
    if inventory.pci.iter().any(|function| function.vendor_id == NVIDIA && function.class.starts_with("03")) {
        // likewise
        let _ = tools.run(&nvml::invocation(), &Cancel::new(), &mut |_, _| {});
    }
}

/// Runs tools and keeps what they answered.
struct Recording<'a> {
    tools: &'a dyn ToolRunner,
    calls: Mutex<Vec<(Invocation, Finished)>>,
}

impl ToolRunner for Recording<'_> {
    fn run(
        &self,
        invocation: &Invocation,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Finished, ToolError> {
        let finished = self.tools.run(invocation, cancel, on_line)?;
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if !calls.iter().any(|(known, _)| known == invocation) {
            calls.push((invocation.clone(), finished.clone()));
        }
        Ok(finished)
    }
}

#[cfg(test)]
mod tests;
