//! What switches machines on, behind one trait. Refuses to know about runs.

pub mod wake_on_lan;

use std::net::Ipv4Addr;

use futures_util::future::BoxFuture;
use vetting_protocol::ids::MacAddress;

pub use wake_on_lan::{PowerError, WakeOnLan};

/// Where a machine listens for its wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakeTarget {
    /// The card it boots from.
    pub mac: MacAddress,
    /// Broadcast address of its LAN.
    pub broadcast_ip: Ipv4Addr,
    /// UDP port, usually 9.
    pub port: u16,
}

/// A way to switch a machine on.
pub trait Power: Send + Sync {
    /// Asks the machine to come up. That it was asked does not mean that it comes.
    ///
    /// # Errors
    /// The request did not leave this box.
    fn wake(&self, target: WakeTarget) -> BoxFuture<'_, Result<(), PowerError>>;
}
