//! The built image boots: over the network in BIOS and UEFI mode, in little memory, and its tools run.
//!
//! These tests take the image with a script of their own as PID 1 (`data/tools-init`), packed lightly so that they
//! need not wait for the shipped compression. They need QEMU and, the first time, a Debian mirror.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod http;

use std::path::{Path, PathBuf};
use std::time::Duration;

use vetting_image::build::{Payload, Places, build};
use vetting_image::lab::{Boot, DirectBoot, Disk, DiskBus, Firmware, MachineBuilder, NetworkBoot};
use vetting_image::manifest::Manifest;
use vetting_image::recipe::Recipe;

/// Generous: a slow machine must not fail, only a machine that is stuck.
const LIMIT: Duration = Duration::from_mins(8);
const LIGHT: u8 = 3;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn script(name: &str) -> Payload {
    Payload::Init(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name))
}

fn built(payload: &Payload, output: &Path) -> Manifest {
    let places = Places::in_repository(&repository());
    build(&places, payload, LIGHT, output, &mut |line| eprintln!("{line}")).unwrap()
}

fn direct(image: &Path) -> Boot {
    Boot::Direct(DirectBoot {
        kernel: image.join("vmlinuz"),
        initrd: image.join("initrd.zst"),
        append: "console=ttyS0 quiet".to_owned(),
    })
}

fn netboot(firmware: Firmware) {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    built(&script("tools-init"), &image);
    let server = http::BootServer::start(&image, "console=ttyS0 quiet");
    let boot = NetworkBoot { http_port: server.port(), netboot_files: image.join("netboot") };
    let machine = MachineBuilder::new("netboot", &directory.path().join("machine"), Boot::Network(boot))
        .firmware(firmware)
        .memory_mib(768)
        .power_on()
        .unwrap();
    let at = machine.wait_for("INIT uptime=", LIMIT).unwrap();
    eprintln!("{firmware:?}: PID 1 after {:.1} s", at.as_secs_f64());
    machine.wait_for("DHCP eth0 code=0 10.0.2.15/24", LIMIT).unwrap();
    machine.wait_for("DONE", LIMIT).unwrap();
    assert!(machine.wait_exit(LIMIT).unwrap().success());
    // the iPXE in Debian 12's ROMs escapes the colons, a newer one does not
    let asked: Vec<String> = server.script_requests().iter().map(|query| query.replace("%3A", ":")).collect();
    assert!(asked.contains(&"?mac=52:54:00:56:45:01".to_owned()), "{asked:?}");
}

#[test]
fn qemu_netboot_bios() {
    netboot(Firmware::Bios);
}

#[test]
fn qemu_netboot_uefi() {
    netboot(Firmware::Uefi);
}

#[test]
fn qemu_every_tool_runs_and_bad_sectors_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    built(&script("tools-init"), &image);
    let boot = direct(&image);
    let machine = MachineBuilder::new("tools", &directory.path().join("machine"), boot)
        .memory_mib(768)
        .disk(Disk::new(DiskBus::Sata, "SATA-BAD", 16).unreadable(&[10_240, 12_289]))
        .disk(Disk::new(DiskBus::Nvme, "NVME-GOOD", 16))
        .power_on()
        .unwrap();
    machine.wait_for("DONE", LIMIT).unwrap();
    let text = machine.serial().text();
    assert!(!text.contains("TOOL-BROKEN"), "{text}");
    let recipe = Recipe::read(&repository().join("initramfs")).unwrap();
    let binaries = recipe.packages.packages.iter().flat_map(|package| &package.binaries);
    // udhcpc is run for real, in the netboot tests
    for tool in binaries.filter(|name| *name != "udhcpc") {
        assert!(text.contains(&format!("TOOL-OK {tool} ")), "{tool} did not run: {text}");
    }
    assert!(text.contains("TOOL-OK nvml-probe code=0 {"), "{text}");
    assert!(text.contains("NVML-PROBE says that there is no library"), "{text}");
    // without Vulkan's loader gpu-load would say the same
    assert!(text.contains("TOOL-OK /lib64/ld-linux-x86-64.so.2 code=0"), "{text}");
    assert!(text.contains("TOOL-OK gpu-load code=0 {"), "{text}");
    assert!(text.contains("GPU-LOAD says that there is no GPU"), "{text}");
    assert!(text.contains("MODPROBE-IS /usr/bin/kmod"), "{text}");
    assert!(text.contains("TOOL-OK fio code=0 fio-3."), "{text}");
    assert!(text.contains("STRESS-NG code=0"), "{text}");
    assert!(text.contains("FIO disk=/dev/nvme0n1 code=0"), "{text}");
    // badblocks reads single blocks through the page cache: it names the eight sectors of the page
    let expected: Vec<String> =
        (10_240..10_248).chain(12_288..12_296).map(|sector| sector.to_string()).collect();
    assert!(text.contains(&format!("BADBLOCKS disk=/dev/sda {}", expected.join(" "))), "{text}");
    assert!(text.lines().any(|line| line.trim() == "BADBLOCKS disk=/dev/nvme0n1"), "{text}");
}

