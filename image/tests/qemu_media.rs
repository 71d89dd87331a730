//! Disc and stick start machines: BIOS, UEFI, and UEFI with Secure Boot; the disc also where it was written to a stick.
//! The system finds the medium again that it was started from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vetting_image::build::{ISO, Payload, Places, USB, build};
use vetting_image::lab::{Boot, Firmware, MachineBuilder};

/// Generous: a slow machine must not fail, only a machine that is stuck.
const LIMIT: Duration = Duration::from_mins(8);
const LIGHT: u8 = 3;

/// What it is called, the firmware, the file, and how it is put into the machine.
type Way = (&'static str, Firmware, &'static str, fn(PathBuf) -> Boot);

/// Every medium in both kinds of firmware. Secure Boot starts the same files as UEFI without it.
const WAYS: [Way; 6] = [
    ("disc, BIOS", Firmware::Bios, ISO, Boot::Cd),
    ("disc, Secure Boot", Firmware::UefiSecureBoot, ISO, Boot::Cd),
    ("disc on a stick, BIOS", Firmware::Bios, ISO, Boot::Usb),
    ("disc on a stick, UEFI", Firmware::Uefi, ISO, Boot::Usb),
    ("stick, BIOS", Firmware::Bios, USB, Boot::Usb),
    ("stick, Secure Boot", Firmware::UefiSecureBoot, USB, Boot::Usb),
];

#[test]
fn qemu_media_start_machines_of_every_firmware() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let init = Payload::Init(crate_folder.join("tests/data/medium-init"));
    let places = Places::in_repository(&crate_folder.join(".."));
    build(&places, &init, LIGHT, &image, &mut |_| ()).unwrap();
    for (number, (name, firmware, file, boot)) in WAYS.into_iter().enumerate() {
        let folder = directory.path().join(format!("machine{number}"));
        let machine = MachineBuilder::new(&format!("machine{number}"), &folder, boot(image.join(file)))
            .firmware(firmware)
            .power_on()
            .unwrap();
        let at = machine.wait_for("MEDIUM label=VETTING", LIMIT).unwrap();
        eprintln!("{name}: PID 1 after {:.1} s", at.as_secs_f64());
        machine.wait_for("SETTINGS 1", LIMIT).unwrap();
        let locked = u8::from(firmware == Firmware::UefiSecureBoot);
        machine.wait_for(&format!("LOCKDOWN {locked}"), LIMIT).unwrap();
        machine.wait_for("MEDIUM-DONE", LIMIT).unwrap();
        assert!(machine.wait_exit(LIMIT).unwrap().success());
    }
}
