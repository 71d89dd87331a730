//! What other servers offer to machines that boot: a DHCP server with a boot file of its own competes with us for those
//! that are ours, and firmware may take its file; another coordinator boots its own machines beside us. Only heard of
//! where it broadcasts its offers, as another coordinator does, and a DHCP server where UEFI firmware asks it to.
//!
//! Refuses: to answer anything that comes here.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use dhcproto::v4::borrowed::Message as Raw;
use dhcproto::v4::{HType, Opcode, OptionCode};
use serde_json::json;
use tokio::net::UdpSocket;
use vetting_protocol::ids::MacAddress;

use super::counters::Outcome;
use super::proxy_dhcp::{ETHERNET_BYTES, OPTIONS_AT, mac_address, options_are_whole};
use super::proxy_dhcp_server::Shared;
use super::rate_limit::RateLimit;
use super::server::{LONGEST_DATAGRAM, hear};

/// A server that competes over and over is told of once in this time.
const AGAIN_MS: i64 = 10 * 60 * 1_000;
/// Servers that boot only machines of their own do no harm: each is told of once until we are started again, and no more
/// than these, since anyone can make up addresses.
const MOST_NEIGHBOURS: usize = 16;
/// What the boot file of a coordinator like this one has in it.
const COORDINATORS_SCRIPT: &str = "/boot/ipxe?mac=";

/// A boot file that some server names to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOffer {
    /// To whom.
    pub mac: MacAddress,
    /// Who says so.
    pub server: Ipv4Addr,
    /// Where the file is.
    pub next_server: Ipv4Addr,
    /// Its name or URL; not empty.
    pub boot_file: String,
}

/// One interface, listened to.
pub(super) struct OtherOffers {
    pub(super) address: Ipv4Addr,
    pub(super) base_url: Arc<str>,
    pub(super) socket: UdpSocket,
    pub(super) shared: Arc<Shared>,
}

impl OtherOffers {
    /// Listens until dropped.
    pub(super) async fn watch(self) {
        let mut told_of_rivals = RateLimit::new(1, AGAIN_MS);
        let mut neighbours = HashSet::new();
        let mut buffer = [0; LONGEST_DATAGRAM];
        loop {
            let (length, _) = hear(&self.socket, &mut buffer, "the watch for other boot servers").await;
            let Some(offer) = read(&buffer[..length]) else { continue };
            if offer.leads_to(self.address, &self.base_url) {
                continue;
            }
            let Ok(host_name) = self.shared.driver.name_of(offer.mac).await else { continue };
            self.shared.counters.count(Outcome::DhcpOtherServer);
            let (kind, message) = match host_name {
                Some(host_name) if told_of_rivals.allows(offer.server, self.shared.clock.now_ms()) => {
                    ("foreign_boot_server", offer.rivals(&host_name))
                }
                None if neighbours.len() < MOST_NEIGHBOURS && neighbours.insert(offer.server) => {
                    ("other_boot_server", offer.neighbours())
                }
                Some(_) | None => continue,
            };
            let BootOffer { mac, server, boot_file, .. } = offer;
            let data = json!({"mac": mac, "server": server, "boot_file": boot_file});
            self.shared.tell(mac, kind, message, data).await;
        }
    }
}

impl BootOffer {
    /// Whether a machine that follows it comes to us.
    fn leads_to(&self, address: Ipv4Addr, base_url: &str) -> bool {
        self.server == address || self.next_server == address || self.boot_file.starts_with(base_url)
    }

    /// What an operator is told where a machine of ours is told so.
    fn rivals(&self, host_name: &str) -> String {
        let Self { server, boot_file, .. } = self;
        let advice = if boot_file.contains(COORDINATORS_SCRIPT) {
            "It is another coordinator, and the machine is registered with both: remove it (`host remove`) from one of them"
        } else {
            "Take option 66 and 67 (next-server, filename, dhcp-boot) out of that server for this machine, or let it name us: \
             `vetting-coordinator netboot config`"
        };
        format!(
            "{server} tells {host_name} to boot {boot_file:?}, and firmware may do that instead of coming here. {advice}"
        )
    }

    /// The same where it is a machine that nobody registered here.
    fn neighbours(&self) -> String {
        let Self { mac, server, boot_file, .. } = self;
        let who = if boot_file.contains(COORDINATORS_SCRIPT) {
            "another coordinator"
        } else {
            "another boot server"
        };
        format!(
            "{server} is {who} in this network: it told {mac}, which is not registered here, to boot {boot_file:?}. That is \
             well as long as no machine is registered with both; it is not told of again"
        )
    }
}

