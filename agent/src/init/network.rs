//! The network of the live image: every NIC up, DHCP on each that has a carrier, for as long as the image runs.
//!
//! udhcpc speaks DHCP; its script only tells what came of it, and address, route and name servers are set here. What is
//! wrong is on the console: no NIC, no cable, no DHCP answer; and it goes on trying.

#![expect(clippy::disallowed_methods, reason = "writes below /run/vetting")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use vetting_protocol::ids::MacAddress;

use super::interface::{InterfaceError, link_up};
use super::lease::{self, DhcpEvent, Lease};
use crate::clock;
use crate::console::{Console, chain, spoken};
use crate::host::Host;
use crate::tools::runner::{Happening, Leads, RunningTool, Service, SystemRunner};

/// Tells what the DHCP server gave.
const SCRIPT: &str = "/etc/udhcpc/tell.script";
/// How often carriers are looked at until there is an address, and afterwards.
const LOOK_BEFORE: Duration = Duration::from_millis(20);
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// First and longest time between two lines on the same trouble.
const FIRST_WORD: Duration = Duration::from_secs(5);
const LONGEST_SILENCE: Duration = Duration::from_mins(1);
/// Pause before a DHCP client that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(5);
/// Metrics of the default routes: the cable that the machine booted from leads to the coordinator.
const BOOT_METRIC: u8 = 0;
const OTHER_METRIC: u8 = 100;

