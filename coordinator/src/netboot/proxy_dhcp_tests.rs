use dhcproto::{Decodable as _, Decoder};
use proptest::prelude::*;

use super::*;

const OVMF: &[u8] = include_bytes!("recorded/ovmf-pxe-discover.bin");
const OVMF_REQUEST: &[u8] = include_bytes!("recorded/ovmf-pxe-request.bin");
const OVMF_HTTP: &[u8] = include_bytes!("recorded/ovmf-http-discover.bin");
const IPXE_ROM: &[u8] = include_bytes!("recorded/ipxe-rom-bios-discover.bin");
const IPXE_SNPONLY: &[u8] = include_bytes!("recorded/ipxe-snponly-discover.bin");
const UDHCPC: &[u8] = include_bytes!("recorded/udhcpc-discover.bin");
const RECORDED: [&[u8]; 6] = [OVMF, OVMF_REQUEST, OVMF_HTTP, IPXE_ROM, IPXE_SNPONLY, UDHCPC];

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const SCRIPT: &str = "http://192.0.2.10:8080/boot/ipxe?mac=52:54:00:56:45:11";

fn context(port: ServerPort) -> Context<'static> {
    Context { port, address: ADDRESS, base_url: "http://192.0.2.10:8080", uefi_loader: UefiLoader::Ipxe }
}

fn at(port: ServerPort, bytes: &[u8]) -> Option<(Reply, Message)> {
    let reply = answer(&read(bytes).unwrap(), &context(port))?;
    let message = Message::decode(&mut Decoder::new(&reply.bytes)).unwrap();
    Some((reply, message))
}

fn offer(bytes: &[u8]) -> (Reply, Message) {
    at(ServerPort::Dhcp, bytes).unwrap()
}

fn option(message: &Message, code: u8) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    message.opts().get(OptionCode::from(code))?.encode(&mut Encoder::new(&mut bytes)).unwrap();
    Some(bytes[2..].to_vec())
}

/// A request of these options, in all else like `of`.
fn request(of: &[u8], options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = of[..OPTIONS_AT].to_vec();
    for (code, value) in options {
        bytes.extend([*code, u8::try_from(value.len()).unwrap()]);
        bytes.extend(*value);
    }
    bytes.push(255);
    bytes
}

fn pxe(architecture: u16, more: &[(u8, &[u8])]) -> Vec<u8> {
    let architecture = architecture.to_be_bytes();
    let mut options: Vec<(u8, &[u8])> = vec![(53, &[1]), (60, b"PXEClient"), (93, &architecture)];
    options.extend(more);
    request(OVMF, &options)
}

#[test]
fn each_recorded_firmware_is_told_its_own_boot_file() {
    for (recorded, firmware, boot_file) in [
        (OVMF, Firmware::Uefi, "snponly.efi"),
        (OVMF_HTTP, Firmware::UefiHttp, "http://192.0.2.10:8080/boot/netboot/snponly.efi"),
        (IPXE_ROM, Firmware::Ipxe, SCRIPT),
        (IPXE_SNPONLY, Firmware::Ipxe, SCRIPT),
    ] {
        let packet = read(recorded).unwrap();
        assert_eq!(packet.firmware, firmware);
        assert_eq!(packet.mac.to_string(), "52:54:00:56:45:11");
        let (reply, message) = offer(recorded);
        assert_eq!((reply.boot_file.as_str(), reply.destination), (boot_file, Destination::Broadcast));
        assert_eq!(option(&message, 67).unwrap(), boot_file.as_bytes());
        let field = message.fname().unwrap();
        assert_eq!(field.strip_suffix(b"\0").unwrap(), boot_file.as_bytes());
        assert_eq!(option(&message, 66).unwrap(), b"192.0.2.10");
        let class = if firmware == Firmware::UefiHttp { b"HTTPClient".as_slice() } else { b"PXEClient" };
        assert_eq!(option(&message, 60).unwrap(), class);
    }
}

#[test]
fn only_uefi_firmware_is_told_shim() {
    let sealed = Context { uefi_loader: UefiLoader::Shim, ..context(ServerPort::Dhcp) };
    for (recorded, boot_file) in [
        (OVMF, "shimx64.efi"),
        (OVMF_HTTP, "http://192.0.2.10:8080/boot/netboot/shimx64.efi"),
        (IPXE_ROM, SCRIPT),
        (IPXE_SNPONLY, SCRIPT),
    ] {
        assert_eq!(answer(&read(recorded).unwrap(), &sealed).unwrap().boot_file, boot_file);
    }
    assert_eq!(answer(&read(&pxe(0, &[])).unwrap(), &sealed).unwrap().boot_file, "undionly.kpxe");
}

