//! The only reader of the machine: files below `/sys`, `/proc`, `/dev` and the firmware tables.
//!
//! Every path is absolute as the machine knows it and is looked up below a root, so a recorded tree reads exactly as
//! a live machine does. Reads are bounded. It gives what the kernel says or a typed error; it never guesses, and it
//! refuses paths with `..` and links that lead out of the root.

#![expect(clippy::disallowed_methods, reason = "the door to the machine's files")]

mod device;
mod meminfo;
mod pagemap;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

pub use device::{DiskBlocks, KernelLog};
pub use meminfo::Meminfo;

/// Most bytes read of one file. The largest we read is `/proc/cpuinfo`, 2 KiB a logical CPU.
pub const FILE_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// A machine: the live one (root `/`) or a recorded tree.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    log: Option<AccessLog>,
}

/// What was asked of a machine and was there: what a capture has to hold for the same questions to get the same
/// answers.
#[derive(Debug, Clone, Default)]
pub struct AccessLog(Arc<Mutex<BTreeSet<Access>>>);

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// A directory was listed.
    Directory(String),
    /// A file was read.
    File(String),
    /// Something was looked up: that it exists, what it links to, where it lies.
    Name(String),
}

impl AccessLog {
    /// Every question so far, sorted.
    pub fn accesses(&self) -> Vec<Access> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn add(&self, access: Access) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(access);
    }
}

/// Something of the machine that could not be read. `path` is as the machine knows it, without the root.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel gave no answer: the file is missing, closed to us, or its device failed (EIO, ENODATA, …).
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Larger than [`FILE_LIMIT_BYTES`].
    #[error("{path}: larger than {limit_bytes} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// The text in it is not what it should be.
    #[error("{path}: `{found}` is not {expected}")]
    Unparsable {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// The path, or the link it stands for, leads out of the root.
    #[error("{path}: leads out of the machine's tree")]
    Outside {
        /// The path.
        path: PathBuf,
    },
}

impl HostError {
    /// Whether the machine simply has no such file, as against one that does not answer.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Read { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::TooLarge { .. } | Self::Unparsable { .. } | Self::Outside { .. } => false,
        }
    }

    /// The whole story in one line, for [`vetting_protocol::inventory::Absence::reason`].
    pub fn reason(&self) -> String {
        match self {
            Self::Read { path, source } => format!("{}: {}", path.display(), io_reason(source)),
            Self::TooLarge { .. } | Self::Unparsable { .. } | Self::Outside { .. } => self.to_string(),
        }
    }
}

/// An I/O error in words that do not change with the C library.
fn io_reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => match error.raw_os_error() {
            Some(code) => nix::errno::Errno::from_raw(code).desc().to_owned(),
            None => error.to_string(),
        },
    }
}

impl Host {
    /// The machine this runs on.
    pub fn live() -> Self {
        Self { root: PathBuf::from("/"), log: None }
    }