/// Starts bringing up the network. `ready` is written when the first interface has an address: when that was, ms
/// after the kernel's start.
pub(super) fn start(
    host: Host,
    runner: SystemRunner,
    console: Arc<dyn Console>,
    boot_interface: Option<MacAddress>,
    ready: PathBuf,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("network".to_owned()).spawn(move || {
        let begin = clock::monotonic();
        Keeper {
            host,
            runner,
            console,
            boot_interface,
            nics: BTreeMap::new(),
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
    boot_interface: Option<MacAddress>,
    nics: BTreeMap<String, Nic>,
    trouble: Trouble,
    begin: Instant,
}

#[derive(Default)]
struct Nic {
    dhcp: Option<RunningTool>,
    dhcp_since: Option<Instant>,
    start_after: Option<Instant>,
    lease: Option<Lease>,
    metric: u8,
}

/// When to speak of trouble again.
struct Trouble {
    next: Instant,
    silence: Duration,
}

impl Keeper {
    fn keep(mut self, ready: &Path) {
        let mut announced = false;
        loop {
            self.find_nics();
            self.look_after_dhcp();
            if !announced && self.has_address() {
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

    /// Takes up NICs that are new, and sets their links up.
    fn find_nics(&mut self) {
        let mut names = self.host.list("/sys/class/net").unwrap_or_default();
        names.retain(|name| {
            !self.nics.contains_key(name) && self.host.exists(&format!("/sys/class/net/{name}/device"))
        });
        // the one it booted from first: its cable leads to the coordinator
        names.sort_by_key(|name| Some(self.mac(name)) != Some(self.boot_interface));
        for name in names {
            match link_up(&name) {
                Ok(()) => {}
                // Ethernet over something that is not ready yet, or gone again
                Err(error @ (InterfaceError::Name { .. } | InterfaceError::Kernel { .. })) => {
                    self.console.line(&format!("{name}: its link cannot be set up: {}", chain(&error)));
                }
            }
            let booted_from = self.boot_interface.is_some() && self.mac(&name) == self.boot_interface;
            // of two alike the one that was found first
            let other = OTHER_METRIC.saturating_add(u8::try_from(self.nics.len()).unwrap_or(u8::MAX));
            let metric = if booted_from { BOOT_METRIC } else { other };
            self.nics.insert(name, Nic { metric, ..Nic::default() });
        }
    }

    fn mac(&self, name: &str) -> Option<MacAddress> {
        self.host.text(&format!("/sys/class/net/{name}/address")).ok()?.parse().ok()
    }

    fn has_carrier(&self, name: &str) -> bool {
        self.host.flag(&format!("/sys/class/net/{name}/carrier")).unwrap_or(false)
    }

    fn look_after_dhcp(&mut self) {
        let now = clock::monotonic();
        let names: Vec<String> = self.nics.keys().cloned().collect();
        for name in names {
            let idle = self
                .nics
                .get(&name)
                .is_some_and(|nic| nic.dhcp.is_none() && nic.start_after.is_none_or(|moment| now >= moment));
            if idle && self.has_carrier(&name) {
                self.start_dhcp(&name, now);
            }
            if let Some(nic) = self.nics.get_mut(&name) {
                nic.hear(&name, &*self.console, now);
            }
        }
    }

    fn start_dhcp(&mut self, name: &str, now: Instant) {
        let started = self.runner.spawn(&dhcp_client(name)).map_err(|error| chain(&error));
        let Some(nic) = self.nics.get_mut(name) else { return };
        match started {
            Ok(client) => {
                nic.dhcp = Some(client);
                nic.dhcp_since.get_or_insert(now);
            }
            Err(why) => {
                self.console.line(&format!("{name}: no DHCP client: {why}"));
                nic.start_after = Some(now + RESTART_PAUSE);
            }
        }
    }

    /// An IPv4 address on a NIC of the machine.
    fn has_address(&self) -> bool {
        let Ok(addresses) = getifaddrs() else { return false };
        addresses.into_iter().any(|address| {
            self.nics.contains_key(&address.interface_name)
                && address.address.is_some_and(|address| address.as_sockaddr_in().is_some())
        })
    }

    fn speak_of_trouble(&mut self) {
        let now = clock::monotonic();
        if now < self.trouble.next {
            return;
        }
        self.trouble.silence = (self.trouble.silence * 2).min(LONGEST_SILENCE);
        self.trouble.next = now + self.trouble.silence;
        let waited = spoken(self.begin.elapsed());
        let names: Vec<&str> = self.nics.keys().map(String::as_str).collect();
        let asking: Vec<&str> =
            self.nics.iter().filter(|(_, nic)| nic.dhcp.is_some()).map(|(name, _)| name.as_str()).collect();
        let words = if names.is_empty() {
            "no network card found: its driver may be missing from the image".to_owned()
        } else if asking.is_empty() {
            format!("no network cable: none of {} has a carrier", names.join(", "))
        } else {
            format!("no DHCP answer on {}: is there a DHCP server?", asking.join(", "))
        };
        self.console.line(&format!("{words} (for {waited}; goes on trying)"));
    }
}

impl Nic {
    /// Takes what the DHCP client says.
    fn hear(&mut self, name: &str, console: &dyn Console, now: Instant) {
        while let Some(happening) = self.dhcp.as_ref().and_then(|client| client.next(Duration::ZERO)) {
            match happening {
                Happening::Line(_, line) => match DhcpEvent::parse(&line) {
                    Some(DhcpEvent::Bound(lease)) => self.bind(name, lease, console),
                    Some(DhcpEvent::Unbound) => self.unbind(name, console),
                    None => {}
                },
                Happening::Exited(exit) => {
                    console
                        .line(&format!("{name}: the DHCP client ended: {}", super::fate::exit_words(exit)));
                    self.dhcp = None;
                    self.start_after = Some(now + RESTART_PAUSE);
                }
            }
        }
    }

    fn bind(&mut self, name: &str, lease: Lease, console: &dyn Console) {
        if self.lease.as_ref() == Some(&lease) {
            return;
        }
        for failure in lease.enter_into_force(name, self.lease.as_ref(), self.metric) {
            console.line(&format!("{name}: {}", chain(&failure)));
        }
        if self.lease.as_ref().is_none_or(|before| before.address != lease.address) {
            console.line(&format!("{name}: address {} by DHCP", lease.address));
        }
        self.lease = Some(lease);
    }

    fn unbind(&mut self, name: &str, console: &dyn Console) {
        // said at the start of each client, too, when there is nothing to take away
        if let Some(lease) = self.lease.take() {
            console.line(&format!("{name}: address {} is no longer ours", lease.address));
            if let Err(error) = lease::leave(name) {
                console.line(&format!("{name}: {}", chain(&error)));
            }
        }
    }
}

/// So that whoever sees the file sees all of it.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    std::fs::write(&draft, text)?;
    std::fs::rename(draft, path)
}

/// Asks every second, three times, and again after three seconds, until it is killed.
fn dhcp_client(interface: &str) -> Service {
    let args = ["-f", "-R", "-t", "3", "-T", "1", "-A", "3", "-s", SCRIPT, "-i", interface];
    Service {
        program: "udhcpc".into(),
        args: args.iter().map(Into::into).collect(),
        env: Vec::new(),
        leads: Leads::Group,
    }
}
