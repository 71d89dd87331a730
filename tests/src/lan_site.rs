//! A lab's network with an ordinary DHCP server on it, and coordinators whose own netboot server serves it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::bail;
use tempfile::TempDir;
use vetting_image::lab::{Lan, Member, Running, Tap};

use crate::machines::WHAT_IT_IS_MADE_OF;
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
    /// With these further keys of `netboot:` in the coordinator's configuration.
    pub fn new(netboot: &str) -> anyhow::Result<Self> {
        Self::beside(netboot, &[])
    }

    /// Beside a DHCP server with these further arguments of dnsmasq.
    pub fn beside(netboot: &str, dhcp: &[&str]) -> anyhow::Result<Self> {
        Self::with(options(netboot), dhcp)
    }

    /// The same with a site that is like this but for its network; without a profile it gets one that only looks.
    pub fn with(options: SiteOptions, dhcp: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut lan = Lan::new()?;
        let dhcp = start_dhcp(&lan.member("dhcp", 2)?, folder.path(), dhcp)?;
        let site = coordinator(lan.member("coordinator", 3)?, folder.path(), options)?;
        Ok(Self { site, _dhcp: dhcp, lan, folder })
    }

    /// One more coordinator; drop it before this.
    pub fn another(&mut self, netboot: &str) -> anyhow::Result<Site> {
        coordinator(self.lan.member("another", 4)?, &self.folder.path().join("another"), options(netboot))
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

fn options(netboot: &str) -> SiteOptions {
    SiteOptions { netboot: netboot.to_owned(), ..SiteOptions::default() }
}

fn coordinator(network: Member, folder: &Path, options: SiteOptions) -> anyhow::Result<Site> {
    let quick_profile = options.quick_profile.unwrap_or_else(|| WHAT_IT_IS_MADE_OF.to_owned());
    let options = SiteOptions { quick_profile: Some(quick_profile), network: Some(network), ..options };
    Site::start(&Built::find()?, folder, &options)
}

/// A DHCP server with a range of addresses and, unless `more` says so, nothing else.
fn start_dhcp(member: &Member, folder: &Path, more: &[&str]) -> anyhow::Result<Running> {
    let IpAddr::V4(address) = member.address else { bail!("{} has no IPv4", member.namespace) };
    let [a, b, c, _] = address.octets();
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
    let arguments = [&arguments, more].concat();
    Ok(member.start("dnsmasq", &arguments, &folder.join("dnsmasq.log"))?)
}
