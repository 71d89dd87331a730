//! The part of a machine's file tree that a capture holds: files with their bytes, directories, and relative links.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::scrub::Scrubber;
use super::{CaptureError, dmi};
use crate::host::{Access, Host};

/// Files that later versions may ask for. `*` stands for any name; a pattern that matches nothing is fine.
const PATTERNS: &[&str] = &[
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/uptime",
    "/proc/cmdline",
    "/sys/bus/pci/devices/*/subsystem_vendor",
    "/sys/bus/pci/devices/*/subsystem_device",
    "/sys/bus/pci/devices/*/revision",
    "/sys/bus/pci/devices/*/modalias",
    "/sys/bus/pci/devices/*/aer_dev_correctable",
    "/sys/bus/pci/devices/*/aer_dev_nonfatal",
    "/sys/bus/pci/devices/*/aer_dev_fatal",
    "/sys/bus/pci/devices/*/unique_id",
    "/sys/bus/pci/devices/*/serial_number",
    "/sys/bus/pci/devices/*/vbios_version",
    "/sys/bus/pci/devices/*/product_name",
    "/sys/bus/pci/devices/*/mem_info_vram_total",
    "/sys/bus/pci/devices/*/mem_info_vram_used",
    "/sys/bus/pci/devices/*/gpu_busy_percent",
    "/sys/bus/pci/devices/*/pcie_replay_count",
    "/sys/bus/pci/devices/*/ras/*",
    "/sys/bus/pci/devices/*/drm/*/gt/*/error_counter/*",
    "/proc/driver/nvidia/version",
    "/sys/block/*/device/state",
    "/sys/block/*/device/type",
    "/sys/class/nvme/*/transport",
    "/sys/class/nvme/*/state",
    "/sys/class/scsi_host/*/proc_name",
    "/sys/class/hwmon/*/temp1_crit",
    "/sys/class/hwmon/*/temp1_max",
    "/sys/class/thermal/*/type",
    "/sys/class/thermal/*/temp",
    "/sys/class/powercap/*/name",
    "/sys/class/powercap/*/energy_uj",
    "/sys/class/powercap/*/max_energy_range_uj",
    "/sys/devices/system/cpu/*/topology/core_id",
    "/sys/devices/system/cpu/*/topology/die_id",
    "/sys/devices/system/cpu/*/thermal_throttle/core_throttle_count",
    "/sys/devices/system/cpu/*/thermal_throttle/package_throttle_count",
    "/sys/devices/system/edac/mc/*/ce_count",
    "/sys/devices/system/edac/mc/*/ue_count",
    "/sys/devices/system/edac/mc/*/mc_name",
    "/sys/devices/system/edac/mc/*/*/dimm_label",
    "/sys/devices/system/edac/mc/*/*/dimm_ce_count",
    "/sys/devices/system/edac/mc/*/*/dimm_ue_count",
];

/// Command line words that say how the machine was started and nothing about who runs it.
const COMMAND_LINE_WORDS: &[&str] = &[
    "BOOT_IMAGE",
    "BOOTIF",
    "console",
    "ip",
    "initrd",
    "quiet",
    "ro",
    "root",
    "rootfstype",
    "rw",
    "vetting.run",
];

/// What a capture writes, by path as the machine knows it.
#[derive(Default)]
pub(super) struct Tree {
    files: BTreeMap<String, Vec<u8>>,
    directories: BTreeSet<String>,
    /// Link and the place it leads to, absolute.
    links: BTreeMap<String, String>,
}

impl Tree {
    /// Copies the answers to these questions.
    pub(super) fn read(host: &Host, accesses: &[Access]) -> Self {
        let mut tree = Self::default();
        for access in accesses {
            match access {
                Access::File(path) => tree.file(host, path),
                Access::Name(path) => {
                    let place = tree.name(host, path);
                    // Device files and attributes that only had to be there: their bytes are of no matter.
                    if let Some(place) = place.filter(|place| !host.is_directory(place)) {
                        tree.files.entry(place).or_default();
                    }
                }
                Access::Directory(path) => tree.listing(host, path),
            }
        }
        for pattern in PATTERNS {
            for path in expand(host, pattern) {
                tree.file(host, &path);
            }
        }
        tree
    }