    /// A recorded tree.
    pub fn recorded(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), log: None }
    }

    /// The same machine, with a log of what is asked of it from now on.
    pub fn watched(&self) -> (Self, AccessLog) {
        let log = AccessLog::default();
        (Self { root: self.root.clone(), log: Some(log.clone()) }, log)
    }

    fn note(&self, access: impl FnOnce() -> Access) {
        if let Some(log) = &self.log {
            log.add(access());
        }
    }

    /// Whether this is the machine this runs on, so that tools may be started and disks written.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where an absolute path of the machine lies here. The readers below refuse `..` in it.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// A text file, without surrounding white space and NULs. Bytes that are no UTF-8 become U+FFFD.
    pub fn text(&self, absolute: &str) -> Result<String, HostError> {
        let bytes = self.bytes(absolute)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.trim_matches(|character: char| character.is_whitespace() || character == '\0').to_owned())
    }

    /// A file's bytes, at most [`FILE_LIMIT_BYTES`].
    pub fn bytes(&self, absolute: &str) -> Result<Vec<u8>, HostError> {
        let failed = |source| HostError::Read { path: PathBuf::from(absolute), source };
        let path = self.checked(absolute)?;
        if !std::fs::metadata(&path).map_err(failed)?.is_file() {
            return Err(failed(std::io::Error::other("is no regular file")));
        }
        let mut bytes = Vec::new();
        File::open(path)
            .map_err(failed)?
            .take(FILE_LIMIT_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > FILE_LIMIT_BYTES {
            return Err(HostError::TooLarge { path: PathBuf::from(absolute), limit_bytes: FILE_LIMIT_BYTES });
        }
        self.note(|| Access::File(absolute.to_owned()));
        Ok(bytes)
    }

    /// When a file was last changed, ms since the epoch.
    pub fn modified_ms(&self, absolute: &str) -> Result<i64, HostError> {
        let failed = |source| HostError::Read { path: PathBuf::from(absolute), source };
        let modified = std::fs::metadata(self.checked(absolute)?)
            .and_then(|metadata| metadata.modified())
            .map_err(failed)?;
        let since_epoch = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    /// A text file that holds one number in decimal.
    pub fn number<T: FromStr>(&self, absolute: &str) -> Result<T, HostError> {
        let text = self.text(absolute)?;
        text.parse().map_err(|_| unparsable(absolute, &text, "a number in range"))
    }

    /// A text file that holds one hexadecimal number, with or without `0x`.
    pub fn hex(&self, absolute: &str) -> Result<u64, HostError> {
        let text = self.text(absolute)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        u64::from_str_radix(digits, 16).map_err(|_| unparsable(absolute, &text, "a hexadecimal number"))
    }

    /// A file that holds the speed of a PCIe link, gigatransfers a second: `8.0 GT/s PCIe`, `2.5 GT/s`.
    pub fn link_speed_gts(&self, absolute: &str) -> Result<f64, HostError> {
        let text = self.text(absolute)?;
        gigatransfers(&text).ok_or_else(|| unparsable(absolute, &text, "the speed of a link"))
    }

    /// A text file that holds `0` or `1`.
    pub fn flag(&self, absolute: &str) -> Result<bool, HostError> {
        let text = self.text(absolute)?;
        match text.as_str() {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(unparsable(absolute, &text, "0 or 1")),
        }
    }

    /// Names in a directory, sorted with numbers in numeric order (`cpu2` before `cpu10`). Hidden names are left out:
    /// the kernel has none, but a recorded tree has `.keep` where a directory would be empty.
    pub fn list(&self, absolute: &str) -> Result<Vec<String>, HostError> {
        let failed = |source| HostError::Read { path: PathBuf::from(absolute), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.checked(absolute)?).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push(name);
            }
        }
        self.note(|| Access::Directory(absolute.to_owned()));
        names.sort_by(|left, right| natural_key(left).cmp(&natural_key(right)).then_with(|| left.cmp(right)));
        Ok(names)
    }

    /// Whether there is something at this path, links followed.
    pub fn exists(&self, absolute: &str) -> bool {
        let exists = self.checked(absolute).is_ok_and(|path| path.exists());
        if exists {
            self.note(|| Access::Name(absolute.to_owned()));
        }
        exists
    }

    /// Whether there is a link at this path.
    pub fn is_link(&self, absolute: &str) -> bool {
        self.checked(absolute).is_ok_and(|path| path.is_symlink())
    }

    /// Whether there is a directory at this path, links followed.
    pub fn is_directory(&self, absolute: &str) -> bool {
        let is_directory = self.checked(absolute).is_ok_and(|path| path.is_dir());
        if is_directory {
            self.note(|| Access::Name(absolute.to_owned()));
        }
        is_directory
    }

    /// The last part of a link's target: `driver` → `nvme`, `subsystem` → `pci`.
    pub fn link_name(&self, absolute: &str) -> Result<String, HostError> {
        let failed = |source| HostError::Read { path: PathBuf::from(absolute), source };
        let target = std::fs::read_link(self.checked(absolute)?).map_err(failed)?;
        self.note(|| Access::Name(absolute.to_owned()));
        if let Some(name) = target.file_name() {
            return Ok(name.to_string_lossy().into_owned());
        }
        // A link such as `..` does not name what it leads to.
        let place = self.resolve(absolute)?;
        Ok(place.rsplit_once('/').map_or(place.clone(), |(_, name)| name.to_owned()))
    }

    /// Where a path leads when every link is followed, as the machine knows it:
    /// `/sys/block/sda` → `/sys/devices/pci0000:00/…/block/sda`.
    pub fn resolve(&self, absolute: &str) -> Result<String, HostError> {
        let failed = |source| HostError::Read { path: PathBuf::from(absolute), source };
        let found = self.checked(absolute)?.canonicalize().map_err(failed)?;
        let root = self.root.canonicalize().map_err(failed)?;
        let inside =
            found.strip_prefix(&root).map_err(|_| HostError::Outside { path: PathBuf::from(absolute) })?;
        self.note(|| Access::Name(absolute.to_owned()));
        Ok(format!("/{}", inside.to_string_lossy()))
    }

    fn checked(&self, absolute: &str) -> Result<PathBuf, HostError> {
        let climbs = Path::new(absolute).components().any(|component| component == Component::ParentDir);
        if climbs || !absolute.starts_with('/') {
            return Err(HostError::Outside { path: PathBuf::from(absolute) });
        }
        Ok(self.path(absolute))
    }
}

