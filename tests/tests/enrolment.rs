//! Machines that nobody registered: adopted by the code on their console, or enrolled by a token.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use vetting_image::lab::{Boot, DirectBoot, Firmware};
use vetting_protocol::enrolment::{Adopted, EnrolmentTokenCreated, PendingView};
use vetting_protocol::operator_api::HostView;
use vetting_protocol::run::RunResult;
use vetting_tests::machines::{HEALTHY, WHAT_IT_IS_MADE_OF};
use vetting_tests::site::{Built, Site, SiteOptions};

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(10);

fn lab(unknown_may_netboot: bool) -> anyhow::Result<(tempfile::TempDir, Site)> {
    let folder = tempfile::tempdir()?;
    let quick_profile = Some(WHAT_IT_IS_MADE_OF.to_owned());
    let options = SiteOptions { quick_profile, unknown_may_netboot, ..SiteOptions::default() };
    let site = Site::start(&Built::find()?, folder.path(), &options)?;
    std::fs::write(site.directory().join("spec.yaml"), HEALTHY.spec_yaml)?;
    Ok((folder, site))
}

#[test]
fn qemu_an_unregistered_machine_is_adopted_by_its_code_and_passes() -> anyhow::Result<()> {
    let (folder, site) = lab(true)?;
    let machine = HEALTHY.machine(&site, folder.path(), Firmware::Bios).power_on()?;
    let deadline = Instant::now() + PATIENCE;
    let waiting = loop {
        let mut pending: Vec<PendingView> = site.cli(&["host", "pending"])?;
        if let Some(waiting) = pending.pop() {
            break waiting;
        }
        if Instant::now() > deadline {
            bail!("no machine asks; the console ends with:\n{}", machine.serial().tail(30));
        }
        std::thread::sleep(Duration::from_millis(300));
    };
    assert_eq!(waiting.identity.system_serial.as_deref(), Some(HEALTHY.name));
    assert_eq!(waiting.identity.boot_mac.map(|mac| mac.to_string()), Some(HEALTHY.mac().to_string()));
    machine.wait_for(&format!("CODE: {}", waiting.code), PATIENCE)?;
    let spec = site.directory().join("spec.yaml");
    let spec = spec.to_str().context("a temporary folder has a plain name")?;
    let adopted: Adopted = site.cli(&[
        "host",
        "adopt",
        &waiting.code.to_lowercase(),
        "--name",
        "found",
        "--spec",
        spec,
        "--start-run",
    ])?;
    let detail = site.wait_for_result(adopted.run.context("a run")?, PATIENCE, |_| ())?;
    assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:#?}", detail.reasons);
    assert_eq!(detail.summary.host, "found");
    machine.wait_exit(PATIENCE)?;
    Ok(())
}

#[test]
fn qemu_a_token_on_the_command_line_enrols_a_machine() -> anyhow::Result<()> {
    let (folder, site) = lab(false)?;
    let spec = site.directory().join("spec.yaml");
    let spec = spec.to_str().context("a temporary folder has a plain name")?;
    let token: EnrolmentTokenCreated = site.cli(&["enrolment", "create", "--spec", spec, "--start-run"])?;
    let image = &site.built().image;
    let parameters = format!(
        "vetting.coordinator=10.0.2.2:{} vetting.ca=sha256:{} vetting.enrol={}",
        site.listening().https.port(),
        site.listening().ca_fingerprint,
        token.token.expose()
    );
    let boot = Boot::Direct(DirectBoot {
        kernel: image.join("vmlinuz"),
        initrd: image.join("initrd.zst"),
        append: format!("console=ttyS0,115200n8 panic=30 no_timer_check {parameters}"),
    });
    let uuid = "4c4c4544-0043-3010-8057-b5c04f503332";
    let machine = HEALTHY
        .machine(&site, folder.path(), Firmware::Bios)
        .boot(boot)
        .extra_args(["-uuid", uuid])
        .power_on()?;
    machine.wait_for("this machine is vetting-healthy; run 1 waits for it", PATIENCE)?;
    let detail = site.wait_for_result("1".parse()?, PATIENCE, |_| ())?;
    assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:#?}", detail.reasons);
    let host: HostView = site.cli(&["host", "show", "vetting-healthy"])?;
    assert_eq!(host.identity.map(|identity| identity.system_uuid).as_deref(), Some(uuid));
    machine.wait_exit(PATIENCE)?;
    Ok(())
}