    /// Files with their bytes, not scrubbed.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
    }

    /// Writes it all below `root`, scrubbed; gives the number of files.
    pub(super) fn write(&self, root: &Path, scrubber: &Scrubber) -> Result<usize, CaptureError> {
        let at = |path: &str| root.join(path.trim_start_matches('/'));
        let attempt = |path: &Path, result: std::io::Result<()>| {
            result.map_err(|source| CaptureError::Write { path: path.to_owned(), source })
        };
        attempt(root, std::fs::create_dir_all(root))?;
        for directory in &self.directories {
            let path = at(directory);
            attempt(&path, std::fs::create_dir_all(&path))?;
        }
        for (link, place) in &self.links {
            let path = at(link);
            if let Some(parent) = path.parent() {
                attempt(parent, std::fs::create_dir_all(parent))?;
            }
            attempt(&path, std::os::unix::fs::symlink(relative(link, place), &path))?;
        }
        for (name, bytes) in &self.files {
            let path = at(name);
            if let Some(parent) = path.parent() {
                attempt(parent, std::fs::create_dir_all(parent))?;
            }
            attempt(&path, std::fs::write(&path, scrubbed(name, bytes, scrubber)))?;
        }
        // Version control keeps no empty directory, and a link into one would lead nowhere.
        for directory in &self.directories {
            let path = at(directory);
            let is_empty = std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
            if is_empty {
                let keep = path.join(".keep");
                attempt(&keep, std::fs::write(&keep, []))?;
            }
        }
        Ok(self.files.len())
    }

    fn file(&mut self, host: &Host, path: &str) {
        // Only then the name: links on the way to a file that is not there are no answer to anything.
        let Ok(bytes) = host.bytes(path) else { return };
        if let Some(place) = self.name(host, path) {
            self.files.insert(place, bytes);
        }
    }

    /// A directory with its entries, so that it lists the same: links with a place to lead to, and directories.
    fn listing(&mut self, host: &Host, path: &str) {
        let Some(place) = self.name(host, path) else { return };
        for entry in host.list(path).unwrap_or_default() {
            let entry = format!("{place}/{entry}");
            if host.is_link(&entry) || host.is_directory(&entry) {
                self.name(host, &entry);
            }
        }
    }

    /// Takes in the links and directories on the way to a path; gives the place where it lies when all are followed.
    fn name(&mut self, host: &Host, path: &str) -> Option<String> {
        // `/proc/mounts` leads to the process that asks, which a capture has no more.
        if path.starts_with("/proc/") {
            return Some(path.to_owned());
        }
        let mut place = String::new();
        for component in path.split('/').filter(|component| !component.is_empty()) {
            let step = format!("{place}/{component}");
            place = if host.is_link(&step) {
                let target = host.resolve(&step).ok()?;
                self.links.insert(step, target.clone());
                target
            } else {
                step
            };
        }
        if host.is_directory(&place) {
            self.directories.insert(place.clone());
        }
        Some(place)
    }
}

/// Paths that match a pattern, found by listing each directory on the way.
fn expand(host: &Host, pattern: &str) -> Vec<String> {
    let mut paths = vec![String::new()];
    for component in pattern.split('/').filter(|component| !component.is_empty()) {
        paths = paths
            .iter()
            .flat_map(|path| match component {
                "*" => host
                    .list(path)
                    .unwrap_or_default()
                    .into_iter()
                    .map(|name| format!("{path}/{name}"))
                    .collect::<Vec<_>>(),
                name => vec![format!("{path}/{name}")],
            })
            .collect();
    }
    paths
}

/// The text of a link at `link` that leads to `place`, both absolute. As sysfs writes it, it names its target even
/// where that is a directory above.
fn relative(link: &str, place: &str) -> PathBuf {
    let parts = |path: &str| -> Vec<String> {
        Path::new(path)
            .components()
            .filter(|component| *component != Component::RootDir)
            .map(|component| component.as_os_str().to_string_lossy().into_owned())
            .collect()
    };
    let (mut from, to) = (parts(link), parts(place));
    from.pop();
    let shared =
        from.iter().zip(&to[..to.len().saturating_sub(1)]).take_while(|(left, right)| left == right).count();
    let up = from[shared..].iter().map(|_| "..".to_owned());
    up.chain(to[shared..].iter().cloned()).collect()
}

fn scrubbed(path: &str, bytes: &[u8], scrubber: &Scrubber) -> Vec<u8> {
    match path {
        "/proc/cmdline" => scrubber.scrub(command_line(&String::from_utf8_lossy(bytes)).as_bytes()),
        "/proc/mounts" => scrubber.scrub(mounts(&String::from_utf8_lossy(bytes)).as_bytes()),
        "/sys/firmware/dmi/tables/DMI" => dmi::scrubbed(bytes, scrubber),
        _ => scrubber.scrub_file(path, bytes),
    }
}

/// Words that are known to hold no secret; the rest is left out.
fn command_line(text: &str) -> String {
    let words: Vec<&str> = text
        .split_whitespace()
        .filter(|word| COMMAND_LINE_WORDS.contains(&word.split_once('=').map_or(*word, |(name, _)| name)))
        .collect();
    format!("{}\n", words.join(" "))
}

/// Mounts of block devices and the root; network shares and the like name other machines.
fn mounts(text: &str) -> String {
    text.lines()
        .filter(|line| {
            let mut fields = line.split(' ');
            let (source, mount_point) =
                (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            mount_point == "/" || source.starts_with("/dev/") && mount_point.starts_with("/boot")
        })
        .flat_map(|line| [line, "\n"])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_and_lead_to_the_same_place() {
        assert_eq!(
            relative("/sys/block/sda", "/sys/devices/pci/block/sda"),
            Path::new("../devices/pci/block/sda")
        );
        assert_eq!(relative("/sys/a/b/c", "/sys/a/d"), Path::new("../d"));
        assert_eq!(relative("/sys/d/nvme0/hwmon3/device", "/sys/d/nvme0"), Path::new("../../nvme0"));
        assert_eq!(relative("/dev/root", "/dev/sda1"), Path::new("sda1"));
    }

    #[test]
    fn a_command_line_keeps_no_secret() {
        let text = "quiet vetting.claim=abcdef vetting.run=7 token=x ip=dhcp BOOTIF=01-52\n";
        assert_eq!(command_line(text), "quiet vetting.run=7 ip=dhcp BOOTIF=01-52\n");
    }

    #[test]
    fn mounts_of_other_machines_are_left_out() {
        let text = "/dev/sda1 / ext4 rw 0 0\nnas:/home /home nfs rw 0 0\n/dev/sda2 /boot ext4 rw 0 0\n/dev/sdb1 /secret ext4 rw 0 0\n";
        assert_eq!(mounts(text), "/dev/sda1 / ext4 rw 0 0\n/dev/sda2 /boot ext4 rw 0 0\n");
    }
}
