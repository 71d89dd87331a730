//! The stick or disc that the machine started from: found by its label, mounted read-only, and read-write only while
//! results are stored.
//!
//! It stays mounted as long as the machine is up, so that the kernel and the inventory know it as in use and no stage
//! tests or writes it. Two media with the same label are refused: nobody could tell which one is meant.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::cancel::Cancel;
use crate::console::Console;
use crate::tools::blkid::{self, Labelled};
use crate::tools::runner::{ToolError, ToolRunner};

/// Where the medium is mounted in the live image.
pub const MEDIUM_DIRECTORY: &str = "/run/vetting/medium";
/// Label of a second stick that takes the results where the machine started from a disc.
pub const RESULTS_LABEL: &str = "VETTINGDATA";

const FAT: &str = "vfat";
const SAFE: MsFlags =
    MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC).union(MsFlags::MS_NODEV).union(MsFlags::MS_NOATIME);

/// A medium that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// Nothing has the label.
    #[error("no medium called {label} is in this machine")]
    Absent {
        /// The label.
        label: String,
    },
    /// More than one has it.
    #[error("more than one medium is called {label} ({devices}): take out all but one")]
    Ambiguous {
        /// The label.
        label: String,
        /// The devices.
        devices: String,
    },
    /// The tool that looks for it.
    #[error("media cannot be looked for")]
    Look(#[from] ToolError),
    /// The kernel does not mount it.
    #[error("{device} ({file_system}) cannot be mounted")]
    Mount {
        /// The device.
        device: String,
        /// What it holds.
        file_system: String,
        /// Why.
        source: std::io::Error,
    },
    /// The place to mount it at cannot be made.
    #[error("{path}")]
    Place {
        /// The place.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is one that cannot be written, such as a disc.
    #[error("{device} is {file_system}, which cannot be written")]
    NotWritable {
        /// The device.
        device: String,
        /// What it holds.
        file_system: String,
    },
}

/// A mounted medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// Its device.
    pub found: Labelled,
    /// Where it is mounted.
    pub directory: PathBuf,
}

/// The one device with a label. A hybrid disc image bears it twice, on the disk and on its partition: the FAT file
/// system is taken before the others.
///
/// # Errors
/// None, or more than one.
pub fn find(tools: &dyn ToolRunner, label: &str, cancel: &Cancel) -> Result<Labelled, MediumError> {
    let finished = tools.run(&blkid::invocation(label), cancel, &mut |_, _| {})?;
    choose(label, blkid::parse(&finished)?)
}

fn choose(label: &str, mut found: Vec<Labelled>) -> Result<Labelled, MediumError> {
    if found.iter().any(|one| one.file_system == FAT) {
        found.retain(|one| one.file_system == FAT);
    }
    // the partition of a hybrid image begins where the disk does: the shorter name is the whole disk
    found.sort_by(|left, right| left.device.cmp(&right.device));
    let first = found.first().cloned().ok_or_else(|| MediumError::Absent { label: label.to_owned() })?;
    found.retain(|one| !one.device.starts_with(&first.device));
    if found.is_empty() {
        return Ok(first);
    }
    let devices: Vec<&str> = std::iter::once(&first).chain(&found).map(|one| one.device.as_str()).collect();
    Err(MediumError::Ambiguous { label: label.to_owned(), devices: devices.join(", ") })
}

impl Medium {
    /// Mounts a device read-only. One that is mounted there already stays.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mount(found: Labelled, directory: &Path) -> Result<Self, MediumError> {
        std::fs::create_dir_all(directory)
            .map_err(|source| MediumError::Place { path: directory.to_owned(), source })?;
        let medium = Self { found, directory: directory.to_owned() };
        medium.call_mount(SAFE | MsFlags::MS_RDONLY)?;
        Ok(medium)
    }

    /// Makes it writable.
    ///
    /// # Errors
    /// It is a disc, its switch is on read-only, or the kernel found its file system damaged.
    pub fn make_writable(&self) -> Result<(), MediumError> {
        if self.found.file_system != FAT {
            let Labelled { device, file_system } = self.found.clone();
            return Err(MediumError::NotWritable { device, file_system });
        }
        self.call_mount(SAFE | MsFlags::MS_REMOUNT)
    }

    /// Makes it read-only again, with everything written. What fails here is told by the next write.
    pub fn make_read_only(&self) {
        let _ = self.call_mount(SAFE | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
    }

    /// Lets go of it, also when it was pulled out.
    pub fn unmount(&self) {
        // a medium that is gone cannot say no
        let _ = umount2(&self.directory, MntFlags::MNT_DETACH);
    }

    fn call_mount(&self, flags: MsFlags) -> Result<(), MediumError> {
        let Labelled { device, file_system } = &self.found;
        let none: Option<&str> = None;
        match mount(Some(device.as_str()), &self.directory, Some(file_system.as_str()), flags, none) {
            Ok(()) => Ok(()),
            Err(Errno::EBUSY) if !flags.contains(MsFlags::MS_REMOUNT) => Ok(()),
            Err(errno) => Err(MediumError::Mount {
                device: device.clone(),
                file_system: file_system.clone(),
                source: errno.into(),
            }),
        }
    }
}

/// Mounts the medium at [`MEDIUM_DIRECTORY`] as soon as it is there. `may_wait` pauses, and says whether to look again
/// after the next look.
///
/// # Errors
/// The last reason why it could not be had.
pub fn wait_for(
    tools: &dyn ToolRunner,
    label: &str,
    console: &dyn Console,
    mut may_wait: impl FnMut() -> bool,
) -> Result<Medium, MediumError> {
    let cancel = Cancel::new();
    loop {
        let last_try = !may_wait();
        match find(tools, label, &cancel).and_then(|found| Medium::mount(found, Path::new(MEDIUM_DIRECTORY)))
        {
            Ok(medium) => {
                console.line(&format!("started from {} ({label})", medium.found.device));
                return Ok(medium);
            }
            Err(error) if last_try => return Err(error),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(all: &[(&str, &str)]) -> Vec<Labelled> {
        let one = |(device, kind): &(&str, &str)| Labelled {
            device: (*device).to_owned(),
            file_system: (*kind).to_owned(),
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn one_medium_is_chosen_and_two_are_refused() {
        let chosen = |all| choose("VETTING", labelled(all)).map(|found| found.device);
        assert_eq!(chosen(&[("/dev/sdb1", "vfat")]).unwrap(), "/dev/sdb1");
        assert_eq!(chosen(&[("/dev/sdb1", "iso9660"), ("/dev/sdb", "iso9660")]).unwrap(), "/dev/sdb");
        assert_eq!(chosen(&[("/dev/sr0", "iso9660"), ("/dev/sdb1", "vfat")]).unwrap(), "/dev/sdb1");
        assert!(matches!(chosen(&[]), Err(MediumError::Absent { .. })));
        let two = chosen(&[("/dev/sdb1", "vfat"), ("/dev/sda1", "vfat")]).unwrap_err().to_string();
        assert!(two.contains("/dev/sda1, /dev/sdb1"), "{two}");
    }
}
