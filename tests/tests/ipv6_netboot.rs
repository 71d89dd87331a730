//! A lab without IPv4: dnsmasq set up as `netboot config dnsmasq --ipv6` says, and a UEFI machine that goes from
//! power-on to a verdict over IPv6 alone.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use vetting_image::lab::{Boot, Firmware, Lan, Member, Running};
use vetting_protocol::run::{RunResult, RunState};
use vetting_tests::machines::{HEALTHY, WHAT_IT_IS_MADE_OF};
use vetting_tests::site::{Built, Site, SiteOptions};

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(10);

/// Router advertisements, DHCPv6, and what the coordinator's operator is told to add.
fn start_dhcpv6(member: &Member, folder: &Path, snippet: &str) -> anyhow::Result<Running> {
    let IpAddr::V6(address) = member.address else { bail!("{} has IPv4", member.namespace) };
    let [a, b, c, d, ..] = address.segments();
    let (conf, leases) = (folder.join("dnsmasq.conf"), folder.join("leases"));
    let network = format!("{a:x}:{b:x}:{c:x}:{d:x}:");
    let range = format!("dhcp-range={network}:100,{network}:1ff,slaac,64,1h");
    std::fs::write(
        &conf,
        format!(
            "port=0\ninterface=eth0\nbind-interfaces\nuser=root\nlog-facility=-\nlog-dhcp\npid-file=\nenable-ra\n\
             {range}\ndhcp-option=option6:dns-server,[{network}:53]\ndhcp-leasefile={}\n{snippet}",
            leases.display()
        ),
    )?;
    let arguments = ["--keep-in-foreground", &format!("--conf-file={}", conf.display())];
    Ok(member.start("dnsmasq", &arguments, &folder.join("dnsmasq.log"))?)
}

#[test]
fn qemu_uefi_is_vetted_in_a_network_with_ipv6_only() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut lan = Lan::new()?;
    let network = Some(lan.ipv6_member("coordinator", 3)?);
    let quick_profile = Some(WHAT_IT_IS_MADE_OF.to_owned());
    let options = SiteOptions { quick_profile, network, ..SiteOptions::default() };
    let site = Site::start(&Built::find()?, folder.path(), &options)?;
    let snippet = site.cli_text(&["netboot", "config", "dnsmasq", "--ipv6"])?;
    let _dhcp = start_dhcpv6(&lan.ipv6_member("dhcp", 2)?, folder.path(), &snippet)?;

    let run = site.host_with_run(HEALTHY.name, &HEALTHY.mac().to_string(), HEALTHY.spec_yaml)?;
    let machine = HEALTHY
        .machine(&site, folder.path(), Firmware::Uefi)
        .boot(Boot::Lan(lan.tap(0)?))
        // OVMF would wait for IPv4 first
        .extra_args(["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"])
        .power_on()?;
    let detail = site.wait_for_result(run, PATIENCE, |_| ()).with_context(|| {
        let log = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        format!(
            "the console ends with:\n{}\ndnsmasq says:\n{}\nthe coordinator says:\n{}",
            machine.serial().tail(40),
            log("dnsmasq.log"),
            log("coordinator.log")
        )
    })?;
    assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:#?}", detail.reasons);
    assert_eq!(detail.summary.state, RunState::Completed);
    let console = machine.serial().text();
    for how in ["by router advertisement", "by DHCPv6"] {
        let told = |line: &str| line.contains("address fd77") && line.contains(how);
        assert!(console.lines().any(told), "an address is had {how}:\n{console}");
    }
    assert!(console.contains("name servers fd77::53 by router advertisement"), "{console}");
    machine.wait_exit(PATIENCE)?;
    Ok(())
}
