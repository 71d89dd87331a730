//! What a proxyDHCP server says to firmware that boots from the network (PXE 2.1 section 2.2, RFC 4578), as pure
//! functions of a packet. The wire format is that of `dhcproto`.
//!
//! Refuses: addresses (the lab's own DHCP server gives those), clients that are not booting, machines of
//! architectures that the live image does not run on, and packets that are not whole.

use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::{DhcpOption as RawOption, Message as Raw};
use dhcproto::v4::{DhcpOption, Flags, HType, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Encodable as _, Encoder};
use vetting_protocol::ids::MacAddress;

use super::files::{BIOS_LOADER, SHIM, UEFI_LOADER};
use super::uefi_loader::UefiLoader;

/// Bytes before the options: the fields of BOOTP and the magic cookie (RFC 2131 section 2).
pub(super) const OPTIONS_AT: usize = 240;
/// A BOOTP message is never shorter (RFC 1542 section 2.1); some firmware drops shorter ones.
const SHORTEST_REPLY_BYTES: usize = 300;
/// An Ethernet address's length.
pub(super) const ETHERNET_BYTES: u8 = 6;
/// `PXE_DISCOVERY_CONTROL` (6), one byte: use the boot file of this offer, ask nobody else. Then the end.
const DISCOVERY_CONTROL: [u8; 4] = [6, 1, 8, 255];
/// Client architectures, IANA's registry of RFC 4578: BIOS.
const BIOS: u16 = 0;
/// UEFI x86-64.
const UEFI_X64: u16 = 7;
/// UEFI byte code by the registry, x86-64 by RFC 4578 before its erratum; firmware in the field sends either.
const UEFI_EBC: u16 = 9;
/// UEFI HTTP Boot on x86-64.
const UEFI_X64_HTTP: u16 = 16;
/// iPXE's own encapsulated options.
const IPXE_OPTIONS: u8 = 175;
/// In them: this iPXE can do HTTP.
const IPXE_HTTP: u8 = 19;

/// Why a packet gets no answer before anybody is asked about its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a whole DHCP request.
    #[error("not a whole DHCP request: {0}")]
    Malformed(&'static str),
    /// A DHCP client that does not boot from the network; the lab's DHCP server answers it.
    #[error("not a client that boots from the network")]
    NotBooting,
    /// Firmware of a machine that the live image does not run on.
    #[error("no live image for client architecture {0}")]
    Architecture(u16),
}

/// Which of the two ports of a proxyDHCP server a packet came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerPort {
    /// 67, where clients look for offers.
    Dhcp,
    /// 4011, where a client that took our offer asks again.
    Proxy,
}

/// Whose code asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// A network card's PXE ROM under BIOS.
    Bios,
    /// UEFI's own PXE, x86-64.
    Uefi,
    /// UEFI HTTP Boot, x86-64.
    UefiHttp,
    /// iPXE that can load scripts over HTTP.
    Ipxe,
}

/// A request to boot from the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The card it boots from.
    pub mac: MacAddress,
    /// Whose code asks.
    pub firmware: Firmware,
    /// The client's number of its exchange, the same in repeats.
    pub transaction: u32,
    kind: MessageType,
    flags: Flags,
    client: Ipv4Addr,
    relay: Ipv4Addr,
    /// Option 54: the server this is meant for.
    server: Option<Ipv4Addr>,
    /// Option 97, given back as it came.
    machine: Option<Vec<u8>>,
    /// Option 82, given back as it came (RFC 3046 section 2.2).
    relay_information: Option<DhcpOption>,
}

/// Where we are, as the asking machine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context<'a> {
    /// The port the packet came to.
    pub port: ServerPort,
    /// Our address on its interface.
    pub address: Ipv4Addr,
    /// `http://ADDRESS:PORT` of the boot endpoints.
    pub base_url: &'a str,
    /// What a UEFI machine is told to load.
    pub uefi_loader: UefiLoader,
}

/// Where a reply goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Everyone's port 68: the client has no address yet.
    Broadcast,
    /// Port 67 of the relay agent the request came through.
    Relay(Ipv4Addr),
    /// Back to address and port that it came from.
    Sender,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Where it goes.
    pub destination: Destination,
    /// Name or URL of the boot file in it.
    pub boot_file: String,
    /// The datagram.
    pub bytes: Vec<u8>,
}

