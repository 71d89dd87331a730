//! One interface that gets addresses: its DHCP clients, its fixed addresses, and what is said of them on the console.
//!
//! Owns what the interface has been given. Refuses: making the interface, which is [`super::network`]'s.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use vetting_protocol::stick::network::{Ipv4Method, Ipv6Method, StaticAddress};

use super::address::{self, AddressState, KernelAddress};
use super::lease::{self, DhcpEvent, Lease};
use super::lease6::{Dhcp6Event, Lease6};
use super::resolver::{Names, Resolver, Source};
use crate::console::{Console, chain};
use crate::tools::runner::{Happening, Leads, RunningTool, Service, SystemRunner, ToolError};

/// Tell what the DHCP server gave.
const SCRIPT: &str = "/etc/udhcpc/tell.script";
const SCRIPT_6: &str = "/etc/udhcpc/tell6.script";
/// Pause before what failed is done again.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// What an interface needs of the rest.
pub(super) struct Surroundings<'a> {
    pub(super) runner: &'a SystemRunner,
    pub(super) console: &'a dyn Console,
    pub(super) resolver: &'a mut Resolver,
    pub(super) now: Instant,
}

/// An interface that gets addresses.
pub(super) struct Way {
    name: String,
    ipv4: Ipv4Method,
    ipv6: Ipv6Method,
    /// Of its default routes.
    metric: u8,
    dhcp: Client,
    dhcp6: Client,
    /// Asks for name servers alone, where addresses come from a router.
    inform6: Client,
    lease: Option<Lease>,
    lease6: Option<Lease6>,
    /// Name servers came without an address.
    informed: bool,
    fixed_ipv4: Fixed,
    fixed_ipv6: Fixed,
    /// IPv6 addresses that the console knows of.
    told: BTreeSet<(Ipv6Addr, bool)>,
}

/// A DHCP client.
#[derive(Default)]
struct Client {
    tool: Option<RunningTool>,
    start_after: Option<Instant>,
}

/// How far a fixed address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fixed {
    Set,
    /// Not before this moment, if there is one.
    Due(Option<Instant>),
}

