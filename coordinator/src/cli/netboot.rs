//! `netboot`: what a lab's own DHCP server must be told. Only prints.

use std::io::Write as _;
use std::net::Ipv4Addr;

use clap::Subcommand;

use super::CommandError;
use crate::config::Config;
use crate::netboot::foreign::{DhcpServer, snippet};
use crate::netboot::interface::{Interface, InterfaceError};

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
    },
}

impl NetbootCommand {
    /// Prints.
    pub fn run(&self, config: &Config) -> Result<(), CommandError> {
        let Self::Config { server, address } = self;
        let address = address.map_or_else(|| configured_address(config), Ok)?;
        let text = snippet(*server, address, config.listen.http.port());
        std::io::stdout().write_all(text.as_bytes())?;
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
