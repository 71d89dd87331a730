//! `netboot`: what a lab's own DHCP server must be told, and what our own netboot server did. Only prints.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use clap::Subcommand;
use vetting_protocol::operator_api::{NetbootInterface, NetbootView};

use super::client::Client;
use super::{CommandError, output};
use crate::config::Config;
use crate::netboot::foreign::{DhcpServer, snippet};
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
                            vetting-coordinator netboot config kea"
    )]
    Config {
        /// That server.
        server: DhcpServer,
        /// This box's address as machines reach it; left out, it is taken from the configuration.
        #[arg(long)]
        address: Option<Ipv4Addr>,
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
            Self::Config { server, address, secure_boot } => {
                let config = Config::load(config)?;
                let address = address.map_or_else(|| configured_address(&config), Ok)?;
                let uefi_loader = if *secure_boot { UefiLoader::Shim } else { UefiLoader::Ipxe };
                let text = snippet(*server, address, config.listen.http.port(), uefi_loader);
                std::io::stdout().write_all(text.as_bytes())?;
            }
            Self::Status => {
                let view: NetbootView = connect()?.get(&["netboot"], &[]).await?;
                if json {
                    return Ok(output::json(&view)?);
                }
                let served = view.interfaces.iter().map(|interface| {
                    let NetbootInterface { name, address, boot_url } = interface;
                    [name.clone(), address.to_string(), boot_url.clone(), view.answer.clone()]
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

fn configured_address(config: &Config) -> Result<Ipv4Addr, NetbootError> {
    let public = config.public_address.as_deref().map(|public| public.split(':').next().unwrap_or(public));
    if let Some(address) = public.and_then(|public| public.parse().ok()) {
        return Ok(address);
    }
    let interface = config.netboot.interfaces.first().ok_or(NetbootError::NoAddress)?;
    Ok(Interface::find(interface)?.address)
}