impl Way {
    pub(super) fn new(name: String, ipv4: Ipv4Method, ipv6: Ipv6Method, metric: u8) -> Self {
        Self {
            name,
            ipv4,
            ipv6,
            metric,
            dhcp: Client::default(),
            dhcp6: Client::default(),
            inform6: Client::default(),
            informed: false,
            lease: None,
            lease6: None,
            fixed_ipv4: Fixed::Due(None),
            fixed_ipv6: Fixed::Due(None),
            told: BTreeSet::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a DHCP server is being asked for an IPv4 address.
    pub(super) fn asks_dhcp(&self) -> bool {
        self.dhcp.tool.is_some()
    }

    /// Whether its IPv6 address comes from the network.
    pub(super) fn awaits_ipv6(&self) -> bool {
        matches!(self.ipv6, Ipv6Method::Auto | Ipv6Method::Dhcp)
    }

    /// The kernel's settings for IPv6 on this interface, below `/proc/sys/net/ipv6/conf/NAME/`.
    pub(super) fn ipv6_settings(&self) -> Vec<(&'static str, String)> {
        let (disabled, advertisements, own_address) = match &self.ipv6 {
            Ipv6Method::Auto => ("0", "1", "1"),
            // the router is known by its advertisements only
            Ipv6Method::Dhcp => ("0", "1", "0"),
            Ipv6Method::Static(_) => ("0", "0", "0"),
            Ipv6Method::Off => ("1", "0", "0"),
        };
        vec![
            ("disable_ipv6", disabled.to_owned()),
            ("accept_ra", advertisements.to_owned()),
            ("autoconf", own_address.to_owned()),
            ("ra_defrtr_metric", self.ipv6_metric().to_string()),
        ]
    }

    /// The kernel prefers the least, and takes 0 for "not said".
    fn ipv6_metric(&self) -> u16 {
        u16::from(self.metric) + 1
    }

    /// Goes on with whatever is to be done, while the interface has a link.
    pub(super) fn go_on(&mut self, addresses: &[KernelAddress], around: &mut Surroundings<'_>) {
        match self.ipv4.clone() {
            Ipv4Method::Dhcp => self.dhcp.keep(&self.name, "DHCP", around, dhcp_client),
            Ipv4Method::Static(fixed) => self.fix_ipv4(&fixed, around),
            Ipv4Method::Off => {}
        }
        match self.ipv6.clone() {
            // the client asks from this address
            Ipv6Method::Auto | Ipv6Method::Dhcp if self.has_link_local(addresses) => {
                self.dhcp6.keep(&self.name, "DHCPv6", around, dhcp6_client);
                if self.lease6.is_none() && !self.informed && self.has_routers_address(addresses) {
                    self.inform6.keep(&self.name, "DHCPv6", around, inform6_client);
                }
            }
            Ipv6Method::Static(fixed) => self.fix_ipv6(&fixed, around),
            Ipv6Method::Auto | Ipv6Method::Dhcp | Ipv6Method::Off => {}
        }
    }

    /// Takes what the DHCP clients say.
    pub(super) fn hear(&mut self, around: &mut Surroundings<'_>) {
        while let Some(line) = self.dhcp.next_line(&self.name, "DHCP", around) {
            match DhcpEvent::parse(&line) {
                Some(DhcpEvent::Bound(lease)) => self.bind(lease, around),
                Some(DhcpEvent::Unbound) => self.unbind(around),
                None => {}
            }
        }
        while let Some(line) = self.dhcp6.next_line(&self.name, "DHCPv6", around) {
            match Dhcp6Event::parse(&line) {
                Some(Dhcp6Event::Bound(lease)) => self.bind6(lease, around),
                Some(Dhcp6Event::Unbound) => self.unbind6(around),
                Some(Dhcp6Event::Informed(_)) | None => {}
            }
        }
        while let Some(line) = self.inform6.next_line(&self.name, "DHCPv6", around) {
            match Dhcp6Event::parse(&line) {
                Some(Dhcp6Event::Informed(names)) => self.inform(names, around),
                Some(Dhcp6Event::Bound(_) | Dhcp6Event::Unbound) | None => {}
            }
        }
    }

    /// Takes the name servers that a router advertises now.
    pub(super) fn hear_router(&self, names: Names, around: &mut Surroundings<'_>) {
        self.tell_servers(&names, "by router advertisement", around.console);
        let Names { servers, domain } = names;
        self.learn(Source::Router(self.name.clone()), servers, domain, around);
    }

    /// Tells of IPv6 addresses that are new, and of those that another machine has.
    pub(super) fn tell_ipv6(&mut self, addresses: &[KernelAddress], console: &dyn Console) {
        for KernelAddress { interface, address, state } in addresses {
            if *interface != self.name {
                continue;
            }
            let taken = *state == AddressState::Duplicate;
            if taken && self.told.insert((*address, true)) {
                console.line(&format!(
                    "{interface}: address {address} is another machine's, too: it cannot be used"
                ));
            }
            let usable = *state == AddressState::Usable && !address.is_unicast_link_local();
            if usable && self.told.insert((*address, false)) {
                let leased = self.lease6.as_ref().is_some_and(|lease| lease.address == *address);
                let how = match (&self.ipv6, leased) {
                    (_, true) => "by DHCPv6",
                    (Ipv6Method::Static(_), false) => "as set",
                    (Ipv6Method::Auto | Ipv6Method::Dhcp | Ipv6Method::Off, false) => {
                        "by router advertisement"
                    }
                };
                console.line(&format!("{interface}: address {address} {how}"));
            }
        }
    }

    fn has_link_local(&self, addresses: &[KernelAddress]) -> bool {
        addresses.iter().any(|one| {
            one.interface == self.name
                && one.address.is_unicast_link_local()
                && one.state == AddressState::Usable
        })
    }

    /// An address that a router's advertisement gave.
    fn has_routers_address(&self, addresses: &[KernelAddress]) -> bool {
        addresses.iter().any(|one| {
            one.interface == self.name
                && one.state == AddressState::Usable
                && !one.address.is_unicast_link_local()
        })
    }

    fn fix_ipv4(&mut self, fixed: &StaticAddress<Ipv4Addr>, around: &mut Surroundings<'_>) {
        if !self.fixed_ipv4.is_due(around.now) {
            return;
        }
        self.fixed_ipv4 = Fixed::Due(Some(around.now + RESTART_PAUSE));
        let StaticAddress { address, gateway, dns } = fixed;
        match address::is_taken(around.runner, &self.name, address.address) {
            Ok(false) => {}
            Ok(true) => {
                return around.console.line(&format!(
                    "{}: address {} is another machine's: it is not taken, and tried again",
                    self.name, address.address
                ));
            }
            Err(error) => {
                let why = error.reason();
                around.console.line(&format!("{}: nobody can be asked for {address}: {why}", self.name));
            }
        }
        let calls = address::add_fixed(&self.name, *address, *gateway, u16::from(self.metric));
        if self.told_if_failed(address::change(around.runner, calls), around.console) {
            return;
        }
        self.fixed_ipv4 = Fixed::Set;
        around.console.line(&format!("{}: address {} as set", self.name, address.address));
        self.learn(Source::Settings(format!("{} IPv4", self.name)), dns.clone(), None, around);
    }

    fn fix_ipv6(&mut self, fixed: &StaticAddress<Ipv6Addr>, around: &mut Surroundings<'_>) {
        if !self.fixed_ipv6.is_due(around.now) {
            return;
        }
        self.fixed_ipv6 = Fixed::Due(Some(around.now + RESTART_PAUSE));
        let StaticAddress { address, gateway, dns } = fixed;
        let calls = address::add_fixed(&self.name, *address, *gateway, self.ipv6_metric());
        if self.told_if_failed(address::change(around.runner, calls), around.console) {
            return;
        }
        self.fixed_ipv6 = Fixed::Set;
        self.learn(Source::Settings(format!("{} IPv6", self.name)), dns.clone(), None, around);
    }

    fn told_if_failed(&self, done: Result<(), ToolError>, console: &dyn Console) -> bool {
        match done {
            Ok(()) => false,
            Err(error) => {
                console.line(&format!("{}: {}", self.name, error.reason()));
                true
            }
        }
    }

    fn learn(
        &self,
        source: Source,
        servers: Vec<std::net::IpAddr>,
        domain: Option<String>,
        around: &mut Surroundings<'_>,
    ) {
        if let Err(error) = around.resolver.learn(source, Names { servers, domain }) {
            around.console.line(&format!("{}: name servers cannot be written down: {error}", self.name));
        }
    }

    fn bind(&mut self, lease: Lease, around: &mut Surroundings<'_>) {
        if self.lease.as_ref() == Some(&lease) {
            return;
        }
        for failure in lease.enter_into_force(&self.name, self.lease.as_ref(), self.metric) {
            around.console.line(&format!("{}: {}", self.name, chain(&failure)));
        }
        let Names { servers, domain } = lease.names();
        self.learn(Source::Dhcp(self.name.clone()), servers, domain, around);
        if self.lease.as_ref().is_none_or(|before| before.address != lease.address) {
            around.console.line(&format!("{}: address {} by DHCP", self.name, lease.address));
        }
        self.lease = Some(lease);
    }

    fn unbind(&mut self, around: &mut Surroundings<'_>) {
        // said at the start of each client, too, when there is nothing to take away
        if let Some(lease) = self.lease.take() {
            around.console.line(&format!("{}: address {} is no longer ours", self.name, lease.address));
            if let Err(error) = lease::leave(&self.name) {
                around.console.line(&format!("{}: {}", self.name, chain(&error)));
            }
            self.learn(Source::Dhcp(self.name.clone()), Vec::new(), None, around);
        }
    }

    fn bind6(&mut self, lease: Lease6, around: &mut Surroundings<'_>) {
        if self.lease6.as_ref() == Some(&lease) {
            return;
        }
        if self.lease6.as_ref().is_some_and(|before| before.address != lease.address) {
            self.unbind6(around);
        }
        let calls = address::add_leased(&self.name, lease.address);
        if self.told_if_failed(address::change(around.runner, calls), around.console) {
            return;
        }
        let Names { servers, domain } = lease.names.clone();
        self.learn(Source::Dhcp6(self.name.clone()), servers, domain, around);
        self.lease6 = Some(lease);
        // it came with all that there is to know
        self.inform6 = Client::default();
    }

    fn inform(&mut self, names: Names, around: &mut Surroundings<'_>) {
        self.informed = true;
        self.inform6 = Client::default();
        if self.lease6.is_none() {
            self.tell_servers(&names, "by DHCPv6", around.console);
            let Names { servers, domain } = names;
            self.learn(Source::Dhcp6(self.name.clone()), servers, domain, around);
        }
    }

    fn tell_servers(&self, names: &Names, how: &str, console: &dyn Console) {
        let servers: Vec<String> = names.servers.iter().map(ToString::to_string).collect();
        if !servers.is_empty() {
            console.line(&format!("{}: name servers {} {how}", self.name, servers.join(", ")));
        }
    }

    fn unbind6(&mut self, around: &mut Surroundings<'_>) {
        if let Some(lease) = self.lease6.take() {
            around.console.line(&format!("{}: address {} is no longer ours", self.name, lease.address));
            let calls = address::remove_leased(&self.name, lease.address);
            self.told_if_failed(address::change(around.runner, calls), around.console);
            self.told.remove(&(lease.address, false));
            self.learn(Source::Dhcp6(self.name.clone()), Vec::new(), None, around);
        }
    }
}

impl Client {
    /// Starts the client if none runs.
    fn keep(&mut self, name: &str, what: &str, around: &Surroundings<'_>, service: fn(&str) -> Service) {
        if self.tool.is_some() || self.start_after.is_some_and(|moment| around.now < moment) {
            return;
        }
        match around.runner.spawn(&service(name)) {
            Ok(tool) => self.tool = Some(tool),
            Err(error) => {
                around.console.line(&format!("{name}: no {what} client: {}", chain(&error)));
                self.start_after = Some(around.now + RESTART_PAUSE);
            }
        }
    }

    /// A line that it wrote and nobody has seen. Its end is told, and it is started again after a pause.
    fn next_line(&mut self, name: &str, what: &str, around: &Surroundings<'_>) -> Option<String> {
        match self.tool.as_ref()?.next(Duration::ZERO)? {
            Happening::Line(_, line) => Some(line),
            Happening::Exited(exit) => {
                let how = super::fate::exit_words(exit);
                around.console.line(&format!("{name}: the {what} client ended: {how}"));
                self.tool = None;
                self.start_after = Some(around.now + RESTART_PAUSE);
                None
            }
        }
    }
}

impl Fixed {
    fn is_due(self, now: Instant) -> bool {
        match self {
            Self::Set => false,
            Self::Due(moment) => moment.is_none_or(|moment| now >= moment),
        }
    }
}

/// Asks every second, three times, and again after three seconds, until it is killed.
fn dhcp_client(interface: &str) -> Service {
    client("udhcpc", &["-f", "-R", "-t", "3", "-T", "1", "-A", "3", "-s", SCRIPT, "-i", interface])
}

/// The same for IPv6. Many networks have no such server: after three times it waits longer.
fn dhcp6_client(interface: &str) -> Service {
    client("udhcpc6", &["-f", "-R", "-t", "3", "-T", "1", "-A", "10", "-s", SCRIPT_6, "-i", interface])
}

/// Asks for name servers alone.
fn inform6_client(interface: &str) -> Service {
    client("udhcpc6", &["-f", "-l", "-t", "3", "-T", "1", "-A", "10", "-s", SCRIPT_6, "-i", interface])
}

fn client(program: &str, args: &[&str]) -> Service {
    Service {
        program: program.into(),
        args: args.iter().map(Into::into).collect(),
        env: Vec::new(),
        leads: Leads::Group,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ipv6: Ipv6Method) -> Vec<String> {
        let way = Way::new("eth0".to_owned(), Ipv4Method::Off, ipv6, 0);
        way.ipv6_settings().into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn the_kernel_is_told_who_gives_ipv6_addresses() {
        assert_eq!(
            settings(Ipv6Method::Auto),
            ["disable_ipv6=0", "accept_ra=1", "autoconf=1", "ra_defrtr_metric=1"]
        );
        assert_eq!(settings(Ipv6Method::Dhcp)[1..3], ["accept_ra=1", "autoconf=0"]);
        let fixed = StaticAddress { address: "fd00::5/64".parse().unwrap(), gateway: None, dns: Vec::new() };
        assert_eq!(settings(Ipv6Method::Static(fixed))[..3], ["disable_ipv6=0", "accept_ra=0", "autoconf=0"]);
        assert_eq!(settings(Ipv6Method::Off)[0], "disable_ipv6=1");
    }
}
