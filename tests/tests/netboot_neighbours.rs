//! The coordinator's netboot server beside others that also want to boot machines: another coordinator, and a DHCP
//! server with a boot file of its own.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use vetting_image::lab::{Boot, Firmware, Machine};
use vetting_protocol::ids::RunId;
use vetting_protocol::run::RunState;
use vetting_tests::lan_site::LanSite;
use vetting_tests::machines::{BAD_DISK, Candidate, HEALTHY};
use vetting_tests::site::Site;

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(5);

fn power_on(lab: &LanSite, candidate: &Candidate, firmware: Firmware, tap: u8) -> anyhow::Result<Machine> {
    let machine = candidate.machine(&lab.site, lab.folder(), firmware).boot(Boot::Lan(lab.tap(tap)?));
    Ok(machine.power_on()?)
}

fn register(site: &Site, candidate: &Candidate) -> anyhow::Result<RunId> {
    site.host_with_run(candidate.name, &candidate.mac().to_string(), candidate.spec_yaml)
}

/// Asks until `done` says so.
fn wait(site: &Site, mut done: impl FnMut(&Site) -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done(site)? {
        if Instant::now() > deadline {
            let log = std::fs::read_to_string(site.directory().join("coordinator.log"))?;
            bail!("nothing after {} s; the coordinator says:\n{log}", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}

fn script_was_served(run: RunId) -> impl FnMut(&Site) -> anyhow::Result<bool> {
    move |site| Ok(matches!(site.run(run)?.summary.state, RunState::Booting | RunState::Running))
}

#[test]
fn qemu_two_coordinators_on_one_lan_boot_their_own_machines_only() -> anyhow::Result<()> {
    let mut lab = LanSite::new("")?;
    let another = lab.another("")?;
    let (ours, theirs) = (register(&lab.site, &HEALTHY)?, register(&another, &BAD_DISK)?);
    let _healthy = power_on(&lab, &HEALTHY, Firmware::Bios, 0)?;
    let _bad_disk = power_on(&lab, &BAD_DISK, Firmware::Uefi, 1)?;
    wait(&lab.site, script_was_served(ours)).context("the first coordinator's machine")?;
    wait(&another, script_was_served(theirs)).context("the other coordinator's machine")?;
    for (site, stranger) in [(&lab.site, BAD_DISK.mac()), (&another, HEALTHY.mac())] {
        let log = std::fs::read_to_string(site.directory().join("coordinator.log"))?;
        let answered =
            log.lines().find(|line| line.contains("boot_file=") && line.contains(&stranger.to_string()));
        assert_eq!(answered, None, "a stranger was answered");
        let events = site.cli_text(&["events", "--json"])?;
        assert!(events.contains("unknown_machine") && events.contains(&stranger.to_string()), "{events}");
    }
    Ok(())
}

#[test]
fn qemu_beside_a_dhcp_server_with_a_boot_file_the_operator_is_told() -> anyhow::Result<()> {
    let lab = LanSite::beside("", &["--dhcp-boot=theirs.efi"])?;
    register(&lab.site, &HEALTHY)?;
    let _machine = power_on(&lab, &HEALTHY, Firmware::Uefi, 0)?;
    wait(&lab.site, |site| {
        let events = site.cli_text(&["events", "--json"])?;
        Ok(events.contains("foreign_boot_server")
            && events.contains("10.77.0.2")
            && events.contains("theirs.efi"))
    })
}

#[test]
fn qemu_ipxe_prefers_our_offer_to_a_dhcp_servers_boot_file() -> anyhow::Result<()> {
    let lab = LanSite::beside("", &["--dhcp-boot=theirs.kpxe"])?;
    let run = register(&lab.site, &HEALTHY)?;
    let _machine = power_on(&lab, &HEALTHY, Firmware::Bios, 0)?;
    wait(&lab.site, script_was_served(run))
}
