//! `netboot`: what a lab's own DHCP server must be told, and what our own netboot server did. Only prints.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::str::FromStr;

use clap::Subcommand;
use vetting_protocol::operator_api::{NetbootInterface, NetbootView};

use super::client::Client;
use super::{CommandError, Remote, connect, output};
use crate::config::Config;
use crate::netboot::foreign::{DhcpServer, snippet, snippet_ipv6};
use crate::netboot::interface::{Interface, InterfaceError};
use crate::netboot::uefi_loader::UefiLoader;

/// Why nothing is printed.
#[derive(Debug, thiserror::Error)]
pub enum NetbootError {
    /// Nobody says where machines find us.
    #[error(
        "which IPv4 address do machines reach the coordinator at? Say --address, or name public_address or netboot.interfaces in its configuration"
    )]
    NoAddress,
    /// The same with IPv6.
    #[error(
        "which IPv6 address do machines reach the coordinator at? Say --address, or name an interface that has a global or unique local one under netboot.interfaces in its configuration"
    )]
    NoIpv6Address,
    /// `--ipv6` beside an address of the other kind.
    #[error("{address} is no IPv6 address: leave --ipv6 out, or give an IPv6 address")]
    NotIpv6 {
        /// The address.
        address: Ipv4Addr,
    },
    /// An address that only means something together with an interface.
    #[error("{address} is link-local and cannot stand in a URL: give a global or unique local address")]
    LinkLocal {
        /// The address.
        address: Ipv6Addr,
    },
    /// Not tried.
    #[error(
        "Secure Boot over IPv6 was not tried: leave --secure-boot out, or let these machines boot over IPv4"
    )]
    SecureBootIpv6,
    /// An interface of the config.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
}

/// Boot from the network.
#[derive(Debug, Subcommand)]
pub enum NetbootCommand {
    /// Print what to add to the configuration of the lab's own DHCP server.
    #[command(
        after_help = "Examples:\n  vetting-coordinator netboot config dnsmasq --address 192.0.2.10\n  \
                            vetting-coordinator netboot config kea\n  \
                            vetting-coordinator netboot config dnsmasq --ipv6 --address fd00::10"
    )]
    Config {
        /// That server.
        server: DhcpServer,
        /// The coordinator's address as machines reach it; left out, it is the coordinator's `public_address`, or that of
        /// its first interface for booting.
        #[arg(long)]
        address: Option<IpAddr>,
        /// For UEFI machines that boot over IPv6: DHCPv6 with the boot file's URL.
        #[arg(long)]
        ipv6: bool,
        /// UEFI machines have Secure Boot on: they load shim and GRUB in place of iPXE.
        #[arg(long)]
        secure_boot: bool,
    },
    /// Show where the coordinator's netboot server serves and what became of the packets it heard.
    #[command(after_help = "Examples:\n  vetting-coordinator netboot status\n  \
                            vetting-coordinator netboot status --json")]
    Status,
}

impl NetbootCommand {
    /// Prints.
    pub(super) async fn run(&self, config: &Path, remote: &Remote, json: bool) -> Result<(), CommandError> {
        match self {
            Self::Config { server, address, ipv6, secure_boot } => {
                let reach = match remote.elsewhere(config)? {
                    Some(elsewhere) => {
                        Client::elsewhere(&elsewhere)?.get::<NetbootView>(&["netboot"], &[]).await?.into()
                    }
                    None => Reach::configured(
                        &Config::load(config)?,
                        match (address, ipv6) {
                            (Some(_), _) => Wanted::Nothing,
                            (None, false) => Wanted::Ipv4,
                            (None, true) => Wanted::Ipv6,
                        },
                    )?,
                };
                let http_port = reach.http_port;
                let uefi_loader = if *secure_boot { UefiLoader::Shim } else { UefiLoader::Ipxe };
                let text = match reach.address(*address, *ipv6)? {
                    IpAddr::V4(address) => snippet(*server, address, http_port, uefi_loader),
                    IpAddr::V6(_) if *secure_boot => return Err(NetbootError::SecureBootIpv6.into()),
                    IpAddr::V6(address) => snippet_ipv6(*server, address, http_port),
                };
                if json {
                    return Ok(output::json(&serde_json::json!({"config": text}))?);
                }
                std::io::stdout().write_all(text.as_bytes())?;
            }
            Self::Status => {
                let view: NetbootView = connect(config, remote)?.get(&["netboot"], &[]).await?;
                if json {
                    return Ok(output::json(&view)?);
                }
                let served = view.interfaces.iter().map(|interface| {
                    let NetbootInterface { name, address, boot_url } = interface;
                    let answers = if address.is_ipv6() { "TFTP only" } else { &view.answer };
                    [name.clone(), address.to_string(), boot_url.clone(), answers.to_owned()]
                });
                let off = "the netboot server is off; `netboot:` in the configuration or `serve --netboot` switches it on";
                output::table(&["INTERFACE", "ADDRESS", "BOOT URL", "ANSWERS"], served, off)?;
                let counted = view.packets.iter().filter(|(_, packets)| **packets > 0);
                let rows = counted.map(|(outcome, packets)| [outcome.clone(), packets.to_string()]);
                output::table(&["WHAT BECAME OF IT", "PACKETS"], rows, "no packet has come yet")?;
            }
        }
        Ok(())
    }
}

/// Where machines find a coordinator.
struct Reach {
    http_port: u16,
    public_address: Option<String>,
    /// Its addresses in the networks that it serves.
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
}