fn unparsable(absolute: &str, found: &str, expected: &'static str) -> HostError {
    let found = found.chars().take(80).collect();
    HostError::Unparsable { path: PathBuf::from(absolute), found, expected }
}

fn gigatransfers(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once(' ')?;
    let number: f64 = number.parse().ok()?;
    (unit.starts_with("GT/s") && number.is_finite() && number > 0.0).then_some(number)
}

/// Text and number parts of a name, so that numbers compare as numbers.
fn natural_key(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits_at = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits_at);
        let digits_end = tail.find(|character: char| !character.is_ascii_digit()).unwrap_or(tail.len());
        let (digits, tail) = tail.split_at(digits_end);
        parts.push((text.to_owned(), digits.parse().unwrap_or(0)));
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Host) {
        let directory = tempfile::tempdir().unwrap();
        let host = Host::recorded(directory.path());
        std::fs::create_dir_all(directory.path().join("sys/devices/a/cpu10")).unwrap();
        std::fs::create_dir_all(directory.path().join("sys/devices/a/cpu2")).unwrap();
        std::fs::write(directory.path().join("sys/devices/a/size"), " 42\n").unwrap();
        std::os::unix::fs::symlink("devices/a", directory.path().join("sys/link")).unwrap();
        std::os::unix::fs::symlink("/etc", directory.path().join("sys/out")).unwrap();
        (directory, host)
    }

    #[test]
    fn reads_text_numbers_directories_and_links() {
        let (_directory, host) = tree();
        assert_eq!(host.text("/sys/link/size").unwrap(), "42");
        assert_eq!(host.number::<u8>("/sys/link/size").unwrap(), 42);
        assert_eq!(host.hex("/sys/link/size").unwrap(), 0x42);
        assert_eq!(host.list("/sys/devices/a").unwrap(), ["cpu2", "cpu10", "size"]);
        assert_eq!(host.link_name("/sys/link").unwrap(), "a");
        assert_eq!(host.resolve("/sys/link").unwrap(), "/sys/devices/a");
        assert!(host.flag("/sys/link/size").is_err());
    }

    #[test]
    fn a_missing_file_is_told_from_one_that_is_wrong() {
        let (_directory, host) = tree();
        let missing = host.text("/sys/nothing").unwrap_err();
        assert!(missing.is_missing());
        assert_eq!(missing.reason(), "/sys/nothing: does not exist");
        let wrong = host.text("/sys/devices/a").unwrap_err();
        assert!(!wrong.is_missing());
        assert_eq!(wrong.reason(), "/sys/devices/a: is no regular file");
        std::fs::write(host.path("/sys/devices/a/size"), "many").unwrap();
        assert_eq!(
            host.number::<u8>("/sys/link/size").unwrap_err().reason(),
            "/sys/link/size: `many` is not a number in range"
        );
    }

    #[test]
    fn link_speeds_as_sysfs_writes_them() {
        assert_eq!(gigatransfers("8.0 GT/s PCIe"), Some(8.0));
        assert_eq!(gigatransfers("2.5 GT/s"), Some(2.5));
        for none in ["Unknown", "Unknown speed", "", "8.0", "inf GT/s", "-1 GT/s"] {
            assert_eq!(gigatransfers(none), None, "{none}");
        }
    }

    #[test]
    fn nothing_leads_out_of_the_tree() {
        let (_directory, host) = tree();
        assert!(matches!(host.text("/sys/../../etc/hostname"), Err(HostError::Outside { .. })));
        assert!(matches!(host.text("sys/link/size"), Err(HostError::Outside { .. })));
        assert!(matches!(host.resolve("/sys/out"), Err(HostError::Outside { .. })));
    }
}
