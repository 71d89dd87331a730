//! The coordinator's netboot server beside a DHCP server that also wants to boot machines.

use std::time::{Duration, Instant};

use anyhow::bail;
use vetting_image::lab::{Boot, Firmware};
use vetting_tests::lan_site::LanSite;
use vetting_tests::machines::HEALTHY;

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(5);

#[test]
fn qemu_beside_a_dhcp_server_with_a_boot_file_the_operator_is_told() -> anyhow::Result<()> {
    let lab = LanSite::beside("", &["--dhcp-boot=theirs.efi"])?;
    lab.site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), HEALTHY.spec_yaml)?;
    let machine = HEALTHY.machine(&lab.site, lab.folder(), Firmware::Uefi).boot(Boot::Lan(lab.tap(0)?));
    let _machine = machine.power_on()?;
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