impl Reach {
    /// The coordinator of a configuration, which need not run. Only an address that is `wanted` is looked for.
    fn configured(config: &Config, wanted: Wanted) -> Result<Self, NetbootError> {
        let (mut ipv4, mut ipv6) = (None, None);
        if let Some(interface) = config.netboot.interfaces.first() {
            match wanted {
                Wanted::Ipv4 if said_publicly::<Ipv4Addr>(config.public_address.as_deref()).is_none() => {
                    ipv4 = Some(Interface::find(interface)?.address);
                }
                Wanted::Ipv6 if said_publicly::<Ipv6Addr>(config.public_address.as_deref()).is_none() => {
                    ipv6 = Interface::find_ipv6(interface)?.map(|interface| interface.address);
                }
                Wanted::Ipv4 | Wanted::Ipv6 | Wanted::Nothing => {}
            }
        }
        let public_address = config.public_address.clone();
        Ok(Self { http_port: config.listen.http.port(), public_address, ipv4, ipv6 })
    }

    /// The address that machines reach it at: as said, else as it tells.
    fn address(&self, said: Option<IpAddr>, ipv6: bool) -> Result<IpAddr, NetbootError> {
        let address = match said {
            Some(IpAddr::V4(address)) if ipv6 => return Err(NetbootError::NotIpv6 { address }),
            Some(address) => address,
            None if ipv6 => {
                let public = said_publicly(self.public_address.as_deref());
                public.or(self.ipv6).ok_or(NetbootError::NoIpv6Address)?.into()
            }
            None => {
                let public = said_publicly(self.public_address.as_deref());
                public.or(self.ipv4).ok_or(NetbootError::NoAddress)?.into()
            }
        };
        match address {
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                Err(NetbootError::LinkLocal { address })
            }
            IpAddr::V4(_) | IpAddr::V6(_) => Ok(address),
        }
    }
}

impl From<NetbootView> for Reach {
    fn from(view: NetbootView) -> Self {
        let addresses = || view.interfaces.iter().map(|interface| interface.address);
        let ipv4 =
            addresses().find_map(|address| if let IpAddr::V4(ipv4) = address { Some(ipv4) } else { None });
        let ipv6 =
            addresses().find_map(|address| if let IpAddr::V6(ipv6) = address { Some(ipv6) } else { None });
        Self { http_port: view.http_port, public_address: view.public_address, ipv4, ipv6 }
    }
}

/// Which address is to be found out.
#[derive(Clone, Copy)]
enum Wanted {
    Ipv4,
    Ipv6,
    /// It was said.
    Nothing,
}

/// The address of a `public_address`, with or without port, where it is one of that kind and no name.
fn said_publicly<T: FromStr>(public: Option<&str>) -> Option<T> {
    let public = public?;
    let bare = match public.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        // more than one colon: an IPv6 address without brackets
        None if public.matches(':').count() == 1 => public.split(':').next()?,
        None => public,
    };
    bare.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(public: Option<&str>) -> Reach {
        Reach { http_port: 8080, public_address: public.map(str::to_owned), ipv4: None, ipv6: None }
    }

    #[test]
    fn an_ipv6_address_is_found_with_and_without_brackets_and_port() {
        let expected: IpAddr = "fd00::10".parse().unwrap();
        for public in ["fd00::10", "[fd00::10]", "[fd00::10]:8443"] {
            assert_eq!(reach(Some(public)).address(None, true).unwrap(), expected, "{public}");
        }
        for public in ["192.0.2.10", "lab.example:8443"] {
            let found = reach(Some(public)).address(None, true);
            assert!(matches!(found, Err(NetbootError::NoIpv6Address)), "{public}");
        }
    }

    #[test]
    fn an_ipv4_address_is_found_with_and_without_port() {
        let expected: IpAddr = "192.0.2.10".parse().unwrap();
        for public in ["192.0.2.10", "192.0.2.10:8443"] {
            assert_eq!(reach(Some(public)).address(None, false).unwrap(), expected, "{public}");
        }
        for public in ["fd00::10", "lab.example:8443"] {
            let found = reach(Some(public)).address(None, false);
            assert!(matches!(found, Err(NetbootError::NoAddress)), "{public}");
        }
    }

    #[test]
    fn another_box_is_told_the_addresses_of_the_served_networks() {
        let interface = |address: &str| NetbootInterface {
            name: "eth1".to_owned(),
            address: address.parse().unwrap(),
            boot_url: String::new(),
        };
        let mut view = NetbootView {
            interfaces: vec![interface("192.0.2.10"), interface("fd00::10")],
            answer: "registered".to_owned(),
            packets: std::collections::BTreeMap::new(),
            http_port: 8888,
            public_address: None,
        };
        let told = Reach::from(view.clone());
        assert_eq!(told.http_port, 8888);
        assert_eq!(told.address(None, false).unwrap().to_string(), "192.0.2.10");
        assert_eq!(told.address(None, true).unwrap().to_string(), "fd00::10");
        view.public_address = Some("198.51.100.1".to_owned());
        assert_eq!(Reach::from(view.clone()).address(None, false).unwrap().to_string(), "198.51.100.1");
        view = NetbootView { interfaces: Vec::new(), public_address: None, ..view };
        assert!(matches!(Reach::from(view).address(None, false), Err(NetbootError::NoAddress)));
    }

    #[test]
    fn what_machines_cannot_use_is_refused() {
        let refused = reach(None).address(Some("fe80::1".parse().unwrap()), false);
        assert!(matches!(refused, Err(NetbootError::LinkLocal { .. })));
        let refused = reach(None).address(Some("192.0.2.1".parse().unwrap()), true);
        assert!(matches!(refused, Err(NetbootError::NotIpv6 { .. })));
    }
}
