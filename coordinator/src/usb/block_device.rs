//! Which disks of this box may be overwritten: whole, removable or on USB, large enough, and used by nobody.
//!
//! Pure over a root folder, so that recorded trees stand in for a machine. What cannot be read refuses the disk: not
//! knowing whether a disk is in use is no reason to overwrite it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Sysfs counts in these, whatever the disk's own sectors are.
const SECTOR_BYTES: u64 = 512;
/// SCSI's peripheral device type of CD drives (SPC-4).
const CD_DRIVE: &str = "5";

/// A disk that may be overwritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name: `sdb`.
    pub name: String,
    /// Device number, `MAJOR:MINOR`: to be sure that what is opened is what was looked at.
    pub number: String,
    /// Maker and model, as the disk says.
    pub model: Option<String>,
    /// Serial number, as the disk or its USB bridge says.
    pub serial: Option<String>,
    /// Capacity.
    pub size_bytes: u64,
    /// Whether it hangs on USB.
    pub usb: bool,
    /// Its partitions, by name.
    pub partitions: Vec<String>,
}

/// Whether disks that stay in the box may be overwritten too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixed {
    /// They may not.
    Refuse,
    /// The operator said so in words.
    Allow,
}

/// Why a disk is not overwritten.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No disk of that name.
    #[error("{} is no disk of this box; `lsblk` lists them", path.display())]
    NoSuchDisk {
        /// As given.
        path: PathBuf,
    },
    /// Part of a disk.
    #[error("{name} is a partition; the stick is written whole: name the disk /dev/{disk}")]
    Partition {
        /// The partition.
        name: String,
        /// The disk it is on.
        disk: String,
    },
    /// Put together from other disks.
    #[error("{name} is put together from other disks (RAID, LVM, encryption); name a disk")]
    Composed {
        /// Its name.
        name: String,
    },
    /// A CD drive.
    #[error("{name} is a CD drive; burn vetting.iso to a disc instead")]
    CdDrive {
        /// Its name.
        name: String,
    },
    /// Write protected.
    #[error("{name} is write protected; move the switch on it, or take another one")]
    ReadOnly {
        /// Its name.
        name: String,
    },
    /// Mounted, the system's own disk among these.
    #[error(
        "/dev/{name} is mounted at {place}; unmount it first (`umount {place}`), if it is the stick at all"
    )]
    Mounted {
        /// Disk or partition.
        name: String,
        /// Where.
        place: String,
    },
    /// Swap space.
    #[error("/dev/{name} is swap space of this box; this is no stick")]
    Swap {
        /// Disk or partition.
        name: String,
    },
    /// Used by device mapper, md, …
    #[error(
        "/dev/{name} is used by {holder} (RAID, LVM, encryption); stop that first, if this is the stick at all"
    )]
    Held {
        /// Disk or partition.
        name: String,
        /// By what.
        holder: String,
    },
    /// Neither removable nor on USB.
    #[error("{name} ({size}) is built in: neither removable nor on USB; if it really is to be overwritten, add --force-fixed", size = Size(*size_bytes))]
    BuiltIn {
        /// Its name.
        name: String,
        /// Its capacity.
        size_bytes: u64,
    },
    /// No medium, or too small.
    #[error("{name} holds {size}, the image needs {needed}; take a larger stick", size = Size(*size_bytes), needed = Size(*needed_bytes))]
    TooSmall {
        /// Its name.
        name: String,
        /// Its capacity.
        size_bytes: u64,
        /// The image's size.
        needed_bytes: u64,
    },
    /// It cannot be found out whether it is in use.
    #[error("cannot find out whether {name} is in use ({}); it is left alone", path.display())]
    Unknown {
        /// Its name.
        name: String,
        /// What cannot be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Bytes as people write them: decimal, as on the stick's package.
#[derive(Debug, Clone, Copy)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MEGABYTE: u64 = 1_000_000;
        const GIGABYTE: u64 = 1_000 * MEGABYTE;
        match self.0 {
            bytes if bytes >= GIGABYTE => write!(f, "{:.1} GB", bytes as f64 / GIGABYTE as f64),
            bytes if bytes >= MEGABYTE => write!(f, "{} MB", bytes / MEGABYTE),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// Looks at the disk `device` (`/dev/sdb`, or a link to it) of the machine whose files are below `root`.
///
/// # Errors
/// Any reason not to overwrite it.
pub fn examine(root: &Path, device: &Path, needed_bytes: u64, fixed: Fixed) -> Result<Disk, Refusal> {
    let (name, folder) = find(root, device)?;
    if folder.join("partition").exists() {
        let disk = folder.parent().and_then(Path::file_name).unwrap_or_default();
        return Err(Refusal::Partition { name, disk: disk.to_string_lossy().into_owned() });
    }
    let unknown = |path: PathBuf| {
        let name = name.clone();
        move |source| Refusal::Unknown { name, path, source }
    };
    let list = |path: PathBuf| list(&path).map_err(unknown(path));
    let text = |path: PathBuf| text(&path).map_err(unknown(path));
    if folder.join("slaves").exists() && !list(folder.join("slaves"))?.is_empty() {
        return Err(Refusal::Composed { name });
    }
    if text(folder.join("device/type")).is_ok_and(|kind| kind == CD_DRIVE) {
        return Err(Refusal::CdDrive { name });
    }
    if text(folder.join("ro"))? != "0" {
        return Err(Refusal::ReadOnly { name });
    }
    let mut partitions = list(folder.clone())?;
    partitions.retain(|entry| folder.join(entry).join("partition").exists());
    let mounts = text(root.join("proc/self/mountinfo"))?;
    let swaps = text(root.join("proc/swaps"))?;
    let whole = (name.clone(), folder.clone());
    let parts = partitions.iter().map(|partition| (partition.clone(), folder.join(partition)));
    for (part, folder) in std::iter::once(whole).chain(parts) {
        if let Some(place) = mounted_at(&mounts, &part, &text(folder.join("dev"))?) {
            return Err(Refusal::Mounted { name: part, place });
        }
        if swaps.lines().any(|line| line.split_whitespace().next() == Some(&format!("/dev/{part}"))) {
            return Err(Refusal::Swap { name: part });
        }
        if let Some(holder) = list(folder.join("holders"))?.into_iter().next() {
            return Err(Refusal::Held { name: part, holder });
        }
    }
    let sectors = text(folder.join("size"))?;
    let size_bytes = sectors.parse::<u64>().map_or(0, |sectors| sectors.saturating_mul(SECTOR_BYTES));
    if size_bytes < needed_bytes {
        return Err(Refusal::TooSmall { name, size_bytes, needed_bytes });
    }
    let usb = on_usb(&folder);
    let removable = text(folder.join("removable"))? == "1";
    if !usb && !removable && fixed == Fixed::Refuse {
        return Err(Refusal::BuiltIn { name, size_bytes });
    }
    let number = text(folder.join("dev"))?;
    Ok(Disk { number, model: model(&folder), serial: serial(&folder), size_bytes, usb, partitions, name })
}

/// The kernel's name of a device file, and its folder in sysfs.
fn find(root: &Path, device: &Path) -> Result<(String, PathBuf), Refusal> {
    let none = || Refusal::NoSuchDisk { path: device.to_owned() };
    let below = device.strip_prefix("/").unwrap_or(device);
    let real = root.join(below).canonicalize().map_err(|_| none())?;
    let devices = root.join("dev").canonicalize().map_err(|_| none())?;
    let name = real.strip_prefix(devices).ok().and_then(Path::to_str).ok_or_else(none)?;
    // sysfs writes the slash of names such as cciss/c0d0 as an exclamation mark
    let name = name.replace('/', "!");
    let folder = root.join("sys/class/block").join(&name).canonicalize().map_err(|_| none())?;
    if name.is_empty() { Err(none()) } else { Ok((name, folder)) }
}

/// Where `name` with the device number `number` is mounted. File systems that span disks have numbers of their own; their
/// source is compared too.
fn mounted_at(mountinfo: &str, name: &str, number: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let (fields, source) = line.split_once(" - ")?;
        let mut fields = fields.split(' ');
        let (found, place) = (fields.nth(2)?, fields.nth(1)?);
        let source = source.split(' ').nth(1)?;
        (found == number || source.strip_prefix("/dev/") == Some(name)).then(|| printable(place))
    })
}

