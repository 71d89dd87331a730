//! Disc and stick start machines: BIOS, UEFI, and UEFI with Secure Boot; the disc also where it was written to a stick.
//! The system finds the medium again that it was started from.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use vetting_image::build::{ISO, Payload, Places, USB, build};
use vetting_image::lab::{Boot, Firmware, MachineBuilder};

/// Generous: a slow machine must not fail, only a machine that is stuck.
const LIMIT: Duration = Duration::from_mins(8);
const LIGHT: u8 = 3;

fn starts_from_every_medium(firmware: Firmware) {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let init = Payload::Init(crate_folder.join("tests/data/medium-init"));
    let places = Places::in_repository(&crate_folder.join(".."));
    build(&places, &init, LIGHT, &image, &mut |_| ()).unwrap();
    let media: [(&str, &str, fn(PathBuf) -> Boot); 3] =
        [("disc", ISO, Boot::Cd), ("disc-on-stick", ISO, Boot::Usb), ("stick", USB, Boot::Usb)];
    for (name, file, boot) in media {
        let machine = MachineBuilder::new(name, &directory.path().join(name), boot(image.join(file)))
            .firmware(firmware)
            .power_on()
            .unwrap();
        let at = machine.wait_for("MEDIUM label=VETTING", LIMIT).unwrap();
        eprintln!("{firmware:?}, {name}: PID 1 after {:.1} s", at.as_secs_f64());
        machine.wait_for("SETTINGS 1", LIMIT).unwrap();
        let locked = u8::from(firmware == Firmware::UefiSecureBoot);
        machine.wait_for(&format!("LOCKDOWN {locked}"), LIMIT).unwrap();
        machine.wait_for("MEDIUM-DONE", LIMIT).unwrap();
        assert!(machine.wait_exit(LIMIT).unwrap().success());
    }
}

#[test]
fn qemu_media_start_a_bios_machine() {
    starts_from_every_medium(Firmware::Bios);
}

#[test]
fn qemu_media_start_a_uefi_machine() {
    starts_from_every_medium(Firmware::Uefi);
}

#[test]
fn qemu_media_start_a_machine_with_secure_boot() {
    starts_from_every_medium(Firmware::UefiSecureBoot);
}
