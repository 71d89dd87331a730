//! Emulated machines with a BMC of their own: what the BMC's sensors say of themselves is judged by their own limits, and
//! its supplies by the stage PSU.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use vetting_image::lab::Firmware;
use vetting_protocol::operator_api::RunDetail;
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::RunResult;
use vetting_tests::bmc::Bmc;
use vetting_tests::machines::{HEALTHY, emulated_quick};
use vetting_tests::site::{Built, Site, SiteOptions};

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(10);

/// Vets a healthy machine whose BMC tells this of its CPU.
fn vet(folder: &Path, cpu_celsius: u8) -> anyhow::Result<RunDetail> {
    let options = SiteOptions { quick_profile: Some(emulated_quick()?), ..SiteOptions::default() };
    let site = Site::start(&Built::find()?, folder, &options)?;
    let bmc = Bmc::start(&folder.join("bmc"))?;
    bmc.set_cpu_temperature(cpu_celsius)?;
    let run = site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), HEALTHY.spec_yaml)?;
    let machine =
        HEALTHY.machine(&site, folder, Firmware::Bios).extra_args(bmc.qemu_arguments()).power_on()?;
    let detail = site
        .wait_for_result(run, PATIENCE, |_| ())
        .with_context(|| format!("the console ends with:\n{}", machine.serial().tail(30)))?;
    machine.wait_exit(PATIENCE).context("the machine switches itself off")?;
    Ok(detail)
}

#[test]
fn qemu_a_sensor_beyond_its_own_critical_limit_fails_the_run_and_is_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let detail = vet(folder.path(), 95)?;
    assert_eq!(detail.summary.result, Some(RunResult::Fail), "{:#?}", detail.reasons);
    let named = |reason: &&String| {
        ["bmc/CPU1_Temp", "90 °C", "95 °C", "the limit that the hardware gives"]
            .iter()
            .all(|word| reason.contains(word))
    };
    assert!(detail.reasons.iter().any(|reason| named(&reason)), "{:#?}", detail.reasons);
    Ok(())
}

#[test]
fn qemu_a_machine_with_a_healthy_bmc_passes_and_its_supplies_are_tested() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let detail = vet(folder.path(), 45)?;
    assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:#?}", detail.reasons);
    for stage in &detail.stages {
        // the coordinator offers no network test, and the machine has no GPU
        let expected = if ["Network", "GPU"].contains(&stage.name.as_str()) {
            StepState::Skipped
        } else {
            StepState::Passed
        };
        assert_eq!(stage.state, expected, "{}: {:?}", stage.name, stage.reason);
    }
    Ok(())
}
