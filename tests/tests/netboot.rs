//! The real image on emulated machines, from power-on to report: firmware, iPXE, boot script, kernel, agent as PID 1,
//! claim, stages, verdict. What must pass passes, what is wrong is named, and no fault of the machine, the network or
//! the coordinator ends in silence or in a pass.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use vetting_image::lab::{Boot, DirectBoot, Disk, DiskBus, Firmware, Machine, MachineBuilder, OnReboot};
use vetting_protocol::ids::{RunId, Sha256Hex};
use vetting_protocol::operator_api::{RunDetail, RunSummary};
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::{RunResult, RunState};
use vetting_tests::machines::{
    BAD_DISK, Candidate, HEALTHY, SHORT_DELIVERY, UNREADABLE_SECTORS, WHAT_IT_IS_MADE_OF, emulated_quick,
};
use vetting_tests::site::{Built, Site, SiteOptions};
use vetting_tests::verdict::assert_failed;

/// Bounds only how long a broken build hangs; an emulated run takes about a minute.
const PATIENCE: Duration = Duration::from_mins(10);

/// A site with a profile for emulated machines, and the folder it lives in.
/// With the shipped quick profile, made shorter, unless the options have another.
fn lab(options: &SiteOptions) -> anyhow::Result<(TempDir, Site)> {
    let folder = tempfile::tempdir()?;
    let quick_profile = Some(options.quick_profile.clone().map_or_else(emulated_quick, Ok)?);
    let options = SiteOptions { quick_profile, ..options.clone() };
    let site = Site::start(&Built::find()?, folder.path(), &options)?;
    Ok((folder, site))
}

/// Registers the candidate's host, starts its run and powers the machine on.
fn power_on(
    site: &Site,
    folder: &Path,
    candidate: &Candidate,
    firmware: Firmware,
) -> anyhow::Result<(RunId, Machine)> {
    let run = site.host_with_run(candidate.name, &candidate.mac().to_string(), candidate.spec_yaml)?;
    Ok((run, candidate.machine(site, folder, firmware).power_on()?))
}

/// Waits for the verdict, and for the machine to switch itself off.
fn verdict(site: &Site, run: RunId, machine: &Machine) -> anyhow::Result<RunDetail> {
    let detail = site
        .wait_for_result(run, PATIENCE, |_| ())
        .with_context(|| format!("the console ends with:\n{}", machine.serial().tail(30)))?;
    machine.wait_exit(PATIENCE).context("the machine switches itself off")?;
    Ok(detail)
}

fn vet(candidate: &Candidate, firmware: Firmware) -> anyhow::Result<RunDetail> {
    let (folder, site) = lab(&SiteOptions::default())?;
    let (run, machine) = power_on(&site, folder.path(), candidate, firmware)?;
    let detail = verdict(&site, run, &machine)?;
    for kind in ["report", "report_html", "inventory"] {
        let artifact = detail.artifacts.iter().find(|artifact| artifact.kind == kind);
        let artifact = artifact.with_context(|| format!("the run has a {kind}: {:?}", detail.artifacts))?;
        let bytes = std::fs::read(&artifact.path)?;
        assert_eq!(Sha256Hex::of(&bytes), artifact.sha256, "{kind}");
    }
    Ok(detail)
}

fn assert_passed(detail: &RunDetail) {
    assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:#?}", detail.reasons);
    assert_eq!(detail.summary.state, RunState::Completed);
    for stage in &detail.stages {
        // nothing tells of an emulated machine's supplies, it has no GPU, and its coordinator offers no network test
        let skipped = ["PSU", "Network", "GPU"].contains(&stage.name.as_str());
        let expected = if skipped { StepState::Skipped } else { StepState::Passed };
        assert_eq!(stage.state, expected, "{}: {:?}", stage.name, stage.reason);
    }
    assert!(detail.measurement_count > 0);
}

#[test]
fn qemu_bios_a_machine_as_ordered_passes() -> anyhow::Result<()> {
    assert_passed(&vet(&HEALTHY, Firmware::Bios)?);
    Ok(())
}

