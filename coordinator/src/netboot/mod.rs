//! How a machine that boots from the network finds us and what it is told: proxyDHCP, TFTP, boot scripts, and the
//! text for labs whose own DHCP server does that. Refuses to know about runs' states: `http` decides which script a
//! machine gets.

pub mod counters;
pub mod files;
pub mod foreign;
pub mod grub;
pub mod interface;
pub mod ipxe;
pub mod other_offers;
pub mod proxy_dhcp;
mod proxy_dhcp_server;
pub mod rate_limit;
pub mod script;
pub mod server;
pub mod tftp;
mod tftp_server;
pub mod uefi_loader;
