//! A machine that failed is kept up: a person logs in over the network with the key of its run and no other, has a stage
//! run again, and lets the machine go.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use vetting_image::lab::{Boot, Firmware, Machine};
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{RunDetail, SshView};
use vetting_protocol::run::RunState;
use vetting_tests::lan_site::LanSite;
use vetting_tests::machines::{SHORT_DELIVERY, emulated_quick};
use vetting_tests::site::SiteOptions;

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(10);

/// Waits until the held machine has told how a person gets in.
fn door(lab: &LanSite, run: RunId, machine: &Machine) -> anyhow::Result<(RunDetail, SshView)> {
    let begin = Instant::now();
    loop {
        let detail = lab.site.run(run)?;
        let hold = detail.hold.clone();
        if let Some(ssh) = hold.as_ref().and_then(|hold| hold.ssh.clone()) {
            return Ok((detail, ssh));
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "{hold:?}; the console ends with:\n{}",
            machine.serial().tail(30)
        );
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Logs in with another key, as a stranger would, past all that the client itself would refuse.
fn stranger_is_let_in(lab: &LanSite, ssh: &SshView, folder: &Path) -> anyhow::Result<bool> {
    let key = folder.join("stranger");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
    ensure!(made.success());
    let namespace = &lab.site.network().context("the site is on the network")?.namespace;
    let status = Command::new("ip")
        .args(["netns", "exec", namespace, "ssh", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
        .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i"])
        .arg(&key)
        .arg(format!("root@{}", ssh.address))
        .arg("true")
        .status()?;
    Ok(status.success())
}

#[test]
fn qemu_a_failed_machine_is_held_entered_tried_again_and_let_go() -> anyhow::Result<()> {
    let options = SiteOptions {
        hold: Duration::from_hours(1),
        quick_profile: Some(emulated_quick()?),
        ..SiteOptions::default()
    };
    let lab = LanSite::with(options, &[])?;
    let host = SHORT_DELIVERY;
    let run = lab.site.host_with_run(host.name, &host.mac().to_string(), host.spec_yaml)?;
    let machine =
        host.machine(&lab.site, lab.folder(), Firmware::Bios).boot(Boot::Lan(lab.tap(0)?)).power_on()?;
    lab.site.wait_for_result(run, PATIENCE, |_| ())?;
    let (detail, ssh) = door(&lab, run, &machine)?;
    assert_eq!(detail.summary.state, RunState::FailedHolding);
    assert_eq!(detail.hold_ip.as_deref(), Some(ssh.address.as_str()));

    let number = run.to_string();
    let said = lab
        .site
        .cli_text(&["run", "ssh", &number, "--", "cat", "/sys/class/dmi/id/product_serial"])
        .with_context(|| format!("the console ends with:\n{}", machine.serial().tail(30)))?;
    assert_eq!(said.trim(), host.name, "it is that machine, by its own SMBIOS");
    assert!(!stranger_is_let_in(&lab, &ssh, lab.folder())?);

    lab.site.cli_text(&["run", "retry", &number, "SpecValidate"])?;
    let again = lab.site.wait_for_result(run, PATIENCE, |_| ())?;
    assert_eq!(again.summary.failed_stage.as_deref(), Some("SpecValidate"), "{:#?}", again.reasons);
    let attempts: Vec<_> = again.attempts.iter().map(|attempt| attempt.stage.as_str()).collect();
    assert_eq!(attempts, ["SpecValidate"]);
    let others = again.stages.iter().filter(|stage| stage.started_at != before(&detail, &stage.name));
    let others: Vec<_> = others.map(|stage| stage.name.as_str()).collect();
    assert_eq!(others, ["SpecValidate"], "no other stage was run again");

    door(&lab, run, &machine)?;
    lab.site.cli_text(&["run", "release", &number])?;
    machine.wait_exit(PATIENCE).context("the machine switches itself off")?;
    let released = lab.site.run(run)?;
    assert_eq!((released.summary.state, released.hold), (RunState::Released, None));
    assert!(released.artifacts.iter().all(|file| file.kind != "hold_key"), "{:?}", released.artifacts);
    Ok(())
}

fn before(detail: &RunDetail, stage: &str) -> Option<String> {
    detail.stages.iter().find(|view| view.name == stage)?.started_at.clone()
}