#[test]
fn qemu_uefi_a_machine_as_ordered_passes() -> anyhow::Result<()> {
    assert_passed(&vet(&HEALTHY, Firmware::Uefi)?);
    Ok(())
}

#[test]
fn qemu_unreadable_sectors_fail_in_storage_and_are_named() -> anyhow::Result<()> {
    let detail = vet(&BAD_DISK, Firmware::Uefi)?;
    let sectors = UNREADABLE_SECTORS.map(|sector| sector.to_string());
    let mut words: Vec<&str> = sectors.iter().map(String::as_str).collect();
    words.push("sda");
    assert_failed(&detail, "Storage", &words);
    Ok(())
}

#[test]
fn qemu_a_short_delivery_fails_in_spec_validate_and_is_named() -> anyhow::Result<()> {
    let detail = vet(&SHORT_DELIVERY, Firmware::Bios)?;
    assert_failed(&detail, "SpecValidate", &["memory.dimms.count", "memory.total_gib", "cpu.logical_cores"]);
    let storage = detail.stages.iter().find(|stage| stage.name == "Storage").context("Storage is planned")?;
    assert_eq!(storage.state, StepState::Skipped, "nothing runs after a halt");
    Ok(())
}

/// What an earlier owner left on his disks.
const OLD_DATA: &[u8] = b"payroll of an earlier owner";

#[test]
fn qemu_erased_disks_hold_nothing_of_what_was_on_them_and_get_certificates() -> anyhow::Result<()> {
    let (folder, site) = lab(&SiteOptions::default())?;
    let spec = "cpu: {logical_cores: 2}\ndisks: [{count: 2}]\n";
    site.host(HEALTHY.name, &HEALTHY.mac().to_string(), spec)?;
    let order = ["run", "start", HEALTHY.name, "--profile", "quick", "--wipe", "--erase"];
    let run = site.cli::<RunSummary>(&order)?.id;
    // QEMU's NVMe disk can be formatted; its SATA disk has no Security feature set
    let machine = HEALTHY.machine(&site, folder.path(), Firmware::Bios);
    let machine = machine.disk(Disk::new(DiskBus::Nvme, "ERASE-01", 64));
    let images =
        ["disk-LAB-0001.img", "disk-ERASE-01.img"].map(|name| folder.path().join(HEALTHY.name).join(name));
    std::fs::create_dir_all(folder.path().join(HEALTHY.name))?;
    for (image, mib) in images.iter().zip([128_u64, 64]) {
        let file = File::create(image)?;
        file.set_len(mib * 1024 * 1024)?;
        for place in [0, mib * 512 * 1024, mib * 1024 * 1024 - 4096] {
            file.write_all_at(OLD_DATA, place)?;
        }
    }
    let machine = machine.power_on()?;
    let detail = verdict(&site, run, &machine)?;
    assert_passed(&detail);
    for image in &images {
        let content = std::fs::read(image)?;
        assert!(content.iter().all(|byte| *byte == 0), "{}", image.display());
    }
    let certificates = detail.artifacts.iter().filter(|artifact| artifact.kind == "wipe_certificate");
    let pages =
        certificates.map(|page| std::fs::read_to_string(&page.path)).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(pages.len(), 2, "{:?}", detail.artifacts);
    let all = pages.concat();
    for words in ["LAB-0001", "ERASE-01", "NVMe Format with user data erase", "written with zeros"] {
        assert!(all.contains(words), "`{words}` is in\n{all}");
    }
    Ok(())
}

#[test]
fn qemu_a_reset_during_a_stage_is_a_crash_with_its_stage() -> anyhow::Result<()> {
    let (folder, site) = lab(&SiteOptions::default())?;
    let run = site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), HEALTHY.spec_yaml)?;
    let machine =
        HEALTHY.machine(&site, folder.path(), Firmware::Bios).on_reboot(OnReboot::Restart).power_on()?;
    let mut reset = false;
    let detail = site.wait_for_result(run, PATIENCE, |detail| {
        let stressed =
            detail.stages.iter().any(|stage| stage.name == "CPUStress" && stage.state == StepState::Running);
        if stressed && !reset {
            reset = machine.qmp().and_then(|mut qmp| qmp.reset()).is_ok();
        }
    })?;
    assert!(reset);
    assert_failed(&detail, "CPUStress", &["restarted", "no restart was planned"]);
    Ok(())
}

