//! What the lab and the image build need on the host, and which Debian package has it.
//!
//! Owns: the list. Refuses: installing anything (the Makefile does, on the operator's word).

use std::path::Path;

use crate::command::is_installed;

/// A program or file the host lacks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// Program name or path.
    pub what: &'static str,
    /// Debian package that brings it.
    pub package: &'static str,
    /// What cannot be done without it.
    pub needed_for: &'static str,
}

const BUILD: &str = "building the image";
const LAB: &str = "QEMU machines";

const PROGRAMS: &[(&str, &str, &str)] = &[
    ("apt-get", "apt", BUILD),
    ("cc", "gcc", BUILD),
    ("depmod", "kmod", BUILD),
    ("dpkg-deb", "dpkg", BUILD),
    ("ip", "iproute2", LAB),
    ("iperf3", "iperf3", LAB),
    ("mcopy", "mtools", BUILD),
    ("mkfs.vfat", "dosfstools", BUILD),
    ("mksquashfs", "squashfs-tools", BUILD),
    ("qemu-system-x86_64", "qemu-system-x86", LAB),
    ("setpriv", "util-linux", LAB),
    ("xorriso", "xorriso", BUILD),
    ("xz", "xz-utils", BUILD),
    ("zstd", "zstd", BUILD),
];

const FILES: &[(&str, &str, &str)] = &[
    ("/usr/lib/apt/apt-helper", "apt", BUILD),
    ("/usr/lib/ipxe/qemu", "ipxe-qemu", LAB),
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf", LAB),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring", BUILD),
];

/// What is missing on this host for the image build and the lab; empty where all is there.
pub fn doctor() -> Vec<Missing> {
    let programs = PROGRAMS.iter().filter(|(program, ..)| !is_installed(program));
    let files = FILES.iter().filter(|(file, ..)| !Path::new(file).exists());
    programs.chain(files).map(|&(what, package, needed_for)| Missing { what, package, needed_for }).collect()
}

/// The Debian packages that bring everything [`doctor`] looks for, sorted, each once.
pub fn packages() -> Vec<&'static str> {
    let mut packages: Vec<_> = PROGRAMS.iter().chain(FILES).map(|(_, package, _)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

pub(crate) fn package_of(program: &str) -> Option<&'static str> {
    PROGRAMS.iter().find(|(name, ..)| *name == program).map(|(_, package, _)| *package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_know_their_package() {
        assert_eq!(package_of("qemu-system-x86_64"), Some("qemu-system-x86"));
        assert_eq!(package_of("no-such-program"), None);
    }

    #[test]
    fn packages_are_named_once() {
        let all = packages();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
    }
}
