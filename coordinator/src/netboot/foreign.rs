//! What a lab's own DHCP server must be told so that machines find us, as text for its configuration.
//!
//! Refuses: changing that server; its operator pastes the text.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::files::{BIOS_LOADER, SHIM, UEFI_LOADER};
use super::uefi_loader::UefiLoader;

/// DHCP servers whose configuration we can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DhcpServer {
    /// dnsmasq.
    Dnsmasq,
    /// ISC Kea: `kea-dhcp4`, `kea-dhcp6`.
    Kea,
    /// ISC dhcpd.
    Isc,
}

/// The text that sends machines to the TFTP server at `address` and the boot endpoints on its port `http_port`.
pub fn snippet(server: DhcpServer, address: Ipv4Addr, http_port: u16, uefi_loader: UefiLoader) -> String {
    let uefi_loader = match uefi_loader {
        UefiLoader::Ipxe => UEFI_LOADER,
        UefiLoader::Shim => SHIM,
    };
    let text = match server {
        DhcpServer::Dnsmasq => DNSMASQ,
        DhcpServer::Kea => KEA,
        DhcpServer::Isc => ISC,
    };
    text.replace("ADDRESS", &address.to_string())
        .replace("HTTP_PORT", &http_port.to_string())
        .replace("BIOS_LOADER", BIOS_LOADER)
        .replace("UEFI_LOADER", uefi_loader)
}

/// The text that sends machines of an IPv6 network to the TFTP server at `address` and the boot endpoints on its port
/// `http_port`, by DHCPv6 with the boot file's URL (RFC 5970).
pub fn snippet_ipv6(server: DhcpServer, address: Ipv6Addr, http_port: u16) -> String {
    let text = match server {
        DhcpServer::Dnsmasq => DNSMASQ_IPV6,
        DhcpServer::Kea => KEA_IPV6,
        DhcpServer::Isc => ISC_IPV6,
    };
    text.replace("ADDRESS", &format!("[{address}]"))
        .replace("HTTP_PORT", &http_port.to_string())
        .replace("UEFI_LOADER", UEFI_LOADER)
}

const DNSMASQ_IPV6: &str = "\
# dnsmasq: UEFI machines that boot from the network over IPv6 find vetting. The coordinator serves TFTP:
#   netboot: {enabled: true, interfaces: [...], answer: none}
# The network needs addresses by DHCPv6 and router advertisements, too, such as:
#   enable-ra
#   dhcp-range=fd00::100,fd00::1ff,64
dhcp-userclass=set:vetting-ipxe6,iPXE
dhcp-option=tag:vetting-ipxe6,option6:bootfile-url,http://ADDRESS:HTTP_PORT/boot/ipxe
dhcp-option=tag:!vetting-ipxe6,option6:bootfile-url,tftp://ADDRESS/UEFI_LOADER
";

// The user class is a list of texts, each behind its length (RFC 8415 section 21.15).
const KEA_IPV6: &str = r#"// kea-dhcp6: into "Dhcp6". UEFI machines that boot from the network over IPv6 find vetting. The coordinator serves TFTP:
//   netboot: {enabled: true, interfaces: [...], answer: none}
// The network needs router advertisements, too (radvd, or the router's own).
"client-classes": [
  {
    "name": "vetting-ipxe6",
    "test": "substring(option[15].hex, 2, 4) == 'iPXE'",
    "option-data": [ { "name": "bootfile-url", "data": "http://ADDRESS:HTTP_PORT/boot/ipxe" } ]
  },
  {
    "name": "vetting-uefi6",
    "test": "option[61].exists and not member('vetting-ipxe6')",
    "option-data": [ { "name": "bootfile-url", "data": "tftp://ADDRESS/UEFI_LOADER" } ]
  }
]
"#;

const ISC_IPV6: &str = r#"# ISC dhcpd -6: UEFI machines that boot from the network over IPv6 find vetting. The coordinator serves TFTP:
#   netboot: {enabled: true, interfaces: [...], answer: none}
# The network needs router advertisements, too (radvd, or the router's own).
option dhcp6.vetting-user-class code 15 = string;
option dhcp6.vetting-architecture code 61 = string;
if exists dhcp6.vetting-user-class and substring(option dhcp6.vetting-user-class, 2, 4) = "iPXE" {
  option dhcp6.bootfile-url "http://ADDRESS:HTTP_PORT/boot/ipxe";
} elsif exists dhcp6.vetting-architecture {
  option dhcp6.bootfile-url "tftp://ADDRESS/UEFI_LOADER";
}
"#;