#[test]
fn qemu_a_coordinator_away_at_boot_is_waited_for() -> anyhow::Result<()> {
    let quick_profile = Some(WHAT_IT_IS_MADE_OF.to_owned());
    let (folder, mut site) = lab(&SiteOptions { quick_profile, ..SiteOptions::default() })?;
    let (run, machine) = power_on(&site, folder.path(), &HEALTHY, Firmware::Bios)?;
    machine.wait_for("is PID 1", PATIENCE)?;
    site.kill()?;
    machine.wait_for("does not answer", PATIENCE)?;
    site.serve()?;
    assert_passed(&verdict(&site, run, &machine)?);
    Ok(())
}

#[test]
fn qemu_a_disk_pulled_while_it_is_read_fails_in_storage_by_name() -> anyhow::Result<()> {
    let (folder, site) = lab(&SiteOptions::default())?;
    let spec = "cpu: {logical_cores: 2}\ndisks: [{count: 2}]\n";
    let run = site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), spec)?;
    // large enough that reading it whole is still under way when it goes
    let pulled = Disk::new(DiskBus::Nvme, "PULLED-01", 65_536);
    let machine = HEALTHY.machine(&site, folder.path(), Firmware::Bios).disk(pulled).power_on()?;
    let mut pulled = false;
    let detail = site.wait_for_result(run, PATIENCE, |detail| {
        let reading = detail.stages.iter().flat_map(|stage| &stage.sub_steps).any(|step| {
            step.name.starts_with("nvme0n1")
                && step.name.contains("surface")
                && step.state == StepState::Running
        });
        if reading && !pulled {
            pulled = machine.qmp().and_then(|mut qmp| qmp.device_del("disk1")).is_ok();
        }
    })?;
    assert!(pulled);
    assert_failed(&detail, "Storage", &["nvme0n1"]);
    Ok(())
}

#[test]
fn qemu_a_machine_without_dhcp_says_so() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let image = Built::find()?.image;
    let parameters = "vetting.coordinator=192.0.2.1:8443 vetting.run=1 vetting.claim=none";
    let ca = Sha256Hex::of(b"no authority");
    let boot = Boot::Direct(DirectBoot {
        kernel: image.join("vmlinuz"),
        initrd: image.join("initrd.zst"),
        append: format!("console=ttyS0,115200n8 {parameters} vetting.ca=sha256:{ca}"),
    });
    // a second card on a wire with nobody else, and the first one's wire pulled
    let lonely = ["-netdev", "hubport,id=lonely,hubid=7", "-device", "virtio-net-pci,netdev=lonely"];
    let machine = MachineBuilder::new("no-dhcp", folder.path(), boot).extra_args(lonely).power_on()?;
    machine.qmp()?.execute("set_link", &serde_json::json!({"name": "net0", "up": false}))?;
    machine.wait_for("no DHCP answer on eth", PATIENCE)?;
    Ok(())
}

#[test]
fn qemu_a_machine_that_never_claims_ends_as_failed() -> anyhow::Result<()> {
    let (folder, site) = lab(&SiteOptions { boot: Duration::from_secs(1), ..SiteOptions::default() })?;
    let (run, machine) = power_on(&site, folder.path(), &HEALTHY, Firmware::Bios)?;
    let detail = site.wait_for_result(run, PATIENCE, |detail| {
        if detail.summary.state == RunState::Booting {
            // it has its boot script, and then its wire is pulled
            let unplug = serde_json::json!({"name": "net0", "up": false});
            let _ = machine.qmp().and_then(|mut qmp| qmp.execute("set_link", &unplug));
        }
    })?;
    assert_eq!(detail.summary.result, Some(RunResult::Fail), "{:#?}", detail.reasons);
    assert_eq!(detail.summary.state, RunState::Completed);
    assert!(detail.stages.iter().all(|stage| stage.state != StepState::Passed));
    Ok(())
}
