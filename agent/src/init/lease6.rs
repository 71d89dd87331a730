//! What a DHCPv6 server gave, as the image's udhcpc6 script tells it in one line.
//!
//! What it tells came from the network and is believed only as far as it parses.

use std::net::Ipv6Addr;

use super::resolver::Names;

/// What the script's lines begin with.
const MARK: &str = "vetting-dhcp6|";

/// What udhcpc6 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dhcp6Event {
    /// A lease, new or renewed.
    Bound(Lease6),
    /// No address, but name servers: the answer to a question for them alone (RFC 8415 section 6.1).
    Informed(Names),
    /// The address is not ours, or not any more.
    Unbound,
}

/// A lease, as far as it is used. Routers are not in it: they tell of themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease6 {
    pub(super) address: Ipv6Addr,
    pub(super) names: Names,
}

impl Dhcp6Event {
    /// Reads `vetting-dhcp6|EVENT|ipv6|dns …|search …`. `None` if it is another line, or one that gives no usable
    /// address nor, without any address, a name server.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.strip_prefix(MARK)?.split('|');
        let mut next = || fields.next().unwrap_or_default().trim();
        match next() {
            "deconfig" => Some(Self::Unbound),
            "bound" | "renew" => {
                let address = match next() {
                    "" => None,
                    text => Some(text.parse().ok().filter(is_usable)?),
                };
                let servers = next().split(' ').filter_map(|word| word.parse::<Ipv6Addr>().ok());
                let servers = servers.map(Into::into).collect();
                let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                let domain = next().split(' ').next().unwrap_or_default();
                let domain = (!domain.is_empty() && domain.bytes().all(good)).then(|| domain.to_owned());
                let names = Names { servers, domain };
                match address {
                    Some(address) => Some(Self::Bound(Lease6 { address, names })),
                    None if names.servers.is_empty() => None,
                    None => Some(Self::Informed(names)),
                }
            }
            _ => None,
        }
    }
}

/// Whether an address that the network names means one machine wherever it is used.
pub(super) fn is_usable(address: &Ipv6Addr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_loopback()
        && !address.is_unicast_link_local()
        && address.to_ipv4_mapped().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lease_is_read_from_what_the_script_tells() {
        // of busybox 1.37 with a lease of dnsmasq
        let told = "vetting-dhcp6|bound|fd77:0000:0000:0000:0000:0000:0000:0145|\
                    fd77:0000:0000:0000:0000:0000:0000:0053|lab.example x.example";
        let Some(Dhcp6Event::Bound(lease)) = Dhcp6Event::parse(told) else { panic!("{told}") };
        assert_eq!(lease.address, "fd77::145".parse::<Ipv6Addr>().unwrap());
        assert_eq!((lease.names.servers.len(), lease.names.domain.as_deref()), (1, Some("lab.example")));
        assert_eq!(Dhcp6Event::parse("vetting-dhcp6|deconfig|||"), Some(Dhcp6Event::Unbound));
    }

    #[test]
    fn name_servers_alone_are_no_lease() {
        // of busybox 1.37 (-l) with dnsmasq's ra-stateless
        let told = "vetting-dhcp6|renew||fd78:0000:0000:0000:0000:0000:0000:0053|lab.example";
        let Some(Dhcp6Event::Informed(names)) = Dhcp6Event::parse(told) else { panic!("{told}") };
        assert_eq!(names.servers, ["fd78::53".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(names.domain.as_deref(), Some("lab.example"));
        assert_eq!(Dhcp6Event::parse("vetting-dhcp6|nak|||"), None);
    }

    #[test]
    fn nonsense_is_no_lease() {
        for address in
            ["", "x", "::", "::1", "ff02::1", "fe80::5", "10.0.0.1", "::ffff:10.0.0.1", "fd77::1/64"]
        {
            assert_eq!(Dhcp6Event::parse(&format!("vetting-dhcp6|bound|{address}||")), None, "{address}");
        }
        assert_eq!(Dhcp6Event::parse("vetting-dhcp|bound|fd77::1||"), None);
        assert_eq!(Dhcp6Event::parse("vetting-dhcp6|leasefail|fd77::1||"), None);
    }

    proptest! {
        #[test]
        fn no_line_is_too_much(rest in ".*") {
            let _ = Dhcp6Event::parse(&format!("{MARK}bound|{rest}"));
        }
    }
}
