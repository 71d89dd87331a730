//! `/usr` of the live image: a squashfs that the kernel unpacked as one file, mounted through a loop device.
//!
//! The two drivers for that lie beside it. Where the file is not there, `/usr` is what it is and stays so.

#![expect(clippy::disallowed_methods, reason = "mounts the file that it opens")]

use std::fs::{File, OpenOptions};
use std::io;

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount as mount_at};

const SQUASHFS: &str = "/usr.squashfs";
const DRIVERS: [&str; 2] = ["/early/loop.ko", "/early/squashfs.ko"];
/// The kernel makes eight loop devices with its driver; nobody else uses one so early.
const LOOP_DEVICE: &str = "/dev/loop0";

/// The tools cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub(super) enum UsrError {
    /// A file of the image, or the loop device, is not there.
    #[error("{path}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A driver is refused.
    #[error("{path}: the kernel does not take this module")]
    Driver {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The loop device does not take the file.
    #[error("{LOOP_DEVICE} does not take {SQUASHFS}")]
    Loop {
        /// Why.
        source: io::Error,
    },
    /// The kernel does not mount it.
    #[error("{SQUASHFS} cannot be mounted at /usr: is it whole?")]
    Mount {
        /// Why.
        source: io::Error,
    },
}

/// Mounts the tools, if they are still to be mounted.
pub(super) fn mount() -> Result<(), UsrError> {
    if !Path::new(SQUASHFS).exists() {
        return Ok(());
    }
    for driver in DRIVERS {
        match finit_module(open(driver, false)?, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(UsrError::Driver { path: driver.into(), source: errno.into() }),
        }
    }
    let file = open(SQUASHFS, false)?;
    let device = open(LOOP_DEVICE, true)?;
    calls::attach(&device, &file).map_err(|errno| UsrError::Loop { source: errno.into() })?;
    // the device lets the file go when it is unmounted, or at once if it is not mounted
    mount_at(Some(LOOP_DEVICE), "/usr", Some("squashfs"), MsFlags::MS_RDONLY, None::<&str>)
        .map_err(|errno| UsrError::Mount { source: errno.into() })
}

fn open(path: &str, writable: bool) -> Result<File, UsrError> {
    OpenOptions::new()
        .read(true)
        .write(writable)
        .open(path)
        .map_err(|source| UsrError::Open { path: path.into(), source })
}

/// `LOOP_CONFIGURE` of linux/loop.h.
mod calls {
    use std::os::fd::AsRawFd as _;

    use super::{Errno, File};

    const READ_ONLY: u32 = 1;
    const AUTOCLEAR: u32 = 4;

    /// `struct loop_info64`.
    #[repr(C)]
    struct Info {
        numbers: [u64; 5],
        number: u32,
        encrypt_type: u32,
        encrypt_key_size: u32,
        flags: u32,
        names: [u8; 64 + 64 + 32],
        init: [u64; 2],
    }

    /// `struct loop_config`.
    #[repr(C)]
    pub(super) struct Config {
        file: u32,
        block_size: u32,
        info: Info,
        reserved: [u64; 8],
    }

    mod generated {
        nix::ioctl_write_ptr_bad!(configure, 0x4C0A, super::Config);
    }

    /// Gives the device a file to be read as a disk.
    pub(super) fn attach(device: &File, file: &File) -> Result<(), Errno> {
        let config = Config {
            file: u32::try_from(file.as_raw_fd()).map_err(|_| Errno::EBADF)?,
            block_size: 0,
            info: Info {
                numbers: [0; 5],
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: READ_ONLY | AUTOCLEAR,
                names: [0; 160],
                init: [0; 2],
            },
            reserved: [0; 8],
        };
        // SAFETY: the kernel reads a whole loop_config, which this is, and keeps no pointer to it
        unsafe { generated::configure(device.as_raw_fd(), &raw const config) }.map(drop)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_structures_are_as_large_as_the_kernels() {
            assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
        }
    }
}
