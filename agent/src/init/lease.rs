//! What a DHCP server gave, as the image's udhcpc script tells it in one line, and putting it into force.
//!
//! The script only tells (`/etc/udhcpc/tell.script`); what it tells came from the network and is believed only as far
//! as it parses.

use std::net::Ipv4Addr;

use super::interface::{InterfaceError, Route, add_route, delete_route, set_address, set_mtu};
use super::resolver::Names;

/// What the script's lines begin with.
const MARK: &str = "vetting-dhcp|";
/// IPv4 works with this much (RFC 791); a server that says less is mistaken.
const SMALLEST_MTU_BYTES: u16 = 576;

/// What udhcpc says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DhcpEvent {
    /// A lease, new or renewed.
    Bound(Lease),
    /// The address is not ours, or not any more.
    Unbound,
}

/// A lease, as far as it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) address: Ipv4Addr,
    netmask: Ipv4Addr,
    router: Option<Ipv4Addr>,
    mtu_bytes: Option<u16>,
    name_servers: Vec<Ipv4Addr>,
    domain: Option<String>,
}

/// A lease that cannot be put into force.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeaseError {
    /// The kernel does not take the address.
    #[error("address {address} cannot be set")]
    Address { address: Ipv4Addr, source: InterfaceError },
    /// It does not take the route.
    #[error("the route by {router} cannot be set")]
    Route { router: Ipv4Addr, source: InterfaceError },
    /// It does not take the packet size.
    #[error("packets of {mtu_bytes} bytes cannot be set")]
    Mtu { mtu_bytes: u16, source: InterfaceError },
}

impl DhcpEvent {
    /// Reads `vetting-dhcp|EVENT|ip|subnet|router …|mtu|dns …|domain`. `None` if it is another line, or one that gives
    /// no usable address.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.strip_prefix(MARK)?.split('|');
        let mut next = || fields.next().unwrap_or_default().trim();
        match next() {
            "deconfig" => Some(Self::Unbound),
            "bound" | "renew" => {
                let address: Ipv4Addr = next().parse().ok()?;
                let netmask: Ipv4Addr = next().parse().ok()?;
                // the ones first, then the zeros
                let valid = netmask.to_bits().leading_ones() + netmask.to_bits().trailing_zeros() == 32;
                if address.is_unspecified() || address.is_multicast() || address.is_broadcast() || !valid {
                    return None;
                }
                // the kernel has one default route for each metric: the first router is it
                let router = next().split(' ').next().and_then(|word| word.parse().ok());
                let mtu_bytes = next().parse().ok().filter(|mtu| *mtu >= SMALLEST_MTU_BYTES);
                let name_servers = next().split(' ').filter_map(|word| word.parse().ok()).collect();
                let domain = next();
                let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                let domain = (!domain.is_empty() && domain.bytes().all(good)).then(|| domain.to_owned());
                Some(Self::Bound(Lease { address, netmask, router, mtu_bytes, name_servers, domain }))
            }
            _ => None,
        }
    }
}

impl Lease {
    /// Gives the interface what the lease says, instead of `before`. An address that came without the rest is better
    /// than none: all failures are given, and nothing is taken back.
    pub(super) fn enter_into_force(
        &self,
        interface: &str,
        before: Option<&Self>,
        metric: u8,
    ) -> Vec<LeaseError> {
        let Self { address, netmask, .. } = *self;
        let mut failures = Vec::new();
        if let Some(mtu_bytes) = self.mtu_bytes
            && let Err(source) = set_mtu(interface, mtu_bytes)
        {
            failures.push(LeaseError::Mtu { mtu_bytes, source });
        }
        // setting an address again would cut connections
        let same_address =
            before.is_some_and(|before| (before.address, before.netmask) == (address, netmask));
        if !same_address && let Err(source) = set_address(interface, address, netmask) {
            failures.push(LeaseError::Address { address, source });
            return failures;
        }
        if same_address
            && let Some(old) = before.and_then(|before| before.router)
            && self.router != Some(old)
        {
            // gone with the router that it led to: nothing to tell
            let _ = delete_route(interface, Route::Default { router: old, metric });
        }
        if let Some(router) = self.router
            && let Err(source) = self.route(interface, router, metric)
        {
            failures.push(LeaseError::Route { router, source });
        }
        failures
    }

    fn route(&self, interface: &str, router: Ipv4Addr, metric: u8) -> Result<(), InterfaceError> {
        if !self.reaches(router) {
            // as where each machine is a network of its own
            add_route(interface, Route::Neighbour(router))?;
        }
        add_route(interface, Route::Default { router, metric })
    }

    fn reaches(&self, other: Ipv4Addr) -> bool {
        (self.address.to_bits() ^ other.to_bits()) & self.netmask.to_bits() == 0
    }

    /// The name servers that it tells.
    pub(super) fn names(&self) -> Names {
        let servers = self.name_servers.iter().copied().map(Into::into).collect();
        Names { servers, domain: self.domain.clone() }
    }
}

/// Takes the interface's address away.
pub(super) fn leave(interface: &str) -> Result<(), InterfaceError> {
    set_address(interface, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lease(line: &str) -> Option<Lease> {
        match DhcpEvent::parse(line) {
            Some(DhcpEvent::Bound(lease)) => Some(lease),
            Some(DhcpEvent::Unbound) | None => None,
        }
    }

    #[test]
    fn a_lease_is_read_from_what_the_script_tells() {
        let told =
            "vetting-dhcp|bound|10.0.2.15|255.255.255.0|10.0.2.2 10.0.2.3|1500|10.0.2.3 9.9.9.9|lab.example";
        let lease = lease(told).unwrap();
        assert_eq!(lease.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!((lease.router, lease.mtu_bytes), (Some([10, 0, 2, 2].into()), Some(1500)));
        let names = lease.names();
        assert_eq!((names.servers.len(), names.domain.as_deref()), (2, Some("lab.example")));
        assert!(lease.reaches([10, 0, 2, 2].into()) && !lease.reaches([10, 0, 3, 2].into()));
        assert_eq!(DhcpEvent::parse("vetting-dhcp|deconfig||||||"), Some(DhcpEvent::Unbound));
    }

    #[test]
    fn only_the_address_is_needed() {
        let lease = lease("vetting-dhcp|renew|192.0.2.9|255.255.255.255||||").unwrap();
        assert_eq!((lease.router, lease.mtu_bytes, lease.domain.as_deref()), (None, None, None));
        assert_eq!(lease.names(), Names::default());
    }

    #[test]
    fn nonsense_is_no_lease() {
        for told in [
            "udhcpc: lease of 10.0.2.15 obtained",
            "vetting-dhcp|bound",
            "vetting-dhcp|bound|10.0.2.256|255.255.255.0||||",
            "vetting-dhcp|bound|0.0.0.0|255.255.255.0||||",
            "vetting-dhcp|bound|10.0.2.15|255.0.255.0||||",
            "vetting-dhcp|leasefail|10.0.2.15|255.255.255.0||||",
        ] {
            assert_eq!(lease(told), None, "{told}");
        }
        let odd = lease("vetting-dhcp|bound|10.0.2.15|255.255.255.0|x|20|y|a\u{1b}b c").unwrap();
        assert_eq!((odd.router, odd.mtu_bytes, odd.name_servers.len(), odd.domain), (None, None, 0, None));
    }

    proptest! {
        #[test]
        fn no_line_is_too_much(rest in ".*") {
            let _ = DhcpEvent::parse(&format!("{MARK}bound|{rest}"));
        }
    }
}
