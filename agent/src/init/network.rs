//! The network of the live image: the interfaces that the settings ask for, and addresses on each that has a link, for
//! as long as the image runs. Without settings: every NIC, by DHCP, router advertisements and DHCPv6.
//!
//! udhcpc and udhcpc6 speak DHCP; their scripts only tell what came of it. The kernel itself follows router
//! advertisements. What is wrong is on the console by name: no NIC, one that the settings name and that is not there, no
//! cable, no answer, an address that another machine has; and it goes on trying.

#![expect(
    clippy::disallowed_methods,
    reason = "writes below /run/vetting and the kernel's settings of interfaces"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use vetting_protocol::ids::MacAddress;
use vetting_protocol::stick::network::Network;

use super::address::{self, AddressState, KernelAddress};
use super::advertised::AdvertisedServers;
use super::interface::{InterfaceError, link_up};
use super::layout::{Addressing, Layout, Part};
use super::resolver::Resolver;
use super::way::{Surroundings, Way};
use crate::boot_parameters::Endpoint;
use crate::clock;
use crate::console::{Console, chain, spoken};
use crate::host::Host;
use crate::tools::runner::SystemRunner;

const RESOLVER: &str = "/etc/resolv.conf";
const IPV6_ADDRESSES: &str = "/proc/net/if_inet6";
/// How often carriers are looked at until there is an address, and afterwards.
const LOOK_BEFORE: Duration = Duration::from_millis(20);
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// First and longest time between two lines on the same trouble.
const FIRST_WORD: Duration = Duration::from_secs(5);
const LONGEST_SILENCE: Duration = Duration::from_mins(1);
/// Metrics of the default routes: the cable that the machine booted from leads to the coordinator.
const BOOT_METRIC: u8 = 0;
const OTHER_METRIC: u8 = 100;

/// What the network is to be, and for whom.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) network: Network,
    /// The NIC that the machine booted from.
    pub(super) boot_interface: Option<MacAddress>,
    /// Of which kind an address must be to reach the coordinator.
    pub(super) family: Family,
}

/// Addresses that are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
    Either,
}

impl Family {
    /// What reaches this coordinator; by a name: perhaps either.
    pub(super) fn of(coordinator: Option<&Endpoint>) -> Self {
        match coordinator.and_then(|endpoint| endpoint.host.parse().ok()) {
            Some(IpAddr::V4(_)) => Self::Ipv4,
            Some(IpAddr::V6(_)) => Self::Ipv6,
            None => Self::Either,
        }
    }
}

/// Starts bringing up the network. `ready` is written when an interface has an address that reaches the coordinator:
/// when that was, ms after the kernel's start.
pub(super) fn start(
    host: Host,
    runner: SystemRunner,
    console: Arc<dyn Console>,
    wanted: Wanted,
    ready: PathBuf,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("network".to_owned()).spawn(move || {
        let begin = clock::monotonic();
        Keeper {
            host,
            runner,
            console,
            layout: Layout::new(wanted.network),
            boot_interface: wanted.boot_interface,
            family: wanted.family,
            nics: BTreeMap::new(),
            ways: Vec::new(),
            resolver: Resolver::new(RESOLVER.into()),
            advertised: None,
            trouble: Trouble { next: begin + FIRST_WORD, silence: FIRST_WORD },
            begin,
        }
        .keep(&ready);
    })?;
    Ok(())
}

struct Keeper {
    host: Host,
    runner: SystemRunner,
    console: Arc<dyn Console>,
    layout: Layout,
    boot_interface: Option<MacAddress>,
    family: Family,
    /// The NICs that were found, with their own addresses: a bond gives its cables another.
    nics: BTreeMap<String, Option<MacAddress>>,
    ways: Vec<Way>,
    resolver: Resolver,
    /// `None` before the start, and where the kernel does not tell.
    advertised: Option<AdvertisedServers>,
    trouble: Trouble,
    begin: Instant,
}

/// When to speak of trouble again.
struct Trouble {
    next: Instant,
    silence: Duration,
}

impl Keeper {
    fn keep(mut self, ready: &Path) {
        let mut announced = false;
        self.keep_cards_apart();
        // before the first link is up
        match AdvertisedServers::listen() {
            Ok(advertised) => self.advertised = Some(advertised),
            Err(error) => self.console.line(&format!("name servers of routers are not heard: {error}")),
        }
        self.make_bonds();
        loop {
            self.find_nics();
            let addresses = self.host.text(IPV6_ADDRESSES).unwrap_or_default();
            let addresses = address::parse_if_inet6(&addresses);
            self.look_after_ways(&addresses);
            if !announced && self.has_address(&addresses) {
                announced = true;
                if let Err(error) = write_whole(ready, &clock::uptime_ms().to_string()) {
                    self.console.line(&format!("{}: {error}", ready.display()));
                }
            }
            if !announced {
                self.speak_of_trouble();
            }
            std::thread::sleep(if announced { LOOK_AFTER } else { LOOK_BEFORE });
        }
    }