/// The boot file in a server's answer; `None` for all else.
pub fn read(bytes: &[u8]) -> Option<BootOffer> {
    let raw = Raw::new(bytes).ok()?;
    options_are_whole(bytes.get(OPTIONS_AT..)?).ok()?;
    if raw.opcode() != Opcode::BootReply || raw.htype() != HType::Eth || raw.hlen() != ETHERNET_BYTES {
        return None;
    }
    let mut boot_file = raw.fname().to_vec();
    let (mut server, mut next_server) = (raw.siaddr(), raw.siaddr());
    for option in raw.opts() {
        match option.code() {
            OptionCode::BootfileName => boot_file = option.data().to_vec(),
            OptionCode::ServerIdentifier => server = <[u8; 4]>::try_from(option.data()).ok()?.into(),
            OptionCode::TFTPServerName => {
                let named = std::str::from_utf8(option.data()).ok().map(|text| text.trim_end_matches('\0'));
                next_server = named.and_then(|text| text.parse().ok()).unwrap_or(next_server);
            }
            _ => {}
        }
    }
    // the field is filled up with zero bytes, and so do some servers with the option
    let boot_file = boot_file.split(|byte| *byte == 0).next().unwrap_or_default();
    let boot_file = String::from_utf8_lossy(boot_file).into_owned();
    let mac = mac_address(raw.chaddr())?;
    (!boot_file.is_empty()).then_some(BootOffer { mac, server, next_server, boot_file })
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::{DhcpOption, Message, MessageType};
    use dhcproto::{Encodable as _, Encoder};
    use proptest::prelude::*;

    use super::*;

    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

    fn offer(next_server: Ipv4Addr, field: &str, option: Option<&str>) -> Option<BootOffer> {
        let nobody = Ipv4Addr::UNSPECIFIED;
        let mut message =
            Message::new_with_id(1, nobody, OTHER, next_server, nobody, &[0x52, 0x54, 0, 1, 2, 3]);
        message.set_opcode(Opcode::BootReply);
        if !field.is_empty() {
            message.set_fname_str(field);
        }
        message.opts_mut().insert(DhcpOption::MessageType(MessageType::Offer));
        message.opts_mut().insert(DhcpOption::ServerIdentifier(OTHER));
        if let Some(option) = option {
            message.opts_mut().insert(DhcpOption::BootfileName(option.as_bytes().to_vec()));
        }
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).unwrap();
        read(&bytes)
    }

    #[test]
    fn a_boot_file_of_another_server_is_found_wherever_it_stands() {
        for found in [offer(OTHER, "theirs.efi", None), offer(OTHER, "", Some("theirs.efi\0"))] {
            let found = found.unwrap();
            assert_eq!((found.server, found.boot_file.as_str()), (OTHER, "theirs.efi"));
            assert_eq!(found.mac.to_string(), "52:54:00:01:02:03");
            assert!(!found.leads_to(OURS, "http://192.0.2.10:8080"));
        }
        assert_eq!(offer(OTHER, "", None), None, "an ordinary DHCP server");
    }

    #[test]
    fn a_server_that_names_us_does_not_compete() {
        let leads = |offer: Option<BootOffer>| offer.unwrap().leads_to(OURS, "http://192.0.2.10:8080");
        assert!(leads(offer(OURS, "snponly.efi", None)));
        assert!(leads(offer(OTHER, "", Some("http://192.0.2.10:8080/boot/ipxe"))));
        assert!(!leads(offer(OTHER, "", Some("http://192.0.2.99:8080/boot/ipxe"))));
    }

    #[test]
    fn another_coordinator_is_told_from_a_dhcp_server() {
        let script = "http://192.0.2.99:8080/boot/ipxe?mac=52:54:00:01:02:03";
        let (theirs, file) =
            (offer(OTHER, "", Some(script)).unwrap(), offer(OTHER, "theirs.efi", None).unwrap());
        assert!(theirs.rivals("u07").contains("registered with both"), "{}", theirs.rivals("u07"));
        assert!(file.rivals("u07").contains("netboot config"), "{}", file.rivals("u07"));
        assert!(
            theirs.neighbours().starts_with("192.0.2.1 is another coordinator"),
            "{}",
            theirs.neighbours()
        );
        assert!(file.neighbours().starts_with("192.0.2.1 is another boot server"), "{}", file.neighbours());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = read(&bytes);
        }
    }
}
