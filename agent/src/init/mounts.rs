//! The file systems of the live image. What the kernel does not offer is left out; what fails is told.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

/// A file system that could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error("{kind} cannot be made at {target}")]
pub(super) struct MountError {
    kind: &'static str,
    target: PathBuf,
    source: std::io::Error,
}

struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    data: &'static str,
    /// Its absence is no news: not every kernel or machine has it.
    optional: bool,
}

const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC).union(MsFlags::MS_NODEV);
const NO_DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

const fn needed(kind: &'static str, target: &'static str, flags: MsFlags, data: &'static str) -> Mount {
    Mount { kind, target, flags, data, optional: false }
}

const fn wanted(kind: &'static str, target: &'static str) -> Mount {
    Mount { kind, target, flags: SAFE, data: "", optional: true }
}

/// In this order: each may hold the next one's place.
const MOUNTS: &[Mount] = &[
    needed("proc", "/proc", SAFE, ""),
    needed("sysfs", "/sys", SAFE, ""),
    needed("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755"),
    needed("devpts", "/dev/pts", MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC), "gid=5,mode=0620"),
    needed("tmpfs", "/dev/shm", NO_DEVICES, "mode=1777"),
    needed("tmpfs", "/run", NO_DEVICES, "mode=0755"),
    needed("tmpfs", "/tmp", NO_DEVICES, "mode=1777"),
    wanted("debugfs", "/sys/kernel/debug"),
    wanted("tracefs", "/sys/kernel/tracing"),
    wanted("pstore", "/sys/fs/pstore"),
    wanted("efivarfs", "/sys/firmware/efi/efivars"),
];

/// What devtmpfs leaves to user space, and tools write to.
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Mounts everything and makes `/run/vetting`; gives what failed.
pub(super) fn mount_all() -> Vec<MountError> {
    let mut failures: Vec<MountError> = MOUNTS.iter().filter_map(|mount| mount_one(mount).err()).collect();
    // the kernel's root is a tmpfs that everybody may write to; an SSH server trusts no key below such a folder
    if let Err(source) = std::fs::set_permissions("/", Permissions::from_mode(0o755)) {
        failures.push(MountError { kind: "a root for root alone", target: PathBuf::from("/"), source });
    }
    if let Err(source) = std::fs::create_dir_all(super::live::RUN_DIRECTORY) {
        let target = PathBuf::from(super::live::RUN_DIRECTORY);
        failures.push(MountError { kind: "a directory", target, source });
    }
    failures.extend(LINKS.iter().filter_map(|(link, target)| {
        let path = Path::new(link);
        match std::os::unix::fs::symlink(target, path) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                Some(MountError { kind: "a link", target: path.to_owned(), source })
            }
            Ok(()) | Err(_) => None,
        }
    }));
    failures
}

fn mount_one(wanted: &Mount) -> Result<(), MountError> {
    let target = Path::new(wanted.target);
    let failed = |source| MountError { kind: wanted.kind, target: target.to_owned(), source };
    // in sysfs no directory can be made: there the kernel makes it, or has no such thing
    if !target.is_dir() {
        if wanted.optional {
            return Ok(());
        }
        std::fs::create_dir_all(target).map_err(failed)?;
    }
    match mount(Some(wanted.kind), target, Some(wanted.kind), wanted.flags, Some(wanted.data)) {
        // the kernel mounts devtmpfs itself when it is told to
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(_) if wanted.optional => Ok(()),
        Err(errno) => Err(failed(errno.into())),
    }
}