    /// Two cards on one network: each answers and speaks for its own addresses only (ip-sysctl of the kernel), so that
    /// what is sent to one does not come in by the other.
    fn keep_cards_apart(&self) {
        for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
            let path = self.host.path("/proc/sys/net/ipv4/conf/all").join(key);
            if let Err(error) = std::fs::write(&path, value) {
                self.console.line(&format!("{}: {error}", path.display()));
            }
        }
    }

    fn make_bonds(&mut self) {
        for plan in self.layout.bonds.clone() {
            if let Err(error) = address::change(&self.runner, address::add_bond(&plan.name, plan.bond.mode)) {
                self.console.line(&format!("{}: the bond cannot be made: {}", plan.name, error.reason()));
                continue;
            }
            self.carry(&plan.name, &plan.carries, BOOT_METRIC);
        }
    }

    /// Takes up NICs that are new.
    fn find_nics(&mut self) {
        let mut names = self.host.list("/sys/class/net").unwrap_or_default();
        names.retain(|name| {
            !self.nics.contains_key(name) && self.host.exists(&format!("/sys/class/net/{name}/device"))
        });
        // the one it booted from first: its cable leads to the coordinator
        names.sort_by_key(|name| Some(self.mac(name)) != Some(self.boot_interface));
        for name in names {
            let mac = self.mac(&name);
            let booted_from = self.boot_interface.is_some() && mac == self.boot_interface;
            // of two alike the one that was found first
            let other = OTHER_METRIC.saturating_add(u8::try_from(self.nics.len()).unwrap_or(u8::MAX));
            let metric = if booted_from { BOOT_METRIC } else { other };
            match self.layout.part(&name, mac) {
                Part::Own(carries) => self.carry(&name, &carries, metric),
                Part::Member(bond) => {
                    if let Err(error) = address::change(&self.runner, address::join_bond(&bond, &name)) {
                        self.console.line(&format!("{name}: cannot join {bond}: {}", error.reason()));
                    }
                }
                // stages test its link, too
                Part::Unused => self.set_up(&name),
            }
            self.nics.insert(name, mac);
        }
    }

    /// Sets an interface up, with what it carries: addresses of its own, and VLANs.
    fn carry(&mut self, link: &str, carries: &[Addressing], metric: u8) {
        let plain = carries.iter().find(|addressing| addressing.vlan.is_none());
        if let Some(addressing) = plain {
            self.add_way(link, addressing, metric);
        } else {
            self.set_ipv6(link, &[("disable_ipv6", "1".to_owned())]);
            self.set_up(link);
        }
        for addressing in carries {
            let Some(vlan) = addressing.vlan else { continue };
            match address::change(&self.runner, address::add_vlan(link, vlan)) {
                Ok(()) => self.add_way(&address::vlan_name(link, vlan), addressing, metric),
                Err(error) => {
                    let why = error.reason();
                    self.console.line(&format!("{link}: VLAN {} cannot be made: {why}", vlan.get()));
                }
            }
        }
    }

    fn add_way(&mut self, name: &str, addressing: &Addressing, metric: u8) {
        let way = Way::new(name.to_owned(), addressing.ipv4.clone(), addressing.ipv6.clone(), metric);
        // before the link is up: the kernel begins then
        self.set_ipv6(name, &way.ipv6_settings());
        self.set_up(name);
        self.ways.push(way);
    }

    fn set_up(&self, name: &str) {
        match link_up(name) {
            Ok(()) => {}
            // Ethernet over something that is not ready yet, or gone again
            Err(error @ (InterfaceError::Name { .. } | InterfaceError::Kernel { .. })) => {
                self.console.line(&format!("{name}: its link cannot be set up: {}", chain(&error)));
            }
        }
    }

    fn set_ipv6(&self, name: &str, settings: &[(&str, String)]) {
        let folder = self.host.path("/proc/sys/net/ipv6/conf").join(name);
        for (key, value) in settings {
            let path = folder.join(key);
            match std::fs::write(&path, value) {
                Ok(()) => {}
                // an older kernel has no such setting, or no IPv6 at all; DHCP goes on without
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => self.console.line(&format!("{}: {error}", path.display())),
            }
        }
    }

    fn mac(&self, name: &str) -> Option<MacAddress> {
        self.host.text(&format!("/sys/class/net/{name}/address")).ok()?.parse().ok()
    }

    fn has_carrier(&self, name: &str) -> bool {
        self.host.flag(&format!("/sys/class/net/{name}/carrier")).unwrap_or(false)
    }

    fn look_after_ways(&mut self, addresses: &[KernelAddress]) {
        let mut advertised = self
            .advertised
            .as_mut()
            .map(|advertised| advertised.changes(clock::monotonic()))
            .unwrap_or_default();
        let mut ways = std::mem::take(&mut self.ways);
        for way in &mut ways {
            let linked = self.has_carrier(way.name());
            let mut around = Surroundings {
                runner: &self.runner,
                console: &*self.console,
                resolver: &mut self.resolver,
                now: clock::monotonic(),
            };
            if linked {
                way.go_on(addresses, &mut around);
            }
            way.hear(&mut around);
            if let Some(names) = advertised.remove(way.name()) {
                way.hear_router(names, &mut around);
            }
            way.tell_ipv6(addresses, &*self.console);
        }
        self.ways = ways;
    }

    /// An address that reaches the coordinator, as far as its kind says.
    fn has_address(&self, addresses: &[KernelAddress]) -> bool {
        let is_way = |name: &str| self.ways.iter().any(|way| way.name() == name);
        let ipv4 = || {
            getifaddrs().is_ok_and(|all| {
                all.into_iter().any(|one| {
                    is_way(&one.interface_name)
                        && one.address.is_some_and(|address| address.as_sockaddr_in().is_some())
                })
            })
        };
        let ipv6 = || {
            addresses.iter().any(|one| {
                is_way(&one.interface)
                    && one.state == AddressState::Usable
                    && !one.address.is_unicast_link_local()
            })
        };
        match self.family {
            Family::Ipv4 => ipv4(),
            Family::Ipv6 => ipv6(),
            Family::Either => ipv4() || ipv6(),
        }
    }

    fn speak_of_trouble(&mut self) {
        let now = clock::monotonic();
        if now < self.trouble.next {
            return;
        }
        self.trouble.silence = (self.trouble.silence * 2).min(LONGEST_SILENCE);
        self.trouble.next = now + self.trouble.silence;
        let waited = spoken(self.begin.elapsed());
        for words in self.troubles() {
            self.console.line(&format!("{words} (for {waited}; goes on trying)"));
        }
    }

    fn troubles(&self) -> Vec<String> {
        let names: Vec<&str> = self.nics.keys().map(String::as_str).collect();
        if names.is_empty() {
            return vec!["no network card found: its driver may be missing from the image".to_owned()];
        }
        let there: Vec<_> = self.nics.iter().map(|(name, mac)| (name.clone(), *mac)).collect();
        let all = names.join(", ");
        let missing = self.layout.missing(&there).into_iter();
        let mut troubles: Vec<String> =
            missing.map(|words| format!("network settings: {words}; there are {all}")).collect();
        let linked: Vec<&Way> = self.ways.iter().filter(|way| self.has_carrier(way.name())).collect();
        if linked.is_empty() && !self.ways.is_empty() {
            let all: Vec<&str> = self.ways.iter().map(Way::name).collect();
            troubles.push(format!("no network cable: none of {} has a carrier", all.join(", ")));
        }
        let list = |of: fn(&Way) -> bool| {
            let chosen: Vec<&str> = linked.iter().filter(|way| of(way)).map(|way| way.name()).collect();
            (!chosen.is_empty()).then(|| chosen.join(", "))
        };
        if self.family != Family::Ipv6
            && let Some(asking) = list(Way::asks_dhcp)
        {
            troubles.push(format!("no DHCP answer on {asking}: is there a DHCP server?"));
        }
        if self.family != Family::Ipv4
            && let Some(waiting) = list(Way::awaits_ipv6)
        {
            troubles.push(format!(
                "no IPv6 address on {waiting}: no router advertises a prefix for it, and no DHCPv6 server answers"
            ));
        }
        troubles
    }
}

/// So that whoever sees the file sees all of it.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    std::fs::write(&draft, text)?;
    std::fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coordinators_address_says_which_of_ours_is_waited_for() {
        let of = |text: &str| Family::of(Some(&text.parse().unwrap()));
        assert_eq!(of("10.0.0.1:8443"), Family::Ipv4);
        assert_eq!(of("[fd00::1]:8443"), Family::Ipv6);
        assert_eq!(of("lab.example:8443"), Family::Either);
        assert_eq!(Family::of(None), Family::Either);
    }
}
