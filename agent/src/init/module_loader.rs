//! Loads kernel modules by the kernel's own call: a process of modprobe for each would cost more than the loading.
//!
//! As modprobe does, it heeds `modprobe.blacklist=` and `MODULE.PARAMETER=VALUE` of the kernel's command line. There
//! is no `/etc/modprobe.d` in the live image.

#![expect(clippy::disallowed_methods, reason = "hands module files to the kernel")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use super::module_index::{ModuleIndex, Step, normalised};
use crate::console::{Console, chain};
use crate::host::{Host, HostError};

/// Drivers that start at a time: one that waits for its hardware must not hold up the others.
const AT_ONCE: usize = 4;

/// A module that was not loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    /// Its file cannot be opened.
    #[error("{path}")]
    Open { path: PathBuf, source: std::io::Error },
    /// The kernel refuses it.
    #[error("the kernel refuses module {name}")]
    Refused { name: String, source: std::io::Error },
}

/// What the kernel's command line says of modules.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wishes {
    parameters: BTreeMap<String, String>,
    unwanted: BTreeSet<String>,
}

/// Loads modules on threads of its own, in the order they are asked for.
pub(super) struct Loader {
    shared: Arc<Shared>,
    asked: BTreeSet<String>,
    waiting: Sender<String>,
}

struct Shared {
    host: Host,
    console: Arc<dyn Console>,
    index: ModuleIndex,
    folder: PathBuf,
    wishes: Wishes,
    /// Asked for and not done.
    open: AtomicUsize,
    told: Mutex<BTreeSet<String>>,
}

impl Loader {
    /// Reads the index of the running kernel's modules and starts the threads.
    ///
    /// # Errors
    /// No modules of this kernel are in the image.
    pub(super) fn start(host: &Host, console: &Arc<dyn Console>) -> Result<Self, HostError> {
        let release = host.text("/proc/sys/kernel/osrelease")?;
        let folder = format!("/usr/lib/modules/{}", release.trim());
        let text = |name: &str| host.text(&format!("{folder}/{name}"));
        let index = ModuleIndex::parse(
            text("modules.alias")?,
            &text("modules.dep")?,
            &text("modules.softdep").unwrap_or_default(),
        );
        let wishes = Wishes::of(&host.text("/proc/cmdline").unwrap_or_default());
        let shared = Arc::new(Shared {
            host: host.clone(),
            console: Arc::clone(console),
            index,
            folder: folder.into(),
            wishes,
            open: AtomicUsize::new(0),
            told: Mutex::default(),
        });
        let (waiting, names) = unbounded();
        for number in 1..=AT_ONCE {
            let (shared, names) = (Arc::clone(&shared), names.clone());
            let thread = std::thread::Builder::new().name(format!("modules {number}"));
            if let Err(error) = thread.spawn(move || shared.work(&names)) {
                console.line(&format!("no thread to load modules: {error}"));
            }
        }
        Ok(Self { shared, asked: BTreeSet::new(), waiting })
    }

    /// Has the drivers of a device loaded.
    pub(super) fn ask_for_modalias(&mut self, modalias: &str) {
        let shared = Arc::clone(&self.shared);
        for name in shared.index.for_modalias(modalias) {
            if !shared.wishes.unwanted.contains(&normalised(name)) {
                self.ask_for(name);
            }
        }
    }

    /// Has a module loaded; once, however often it is asked for.
    pub(super) fn ask_for(&mut self, name: &str) {
        if self.asked.insert(normalised(name)) {
            self.shared.open.fetch_add(1, Ordering::AcqRel);
            if self.waiting.send(name.to_owned()).is_err() {
                self.shared.open.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// Whether something that was asked for is still to be done.
    pub(super) fn is_at_work(&self) -> bool {
        self.shared.open.load(Ordering::Acquire) > 0
    }
}

impl Shared {
    fn work(&self, names: &Receiver<String>) {
        for name in names {
            for step in self.index.steps(&name) {
                if let Err(error) = self.load(&step) {
                    self.tell(&error);
                }
            }
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn load(&self, step: &Step<'_>) -> Result<(), LoadError> {
        let Step { name, file } = *step;
        // "coming" is not enough: who needs it has to wait, and the kernel waits when it is asked again
        let state = self.host.text(&format!("/sys/module/{name}/initstate"));
        if state.is_ok_and(|state| state.trim() == "live") {
            return Ok(());
        }
        let path = self.folder.join(file);
        let module = File::open(&path).map_err(|source| LoadError::Open { path, source })?;
        let parameters = self.wishes.parameters.get(name).map_or("", String::as_str);
        let parameters = CString::new(parameters).unwrap_or_default();
        match finit_module(module, &parameters, ModuleInitFlags::empty()) {
            // loaded by another thread or by the kernel itself; or a driver whose hardware is not there
            Ok(()) | Err(Errno::EEXIST | Errno::ENODEV | Errno::ENXIO) => Ok(()),
            Err(errno) => Err(LoadError::Refused { name: name.to_owned(), source: errno.into() }),
        }
    }

    fn tell(&self, error: &LoadError) {
        let line = format!("a driver is missing: {}", chain(error));
        // a module that several others need fails as often
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
            self.console.line(&line);
        }
    }
}

impl Wishes {
    fn of(command_line: &str) -> Self {
        let mut wishes = Self::default();
        for word in command_line.split_ascii_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if matches!(name, "modprobe.blacklist" | "module_blacklist") {
                wishes.unwanted.extend(value.split(',').map(normalised));
            } else if name.contains('.')
                && let Some((module, parameter)) = word.split_once('.')
            {
                let all = wishes.parameters.entry(normalised(module)).or_default();
                if !all.is_empty() {
                    all.push(' ');
                }
                all.push_str(parameter);
            }
        }
        wishes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_parameters_and_unwanted_modules() {
        let wishes = Wishes::of(
            "console=ttyS0,115200n8 vetting.run=1 mpt3sas.max_queue_depth=64 mpt3sas.logging_level=0x8 \
             modprobe.blacklist=snd-hda-intel,nouveau i8042.nokbd",
        );
        assert_eq!(wishes.parameters["mpt3sas"], "max_queue_depth=64 logging_level=0x8");
        assert_eq!(wishes.parameters["i8042"], "nokbd");
        assert_eq!(wishes.unwanted.into_iter().collect::<Vec<_>>(), ["nouveau", "snd_hda_intel"]);
    }
}
