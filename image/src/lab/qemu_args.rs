//! From a machine's description to QEMU's arguments; pure.
//!
//! Owns: the argument vector. Refuses: touching files.

use std::path::{Path, PathBuf};

use super::disk::escape;
use super::machine::MachineBuilder;
use super::netboot::Boot;
use super::{Firmware, OnReboot};

/// Files that were prepared for one power-on.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) monitor: PathBuf,
    /// Code and variable store of UEFI machines.
    pub(super) uefi: Option<(PathBuf, PathBuf)>,
    /// TFTP folder and boot file of network boots.
    pub(super) tftp: Option<(PathBuf, String)>,
    pub(super) disk_images: Vec<PathBuf>,
}

pub(super) fn arguments(machine: &MachineBuilder, prepared: &Prepared) -> Vec<String> {
    let mut list = base(machine, &prepared.monitor);
    if let Some((code, variables)) = &prepared.uefi {
        option(&mut list, "-drive", format!("if=pflash,format=raw,readonly=on,file={}", path(code)));
        option(&mut list, "-drive", format!("if=pflash,format=raw,file={}", path(variables)));
    }
    network(machine, prepared, &mut list);
    match &machine.boot {
        Boot::Direct(direct) => {
            option(&mut list, "-kernel", direct.kernel.display().to_string());
            option(&mut list, "-initrd", direct.initrd.display().to_string());
            option(&mut list, "-append", direct.append.clone());
        }
        Boot::Cd(disc) => {
            let drive = "if=none,id=medium,media=cdrom,readonly=on,format=raw";
            option(&mut list, "-drive", format!("{drive},file={}", path(disc)));
            option(&mut list, "-device", "ide-cd,drive=medium,bootindex=1");
        }
        Boot::Usb(stick) => {
            option(&mut list, "-drive", format!("if=none,id=medium,format=raw,file={}", path(stick)));
            option(&mut list, "-device", "qemu-xhci");
            option(&mut list, "-device", "usb-storage,drive=medium,bootindex=1,removable=on");
        }
        Boot::Network(_) | Boot::Lan(_) => {}
    }
    for (kind, fields) in &machine.smbios {
        let fields: Vec<String> =
            fields.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
        option(&mut list, "-smbios", format!("type={kind},{}", fields.join(",")));
    }
    for (index, (disk, image)) in machine.disks.iter().zip(&prepared.disk_images).enumerate() {
        list.extend(disk.arguments(index, image));
    }
    list.extend(machine.extra.iter().cloned());
    list
}

fn base(machine: &MachineBuilder, monitor: &Path) -> Vec<String> {
    let threads = machine.sockets * machine.cores_per_socket;
    let mut list = Vec::new();
    option(&mut list, "-name", escape(&machine.name));
    option(&mut list, "-accel", "tcg,thread=single");
    if machine.firmware == Firmware::UefiSecureBoot {
        // the keys are kept where only system management mode can write
        option(&mut list, "-machine", "q35,graphics=off,smm=on");
        option(&mut list, "-global", "driver=cfi.pflash01,property=secure,value=on");
    } else {
        option(&mut list, "-machine", "q35,graphics=off");
    }
    option(&mut list, "-cpu", "max");
    option(
        &mut list,
        "-smp",
        format!("{threads},sockets={},cores={},threads=1", machine.sockets, machine.cores_per_socket),
    );
    option(&mut list, "-m", format!("{}M", machine.memory_mib));
    list.push("-nodefaults".to_owned());
    option(&mut list, "-display", "none");
    option(&mut list, "-chardev", "stdio,id=serial0,signal=off");
    option(&mut list, "-serial", "chardev:serial0");
    option(&mut list, "-qmp", format!("unix:{},server=on,wait=off", path(monitor)));
    option(&mut list, "-device", "virtio-rng-pci");
    if machine.on_reboot == OnReboot::Exit {
        list.push("-no-reboot".to_owned());
    }
    list
}

fn network(machine: &MachineBuilder, prepared: &Prepared, list: &mut Vec<String>) {
    let Some(nic_model) = &machine.nic_model else { return };
    let backend = match (&machine.boot, &prepared.tftp) {
        (Boot::Lan(tap), _) => format!("tap,id=net0,ifname={},script=no,downscript=no", tap.name),
        (_, Some((directory, file))) => {
            format!("user,id=net0,tftp={},bootfile={}", path(directory), escape(file))
        }
        (_, None) => "user,id=net0".to_owned(),
    };
    option(list, "-netdev", backend);
    // UEFI machines use the firmware's own PXE, not the ROM of the card; a direct boot needs no ROM at all
    let rom = match (&machine.boot, machine.firmware) {
        (Boot::Network(_) | Boot::Lan(_), Firmware::Bios) => "",
        (Boot::Network(_) | Boot::Lan(_), Firmware::Uefi | Firmware::UefiSecureBoot)
        | (Boot::Direct(_) | Boot::Cd(_) | Boot::Usb(_), _) => ",romfile=",
    };
    let order = match &machine.boot {
        Boot::Network(_) | Boot::Lan(_) => ",bootindex=1",
        Boot::Direct(_) | Boot::Cd(_) | Boot::Usb(_) => "",
    };
    option(list, "-device", format!("{nic_model},netdev=net0,mac={}{order}{rom}", machine.mac));
}

fn option(list: &mut Vec<String>, name: &str, value: impl Into<String>) {
    list.push(name.to_owned());
    list.push(value.into());
}

fn path(path: &Path) -> String {
    escape(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Mac, NetworkBoot};

    fn line(firmware: Firmware) -> String {
        let boot = NetworkBoot { http_port: 8080, netboot_files: PathBuf::from("/netboot") };
        let machine = MachineBuilder::new("m1", Path::new("/m1"), Boot::Network(boot))
            .firmware(firmware)
            .cpus(2, 3)
            .memory_mib(768)
            .mac(Mac([0x52, 0x54, 0, 0, 0, 0x0a]))
            .smbios(1, &[("manufacturer", "ACME, Inc."), ("serial", "SN1")]);
        let prepared = Prepared {
            monitor: PathBuf::from("/run/qmp"),
            uefi: (firmware == Firmware::Uefi).then(|| ("/code.fd".into(), "/variables.fd".into())),
            tftp: Some(("/m1/tftp".into(), "http://10.0.2.2:8080/boot/ipxe".to_owned())),
            disk_images: Vec::new(),
        };
        arguments(&machine, &prepared).join(" ")
    }

    #[test]
    fn a_bios_machine_boots_by_the_rom_of_its_card() {
        let line = line(Firmware::Bios);
        assert!(line.contains("-netdev user,id=net0,tftp=/m1/tftp,bootfile=http://10.0.2.2:8080/boot/ipxe"));
        assert!(line.contains("virtio-net-pci,netdev=net0,mac=52:54:00:00:00:0a,bootindex=1 "), "{line}");
        assert!(!line.contains("romfile") && !line.contains("pflash"));
    }

    #[test]
    fn a_uefi_machine_boots_by_its_firmware() {
        let line = line(Firmware::Uefi);
        assert!(line.contains("bootindex=1,romfile= "), "{line}");
        assert!(line.contains("readonly=on,file=/code.fd") && line.contains("format=raw,file=/variables.fd"));
    }

    #[test]
    fn sockets_memory_and_strings_arrive() {
        let line = line(Firmware::Bios);
        assert!(line.contains("-smp 6,sockets=2,cores=3,threads=1 -m 768M"));
        assert!(line.contains("-smbios type=1,manufacturer=ACME,, Inc.,serial=SN1"));
    }
}
