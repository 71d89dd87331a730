//! `vetting-usb.img`: a stick with one FAT32 partition, whose `vetting.yaml` anyone can edit and that takes results.
//!
//! Owns: its partition table and what is on it. The room for results is fixed: a larger stick keeps the rest unused.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use vetting_protocol::stick::{DEFAULT_TEXT, FILE_NAME};

use super::{LABEL, Loaders, MediaError, Sources, failed, menu, timeless, write};

const SECTOR_BYTES: usize = 512;
/// Where the partition begins, in sectors: at 1 MiB, as every partitioning tool has it.
const START_SECTOR: u32 = 2048;
const MIB: u64 = 1 << 20;
/// Free room for results.
const RESULTS_BYTES: u64 = 128 * MIB;
/// FAT tables and what rounding up to clusters takes.
const OVERHEAD_BYTES: u64 = 4 * MIB;
/// Disk signature in the partition table, and volume id: the same in all images.
const SIGNATURE: u32 = 0x7665_7402;

const README: &str = "This stick starts a machine, tests its hardware, and keeps what it found.

vetting.yaml says what the machine is to do; open it with any text editor.
Results of machines without a coordinator are in the folder results.
";

/// Make the stick's image at `output`; `work` is a folder for what is on the way there.
///
/// # Errors
/// A program is not installed or fails, or a file cannot be written.
pub fn make(sources: &Sources, work: &Path, output: &Path) -> Result<(), MediaError> {
    let texts = [
        (".disk/info", "vetting\n".to_owned()),
        ("boot/grub/grub.cfg", menu::grub()),
        ("boot/grub/x86_64-efi/grub.cfg", menu::grub()),
        ("syslinux/syslinux.cfg", menu::syslinux()),
        ("README.txt", README.to_owned()),
        (FILE_NAME, DEFAULT_TEXT.to_owned()),
    ];
    let mut files: Vec<(&str, PathBuf)> = sources
        .system()
        .into_iter()
        .chain(sources.efi())
        .map(|(name, file)| (name, file.to_owned()))
        .collect();
    for (name, text) in texts {
        let file = work.join("usb").join(name);
        write(&file, text.as_bytes())?;
        files.push((name, file));
    }
    let partition_bytes = partition_bytes(&files)?;
    create(&sources.loaders, partition_bytes, output)?;
    timeless("mkfs.vfat")
        .args(["-F", "32", "-s", "4", "--invariant", "-n", LABEL])
        .args(["-i", &format!("{SIGNATURE:08x}")])
        .args(["--offset", &START_SECTOR.to_string(), "-h", &START_SECTOR.to_string()])
        .arg(output)
        .arg((partition_bytes / 1024).to_string())
        .run()?;
    let offset = u64::from(START_SECTOR) * SECTOR_BYTES as u64;
    let partition = format!("{}@@{offset}", output.display());
    let folders =
        ["EFI", "EFI/BOOT", "live", "boot", "boot/grub", "boot/grub/x86_64-efi", "syslinux", ".disk"];
    timeless("mmd").args(["-i", &partition]).args(folders.map(|folder| format!("::/{folder}"))).run()?;
    for (name, file) in &files {
        timeless("mcopy").args(["-i", &partition]).arg(file).arg(format!("::/{name}")).run()?;
    }
    install_syslinux(&sources.loaders, offset, output)
}

/// Files, room for results, and the file system's own, in whole MiB.
fn partition_bytes(files: &[(&str, PathBuf)]) -> Result<u64, MediaError> {
    let mut total = RESULTS_BYTES + OVERHEAD_BYTES;
    for (_, file) in files {
        total += std::fs::metadata(file).map_err(failed(file))?.len();
    }
    Ok(total.next_multiple_of(MIB))
}

/// The image without a file system: boot code, partition table, and nothing else.
fn create(loaders: &Loaders, partition_bytes: u64, output: &Path) -> Result<(), MediaError> {
    let boot_code = std::fs::read(&loaders.syslinux_mbr).map_err(failed(&loaders.syslinux_mbr))?;
    let sectors = partition_bytes / SECTOR_BYTES as u64;
    let sectors = u32::try_from(sectors).map_err(|_| MediaError::TooLarge { sectors })?;
    let mut file = File::create(output).map_err(failed(output))?;
    file.set_len(u64::from(START_SECTOR) * SECTOR_BYTES as u64 + partition_bytes).map_err(failed(output))?;
    file.seek(SeekFrom::Start(0)).map_err(failed(output))?;
    file.write_all(&partition_table(&boot_code, sectors)).map_err(failed(output))
}

/// The first sector: boot code and one bootable FAT32 partition, addressed by sector numbers alone.
fn partition_table(boot_code: &[u8], sectors: u32) -> [u8; SECTOR_BYTES] {
    const CODE_BYTES: usize = 440;
    const BEYOND_CHS: [u8; 3] = [0xfe, 0xff, 0xff];
    const BOOTABLE: u8 = 0x80;
    const FAT32_LBA: u8 = 0x0c;
    let mut table = [0; SECTOR_BYTES];
    let code = &boot_code[..boot_code.len().min(CODE_BYTES)];
    table[..code.len()].copy_from_slice(code);
    table[CODE_BYTES..444].copy_from_slice(&SIGNATURE.to_le_bytes());
    table[446] = BOOTABLE;
    table[447..450].copy_from_slice(&BEYOND_CHS);
    table[450] = FAT32_LBA;
    table[451..454].copy_from_slice(&BEYOND_CHS);
    table[454..458].copy_from_slice(&START_SECTOR.to_le_bytes());
    table[458..462].copy_from_slice(&sectors.to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    table
}

/// Puts SYSLINUX into the file system: by the installer of the lock file, with the C library it was linked with.
fn install_syslinux(loaders: &Loaders, offset: u64, output: &Path) -> Result<(), MediaError> {
    let libraries = loaders.libc.join("usr/lib/x86_64-linux-gnu");
    let linker = libraries.join("ld-linux-x86-64.so.2");
    timeless(&linker.display().to_string())
        .arg("--library-path")
        .arg(&libraries)
        .arg(&loaders.syslinux)
        .args(["--install", "--directory", "syslinux", "--offset", &offset.to_string()])
        .arg(output)
        .run()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_table_is_as_sfdisk_writes_it() {
        let table = partition_table(&[0xfa; 440], 393_216);
        assert!(table[..440].iter().all(|byte| *byte == 0xfa));
        assert_eq!(table[440..446], [0x02, 0x74, 0x65, 0x76, 0, 0]);
        let entry = [0x80, 0xfe, 0xff, 0xff, 0x0c, 0xfe, 0xff, 0xff, 0, 8, 0, 0, 0, 0, 6, 0];
        assert_eq!(table[446..462], entry);
        assert!(table[462..510].iter().all(|byte| *byte == 0));
        assert_eq!(table[510..], [0x55, 0xaa]);
    }
}