#[test]
fn qemu_bare_image_reaches_its_init() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    built(&Payload::Bare(repository().join("initramfs/bare-init")), &image);
    let boot = direct(&image);
    let machine = MachineBuilder::new("bare", &directory.path().join("machine"), boot)
        .memory_mib(512)
        .power_on()
        .unwrap();
    machine.wait_for("BARE-INIT uptime=", LIMIT).unwrap();
    assert!(machine.wait_exit(LIMIT).unwrap().success());
}

#[test]
fn qemu_a_pulled_disk_vanishes() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    built(&script("vanish-init"), &image);
    let machine = MachineBuilder::new("pulled", &directory.path().join("machine"), direct(&image))
        .memory_mib(512)
        .disk(Disk::new(DiskBus::Nvme, "NVME-GONE", 16))
        .power_on()
        .unwrap();
    machine.wait_for("DISK-THERE", LIMIT).unwrap();
    machine.qmp().unwrap().device_del("disk0").unwrap();
    machine.wait_for("DISK-GONE", LIMIT).unwrap();
    assert!(machine.wait_exit(LIMIT).unwrap().success());
}

#[test]
fn qemu_the_plug_is_pulled_by_monitor_and_by_drop() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    built(&script("vanish-init"), &image);
    // -S: the machine waits before its first instruction
    let stopped = || {
        MachineBuilder::new("plug", &directory.path().join("machine"), direct(&image))
            .memory_mib(512)
            .cpus(2, 2)
            .smbios(0, &[("vendor", "ACME"), ("version", "1.2.3"), ("date", "01/02/2026")])
            .smbios(1, &[("manufacturer", "ACME, Inc."), ("product", "R1"), ("serial", "SN1")])
            .smbios(2, &[("manufacturer", "ACME"), ("product", "B1"), ("serial", "BSN1")])
            .smbios(3, &[("manufacturer", "ACME"), ("serial", "CSN1")])
            .smbios(4, &[("sock_pfx", "CPU"), ("manufacturer", "Intel"), ("version", "X")])
            .smbios(17, &[("loc_pfx", "DIMM_A"), ("manufacturer", "M"), ("serial", "D1"), ("speed", "2666")])
            .disk(Disk::new(DiskBus::Sata, "S1", 8).model("ACME DISK").unwritable(&[9]))
            .disk(Disk::new(DiskBus::Nvme, "N1", 8).unreadable(&[1, 2]))
            .disk(Disk::new(DiskBus::Scsi, "C1", 8))
            .extra_args(["-S"])
            .power_on()
            .unwrap()
    };
    let machine = stopped();
    let mut monitor = machine.qmp().unwrap();
    let status = monitor.execute("query-status", &serde_json::json!({})).unwrap();
    assert_eq!(status["running"], false);
    assert!(monitor.device_del("no-such-disk").is_err());
    monitor.quit().unwrap();
    assert!(machine.wait_exit(LIMIT).unwrap().success());

    let process = PathBuf::from(format!("/proc/{}", machine.pid()));
    assert!(!process.exists());
    let machine = stopped();
    let process = PathBuf::from(format!("/proc/{}", machine.pid()));
    assert!(process.exists());
    drop(machine);
    assert!(!process.exists());
}
