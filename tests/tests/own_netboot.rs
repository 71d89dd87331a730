//! The coordinator's own netboot server on a network of its own: an ordinary DHCP server that knows nothing of booting
//! gives addresses, the coordinator beside it tells registered machines where to boot from, and firmware as it comes
//! finds its way to a vetting.

use std::time::Duration;

use anyhow::Context as _;
use vetting_image::lab::{Boot, Firmware};
use vetting_protocol::run::{RunResult, RunState};
use vetting_tests::lan_site::LanSite;
use vetting_tests::local_disk;
use vetting_tests::machines::HEALTHY;

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(10);

fn a_machine_is_vetted(
    firmware: Firmware,
    netboot: &str,
    qemu: &[&str],
    boot_file: &str,
) -> anyhow::Result<()> {
    let lab = LanSite::new(netboot)?;
    let run = lab.site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), HEALTHY.spec_yaml)?;
    let machine = HEALTHY
        .machine(&lab.site, lab.folder(), firmware)
        .boot(Boot::Lan(lab.tap(0)?))
        .extra_args(qemu.iter().copied())
        .power_on()?;
    let detail = lab.site.wait_for_result(run, PATIENCE, |_| ()).with_context(|| {
        let log = lab.coordinator_log().unwrap_or_default();
        format!("the console ends with:\n{}\nthe coordinator says:\n{log}", machine.serial().tail(30))
    })?;
    assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:#?}", detail.reasons);
    assert_eq!(detail.summary.state, RunState::Completed);
    let log = lab.coordinator_log()?;
    assert!(log.contains(boot_file), "{boot_file} was told:\n{log}");
    machine.wait_exit(PATIENCE)?;
    Ok(())
}

#[test]
fn qemu_bios_finds_the_coordinator_beside_an_ordinary_dhcp_server() -> anyhow::Result<()> {
    // the card's ROM is iPXE and is told the script at once
    a_machine_is_vetted(Firmware::Bios, "", &[], "/boot/ipxe?mac=52:54:00:56:45:11")
}

#[test]
fn qemu_uefi_finds_the_coordinator_beside_an_ordinary_dhcp_server() -> anyhow::Result<()> {
    a_machine_is_vetted(Firmware::Uefi, "", &[], "boot_file=\"snponly.efi\"")
}

#[test]
fn qemu_uefi_http_boot_finds_the_coordinator() -> anyhow::Result<()> {
    // OVMF tries PXE first, unless it is told to leave it
    let without_pxe = ["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"];
    a_machine_is_vetted(Firmware::Uefi, "", &without_pxe, "/boot/netboot/snponly.efi")
}

#[test]
fn qemu_an_unregistered_machine_is_told_of_and_gets_no_answer() -> anyhow::Result<()> {
    let lab = LanSite::new("")?;
    let machine =
        HEALTHY.machine(&lab.site, lab.folder(), Firmware::Bios).boot(Boot::Lan(lab.tap(0)?)).power_on()?;
    machine.wait_for("Nothing to boot", PATIENCE)?;
    let events = lab.site.cli_text(&["events", "--json"])?;
    assert!(events.contains("unknown_machine") && events.contains("52:54:00:56:45:11"), "{events}");
    let log = lab.coordinator_log()?;
    assert!(!log.contains("boot_file"), "{log}");
    Ok(())
}

#[test]
fn qemu_secure_boot_finds_its_way_through_shim_and_grub() -> anyhow::Result<()> {
    a_machine_is_vetted(Firmware::UefiSecureBoot, "secure_boot: always", &[], "boot_file=\"shimx64.efi\"")
}

/// A registered machine with no waiting run is sent to its disk by the boot script.
fn the_local_disk_starts(firmware: Firmware) -> anyhow::Result<LanSite> {
    let lab = LanSite::new("")?;
    let run = lab.site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), HEALTHY.spec_yaml)?;
    lab.site.cli_text(&["run", "abort", &run.to_string()])?;
    let disk = match firmware {
        Firmware::Bios => local_disk::bios(lab.folder())?,
        Firmware::Uefi | Firmware::UefiSecureBoot => {
            local_disk::uefi(&lab.site.built().image.join("netboot"), lab.folder())?
        }
    };
    let machine = HEALTHY
        .machine(&lab.site, lab.folder(), firmware)
        .boot(Boot::Lan(lab.tap(0)?))
        .extra_args(disk)
        .power_on()?;
    machine.wait_for("has no waiting run", PATIENCE)?;
    machine.wait_for(local_disk::STARTED, PATIENCE)?;
    drop(machine);
    Ok(lab)
}

#[test]
fn qemu_bios_with_nothing_to_do_starts_its_disk() -> anyhow::Result<()> {
    the_local_disk_starts(Firmware::Bios).map(drop)
}

#[test]
fn qemu_uefi_with_nothing_to_do_starts_its_disk() -> anyhow::Result<()> {
    the_local_disk_starts(Firmware::Uefi).map(drop)
}

/// Nothing says that Secure Boot is on: its firmware refuses iPXE, goes on to HTTP Boot by itself, and is told shim.
#[test]
fn qemu_secure_boot_is_found_out_and_with_nothing_to_do_the_disk_starts() -> anyhow::Result<()> {
    let lab = the_local_disk_starts(Firmware::UefiSecureBoot)?;
    let events = lab.site.cli_text(&["events", "--json"])?;
    assert!(events.contains("secure_boot_assumed"), "{events}");
    let log = lab.coordinator_log()?;
    let told = |file: &str| log.lines().position(|line| line.contains("boot_file=") && line.contains(file));
    assert!(told("snponly.efi").is_some() && told("snponly.efi") < told("shimx64.efi"), "{log}");
    Ok(())
}
