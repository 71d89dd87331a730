//! Name servers that routers advertise (RDNSS, RFC 8106 section 5.1), as the kernel passes them on: it checks each
//! router advertisement and hands on the options that are not its own (`RTM_NEWNDUSEROPT`, linux/rtnetlink.h).
//!
//! What is told came from the network and is believed only as far as it parses. Link-local servers are left out: they
//! mean nothing without an interface, which the list of name servers has no room for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};

use super::lease6::is_usable;
use super::resolver::Names;

/// Linux's number for such messages, and the bit of the group that is sent them (`RTNLGRP_ND_USEROPT`).
const RTM_NEWNDUSEROPT: u16 = 68;
const GROUP: u32 = 1 << (20 - 1);
/// Bytes of `struct nlmsghdr` and of `struct nduseroptmsg`.
const HEADER_BYTES: usize = 16;
const MESSAGE_BYTES: usize = 16;
/// Options count their length in these.
const UNIT_BYTES: usize = 8;
/// The option's type, and its bytes before the addresses.
const RDNSS: u8 = 25;
const RDNSS_HEAD_BYTES: usize = 8;
/// Longer than any router advertisement.
const LONGEST_BYTES: usize = 16 * 1024;

/// Servers that one router named.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Advertisement {
    /// The kernel's number of the interface it came in by.
    interface: u32,
    servers: Vec<Ipv6Addr>,
    /// Zero: they are not to be asked any more.
    lifetime: Duration,
}

/// The servers that are advertised now, by interface.
#[derive(Debug)]
pub(super) struct AdvertisedServers {
    socket: OwnedFd,
    /// Until when each may be asked.
    known: BTreeMap<String, BTreeMap<Ipv6Addr, Instant>>,
}

impl AdvertisedServers {
    /// Listens from now on.
    ///
    /// # Errors
    /// The kernel gives no such socket.
    pub(super) fn listen() -> Result<Self, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP))?;
        Ok(Self { socket, known: BTreeMap::new() })
    }

    /// The interfaces whose servers are others now than at the last call, with these.
    pub(super) fn changes(&mut self, now: Instant) -> BTreeMap<String, Names> {
        let before = self.now_known();
        for advertisement in self.heard() {
            let Ok(name) = nix::net::if_::if_indextoname(advertisement.interface) else { continue };
            self.take(&name.to_string_lossy(), &advertisement, now);
        }
        for servers in self.known.values_mut() {
            servers.retain(|_, until| *until > now);
        }
        let mut after = self.now_known();
        after.retain(|name, servers| before.get(name) != Some(servers));
        self.known.retain(|_, servers| !servers.is_empty());
        after
    }

    fn now_known(&self) -> BTreeMap<String, Names> {
        let names = |servers: &BTreeMap<Ipv6Addr, Instant>| Names {
            servers: servers.keys().copied().map(IpAddr::V6).collect(),
            domain: None,
        };
        self.known.iter().map(|(interface, servers)| (interface.clone(), names(servers))).collect()
    }

    fn take(&mut self, interface: &str, advertisement: &Advertisement, now: Instant) {
        let known = self.known.entry(interface.to_owned()).or_default();
        for server in &advertisement.servers {
            // the longest lifetime is no end, and so is one that the clock cannot count
            let until = now.checked_add(advertisement.lifetime).unwrap_or(now);
            known.insert(*server, until);
        }
    }

    fn heard(&self) -> Vec<Advertisement> {
        let mut all = Vec::new();
        let mut buffer = vec![0; LONGEST_BYTES];
        loop {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                // others than the kernel can write to this socket, too
                Ok((length, Some(sender))) if sender.pid() == 0 => {
                    all.extend(parse(buffer.get(..length).unwrap_or_default()));
                }
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                // nothing more; an error comes again when there is something to hear
                Err(_) => return all,
            }
        }
    }
}

