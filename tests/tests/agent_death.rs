//! The agent dies on the real image: it is killed from the shell of `vetting.shell` while it stresses the CPUs. Then the
//! console says so, the run fails with that reason, and the machine obeys the coordinator instead of hanging.

use std::time::Duration;

use anyhow::Context as _;
use vetting_image::lab::Firmware;
use vetting_protocol::operator_api::RunDetail;
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::{RunResult, RunState};
use vetting_tests::machines::{HEALTHY, emulated_quick};
use vetting_tests::site::{Built, Site, SiteOptions};

/// Bounds only how long a broken build hangs; an emulated run takes about a minute.
const PATIENCE: Duration = Duration::from_mins(10);

/// Vets a healthy machine, kills the process whose command line has `victim` in it during CPUStress, and waits for the
/// words on the console, the run's result, and the machine's end.
fn vet_and_kill(victim: &str, words: &[&str]) -> anyhow::Result<RunDetail> {
    let folder = tempfile::tempdir()?;
    let options = SiteOptions {
        quick_profile: Some(emulated_quick()?),
        kernel_args: "vetting.shell".to_owned(),
        ..SiteOptions::default()
    };
    let site = Site::start(&Built::find()?, folder.path(), &options)?;
    let run = site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), HEALTHY.spec_yaml)?;
    let mut machine = HEALTHY.machine(&site, folder.path(), Firmware::Bios).power_on()?;
    machine.wait_for("root shells on tty1 and ttyS0", PATIENCE)?;
    machine.wait_for("CPUStress begins", PATIENCE)?;
    // the shell's own command line is `/bin/sh`, and awk's has the brackets
    let command =
        format!("kill -9 $(ps -o pid,args | awk '/[{}]{}/ {{print $1}}')\n", &victim[..1], &victim[1..]);
    machine.type_serial(command.as_bytes())?;
    for word in words {
        machine.wait_for(word, PATIENCE)?;
    }
    let detail = site
        .wait_for_result(run, PATIENCE, |_| ())
        .with_context(|| format!("the console ends with:\n{}", machine.serial().tail(30)))?;
    machine.wait_exit(PATIENCE).context("the machine switches itself off")?;
    Ok(detail)
}

fn assert_died(detail: &RunDetail, how: &str) {
    assert_eq!(detail.summary.result, Some(RunResult::Fail), "{:#?}", detail.reasons);
    assert_eq!(detail.summary.state, RunState::Completed);
    let reasons = detail.reasons.join("\n");
    assert!(reasons.contains(how), "`{how}` is in\n{reasons}");
    let stage = |name: &str| detail.stages.iter().find(|stage| stage.name == name);
    assert_ne!(stage("CPUStress").map(|stage| stage.state), Some(StepState::Passed));
    assert_ne!(stage("Storage").map(|stage| stage.state), Some(StepState::Passed));
    assert!(stage("SMART").is_some_and(|stage| stage.state == StepState::Passed), "what was durable stays");
}

#[test]
fn qemu_a_killed_agent_is_told_on_the_console_and_fails_its_run() -> anyhow::Result<()> {
    let told = ["THE AGENT DIED (signal SIGKILL)", "the coordinator knows of it"];
    assert_died(&vet_and_kill("--live-image", &told)?, "died: signal SIGKILL");
    Ok(())
}

#[test]
fn qemu_a_killed_live_session_is_told_by_its_successor() -> anyhow::Result<()> {
    let told = ["the live session died: signal SIGKILL", "the coordinator knows of it"];
    assert_died(&vet_and_kill("live --init-ms", &told)?, "the live session died: signal SIGKILL");
    Ok(())
}
