//! Whatever comes to the ports of DHCP: nothing panics, and what is answered is a whole answer that gives no address.
#![no_main]

use std::net::Ipv4Addr;

use dhcproto::v4::Message;
use dhcproto::{Decodable as _, Decoder};
use libfuzzer_sys::fuzz_target;
use vetting_coordinator::netboot::other_offers;
use vetting_coordinator::netboot::proxy_dhcp::{Context, ServerPort, answer, read};
use vetting_coordinator::netboot::uefi_loader::UefiLoader;

fuzz_target!(|bytes: &[u8]| {
    if let Some(offer) = other_offers::read(bytes) {
        assert!(!offer.boot_file.is_empty());
    }
    let Ok(packet) = read(bytes) else { return };
    for port in [ServerPort::Dhcp, ServerPort::Proxy] {
        let context = Context {
            port,
            address: Ipv4Addr::new(192, 0, 2, 10),
            base_url: "http://192.0.2.10:8080",
            uefi_loader: UefiLoader::Shim,
        };
        let Some(reply) = answer(&packet, &context) else { continue };
        let message = Message::decode(&mut Decoder::new(&reply.bytes)).expect("our answer is whole");
        assert!(message.yiaddr().is_unspecified(), "an address was given");
        assert_eq!(message.xid(), packet.transaction);
    }
});