fn on_usb(folder: &Path) -> bool {
    folder.components().any(|component| {
        let name = component.as_os_str().to_str().and_then(|name| name.strip_prefix("usb"));
        name.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

fn model(folder: &Path) -> Option<String> {
    let words: Vec<String> = ["device/vendor", "device/model"]
        .into_iter()
        .filter_map(|file| text(&folder.join(file)).ok())
        // NVMe has a PCI number there
        .filter(|word| !word.is_empty() && !word.starts_with("0x"))
        .map(|word| printable(&word))
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The disk's own serial number, or the one of the USB device it is behind.
fn serial(folder: &Path) -> Option<String> {
    let own = text(&folder.join("device/serial")).ok();
    let page = || {
        // SPC-4, 7.8.18: a header of four bytes
        let page = std::fs::read(folder.join("device/vpd_pg80")).ok()?;
        Some(String::from_utf8_lossy(page.get(4..)?).into_owned())
    };
    let bridge = || {
        let device = folder.ancestors().find(|folder| folder.join("idVendor").exists())?;
        text(&device.join("serial")).ok()
    };
    let found = own.or_else(page).or_else(bridge)?;
    let found = printable(found.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0'));
    (!found.is_empty()).then_some(found)
}

/// What a disk says of itself goes to a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').collect()
}

fn text(path: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

fn list(folder: &Path) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let mut names: Vec<String> =
        entries.into_iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
