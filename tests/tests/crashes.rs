//! A machine whose kernel dies in the middle of a run: it comes back, and the run fails with the kernel's last words.

use std::time::Duration;

use vetting_image::lab::{Firmware, OnReboot};
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::RunResult;
use vetting_tests::machines::{HEALTHY, emulated_quick};
use vetting_tests::site::{Built, Site, SiteOptions};

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(15);

#[test]
fn qemu_a_kernel_panic_is_told_in_the_kernels_own_words() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = SiteOptions {
        quick_profile: Some(emulated_quick()?),
        // an NMI that nobody asked for is a panic, and the machine restarts at once after it
        kernel_args: "unknown_nmi_panic=1 panic=1".to_owned(),
        ..SiteOptions::default()
    };
    let site = Site::start(&Built::find()?, folder.path(), &options)?;
    let run = site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), HEALTHY.spec_yaml)?;
    let machine =
        HEALTHY.machine(&site, folder.path(), Firmware::Uefi).on_reboot(OnReboot::Restart).power_on()?;
    let mut struck = false;
    let detail = site.wait_for_result(run, PATIENCE, |detail| {
        let stressed =
            detail.stages.iter().any(|stage| stage.name == "CPUStress" && stage.state == StepState::Running);
        if stressed && !struck {
            let nmi = machine.qmp().and_then(|mut qmp| qmp.execute("inject-nmi", &serde_json::json!({})));
            struck = nmi.is_ok();
        }
    })?;
    assert!(struck);
    assert_eq!(detail.summary.result, Some(RunResult::Fail));
    assert_eq!(detail.summary.failed_stage.as_deref(), Some("CPUStress"), "{:#?}", detail.reasons);
    let reasons = detail.reasons.join("\n");
    for words in ["kernel panic", "NMI", "efi_pstore"] {
        assert!(reasons.contains(words), "`{words}` is in\n{reasons}\n{}", machine.serial().tail(40));
    }
    Ok(())
}
