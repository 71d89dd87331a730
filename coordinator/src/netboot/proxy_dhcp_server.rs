//! The sockets of proxyDHCP: what is heard goes to `proxy_dhcp`, what it answers goes out.
//!
//! Refuses: machines that ask too often, and those that nobody registered unless the config says all.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use dhcproto::v4::{CLIENT_PORT, SERVER_PORT};
use serde_json::json;
use tokio::net::UdpSocket;
use vetting_protocol::ids::MacAddress;

use super::counters::{Counters, Outcome};
use super::proxy_dhcp::{self, Context, Destination, Firmware, Packet, Refused, Reply, ServerPort};
use super::rate_limit::RateLimit;
use super::server::{LONGEST_DATAGRAM, hear};
use super::uefi_loader::{UefiLoader, UefiLoaders};
use crate::clock::Clock;
use crate::config::Answer;
use crate::run::driver::Driver;

/// What all ports of all interfaces have in common.
pub(super) struct Shared {
    pub(super) answer: Answer,
    pub(super) driver: Driver,
    pub(super) clock: Clock,
    pub(super) counters: Arc<Counters>,
    pub(super) limit: Mutex<RateLimit<MacAddress>>,
    pub(super) uefi_loaders: Mutex<UefiLoaders>,
}

/// One port on one interface.
pub(super) struct ProxyDhcpServer {
    pub(super) address: Ipv4Addr,
    pub(super) base_url: Arc<str>,
    pub(super) port: ServerPort,
    pub(super) socket: UdpSocket,
    pub(super) shared: Arc<Shared>,
}

/// A machine that may be answered.
struct Machine {
    /// `None` where nobody registered it and all are answered.
    host_name: Option<String>,
}

impl ProxyDhcpServer {
    /// Serves until dropped.
    pub(super) async fn serve(self) {
        let mut buffer = [0; LONGEST_DATAGRAM];
        loop {
            let (length, sender) = hear(&self.socket, &mut buffer, "proxyDHCP").await;
            let outcome = match proxy_dhcp::read(&buffer[..length]) {
                Ok(packet) => self.respond(&packet, sender).await,
                Err(Refused::NotBooting) => Outcome::DhcpNotForUs,
                Err(refused @ Refused::Architecture(_)) => {
                    tracing::debug!(%sender, %refused, "proxyDHCP");
                    Outcome::DhcpArchitecture
                }
                Err(refused @ Refused::Malformed(_)) => {
                    tracing::debug!(%sender, %refused, "proxyDHCP");
                    Outcome::DhcpMalformed
                }
            };
            self.shared.counters.count(outcome);
        }
    }

    async fn respond(&self, packet: &Packet, sender: SocketAddr) -> Outcome {
        if proxy_dhcp::answers_as(packet, self.port, self.address).is_none() {
            return Outcome::DhcpNotForUs;
        }
        let mac = packet.mac;
        let now_ms = self.shared.clock.now_ms();
        if !self.shared.limit.lock().unwrap_or_else(PoisonError::into_inner).allows(mac, now_ms) {
            return Outcome::DhcpLimited;
        }
        let Some(machine) = self.shared.who(mac, sender).await else { return Outcome::DhcpUnregistered };
        let context = Context {
            port: self.port,
            address: self.address,
            base_url: &self.base_url,
            uefi_loader: self.uefi_loader(packet, machine.host_name.as_deref()).await,
        };
        let Some(reply) = proxy_dhcp::answer(packet, &context) else { return Outcome::DhcpNotForUs };
        self.send(packet, &reply, sender).await
    }

    async fn send(&self, packet: &Packet, reply: &Reply, sender: SocketAddr) -> Outcome {
        let mac = packet.mac;
        let destination = match reply.destination {
            Destination::Broadcast => SocketAddr::from((Ipv4Addr::BROADCAST, CLIENT_PORT)),
            Destination::Relay(relay) => SocketAddr::from((relay, SERVER_PORT)),
            Destination::Sender => sender,
        };
        match self.socket.send_to(&reply.bytes, destination).await {
            Ok(_) => {
                tracing::info!(%mac, firmware = ?packet.firmware, boot_file = reply.boot_file, "proxyDHCP");
                Outcome::DhcpAnswered
            }
            Err(error) => {
                tracing::warn!(%mac, %destination, %error, "proxyDHCP cannot answer");
                Outcome::DhcpUnsent
            }
        }
    }

    /// What this machine is told if it is UEFI firmware that asks.
    async fn uefi_loader(&self, packet: &Packet, host_name: Option<&str>) -> UefiLoader {
        let mac = packet.mac;
        let choice = {
            let mut loaders = self.shared.uefi_loaders.lock().unwrap_or_else(PoisonError::into_inner);
            match (packet.firmware, self.port) {
                (Firmware::Uefi | Firmware::UefiHttp, ServerPort::Dhcp) => {
                    loaders.offer(mac, host_name, packet.transaction)
                }
                (Firmware::Uefi | Firmware::UefiHttp, ServerPort::Proxy) | (Firmware::Bios, _) => {
                    return loaders.repeat(mac, host_name);
                }
                (Firmware::Ipxe, _) => {
                    loaders.ipxe_ran(mac);
                    return UefiLoader::Ipxe;
                }
            }
        };
        if choice.newly_assumed {
            let who = host_name.map_or_else(|| mac.to_string(), str::to_owned);
            let message = format!(
                "{who} was told iPXE and did not start it, as firmware with Secure Boot does not; from now on it is told \
                 shim and GRUB. `netboot: {{secure_boot_by_host: {{{who}: always}}}}` does so from the start"
            );
            self.shared.tell(mac, "secure_boot_assumed", message, json!({"mac": mac})).await;
        }
        choice.loader
    }
}

impl Shared {
    /// Whether, and as whom, a machine is answered.
    async fn who(&self, mac: MacAddress, sender: SocketAddr) -> Option<Machine> {
        if self.answer == Answer::None {
            return None;
        }
        let found = self.driver.who_netboots(mac, sender).await;
        let host_name = found.unwrap_or_else(|error| {
            tracing::warn!(%mac, error = %crate::error_chain(&error), "cannot look up who asks to boot");
            None
        });
        (self.answer == Answer::All || host_name.is_some()).then_some(Machine { host_name })
    }

    /// A warning about this machine in the event log; that it cannot be stored keeps no machine from booting.
    pub(super) async fn tell(&self, mac: MacAddress, kind: &str, message: String, data: serde_json::Value) {
        tracing::warn!(%mac, kind, message, "netboot");
        if let Err(error) = self.driver.netboot_warning(mac, kind, message, data).await {
            tracing::warn!(%mac, kind, error = %crate::error_chain(&error), "was not noted");
        }
    }
}
