//! The files that machines load before they have an operating system: those of the image's `netboot` folder, and the
//! scripts that iPXE and GRUB run when nobody named them one.
//!
//! Refuses: every other name. A requested name is only ever compared with the names that are there, never made part
//! of a path; links are not followed.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::fcntl::OFlag;

use super::{grub, ipxe};

/// What a BIOS machine loads first: iPXE over the card's own driver.
pub const BIOS_LOADER: &str = "undionly.kpxe";
/// What a UEFI machine loads first: iPXE over the firmware's own driver.
pub const UEFI_LOADER: &str = "snponly.efi";
/// The script that iPXE looks for beside itself.
pub const AUTOEXEC: &str = "autoexec.ipxe";
/// What a UEFI machine with Secure Boot loads first: signed by Microsoft, it accepts what Debian signed.
pub const SHIM: &str = "shimx64.efi";
/// What shim loads next, from where it came from itself.
const GRUB: &str = "grubx64.efi";
/// What GRUB runs first; its name is built into the signed file.
pub const GRUB_CONFIG: &str = "grub/grub.cfg";
/// Names that loaders ask for, and those that Debian's packages have.
const SIGNED: [(&str, &str); 2] = [(SHIM, "shimx64.efi.signed"), (GRUB, "grubnetx64.efi.signed")];
/// A boot loader is far smaller; it is held in memory while it is sent.
const LARGEST_BYTES: u64 = 16 * 1024 * 1024;

/// Why a file is not given.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is no such name.
    #[error("there is no boot file of this name")]
    Unknown,
    /// There is one, but it cannot be given.
    #[error("{} is not a plain file of at most {LARGEST_BYTES} bytes", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
    },
    /// The operating system.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The boot files of one image.
#[derive(Debug, Clone)]
pub struct BootFiles {
    folder: PathBuf,
}

impl BootFiles {
    /// Of the image in this folder, as `make image` leaves it. They are looked up at each request, so the image may
    /// be built anew under a running coordinator.
    pub fn of_image(image: &Path) -> Self {
        Self { folder: image.join("netboot") }
    }

    /// The file of this name; `base_url` is `http://HOST:PORT` as the asking machine reaches us. Blocks on the disk.
    ///
    /// # Errors
    /// Any name but one of ours, anything but a plain file, a file that cannot be read.
    pub fn get(&self, name: &str, base_url: &str) -> Result<Bytes, FileError> {
        match name {
            AUTOEXEC => return Ok(ipxe::autoexec(base_url).into()),
            GRUB_CONFIG => return Ok(grub::ask_with_mac(base_url).into()),
            _ => {}
        }
        let signed = SIGNED.iter().find(|(asked, _)| *asked == name);
        let name = signed.map_or(name, |(_, there)| there);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FileError::Read { path, source }
        };
        let entries = std::fs::read_dir(&self.folder).map_err(failed(&self.folder))?;
        for entry in entries {
            let entry = entry.map_err(failed(&self.folder))?;
            if entry.file_name() == name {
                let path = entry.path();
                let file = open(&path)?;
                return read(file, &path);
            }
        }
        Err(FileError::Unknown)
    }
}

fn open(path: &Path) -> Result<File, FileError> {
    // not to wait for a writer, should it be a pipe
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(|source| {
        let path = path.to_owned();
        if source.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) {
            FileError::Unfit { path }
        } else {
            FileError::Read { path, source }
        }
    })
}

fn read(file: File, path: &Path) -> Result<Bytes, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let unfit = || FileError::Unfit { path: path.to_owned() };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() > LARGEST_BYTES {
        return Err(unfit());
    }
    let mut content = Vec::new();
    file.take(LARGEST_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > LARGEST_BYTES {
        return Err(unfit());
    }
    Ok(content.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_that_are_there_are_given() {
        let image = tempfile::tempdir().unwrap();
        let folder = image.path().join("netboot");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(image.path().join("secret"), "s").unwrap();
        std::fs::write(folder.join("sub/inner"), "i").unwrap();
        std::fs::write(folder.join(BIOS_LOADER), "loader").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("passwd")).unwrap();
        std::os::unix::fs::symlink(BIOS_LOADER, folder.join("link.kpxe")).unwrap();
        let files = BootFiles::of_image(image.path());
        let get = |name: &str| files.get(name, "http://192.0.2.1:8080");
        assert_eq!(get(BIOS_LOADER).unwrap(), "loader");
        assert!(get(AUTOEXEC).unwrap().starts_with(b"#!ipxe\n"));
        assert!(get("grub/grub.cfg").unwrap().starts_with(b"while true"));
        assert!(matches!(get(SHIM), Err(FileError::Unknown)), "an image without it");
        std::fs::write(folder.join("shimx64.efi.signed"), "shim").unwrap();
        assert_eq!(get(SHIM).unwrap(), "shim");
        for name in
            ["../secret", "sub/inner", "./undionly.kpxe", "/etc/passwd", "..", ".", "", "Undionly.kpxe"]
        {
            assert!(matches!(get(name), Err(FileError::Unknown)), "{name}");
        }
        for name in ["passwd", "link.kpxe", "sub"] {
            assert!(matches!(get(name), Err(FileError::Unfit { .. })), "{name}: {:?}", get(name));
        }
    }

    #[test]
    fn a_missing_image_is_named() {
        let error = BootFiles::of_image(Path::new("/nowhere")).get(BIOS_LOADER, "").unwrap_err();
        assert!(error.to_string().contains("/nowhere/netboot"), "{error}");
    }
}
