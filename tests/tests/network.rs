//! Emulated machines that exchange data with their coordinator, one of them of two sockets, and one that loses a link.

use std::time::Duration;

use anyhow::Context as _;
use vetting_image::lab::{Disk, DiskBus, Firmware};
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::RunResult;
use vetting_tests::machines::{HEALTHY, emulated_quick};
use vetting_tests::site::{Built, Site, SiteOptions};

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(15);

/// Two sockets, each with half of the memory.
const TWO_NODES: [&str; 8] = [
    "-object",
    "memory-backend-ram,id=half0,size=512M",
    "-object",
    "memory-backend-ram,id=half1,size=512M",
    "-numa",
    "node,nodeid=0,memdev=half0,cpus=0",
    "-numa",
    "node,nodeid=1,memdev=half1,cpus=1",
];

#[test]
fn qemu_a_machine_of_two_sockets_exchanges_data_with_its_coordinator_and_passes() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options =
        SiteOptions { quick_profile: Some(emulated_quick()?), network_test: true, ..SiteOptions::default() };
    let site = Site::start(&Built::find()?, folder.path(), &options)?;
    let spec = "cpu: {sockets: 2, logical_cores: 2}\ndisks: [{count: 2}]\n";
    let run = site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), spec)?;
    let machine = HEALTHY
        .machine(&site, folder.path(), Firmware::Bios)
        .cpus(2, 1)
        .extra_args(TWO_NODES)
        .disk(Disk::new(DiskBus::Nvme, "NVME-01", 64))
        .power_on()?;
    let detail = site
        .wait_for_result(run, PATIENCE, |_| ())
        .with_context(|| format!("the console ends with:\n{}", machine.serial().tail(30)))?;
    assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:#?}", detail.reasons);
    for (stage, step) in [
        ("SMART", "nvme0n1 SMART"),
        ("Memory", "node 0"),
        ("Memory", "node 1"),
        ("Network", "eth0 iperf"),
        ("Network", "all together"),
        ("Burn", "eth0 iperf"),
    ] {
        let found = detail.stages.iter().find(|found| found.name == stage).context(stage)?;
        assert_eq!(found.state, StepState::Passed, "{stage}: {:?}", found.reason);
        let step = found.sub_steps.iter().find(|found| found.name == step).context(step)?;
        assert_eq!(step.state, StepState::Passed, "{}: {:?}", step.name, step.reason);
    }
    Ok(())
}

#[test]
fn qemu_a_link_that_is_lost_during_the_run_fails_in_network_by_name() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = SiteOptions { quick_profile: Some(emulated_quick()?), ..SiteOptions::default() };
    let site = Site::start(&Built::find()?, folder.path(), &options)?;
    let run = site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), "cpu: {logical_cores: 2}\n")?;
    let second = ["-netdev", "user,id=net1,net=10.0.3.0/24", "-device", "e1000,netdev=net1"];
    let machine = HEALTHY.machine(&site, folder.path(), Firmware::Bios).extra_args(second).power_on()?;
    let mut pulled = false;
    let detail = site.wait_for_result(run, PATIENCE, |detail| {
        let stressed =
            detail.stages.iter().any(|stage| stage.name == "CPUStress" && stage.state == StepState::Running);
        if stressed && !pulled {
            let unplug = serde_json::json!({"name": "net1", "up": false});
            pulled = machine.qmp().and_then(|mut qmp| qmp.execute("set_link", &unplug)).is_ok();
        }
    })?;
    assert!(pulled);
    assert_eq!(detail.summary.result, Some(RunResult::Fail), "{detail:#?}");
    assert_eq!(detail.summary.failed_stage.as_deref(), Some("Network"), "{detail:#?}");
    let reasons = detail.reasons.join("\n");
    assert!(reasons.contains("eth1") && reasons.contains("lost its link since the run began"), "{reasons}");
    Ok(())
}