/// Reads a datagram that came to one of our ports.
///
/// # Errors
/// Everything but a whole request of firmware that boots a machine the live image runs on.
pub fn read(bytes: &[u8]) -> Result<Packet, Refused> {
    let raw = Raw::new(bytes).map_err(|_| Refused::Malformed("shorter than its fixed fields"))?;
    options_are_whole(bytes.get(OPTIONS_AT..).unwrap_or_default())?;
    if raw.opcode() != Opcode::BootRequest {
        return Err(Refused::Malformed("not a request"));
    }
    let mut options = Options::default();
    for option in raw.opts() {
        options.keep(option)?;
    }
    let class = options.class.ok_or(Refused::NotBooting)?;
    let over_http = class.starts_with(b"HTTPClient");
    if !over_http && !class.starts_with(b"PXEClient") {
        return Err(Refused::NotBooting);
    }
    let kind = options.kind.ok_or(Refused::Malformed("no message type"))?;
    if raw.htype() != HType::Eth || raw.hlen() != ETHERNET_BYTES {
        return Err(Refused::Malformed("not from an Ethernet card"));
    }
    let mac = mac_address(raw.chaddr()).ok_or(Refused::Malformed("no network card has this address"))?;
    let architecture = match options.architecture {
        Some(architecture) => architecture,
        None => architecture_of_class(&class).ok_or(Refused::Malformed("no client architecture"))?,
    };
    let ipxe = options.ipxe_http.unwrap_or(options.ipxe);
    let firmware = match (architecture, over_http) {
        (BIOS | UEFI_X64 | UEFI_EBC, false) if ipxe => Firmware::Ipxe,
        (BIOS, false) => Firmware::Bios,
        (UEFI_X64 | UEFI_EBC, false) => Firmware::Uefi,
        (UEFI_X64_HTTP, true) => Firmware::UefiHttp,
        _ => return Err(Refused::Architecture(architecture)),
    };
    Ok(Packet {
        mac,
        firmware,
        kind,
        transaction: raw.xid(),
        flags: raw.flags(),
        client: raw.ciaddr(),
        relay: raw.giaddr(),
        server: options.server,
        machine: options.machine,
        relay_information: options.relay_information,
    })
}

/// The kind of answer that a packet gets at this port; `None` where a proxyDHCP server has nothing to say.
pub fn answers_as(packet: &Packet, port: ServerPort, address: Ipv4Addr) -> Option<MessageType> {
    if packet.server.is_some_and(|server| server != address) {
        return None;
    }
    match (port, packet.kind) {
        (ServerPort::Dhcp, MessageType::Discover) => Some(MessageType::Offer),
        (ServerPort::Proxy, MessageType::Request | MessageType::Inform) => Some(MessageType::Ack),
        _ => None,
    }
}

/// The answer to a packet of a machine that may be answered; `None` as for [`answers_as`].
pub fn answer(packet: &Packet, context: &Context<'_>) -> Option<Reply> {
    let kind = answers_as(packet, context.port, context.address)?;
    let boot_file = boot_file(packet, context);
    let destination = match context.port {
        ServerPort::Proxy => Destination::Sender,
        ServerPort::Dhcp if packet.relay.is_unspecified() => Destination::Broadcast,
        ServerPort::Dhcp => Destination::Relay(packet.relay),
    };
    let bytes = encode(packet, context.address, kind, &boot_file)?;
    Some(Reply { destination, boot_file, bytes })
}

fn boot_file(packet: &Packet, context: &Context<'_>) -> String {
    let base_url = context.base_url;
    let uefi_loader = match context.uefi_loader {
        UefiLoader::Ipxe => UEFI_LOADER,
        UefiLoader::Shim => SHIM,
    };
    match packet.firmware {
        Firmware::Bios => BIOS_LOADER.to_owned(),
        Firmware::Uefi => uefi_loader.to_owned(),
        Firmware::UefiHttp => format!("{base_url}/boot/netboot/{uefi_loader}"),
        Firmware::Ipxe => format!("{base_url}/boot/ipxe?mac={}", packet.mac),
    }
}

