//! Disks that say on the serial line that they were booted, and do nothing else: what a machine finds when it is sent
//! to its own disk.

use std::path::Path;

/// What is said.
pub const STARTED: &str = "the local disk has started";

/// Boots under BIOS: a boot sector that writes to the first serial port and stops. SeaBIOS writes to that port too, what
/// it still has of the screen, at a tick of its clock: none may come between.
const BOOT_SECTOR: [u8; 23] = [
    0xfa, // cli
    0x31, 0xc0, // xor ax, ax
    0x8e, 0xd8, // mov ds, ax
    0xfc, // cld
    0xbe, 0x17, 0x7c, // mov si, 0x7c17: the text behind this code
    0xac, // next: lodsb
    0x84, 0xc0, // test al, al
    0x74, 0x06, // jz stop
    0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xee, // out dx, al
    0xeb, 0xf5, // jmp next
    0xf4, // stop: hlt
    0xeb, 0xfd, // jmp stop
];
const SECTOR_BYTES: usize = 512;
/// So that the disk has a geometry.
const DISK_BYTES: usize = 1024 * 1024;

/// QEMU's arguments for a disk that boots under BIOS, second in the boot order; its file is made in `folder`.
pub fn bios(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut disk = vec![0; DISK_BYTES];
    let text = format!("\r\n{STARTED}\r\n");
    for (place, byte) in disk.iter_mut().zip(BOOT_SECTOR.into_iter().chain(text.bytes())) {
        *place = byte;
    }
    disk[SECTOR_BYTES - 2..SECTOR_BYTES].copy_from_slice(&[0x55, 0xaa]);
    let path = folder.join("local-disk.img");
    std::fs::write(&path, disk)?;
    Ok(arguments(&path.display().to_string()))
}

/// The same for UEFI, with Secure Boot or without: shim of the image's `netboot` folder, and GRUB, which says the text.
pub fn uefi(netboot: &Path, folder: &Path) -> anyhow::Result<Vec<String>> {
    let disk = folder.join("local-disk");
    let (loaders, config) = (disk.join("EFI/BOOT"), disk.join("grub"));
    for folder in [&loaders, &config] {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::copy(netboot.join("shimx64.efi.signed"), loaders.join("BOOTX64.EFI"))?;
    std::fs::copy(netboot.join("grubnetx64.efi.signed"), loaders.join("grubx64.efi"))?;
    std::fs::write(config.join("grub.cfg"), format!("echo '{STARTED}'\nsleep 600\n"))?;
    Ok(arguments(&format!("fat:{}", disk.display())))
}

fn arguments(file: &str) -> Vec<String> {
    let drive = format!("if=none,id=local,format=raw,snapshot=on,file={file}");
    ["-drive", &drive, "-device", "virtio-blk-pci,drive=local,bootindex=2"].map(str::to_owned).to_vec()
}
