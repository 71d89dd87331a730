//! Faults of the hardware while the real image works on an emulated machine: each ends in a fail that names it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tempfile::TempDir;
use vetting_image::lab::{Disk, DiskBus, Firmware, Machine, MachineBuilder};
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{RunDetail, RunSummary};
use vetting_protocol::outcome::StepState;
use vetting_tests::machines::{HEALTHY, emulated_quick};
use vetting_tests::site::{Built, Site, SiteOptions};
use vetting_tests::verdict::{assert_failed, disk_name};

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(10);

/// A run of the healthy machine, for something to be done to it.
struct Drill {
    folder: TempDir,
    site: Site,
    run: RunId,
}

impl Drill {
    /// Orders a quick run by this profile for a machine that is to have so many disks.
    fn order(profile: String, disks: u32, flags: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let options = SiteOptions { quick_profile: Some(profile), ..SiteOptions::default() };
        let site = Site::start(&Built::find()?, folder.path(), &options)?;
        let spec = format!("cpu: {{logical_cores: 2}}\ndisks: [{{count: {disks}}}]\n");
        site.host(HEALTHY.name, &HEALTHY.mac().to_string(), &spec)?;
        let order = [&["run", "start", HEALTHY.name, "--profile", "quick"], flags].concat();
        let run = site.cli::<RunSummary>(&order)?.id;
        Ok(Self { folder, site, run })
    }

    fn machine(&self) -> MachineBuilder {
        HEALTHY.machine(&self.site, self.folder.path(), Firmware::Bios)
    }

    /// Waits for the verdict; `meddle` is called with every look at the run until it says that it has done its work.
    fn verdict(
        &self,
        machine: &Machine,
        mut meddle: impl FnMut(&RunDetail) -> bool,
    ) -> anyhow::Result<RunDetail> {
        let mut done = false;
        let detail = self
            .site
            .wait_for_result(self.run, PATIENCE, |detail| done = done || meddle(detail))
            .with_context(|| format!("the console ends with:\n{}", machine.serial().tail(30)))?;
        ensure!(done, "the fault was never there");
        Ok(detail)
    }
}

fn is_running(detail: &RunDetail, stage: &str) -> bool {
    detail.stages.iter().any(|found| found.name == stage && found.state == StepState::Running)
}

#[test]
fn qemu_a_machine_check_under_load_fails_in_its_stage() -> anyhow::Result<()> {
    // long enough that the kernel looks into the banks meanwhile
    let profile = emulated_quick()?.replace("cpu: 4s", "cpu: 20s");
    let drill = Drill::order(profile, 1, &[])?;
    let machine = drill.machine().power_on()?;
    let detail = drill.verdict(&machine, |detail| {
        // a corrected error of a cache (Intel SDM, 16.9), in bank 4 of CPU 1
        let inject = json!({"command-line": "mce 1 4 0x9000000000000135 0x0 0x0 0x0"});
        is_running(detail, "CPUStress")
            && machine.qmp().and_then(|mut qmp| qmp.execute("human-monitor-command", &inject)).is_ok()
    })?;
    assert_failed(&detail, "CPUStress", &["machine_check"]);
    Ok(())
}

#[test]
fn qemu_an_nvme_disk_that_warns_of_itself_fails_in_smart() -> anyhow::Result<()> {
    let drill = Drill::order(emulated_quick()?, 2, &[])?;
    let machine = drill.machine().disk(Disk::new(DiskBus::Nvme, "WARNING-01", 64)).power_on()?;
    // reliability is degraded (NVMe Base 2.0, figure 207, bit 2)
    let warn = json!({"path": "/machine/peripheral/disk1", "property": "smart_critical_warning", "value": 4});
    machine.qmp()?.execute("qom-set", &warn)?;
    let detail = drill.verdict(&machine, |_| true)?;
    assert_failed(&detail, "SMART", &["nvme0n1", "critical_warning"]);
    Ok(())
}

#[test]
fn qemu_a_slow_disk_and_one_that_cannot_be_written_fail_in_storage_by_name() -> anyhow::Result<()> {
    let floor = "key: \"sd*/read_bandwidth\", op: gte, threshold: 80000000, unit: bytes_per_second,\n     severity: warning";
    let shipped = emulated_quick()?;
    ensure!(shipped.contains(floor), "the quick profile no longer has `{floor}`");
    let profile = shipped
        .replace(floor, &floor.replace("80000000", "10000000").replace("warning", "critical"))
        .replace("surface: {mode: read_whole}", "surface: {mode: write_whole}");
    let drill = Drill::order(profile, 3, &["--wipe"])?;
    let machine = drill
        .machine()
        .disk(Disk::new(DiskBus::Sata, "SLOW-01", 16))
        .disk(Disk::new(DiskBus::Sata, "UNWRITABLE-01", 16).unwritable(&[20_000]))
        .power_on()?;
    let bytes_per_second = 4 * 1024 * 1024;
    let slow = json!({"id": "disk1", "bps": bytes_per_second, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0});
    machine.qmp()?.execute("block_set_io_throttle", &slow)?;
    let detail = drill.verdict(&machine, |_| true)?;
    let [slow, unwritable, good] =
        ["SLOW-01", "UNWRITABLE-01", "LAB-0001"].map(|serial| disk_name(&detail, serial));
    let (slow, unwritable, good) = (slow?, unwritable?, good?);
    assert_failed(&detail, "Storage", &[&format!("{slow}/read_bandwidth"), &unwritable]);
    assert!(!detail.reasons.join("\n").contains(&good), "{:#?}", detail.reasons);
    Ok(())
}