#[test]
fn an_offer_gives_no_address_and_returns_what_must_be_returned() {
    let (reply, message) = offer(OVMF);
    assert_eq!(message.opcode(), Opcode::BootReply);
    assert_eq!(option(&message, 53).unwrap(), [2]);
    assert_eq!(option(&message, 54).unwrap(), ADDRESS.octets());
    assert_eq!((message.yiaddr(), message.siaddr()), (Ipv4Addr::UNSPECIFIED, ADDRESS));
    assert_eq!(message.ciaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(option(&message, 43).unwrap(), DISCOVERY_CONTROL);
    assert_eq!(option(&message, 97).unwrap(), [0; 17]);
    assert_eq!(reply.bytes[4..8], OVMF[4..8], "the transaction");
    assert_eq!(reply.bytes[10..12], OVMF[10..12], "the broadcast flag");
    assert_eq!(reply.bytes[28..34], OVMF[28..34], "the card");
    for code in [1, 3, 6, 51, 58, 59] {
        assert_eq!(option(&message, code), None, "a lease has option {code}, we give none");
    }
    let (short, _) = offer(&pxe(0, &[]));
    assert!(short.bytes.len() >= SHORTEST_REPLY_BYTES);
}

#[test]
fn architectures_get_what_runs_on_them() {
    let told = |bytes: &[u8]| read(bytes).map(|packet| packet.firmware);
    assert_eq!(told(&pxe(0, &[])), Ok(Firmware::Bios));
    assert_eq!(offer(&pxe(0, &[])).0.boot_file, "undionly.kpxe");
    assert_eq!(told(&pxe(7, &[])), Ok(Firmware::Uefi));
    assert_eq!(told(&pxe(9, &[])), Ok(Firmware::Uefi));
    for foreign in [6, 10, 11, 16, 0x1234] {
        assert_eq!(told(&pxe(foreign, &[])), Err(Refused::Architecture(foreign)));
    }
    let old = request(OVMF, &[(53, &[1]), (60, b"PXEClient:Arch:00007:UNDI:003016")]);
    assert_eq!(told(&old), Ok(Firmware::Uefi), "without option 93");
    let unknown = request(OVMF, &[(53, &[1]), (60, b"PXEClient")]);
    assert_eq!(told(&unknown), Err(Refused::Malformed("no client architecture")));
    let over_http = request(OVMF, &[(53, &[1]), (60, b"HTTPClient"), (93, &[0, 7])]);
    assert_eq!(told(&over_http), Err(Refused::Architecture(7)));
}

#[test]
fn ipxe_is_told_the_script_if_it_can_load_it() {
    let told = |more: &[(u8, &[u8])]| read(&pxe(0, more)).unwrap().firmware;
    assert_eq!(told(&[(77, b"iPXE")]), Firmware::Ipxe);
    assert_eq!(told(&[(77, b"\x04iPXE")]), Firmware::Ipxe, "as RFC 3004 has it");
    assert_eq!(told(&[(175, &[19, 1, 1])]), Firmware::Ipxe);
    assert_eq!(told(&[(77, b"iPXE"), (175, &[24, 1, 1])]), Firmware::Bios, "an iPXE without HTTP gets ours");
    assert_eq!(told(&[(175, &[24, 9, 1]), (77, b"iPXE")]), Firmware::Bios);
    assert_eq!(told(&[(77, b"gPXE")]), Firmware::Bios);
}

#[test]
fn the_proxy_port_acknowledges_and_nothing_else_does() {
    assert!(at(ServerPort::Dhcp, OVMF_REQUEST).is_none(), "that is for the DHCP server");
    assert!(at(ServerPort::Proxy, OVMF).is_none());
    let mut to_us = request(OVMF, &[(53, &[3]), (60, b"PXEClient"), (93, &[0, 7]), (54, &ADDRESS.octets())]);
    to_us[12..16].copy_from_slice(&[192, 0, 2, 99]);
    let (reply, message) = at(ServerPort::Proxy, &to_us).unwrap();
    assert_eq!(reply.destination, Destination::Sender);
    assert_eq!(option(&message, 53).unwrap(), [5]);
    assert_eq!(message.ciaddr(), Ipv4Addr::new(192, 0, 2, 99));
    let to_another = request(OVMF, &[(53, &[3]), (60, b"PXEClient"), (93, &[0, 7]), (54, &[192, 0, 2, 1])]);
    assert!(at(ServerPort::Proxy, &to_another).is_none());
}

#[test]
fn through_a_relay_the_answer_goes_back_through_it() {
    let mut relayed = pxe(7, &[(82, &[1, 4, b'p', b'o', b'r', b't'])]);
    relayed[24..28].copy_from_slice(&[198, 51, 100, 1]);
    let (reply, message) = offer(&relayed);
    assert_eq!(reply.destination, Destination::Relay(Ipv4Addr::new(198, 51, 100, 1)));
    assert_eq!(message.giaddr(), Ipv4Addr::new(198, 51, 100, 1));
    assert_eq!(option(&message, 82).unwrap(), [1, 4, b'p', b'o', b'r', b't']);
}

#[test]
fn other_dhcp_clients_are_none_of_ours() {
    assert_eq!(read(UDHCPC), Err(Refused::NotBooting));
    assert_eq!(read(&request(OVMF, &[(53, &[1])])), Err(Refused::NotBooting));
}

#[test]
fn what_is_not_whole_is_refused() {
    let malformed =
        |bytes: &[u8]| assert!(matches!(read(bytes), Err(Refused::Malformed(_))), "{:?}", read(bytes));
    malformed(&[]);
    malformed(&OVMF[..OPTIONS_AT - 1]);
    let mut reply = OVMF.to_vec();
    reply[0] = 2;
    malformed(&reply);
    for length in [0, 5, 7, 16, 17, 255] {
        let mut card = OVMF.to_vec();
        card[2] = length;
        malformed(&card);
    }
    let mut group = OVMF.to_vec();
    group[28] = 0xff;
    malformed(&group);
    malformed(&pxe(7, &[(54, &[1, 2])]));
    malformed(&request(OVMF, &[(53, &[1, 1]), (60, b"PXEClient")]));
    malformed(&request(OVMF, &[(53, &[1]), (60, b"PXEClient"), (93, &[7])]));
    malformed(&request(OVMF, &[(60, b"PXEClient"), (93, &[0, 7])]));
    let mut no_dhcp = OVMF.to_vec();
    no_dhcp[236] = 0;
    assert_eq!(read(&no_dhcp), Err(Refused::NotBooting), "plain BOOTP");
}

#[test]
fn a_recorded_packet_cut_anywhere_in_its_options_is_refused_or_the_same() {
    // it is the same where only padding, or the end, was cut
    let whole = read(OVMF).unwrap();
    for length in 0..OVMF.len() {
        if let Ok(packet) = read(&OVMF[..length]) {
            assert_eq!(packet.mac, whole.mac);
        }
    }
    let class_value_cut = OVMF.windows(9).position(|window| window == b"PXEClient").unwrap() + 4;
    assert!(matches!(read(&OVMF[..class_value_cut]), Err(Refused::Malformed(_))));
}

fn answer_everywhere(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(packet) = read(bytes) else { return Ok(()) };
    for port in [ServerPort::Dhcp, ServerPort::Proxy] {
        let Some(reply) = answer(&packet, &context(port)) else { continue };
        let message = Message::decode(&mut Decoder::new(&reply.bytes))
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(message.yiaddr().is_unspecified());
        prop_assert_eq!(message.xid(), packet.transaction);
    }
    Ok(())
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        answer_everywhere(&bytes)?;
    }

    #[test]
    fn hostile_options_never_panic(options in proptest::collection::vec(any::<u8>(), 0..400), hlen: u8) {
        let mut bytes = OVMF[..OPTIONS_AT].to_vec();
        bytes[2] = hlen;
        bytes.extend(options);
        answer_everywhere(&bytes)?;
    }

    #[test]
    fn recorded_packets_with_bytes_changed_never_panic(
        which in 0..RECORDED.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        length: prop::sample::Index,
    ) {
        let mut bytes = RECORDED[which].to_vec();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        answer_everywhere(&bytes)?;
        answer_everywhere(&bytes[..length.index(bytes.len())])?;
    }
}
