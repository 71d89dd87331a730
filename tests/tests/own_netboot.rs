//! The coordinator's own netboot server on a network of its own: an ordinary DHCP server that knows nothing of booting
//! gives addresses, the coordinator beside it tells registered machines where to boot from, and firmware as it comes
//! finds its way to a vetting.

use std::time::Duration;

use anyhow::Context as _;
use vetting_image::lab::{Boot, Firmware};
use vetting_protocol::run::{RunResult, RunState};
use vetting_tests::lan_site::LanSite;
use vetting_tests::machines::HEALTHY;

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(10);

fn a_machine_is_vetted(firmware: Firmware, qemu: &[&str], boot_file: &str) -> anyhow::Result<()> {
    let lab = LanSite::new()?;
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
    a_machine_is_vetted(Firmware::Bios, &[], "/boot/ipxe?mac=52:54:00:56:45:11")
}

#[test]
fn qemu_uefi_finds_the_coordinator_beside_an_ordinary_dhcp_server() -> anyhow::Result<()> {
    a_machine_is_vetted(Firmware::Uefi, &[], "boot_file=\"snponly.efi\"")
}

#[test]
fn qemu_uefi_http_boot_finds_the_coordinator() -> anyhow::Result<()> {
    // OVMF tries PXE first, unless it is told to leave it
    let without_pxe = ["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"];
    a_machine_is_vetted(Firmware::Uefi, &without_pxe, "/boot/netboot/snponly.efi")
}

#[test]
fn qemu_an_unregistered_machine_is_told_of_and_gets_no_answer() -> anyhow::Result<()> {
    let lab = LanSite::new()?;
    let machine =
        HEALTHY.machine(&lab.site, lab.folder(), Firmware::Bios).boot(Boot::Lan(lab.tap(0)?)).power_on()?;
    machine.wait_for("Nothing to boot", PATIENCE)?;
    let events = lab.site.cli_text(&["events", "--json"])?;
    assert!(events.contains("unknown_machine") && events.contains("52:54:00:56:45:11"), "{events}");
    let log = lab.coordinator_log()?;
    assert!(!log.contains("boot_file"), "{log}");
    Ok(())
}
