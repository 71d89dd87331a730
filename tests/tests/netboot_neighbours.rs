//! The coordinator's netboot server beside others that also want to boot machines: another coordinator, and a DHCP
//! server with a boot file of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use vetting_image::lab::{Boot, Firmware, Machine};
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::EventView;
use vetting_protocol::run::RunResult;
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

fn log(folder: &Path) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(folder.join("coordinator.log"))?)
}

fn passes(site: &Site, run: RunId, machine: &Machine) -> anyhow::Result<()> {
    let detail = site.wait_for_result(run, PATIENCE, |_| ()).with_context(|| {
        let log = log(site.directory()).unwrap_or_default();
        format!("the console ends with:\n{}\nthe coordinator says:\n{log}", machine.serial().tail(30))
    })?;
    ensure!(detail.summary.result == Some(RunResult::Pass), "{:#?}", detail.reasons);
    Ok(())
}

#[test]
fn qemu_two_coordinators_on_one_lan_vet_their_own_machines_and_tell_of_each_other() -> anyhow::Result<()> {
    let mut lab = LanSite::new("")?;
    let another = lab.another("")?;
    let (ours, theirs) = (register(&lab.site, &HEALTHY)?, register(&another, &BAD_DISK)?);
    let healthy = power_on(&lab, &HEALTHY, Firmware::Bios, 0)?;
    let bad_disk = power_on(&lab, &BAD_DISK, Firmware::Uefi, 1)?;
    passes(&lab.site, ours, &healthy)?;
    // nothing of this profile reads its disk
    passes(&another, theirs, &bad_disk)?;
    for (site, stranger, neighbour) in
        [(&lab.site, BAD_DISK.mac(), "10.77.0.4"), (&another, HEALTHY.mac(), "10.77.0.3")]
    {
        let log = log(site.directory())?;
        let stranger = stranger.to_string();
        let answered = log.lines().find(|line| line.contains("firmware=") && line.contains(&stranger));
        assert_eq!(answered, None, "a stranger was answered");
        let events: Vec<EventView> = site.cli(&["events"])?;
        let told = |kind: &str, of: &str| {
            events.iter().any(|event| {
                let data = event.data.as_ref().map(ToString::to_string).unwrap_or_default();
                event.kind == kind && data.contains(of) && data.contains(&stranger)
            })
        };
        assert!(told("unknown_machine", ""), "{events:#?}");
        assert!(told("other_boot_server", neighbour), "{events:#?}");
    }
    Ok(())
}

#[test]
fn qemu_beside_a_dhcp_server_with_a_boot_file_the_operator_is_told() -> anyhow::Result<()> {
    let lab = LanSite::beside("", &["--dhcp-boot=theirs.efi"])?;
    register(&lab.site, &HEALTHY)?;
    let _machine = power_on(&lab, &HEALTHY, Firmware::Uefi, 0)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let events = lab.site.cli_text(&["events", "--json"])?;
        if ["foreign_boot_server", "10.77.0.2", "theirs.efi"].iter().all(|word| events.contains(word)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "nothing after {} s; the coordinator says:\n{}",
                PATIENCE.as_secs(),
                lab.coordinator_log()?
            );
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}
