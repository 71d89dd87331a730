//! How a lab machine finds its operating system: over the network as real hardware does, or handed a kernel directly.
//!
//! Owns: the TFTP folder of a machine, the boot file it is told, `autoexec.ipxe`. Refuses: serving HTTP (the
//! coordinator, or the test's own server, does that on the host's loopback).

use std::path::{Path, PathBuf};

use super::{Firmware, LabError, Tap};

/// The host's loopback as seen from inside QEMU's user network.
pub const HOST_FROM_GUEST: &str = "10.0.2.2";

/// Where a machine boots from.
#[derive(Debug, Clone)]
pub enum Boot {
    /// Firmware → iPXE → script over HTTP.
    Network(NetworkBoot),
    /// The same on a network of its own, where the machine must find its boot server by itself.
    Lan(Tap),
    /// The kernel is put into memory by QEMU, without firmware network code.
    Direct(DirectBoot),
}

/// Boot over the network.
#[derive(Debug, Clone)]
pub struct NetworkBoot {
    /// Port on the host's loopback that answers `GET /boot/ipxe`.
    pub http_port: u16,
    /// Folder with `snponly.efi`, as the image build makes it (`target/image/netboot`); used by UEFI machines.
    pub netboot_files: PathBuf,
}

/// Boot a kernel directly.
#[derive(Debug, Clone)]
pub struct DirectBoot {
    /// Kernel image.
    pub kernel: PathBuf,
    /// Initramfs.
    pub initrd: PathBuf,
    /// Kernel command line.
    pub append: String,
}

impl NetworkBoot {
    /// The URL of the coordinator's boot script as seen from the machine.
    pub fn script_url(&self) -> String {
        format!("http://{HOST_FROM_GUEST}:{}/boot/ipxe", self.http_port)
    }

    /// Fill `directory` with what the machine loads over TFTP; returns the boot file its DHCP server names.
    pub(super) fn prepare(&self, firmware: Firmware, directory: &Path) -> Result<String, LabError> {
        std::fs::create_dir_all(directory).map_err(|source| file_error(directory, source))?;
        match firmware {
            // the card's ROM is iPXE already and takes a URL; it asks without ?mac= and is sent back with it
            Firmware::Bios => Ok(self.script_url()),
            Firmware::Uefi | Firmware::UefiSecureBoot => {
                let source = self.netboot_files.join("snponly.efi");
                std::fs::copy(&source, directory.join("snponly.efi"))
                    .map_err(|error| file_error(&source, error))?;
                let script = directory.join("autoexec.ipxe");
                std::fs::write(&script, self.autoexec()).map_err(|source| file_error(&script, source))?;
                Ok("snponly.efi".to_owned())
            }
        }
    }

    fn autoexec(&self) -> String {
        format!("#!ipxe\ndhcp || shell\nchain {}?mac=${{netX/mac}} || shell\n", self.script_url())
    }
}

fn file_error(path: &Path, source: std::io::Error) -> LabError {
    LabError::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uefi_gets_ipxe_and_a_script_that_runs_dhcp_first() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("snponly.efi"), b"MZ").unwrap();
        let boot = NetworkBoot { http_port: 8080, netboot_files: directory.path().to_owned() };
        let tftp = directory.path().join("tftp");
        assert_eq!(boot.prepare(Firmware::Uefi, &tftp).unwrap(), "snponly.efi");
        let script = std::fs::read_to_string(tftp.join("autoexec.ipxe")).unwrap();
        assert!(script.find("dhcp").unwrap() < script.find("chain").unwrap());
        assert!(script.contains("http://10.0.2.2:8080/boot/ipxe?mac=${netX/mac}"));
    }

    #[test]
    fn missing_ipxe_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let boot = NetworkBoot { http_port: 1, netboot_files: directory.path().join("none") };
        let error = boot.prepare(Firmware::Uefi, directory.path()).unwrap_err();
        assert!(error.to_string().contains("snponly.efi"));
    }
}
