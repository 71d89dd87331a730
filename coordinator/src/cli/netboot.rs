//! `netboot`: what a lab's own DHCP server must be told, and what our own netboot server did. Only prints.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use clap::Subcommand;
use vetting_protocol::operator_api::{NetbootInterface, NetbootView};

use super::client::Client;
use super::{CommandError, output};
use crate::config::Config;
use crate::netboot::foreign::{DhcpServer, snippet, snippet_ipv6};
use crate::netboot::interface::{Interface, InterfaceError};
use crate::netboot::uefi_loader::UefiLoader;

/// Why nothing is printed.
#[derive(Debug, thiserror::Error)]
pub enum NetbootError {
    /// Nobody says where machines find us.
    #[error(
        "which IPv4 address do machines reach this box at? Say --address, or name netboot.interfaces in the configuration"
    )]
    NoAddress,
    /// The same with IPv6.
    #[error(
        "which IPv6 address do machines reach this box at? Say --address, or name an interface that has a global or unique local one under netboot.interfaces in the configuration"
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
        /// This box's address as machines reach it; left out, it is taken from the configuration.
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
    pub(super) async fn run(
        &self,
        config: &Path,
        connect: &dyn Fn() -> Result<Client, CommandError>,
        json: bool,
    ) -> Result<(), CommandError> {
        match self {
            Self::Config { server, address, ipv6, secure_boot } => {
                let config = Config::load(config)?;
                let http_port = config.listen.http.port();
                let uefi_loader = if *secure_boot { UefiLoader::Shim } else { UefiLoader::Ipxe };
                let text = match address_of(&config, *address, *ipv6)? {
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
                let view: NetbootView = connect()?.get(&["netboot"], &[]).await?;
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

/// The address that machines reach this box at: as said, else as configured.
fn address_of(config: &Config, said: Option<IpAddr>, ipv6: bool) -> Result<IpAddr, NetbootError> {
    let address = match said {
        Some(IpAddr::V4(address)) if ipv6 => return Err(NetbootError::NotIpv6 { address }),
        Some(address) => address,
        None if ipv6 => configured_ipv6_address(config)?.into(),
        None => configured_address(config)?.into(),
    };
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => Err(NetbootError::LinkLocal { address }),
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(address),
    }
}

fn configured_ipv6_address(config: &Config) -> Result<Ipv6Addr, NetbootError> {
    let public = config
        .public_address
        .as_deref()
        .map(|public| public.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(public));
    if let Some(address) = public.and_then(|public| public.parse().ok()) {
        return Ok(address);
    }
    let interface = config.netboot.interfaces.first().ok_or(NetbootError::NoIpv6Address)?;
    let found = Interface::find_ipv6(interface)?.ok_or(NetbootError::NoIpv6Address)?;
    Ok(found.address)
}

fn configured_address(config: &Config) -> Result<Ipv4Addr, NetbootError> {
    let public = config.public_address.as_deref().map(|public| public.split(':').next().unwrap_or(public));
    if let Some(address) = public.and_then(|public| public.parse().ok()) {
        return Ok(address);
    }
    let interface = config.netboot.interfaces.first().ok_or(NetbootError::NoAddress)?;
    Ok(Interface::find(interface)?.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(public: &str) -> Config {
        Config { public_address: Some(public.to_owned()), ..Config::default() }
    }

    #[test]
    fn an_ipv6_address_is_found_with_and_without_brackets_and_port() {
        let expected: IpAddr = "fd00::10".parse().unwrap();
        for public in ["fd00::10", "[fd00::10]", "[fd00::10]:8443"] {
            assert_eq!(address_of(&configured(public), None, true).unwrap(), expected, "{public}");
        }
        for public in ["192.0.2.10", "lab.example:8443"] {
            let found = address_of(&configured(public), None, true);
            assert!(matches!(found, Err(NetbootError::NoIpv6Address)), "{public}");
        }
    }

    #[test]
    fn what_machines_cannot_use_is_refused() {
        let config = Config::default();
        let refused = address_of(&config, Some("fe80::1".parse().unwrap()), false);
        assert!(matches!(refused, Err(NetbootError::LinkLocal { .. })));
        let refused = address_of(&config, Some("192.0.2.1".parse().unwrap()), true);
        assert!(matches!(refused, Err(NetbootError::NotIpv6 { .. })));
    }
}
