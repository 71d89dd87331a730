//! A lab's network with an ordinary DHCP server on it, and a coordinator whose own netboot server serves it.

use std::net::Ipv4Addr;
use std::path::Path;

use tempfile::TempDir;
use vetting_image::lab::{Lan, Member, Running, Tap};

use crate::machines::emulated_quick;
use crate::site::{Built, Site, SiteOptions};

/// A network of its own, dnsmasq, one coordinator. Fields are dropped in this order: what runs on the network goes
/// before the network.
pub struct LanSite {
    /// The coordinator.
    pub site: Site,
    _dhcp: Running,
    lan: Lan,
    folder: TempDir,
}

impl LanSite {
    /// Everything started.
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut lan = Lan::new()?;
        let dhcp = start_dhcp(&lan.member("dhcp", 2)?, folder.path())?;
        let site = coordinator(lan.member("coordinator", 3)?, folder.path())?;
        Ok(Self { site, _dhcp: dhcp, lan, folder })
    }

    /// A cable for a machine.
    pub fn tap(&self, number: u8) -> anyhow::Result<Tap> {
        Ok(self.lan.tap(number)?)
    }

    /// Where everything's files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the coordinator has logged.
    pub fn coordinator_log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("coordinator.log"))?)
    }
}

fn coordinator(network: Member, folder: &Path) -> anyhow::Result<Site> {
    let options = SiteOptions {
        quick_profile: Some(emulated_quick()?),
        network: Some(network),
        ..SiteOptions::default()
    };
    Site::start(&Built::find()?, folder, &options)
}

/// A DHCP server with a range of addresses and nothing else.
fn start_dhcp(member: &Member, folder: &Path) -> anyhow::Result<Running> {
    let [a, b, c, _] = member.address.octets();
    let range = format!("{},{},1h", Ipv4Addr::new(a, b, c, 100), Ipv4Addr::new(a, b, c, 200));
    let leases = folder.join("leases");
    let arguments = [
        "--keep-in-foreground",
        "--port=0",
        "--conf-file=/dev/null",
        "--interface=eth0",
        "--bind-interfaces",
        "--user=root",
        "--log-facility=-",
        "--log-dhcp",
        "--pid-file=",
        &format!("--dhcp-range={range}"),
        &format!("--dhcp-leasefile={}", leases.display()),
    ];
    Ok(member.start("dnsmasq", &arguments, &folder.join("dnsmasq.log"))?)
}
