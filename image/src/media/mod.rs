//! What boots without a network: `vetting.iso`, a disc that is a stick as well, and `vetting-usb.img`, a stick with one
//! FAT partition that any computer opens.
//!
//! Owns: what is on both, by which way each firmware starts them, and that two builds are the same. Refuses: times,
//! random identifiers, and boot loaders from anywhere but the lock file: Secure Boot takes only Debian's signed ones.
//!
//! BIOS machines start ISOLINUX or SYSLINUX; UEFI machines start shim, which starts GRUB for discs, which starts the
//! kernel, each signed. GRUB finds its menu by `/.disk/info`.

pub mod iso;
pub mod menu;
pub mod usb;

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::command::{CommandError, Tool};
use crate::contents::{self, ContentsError};
use crate::fetch::Unpacked;
use crate::recipe::Recipe;

/// Volume id of the disc and label of the stick, by which the agent finds again what it was started from.
pub const LABEL: &str = "VETTING";

/// The time of every file on both, seconds since 1970; FAT knows no earlier year than 1980.
const EPOCH_SECONDS: u64 = 1_790_000_000;

/// Why the disc or the stick cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// A boot loader is not in the packages.
    #[error("looking for the boot loaders of disc and stick")]
    Loaders(#[from] ContentsError),
    /// A program failed.
    #[error("making the disc or the stick")]
    Tool(#[from] CommandError),
    /// A file failed.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The files do not fit the format.
    #[error("the stick would have {sectors} sectors, more than its partition table can say")]
    TooLarge {
        /// Its size.
        sectors: u64,
    },
}

/// Everything that is put on disc and stick.
#[derive(Debug)]
pub struct Sources {
    /// The kernel.
    pub vmlinuz: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    loaders: Loaders,
}

/// Boot loaders, as the recipe's `media` names them.
#[derive(Debug)]
struct Loaders {
    shim: PathBuf,
    grub: PathBuf,
    isolinux: PathBuf,
    isolinux_mbr: PathBuf,
    isolinux_library: PathBuf,
    syslinux: PathBuf,
    syslinux_mbr: PathBuf,
    /// Root of the C library that syslinux was linked with: the host's may be older.
    libc: PathBuf,
}

impl Sources {
    /// Kernel and initramfs of an output folder, with the boot loaders of the unpacked packages.
    ///
    /// # Errors
    /// The recipe does not name a boot loader, or its package lacks it.
    pub fn new(output: &Path, recipe: &Recipe, packages: &[Unpacked]) -> Result<Self, MediaError> {
        let files = contents::files_beside(&recipe.packages.media, packages)?;
        let named = |name: &str| {
            let found = files.iter().find(|file| file.file_name().is_some_and(|found| found == name));
            found.cloned().ok_or_else(|| missing("media", name))
        };
        let libc = packages.iter().find(|unpacked| unpacked.package.name == "libc6");
        Ok(Self {
            vmlinuz: output.join("vmlinuz"),
            initrd: output.join("initrd.zst"),
            loaders: Loaders {
                shim: named("shimx64.efi.signed")?,
                grub: named("gcdx64.efi.signed")?,
                isolinux: named("isolinux.bin")?,
                isolinux_mbr: named("isohdpfx.bin")?,
                isolinux_library: named("ldlinux.c32")?,
                syslinux: named("syslinux")?,
                syslinux_mbr: named("mbr.bin")?,
                libc: libc.map(|libc| libc.root.clone()).ok_or_else(|| missing("libc6", "libc.so.6"))?,
            },
        })
    }

    /// What UEFI machines start: path on the medium and file.
    fn efi(&self) -> [(&'static str, &Path); 2] {
        [("EFI/BOOT/BOOTX64.EFI", &self.loaders.shim), ("EFI/BOOT/grubx64.efi", &self.loaders.grub)]
    }

    /// Kernel and initramfs: path on the medium and file.
    fn system(&self) -> [(&'static str, &Path); 2] {
        [("live/vmlinuz", &self.vmlinuz), ("live/initrd.zst", &self.initrd)]
    }
}

fn missing(package: &str, what: &str) -> MediaError {
    ContentsError::NoFile { recipe: "packages.yaml", package: package.to_owned(), what: what.to_owned() }
        .into()
}

/// A host program that takes its times from the environment.
fn timeless(program: &str) -> Tool {
    Tool::new(program)
        .env("SOURCE_DATE_EPOCH", EPOCH_SECONDS.to_string())
        .env("TZ", "UTC")
        .env("MTOOLS_SKIP_CHECK", "1")
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), MediaError> {
    make_parent(path)?;
    std::fs::write(path, bytes).map_err(failed(path))?;
    set_time(path)
}

fn copy(source: &Path, path: &Path) -> Result<(), MediaError> {
    make_parent(path)?;
    std::fs::copy(source, path).map_err(failed(source))?;
    set_time(path)
}

fn make_parent(path: &Path) -> Result<(), MediaError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed(parent))
}

fn set_time(path: &Path) -> Result<(), MediaError> {
    let file = std::fs::File::open(path).map_err(failed(path))?;
    file.set_modified(UNIX_EPOCH + Duration::from_secs(EPOCH_SECONDS)).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> MediaError + use<'_> {
    move |source| MediaError::File { path: path.to_owned(), source }
}
