//! Stages that restart the machine, on emulated machines: restarts with the inventory compared, the kernel's memory
//! test, memtest86+ watched over a serial console server. Good memory passes; planted bad memory is found and named.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use vetting_image::lab::bad_memory::{FIXED_DIRECT_MAP, stub_arguments};
use vetting_image::lab::{Firmware, LostWrite, Machine, OnReboot, StuckByte};
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::RunDetail;
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::{RunResult, RunState};
use vetting_tests::console_server::{port_arguments, serve};
use vetting_tests::local_disk;
use vetting_tests::machines::HEALTHY;
use vetting_tests::site::{Built, Site, SiteOptions};

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(14);
/// The same, from the verdict to the machine's own disk: a restart and a boot by network, some twenty seconds.
const RESTART_PATIENCE: Duration = Duration::from_mins(5);
/// A pass of memtest86+ over this much takes an emulated machine a few minutes, and the live image needs no more.
const SMALL_MIB: u32 = 448;
/// In the middle of the machine's memory, where neither firmware nor boot loader lie.
const BAD_ADDRESS: u64 = 0x1800_0123;
/// Part of no pattern.
const BAD_VALUE: u8 = 0x13;

fn profile(stages: &str) -> String {
    format!(
        "name: quick\ndescription: restarts\nsampling_interval: 5s\nstages:\n  - {{stage: Inventory, limit: 5m}}\n\
         {stages}\nthresholds: []\n"
    )
}

/// A machine with a second serial port, a gdbstub and a disk that boots, whose run has these stages. After a pass it is
/// to start that disk.
struct Lab {
    folder: tempfile::TempDir,
    site: Site,
    run: RunId,
    machine: Machine,
}

impl Lab {
    fn power_on(
        stages: &str,
        firmware: Firmware,
        memory_mib: u32,
        kernel_args: &str,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("vetting-reboot-").tempdir()?;
        let options = SiteOptions {
            quick_profile: Some(profile(stages)),
            kernel_args: kernel_args.to_owned(),
            ..SiteOptions::default()
        };
        let site = Site::start(&Built::find()?, folder.path(), &options)?;
        let mac = HEALTHY.mac().to_string();
        let after = ["--after-pass", "reboot"];
        let run = site.host_with_run_as(HEALTHY.name, &mac, HEALTHY.spec_yaml, &after)?;
        let line = serve(&folder.path().join("ttyS1"))?;
        site.cli_text(&["host", "edit", HEALTHY.name, "--serial", &format!("tcp://{line}?port=ttyS1")])?;
        let machine = HEALTHY
            .machine(&site, folder.path(), firmware)
            .memory_mib(memory_mib)
            .on_reboot(OnReboot::Restart)
            .extra_args(port_arguments(&folder.path().join("ttyS1")))
            .extra_args(stub_arguments(&gdb(folder.path())))
            .extra_args(local_disk::bios(folder.path())?)
            .power_on()?;
        Ok(Self { folder, site, run, machine })
    }

    /// Waits for the verdict, and looks at the run meanwhile.
    fn verdict(&self, look: impl FnMut(&RunDetail)) -> anyhow::Result<RunDetail> {
        self.site
            .wait_for_result(self.run, PATIENCE, look)
            .with_context(|| format!("the console ends with:\n{}", self.machine.serial().tail(40)))
    }

    /// Once the machine has halted for its restart: lets it start over, with memory that loses what the kernel's test writes.
    fn start_over_with_bad_memory(&self) -> anyhow::Result<Option<LostWrite>> {
        let mut monitor = self.machine.qmp()?;
        if !monitor.is_halted()? {
            return Ok(None);
        }
        monitor.reset_halted()?;
        Ok(Some(LostWrite::plant(&gdb(self.folder.path()), BAD_ADDRESS, BAD_VALUE)?))
    }
}

fn gdb(folder: &Path) -> std::path::PathBuf {
    folder.join("gdb")
}

/// From when memtest86+ is seen until its error's address is, which it draws once an error and may draw over: Linux,
/// before and after it, is not to be hit.
fn until_memtest86plus_names_the_address(lab: &Lab, detail: &RunDetail) -> bool {
    let events = || lab.site.cli_text(&["events", "--json"]).unwrap_or_default();
    let over = ["at 0x", "is told to end"];
    let under_test = |events: &str| {
        events.contains("is seen on the serial line") && !over.iter().any(|words| events.contains(words))
    };
    detail.summary.state == RunState::Rebooting && under_test(&events())
}

