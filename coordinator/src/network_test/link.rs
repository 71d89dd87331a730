//! How fast this box's own link is: no test against it is faster.

use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};

/// The speed of the link that has this address, Mbit/s; absent for the loopback, for a virtual interface whose driver does
/// not say, and where it is not known.
pub(super) fn speed_mbps(address: IpAddr) -> Option<u32> {
    let name = getifaddrs().ok()?.find(|one| ip(one) == Some(address))?.interface_name;
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/speed")).ok()?;
    parse(&text)
}

/// sysfs-class-net: Mbit/s, or -1 where it is not known.
fn parse(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|speed| *speed > 0 && *speed != u32::MAX)
}

fn ip(interface: &InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address.as_ref()?;
    let ipv4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    ipv4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_that_is_not_told_is_none() {
        assert_eq!(parse("1000\n"), Some(1000));
        for none in ["-1\n", "0", "", "4294967295", "fast"] {
            assert_eq!(parse(none), None, "{none}");
        }
    }
}