fn encode(packet: &Packet, address: Ipv4Addr, kind: MessageType, boot_file: &str) -> Option<Vec<u8>> {
    let nobody = Ipv4Addr::UNSPECIFIED;
    let client = if kind == MessageType::Ack { packet.client } else { nobody };
    let mut message =
        Message::new_with_id(packet.transaction, client, nobody, address, packet.relay, &packet.mac.octets());
    message.set_opcode(Opcode::BootReply).set_flags(packet.flags);
    message.set_sname_str(address.to_string());
    // the field ends with a zero byte; a longer name is in option 67 only
    if boot_file.len() < 128 {
        message.set_fname_str(boot_file);
    }
    let class: &[u8] = if packet.firmware == Firmware::UefiHttp { b"HTTPClient" } else { b"PXEClient" };
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(address));
    options.insert(DhcpOption::ClassIdentifier(class.to_vec()));
    options.insert(DhcpOption::TFTPServerName(address.to_string().into_bytes()));
    options.insert(DhcpOption::BootfileName(boot_file.as_bytes().to_vec()));
    if packet.firmware != Firmware::UefiHttp {
        options.insert(DhcpOption::VendorExtensions(DISCOVERY_CONTROL.to_vec()));
    }
    if let Some(machine) = &packet.machine {
        options.insert(DhcpOption::ClientMachineIdentifier(machine.clone()));
    }
    if let Some(relay_information) = &packet.relay_information {
        options.insert(relay_information.clone());
    }
    let mut bytes = Vec::with_capacity(SHORTEST_REPLY_BYTES);
    message.encode(&mut Encoder::new(&mut bytes)).ok()?;
    bytes.resize(bytes.len().max(SHORTEST_REPLY_BYTES), 0);
    Some(bytes)
}

/// The options of a request that matter here.
#[derive(Debug, Default)]
struct Options {
    kind: Option<MessageType>,
    class: Option<Vec<u8>>,
    architecture: Option<u16>,
    server: Option<Ipv4Addr>,
    machine: Option<Vec<u8>>,
    relay_information: Option<DhcpOption>,
    /// The user class is iPXE's.
    ipxe: bool,
    /// iPXE's own options are there, and whether they name HTTP; an iPXE without it gets ours in its place.
    ipxe_http: Option<bool>,
}

impl Options {
    fn keep(&mut self, option: RawOption<'_>) -> Result<(), Refused> {
        let data = option.data();
        match option.code() {
            OptionCode::MessageType => match data {
                [kind] => self.kind = Some(MessageType::from(*kind)),
                _ => return Err(Refused::Malformed("its message type is not one byte")),
            },
            OptionCode::ClassIdentifier => self.class = Some(data.to_vec()),
            // a list, the first is what runs now
            OptionCode::ClientSystemArchitecture => match data {
                [high, low, ..] if data.len().is_multiple_of(2) => {
                    self.architecture = Some(u16::from_be_bytes([*high, *low]));
                }
                _ => return Err(Refused::Malformed("its architectures are not two bytes each")),
            },
            OptionCode::ServerIdentifier => match <[u8; 4]>::try_from(data) {
                Ok(octets) => self.server = Some(octets.into()),
                Err(_) => return Err(Refused::Malformed("its server is not four bytes")),
            },
            OptionCode::ClientMachineIdentifier => self.machine = Some(data.to_vec()),
            OptionCode::UserClass => self.ipxe |= matches!(data, b"iPXE" | b"\x04iPXE"),
            OptionCode::RelayAgentInformation => self.relay_information = option.into_option().ok(),
            code if u8::from(code) == IPXE_OPTIONS => self.ipxe_http = Some(names_http(data)),
            _ => {}
        }
        Ok(())
    }
}

/// Whether iPXE's encapsulated options name HTTP.
fn names_http(data: &[u8]) -> bool {
    let mut rest = data;
    while let [code, length, after @ ..] = rest {
        if *code == IPXE_HTTP {
            return true;
        }
        rest = after.get(usize::from(*length)..).unwrap_or_default();
    }
    false
}

/// Refuses options that are cut short: `dhcproto` reads what it can and is silent about the rest.
pub(super) fn options_are_whole(options: &[u8]) -> Result<(), Refused> {
    let mut rest = options;
    loop {
        rest = match rest {
            // some firmware leaves out the end
            [] | [255, ..] => return Ok(()),
            [0, after @ ..] => after,
            [_, length, after @ ..] => {
                after.get(usize::from(*length)..).ok_or(Refused::Malformed("an option is cut short"))?
            }
            [_] => return Err(Refused::Malformed("an option is cut short")),
        };
    }
}

/// The number in `PXEClient:Arch:00007:UNDI:003016`, for firmware that sends no option 93.
fn architecture_of_class(class: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(class).ok()?;
    let mut parts = text.split(':').skip_while(|part| *part != "Arch");
    parts.nth(1)?.parse().ok()
}

pub(super) fn mac_address(octets: &[u8]) -> Option<MacAddress> {
    let hex: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    hex.join(":").parse().ok()
}

#[cfg(test)]
#[path = "proxy_dhcp_tests.rs"]
mod tests;
