//! `vetting.iso`: a disc for BIOS and UEFI that also boots when it is written to a stick as it is.
//!
//! The disc cannot be written: a machine started from it takes its settings from the console, and its results go to a
//! second stick or to a coordinator.

use std::path::Path;

use vetting_protocol::stick::{DEFAULT_TEXT, FILE_NAME};

use super::{LABEL, MediaError, Sources, copy, menu, set_time, timeless, write};

/// FAT image of the EFI boot loaders inside the disc, in KiB: shim and GRUB take 3.2 MB.
const EFI_KIB: u64 = 5 * 1024;

/// Make the disc at `output`; `work` is an empty folder for what is on the way there.
///
/// # Errors
/// A program is not installed or fails, or a file cannot be written.
pub fn make(sources: &Sources, work: &Path, output: &Path) -> Result<(), MediaError> {
    let tree = work.join("iso");
    let loaders = &sources.loaders;
    for (name, file) in sources.system().into_iter().chain(sources.efi()) {
        copy(file, &tree.join(name))?;
    }
    copy(&loaders.isolinux, &tree.join("isolinux/isolinux.bin"))?;
    copy(&loaders.isolinux_library, &tree.join("isolinux/ldlinux.c32"))?;
    write(&tree.join("isolinux/isolinux.cfg"), menu::syslinux().as_bytes())?;
    for name in ["boot/grub/grub.cfg", "boot/grub/x86_64-efi/grub.cfg"] {
        write(&tree.join(name), menu::grub().as_bytes())?;
    }
    write(&tree.join(".disk/info"), b"vetting\n")?;
    write(&tree.join(FILE_NAME), DEFAULT_TEXT.as_bytes())?;
    efi_image(sources, &tree.join("boot/efi.img"))?;
    timeless("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-r", "-J", "-V", LABEL])
        // these would be random, or the time of the build
        .args([
            "--modification-date=2026092113460000",
            "--set_all_file_dates",
            "2026092113460000",
            "--gpt_disk_guid",
            "76657474-696e-4670-8000-69736f000001",
        ])
        .arg("-isohybrid-mbr")
        .arg(&loaders.isolinux_mbr)
        .args(["-c", "isolinux/boot.cat", "-b", "isolinux/isolinux.bin"])
        .args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"])
        .args(["-eltorito-alt-boot", "-e", "boot/efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat", "-o"])
        .args([output, &tree])
        .run()?;
    Ok(())
}

fn efi_image(sources: &Sources, image: &Path) -> Result<(), MediaError> {
    timeless("mkfs.vfat")
        .args(["-C", "-F", "12", "-i", "76657401", "--invariant", "-n", "EFI"])
        .arg(image)
        .arg(EFI_KIB.to_string())
        .run()?;
    timeless("mmd").arg("-i").arg(image).args(["::/EFI", "::/EFI/BOOT"]).run()?;
    for (name, file) in sources.efi() {
        timeless("mcopy").arg("-i").arg(image).arg(file).arg(format!("::/{name}")).run()?;
    }
    set_time(image)
}