/// The advertisements in one datagram of the kernel; what is something else, or cut short, is left out.
fn parse(datagram: &[u8]) -> Vec<Advertisement> {
    let mut all = Vec::new();
    let mut rest = datagram;
    while let Some(length) = number_at::<4>(rest, 0).map(u32::from_ne_bytes) {
        let Some(message) = usize::try_from(length).ok().and_then(|length| rest.get(HEADER_BYTES..length))
        else {
            break;
        };
        if number_at(rest, 4).map(u16::from_ne_bytes) == Some(RTM_NEWNDUSEROPT) {
            all.extend(read_message(message).unwrap_or_default());
        }
        // each begins at a multiple of four
        rest = rest.get((HEADER_BYTES + message.len()).next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// `struct nduseroptmsg` and the options behind it.
fn read_message(message: &[u8]) -> Option<Vec<Advertisement>> {
    let length = usize::from(u16::from_ne_bytes(number_at(message, 2)?));
    let interface = u32::from_ne_bytes(number_at(message, 4)?);
    let mut rest = message.get(MESSAGE_BYTES..MESSAGE_BYTES.checked_add(length)?)?;
    let mut all = Vec::new();
    while let [kind, units, ..] = *rest {
        let bytes = usize::from(units) * UNIT_BYTES;
        // an option of no length would never end
        let option = rest.get(..bytes).filter(|option| !option.is_empty())?;
        if kind == RDNSS {
            all.push(read_servers(interface, option)?);
        }
        rest = rest.get(bytes..)?;
    }
    Some(all)
}

fn read_servers(interface: u32, option: &[u8]) -> Option<Advertisement> {
    let lifetime = Duration::from_secs(u32::from_be_bytes(number_at(option, 4)?).into());
    let addresses = option.get(RDNSS_HEAD_BYTES..)?.as_chunks::<16>().0;
    let servers = addresses.iter().map(|bytes| Ipv6Addr::from(*bytes)).filter(is_usable).collect();
    Some(Advertisement { interface, servers, lifetime })
}

fn number_at<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<[u8; BYTES]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFETIME: Duration = Duration::from_mins(30);

    /// A message as the kernel builds it, with these options and one attribute behind them.
    fn message(kind: u16, interface: u32, options: &[u8]) -> Vec<u8> {
        let attribute = [20, 0, 1, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let length = HEADER_BYTES + MESSAGE_BYTES + options.len() + attribute.len();
        let mut bytes = u32::try_from(length).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([10, 0]);
        bytes.extend(u16::try_from(options.len()).unwrap().to_ne_bytes());
        bytes.extend(interface.to_ne_bytes());
        bytes.extend([134, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(attribute);
        bytes
    }

    fn rdnss(lifetime: Duration, servers: &[&str]) -> Vec<u8> {
        let mut bytes = vec![RDNSS, u8::try_from(1 + 2 * servers.len()).unwrap(), 0, 0];
        bytes.extend(u32::try_from(lifetime.as_secs()).unwrap().to_be_bytes());
        for server in servers {
            bytes.extend(server.parse::<Ipv6Addr>().unwrap().octets());
        }
        bytes
    }

    fn advertisement(servers: &[&str], lifetime: Duration) -> Advertisement {
        let servers = servers.iter().map(|server| server.parse().unwrap()).collect();
        Advertisement { interface: 2, servers, lifetime }
    }

    #[test]
    fn servers_are_read_and_those_that_cannot_be_asked_are_left_out() {
        let domains = [31, 2, 0, 0, 0, 0, 0, 60, 3, b'l', b'a', b'b', 0, 0, 0, 0];
        let options =
            [domains.to_vec(), rdnss(LIFETIME, &["fd77::53", "fe80::1", "::", "fd77::54"])].concat();
        let both = [message(RTM_NEWNDUSEROPT, 2, &options), message(16, 3, &options)].concat();
        assert_eq!(parse(&both), [advertisement(&["fd77::53", "fd77::54"], LIFETIME)]);
    }

    #[test]
    fn what_is_cut_short_is_left_out() {
        let whole = message(RTM_NEWNDUSEROPT, 2, &rdnss(LIFETIME, &["fd77::53"]));
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), [], "{length} bytes");
        }
        let endless = message(RTM_NEWNDUSEROPT, 2, &[RDNSS, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parse(&endless), []);
        let too_long = message(RTM_NEWNDUSEROPT, 2, &[RDNSS, 9, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parse(&too_long), []);
    }

    #[test]
    fn a_server_goes_when_its_time_is_over_or_its_router_says_so() {
        let begin = Instant::now();
        let mut servers = AdvertisedServers::listen().unwrap();
        let known = |servers: &AdvertisedServers| {
            servers.now_known().get("eth0").map(|names| names.servers.len()).unwrap_or_default()
        };
        servers.take("eth0", &advertisement(&["fd77::53", "fd77::54"], LIFETIME), begin);
        assert_eq!((servers.changes(begin).len(), known(&servers)), (0, 2), "nothing else since");
        servers.take("eth0", &advertisement(&["fd77::53"], Duration::ZERO), begin);
        let changed = servers.changes(begin);
        assert_eq!((known(&servers), changed.len()), (1, 1));
        assert_eq!(changed["eth0"].servers, ["fd77::54".parse::<IpAddr>().unwrap()]);
        let changed = servers.changes(begin + LIFETIME);
        assert_eq!(changed["eth0"], Names::default());
        assert!(servers.changes(begin + LIFETIME).is_empty());
    }

    proptest! {
        #[test]
        fn no_datagram_is_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&message(RTM_NEWNDUSEROPT, 2, &bytes));
        }
    }
}