/// The names of what passed in this run, sub-steps in order.
fn passed(detail: &RunDetail) -> Vec<&str> {
    let steps = detail.stages.iter().flat_map(|stage| &stage.sub_steps);
    steps.filter(|step| step.state == StepState::Passed).map(|step| step.name.as_str()).collect()
}

#[test]
fn qemu_restarts_and_the_kernels_memory_test_pass_on_a_good_machine() -> anyhow::Result<()> {
    let lab = Lab::power_on(
        "  - {stage: Reboot, limit: 5m, restarts: 2}\n  - {stage: Memtest, limit: 5m, kernel_patterns: 2, passes: 0, budget: 0s}",
        Firmware::Bios,
        HEALTHY.memory_mib,
        "",
    )?;
    let detail = lab.verdict(|_| ())?;
    assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:#?}", detail.reasons);
    assert_eq!(passed(&detail), ["restart 1 of 2", "restart 2 of 2", "kernel memtest=2"]);
    lab.machine.wait_for(local_disk::STARTED, RESTART_PATIENCE).context("the machine starts its own disk")?;
    Ok(())
}

#[test]
fn qemu_bad_memory_is_named_by_the_kernels_test() -> anyhow::Result<()> {
    let lab = Lab::power_on(
        "  - {stage: Memtest, limit: 5m, kernel_patterns: 2, passes: 0, budget: 0s}",
        Firmware::Bios,
        HEALTHY.memory_mib,
        FIXED_DIRECT_MAP,
    )?;
    // Linux as it is before the restart is not to be hit
    lab.machine.qmp()?.halt_on_restart()?;
    let mut bad_memory = None;
    let detail = lab.verdict(|detail| {
        if bad_memory.is_none() && detail.summary.state == RunState::Rebooting {
            bad_memory = lab.start_over_with_bad_memory().transpose();
        }
    });
    // why there was no bad memory says more than what came of that
    bad_memory.transpose()?;
    let detail = detail?;
    assert_eq!(detail.summary.result, Some(RunResult::Fail));
    assert_eq!(detail.summary.failed_stage.as_deref(), Some("Memtest"), "{:#?}", detail.reasons);
    let reasons = detail.reasons.join("\n");
    assert!(reasons.contains("0x18000120") && reasons.contains("DIMM_A"), "{reasons}");
    Ok(())
}

#[test]
fn qemu_good_memory_passes_memtest86plus_which_is_ended_over_the_serial_line() -> anyhow::Result<()> {
    let lab = Lab::power_on(
        "  - {stage: Memtest, limit: 5m, kernel_patterns: 0, passes: 1, budget: 30m}",
        Firmware::Bios,
        SMALL_MIB,
        "",
    )?;
    let detail = lab.verdict(|_| ())?;
    assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:#?}", detail.reasons);
    assert_eq!(passed(&detail), ["memtest86+"]);
    let events = lab.site.cli_text(&["events", "--json"])?;
    assert!(events.contains("memtest86+ is told to end (stopped) after 1 of 1 passes"), "{events}");
    Ok(())
}

fn memtest86plus_names_bad_memory(firmware: Firmware) -> anyhow::Result<()> {
    let lab = Lab::power_on(
        "  - {stage: Memtest, limit: 5m, kernel_patterns: 0, passes: 1, budget: 30m}",
        firmware,
        HEALTHY.memory_mib,
        "",
    )?;
    let mut stuck = None;
    let detail = lab.verdict(|detail| {
        if !until_memtest86plus_names_the_address(&lab, detail) {
            stuck = None;
        } else if stuck.is_none() {
            stuck = Some(StuckByte::stick(&gdb(lab.folder.path()), BAD_ADDRESS, BAD_VALUE));
        }
    })?;
    assert_eq!(detail.summary.result, Some(RunResult::Fail));
    assert_eq!(detail.summary.failed_stage.as_deref(), Some("Memtest"), "{:#?}", detail.reasons);
    let reasons = detail.reasons.join("\n");
    for word in ["memtest86+ found", "0x18000120", "DIMM_A"] {
        assert!(reasons.contains(word), "`{word}` is in\n{reasons}");
    }
    Ok(())
}

#[test]
fn qemu_bios_bad_memory_is_named_by_memtest86plus_over_the_serial_line() -> anyhow::Result<()> {
    memtest86plus_names_bad_memory(Firmware::Bios)
}

#[test]
fn qemu_uefi_bad_memory_is_named_by_memtest86plus_over_the_serial_line() -> anyhow::Result<()> {
    memtest86plus_names_bad_memory(Firmware::Uefi)
}