const DNSMASQ: &str = "\
# dnsmasq: machines that boot from the network find vetting. The coordinator serves TFTP:
#   netboot: {enabled: true, interfaces: [...], answer: none}
dhcp-userclass=set:vetting-ipxe,iPXE
dhcp-match=set:vetting-bios,option:client-arch,0
dhcp-match=set:vetting-uefi,option:client-arch,7
dhcp-match=set:vetting-uefi,option:client-arch,9
dhcp-match=set:vetting-http,option:client-arch,16
dhcp-boot=tag:vetting-ipxe,http://ADDRESS:HTTP_PORT/boot/ipxe
dhcp-boot=tag:vetting-bios,tag:!vetting-ipxe,BIOS_LOADER,,ADDRESS
dhcp-boot=tag:vetting-uefi,tag:!vetting-ipxe,UEFI_LOADER,,ADDRESS
dhcp-boot=tag:vetting-http,tag:!vetting-ipxe,http://ADDRESS:HTTP_PORT/boot/netboot/UEFI_LOADER
dhcp-option-force=tag:vetting-http,tag:!vetting-ipxe,60,HTTPClient
";

const KEA: &str = r#"// kea-dhcp4: into "Dhcp4". Machines that boot from the network find vetting. The coordinator serves TFTP:
//   netboot: {enabled: true, interfaces: [...], answer: none}
"client-classes": [
  {
    "name": "vetting-ipxe",
    "test": "option[77].hex == 'iPXE' or option[77].hex == 0x0469505845",
    "boot-file-name": "http://ADDRESS:HTTP_PORT/boot/ipxe"
  },
  {
    "name": "vetting-bios",
    "test": "option[93].hex == 0x0000 and not member('vetting-ipxe')",
    "next-server": "ADDRESS",
    "boot-file-name": "BIOS_LOADER"
  },
  {
    "name": "vetting-uefi",
    "test": "(option[93].hex == 0x0007 or option[93].hex == 0x0009) and not member('vetting-ipxe')",
    "next-server": "ADDRESS",
    "boot-file-name": "UEFI_LOADER"
  },
  {
    "name": "vetting-http",
    "test": "option[93].hex == 0x0010",
    "boot-file-name": "http://ADDRESS:HTTP_PORT/boot/netboot/UEFI_LOADER",
    "option-data": [
      { "name": "vendor-class-identifier", "data": "HTTPClient", "always-send": true }
    ]
  }
]
"#;

const ISC: &str = r#"# ISC dhcpd: machines that boot from the network find vetting. The coordinator serves TFTP:
#   netboot: {enabled: true, interfaces: [...], answer: none}
option vetting-architecture code 93 = unsigned integer 16;
if exists user-class and (option user-class = "iPXE" or option user-class = 04:69:50:58:45) {
  filename "http://ADDRESS:HTTP_PORT/boot/ipxe";
} elsif option vetting-architecture = 16 {
  option vendor-class-identifier "HTTPClient";
  filename "http://ADDRESS:HTTP_PORT/boot/netboot/UEFI_LOADER";
} elsif option vetting-architecture = 7 or option vetting-architecture = 9 {
  next-server ADDRESS;
  filename "UEFI_LOADER";
} elsif option vetting-architecture = 0 {
  next-server ADDRESS;
  filename "BIOS_LOADER";
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_are_as_reviewed() {
        for (name, server) in
            [("dnsmasq", DhcpServer::Dnsmasq), ("kea", DhcpServer::Kea), ("isc", DhcpServer::Isc)]
        {
            let text = snippet(server, Ipv4Addr::new(192, 0, 2, 10), 8080, UefiLoader::Ipxe);
            let sealed = snippet(server, Ipv4Addr::new(192, 0, 2, 10), 8080, UefiLoader::Shim);
            assert_eq!(sealed, text.replace("snponly.efi", "shimx64.efi"));
            assert!(
                !text.contains("ADDRESS") && !text.contains("_PORT") && !text.contains("LOADER"),
                "{text}"
            );
            insta::assert_snapshot!(name, text);
        }
    }

    #[test]
    fn the_texts_for_ipv6_are_as_reviewed() {
        for (name, server) in [
            ("dnsmasq_ipv6", DhcpServer::Dnsmasq),
            ("kea_ipv6", DhcpServer::Kea),
            ("isc_ipv6", DhcpServer::Isc),
        ] {
            let text = snippet_ipv6(server, "fd00::10".parse().unwrap(), 8080);
            assert!(
                !text.contains("ADDRESS") && !text.contains("_PORT") && !text.contains("LOADER"),
                "{text}"
            );
            insta::assert_snapshot!(name, text);
        }
    }
}
