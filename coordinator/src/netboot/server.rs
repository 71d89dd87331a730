//! The sockets of the netboot server: one set for each named interface. What is said is decided in `proxy_dhcp` and
//! `tftp`; this module hears, asks who may be answered, limits, counts and sends.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dhcproto::v4::{CLIENT_PORT, SERVER_PORT};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vetting_protocol::ids::MacAddress;

use super::counters::{Counters, Outcome};
use super::files::BootFiles;
use super::interface::{self, Interface, InterfaceError};
use super::proxy_dhcp::{self, Context, Destination, Packet, Refused, ServerPort};
use super::rate_limit::RateLimit;
use super::tftp_server::TftpServer;
use crate::clock::Clock;
use crate::config::{Answer, Netboot};
use crate::run::driver::Driver;

/// PXE 2.1 section 2.2: where a client asks the proxyDHCP server whose offer it took.
const PROXY_PORT: u16 = 4011;
/// Longer than any frame.
const LONGEST_DATAGRAM: usize = 2048;
/// A boot asks three times, each with up to four repeats, in about two minutes.
const ANSWERS_PER_MINUTE: u32 = 20;
pub(super) const MINUTE_MS: i64 = 60_000;
/// After an error of the operating system, lest it fill the log.
const PAUSE: Duration = Duration::from_secs(1);

/// A netboot server whose ports are open.
pub struct NetbootServer {
    served: Vec<Served>,
    served_ipv6: Vec<ServedIpv6>,
    answer: Answer,
    files: BootFiles,
    counters: Arc<Counters>,
}

/// An interface over IPv6: TFTP only. Where to boot from is told by the lab's own DHCPv6 server; there is no proxy.
struct ServedIpv6 {
    interface: Interface<Ipv6Addr>,
    base_url: Arc<str>,
    tftp: UdpSocket,
}

struct Served {
    interface: Interface,
    base_url: Arc<str>,
    dhcp: Option<(UdpSocket, UdpSocket)>,
    tftp: UdpSocket,
}

impl NetbootServer {
    /// Opens the ports, if the config says so. `http` is where the boot endpoints listen.
    ///
    /// # Errors
    /// A named interface that cannot be served.
    pub fn open(config: &Netboot, image: &Path, http: SocketAddr) -> Result<Self, InterfaceError> {
        if config.enabled && config.interfaces.is_empty() {
            return Err(InterfaceError::NoneNamed { there: interface::names()? });
        }
        let named = if config.enabled { config.interfaces.as_slice() } else { &[] };
        let (mut served, mut served_ipv6) = (Vec::new(), Vec::new());
        for name in named {
            let ipv6 = ServedIpv6::open(name, http)?;
            match Served::open(name, config.answer, http) {
                Ok(ipv4) => served.push(ipv4),
                Err(InterfaceError::NoAddress { .. }) if ipv6.is_some() => {}
                Err(error) => return Err(error),
            }
            served_ipv6.extend(ipv6);
        }
        Ok(Self {
            served,
            served_ipv6,
            answer: config.answer,
            files: BootFiles::of_image(image),
            counters: Arc::default(),
        })
    }

    /// What became of the packets.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves until `stop` says so.
    pub fn serve(self, driver: &Driver, clock: &Clock, stop: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
        let limit = Arc::new(Mutex::new(RateLimit::new(ANSWERS_PER_MINUTE, MINUTE_MS)));
        let mut tasks = Vec::new();
        let tftp_server = |interface, base_url: &Arc<str>| TftpServer {
            interface,
            base_url: Arc::clone(base_url),
            files: self.files.clone(),
            counters: Arc::clone(&self.counters),
            clock: clock.clone(),
        };
        for ServedIpv6 { interface, base_url, tftp } in self.served_ipv6 {
            tracing::info!(interface = interface.name, address = %interface.address, "netboot: TFTP");
            let server = tftp_server(interface.of_any_kind(), &base_url);
            tasks.push(tokio::spawn(until(stop.clone(), server.serve(tftp))));
        }
        for Served { interface, base_url, dhcp, tftp } in self.served {
            tracing::info!(interface = interface.name, address = %interface.address, answer = %self.answer, "netboot");
            let server = tftp_server(interface.of_any_kind(), &base_url);
            tasks.push(tokio::spawn(until(stop.clone(), server.serve(tftp))));
            let Some((dhcp, proxy)) = dhcp else { continue };
            for (port, socket) in [(ServerPort::Dhcp, dhcp), (ServerPort::Proxy, proxy)] {
                let server = ProxyDhcpServer {
                    address: interface.address,
                    base_url: Arc::clone(&base_url),
                    port,
                    socket,
                    answer: self.answer,
                    driver: driver.clone(),
                    clock: clock.clone(),
                    counters: Arc::clone(&self.counters),
                    limit: Arc::clone(&limit),
                };
                tasks.push(tokio::spawn(until(stop.clone(), server.serve())));
            }
        }
        tasks
    }
}

impl Served {
    fn open(name: &str, answer: Answer, http: SocketAddr) -> Result<Self, InterfaceError> {
        let interface = Interface::find(name)?;
        let base_url = interface.base_url(http)?.into();
        let dhcp = match answer {
            Answer::None => None,
            Answer::Registered | Answer::All => Some((
                interface.socket(Ipv4Addr::UNSPECIFIED, SERVER_PORT)?,
                interface.socket(interface.address, PROXY_PORT)?,
            )),
        };
        let tftp = interface.socket(interface.address, super::tftp_server::PORT)?;
        Ok(Self { interface, base_url, dhcp, tftp })
    }
}

impl ServedIpv6 {
    /// `None` if machines cannot come to this interface over IPv6.
    fn open(name: &str, http: SocketAddr) -> Result<Option<Self>, InterfaceError> {
        let Some(interface) = Interface::find_ipv6(name)? else { return Ok(None) };
        let Some(base_url) = interface.base_url(http) else { return Ok(None) };
        let tftp = interface.socket(interface.address, super::tftp_server::PORT)?;
        Ok(Some(Self { interface, base_url: base_url.into(), tftp }))
    }
}

async fn until(mut stop: watch::Receiver<bool>, serve: impl Future<Output = ()>) {
    tokio::select! {
        () = serve => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Hears the next datagram; errors of the operating system are logged and waited out.
pub(super) async fn hear(socket: &UdpSocket, buffer: &mut [u8], what: &str) -> (usize, SocketAddr) {
    loop {
        match socket.recv_from(buffer).await {
            Ok(heard) => return heard,
            Err(error) => {
                tracing::warn!(%error, "{what} cannot hear");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

struct ProxyDhcpServer {
    address: Ipv4Addr,
    base_url: Arc<str>,
    port: ServerPort,
    socket: UdpSocket,
    answer: Answer,
    driver: Driver,
    clock: Clock,
    counters: Arc<Counters>,
    limit: Arc<Mutex<RateLimit<MacAddress>>>,
}

impl ProxyDhcpServer {
    async fn serve(self) {
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
            self.counters.count(outcome);
        }
    }

    async fn respond(&self, packet: &Packet, sender: SocketAddr) -> Outcome {
        let context = Context { port: self.port, address: self.address, base_url: &self.base_url };
        let Some(reply) = proxy_dhcp::answer(packet, &context) else { return Outcome::DhcpNotForUs };
        let mac = packet.mac;
        let now_ms = self.clock.now_ms();
        if !self.limit.lock().unwrap_or_else(PoisonError::into_inner).allows(mac, now_ms) {
            return Outcome::DhcpLimited;
        }
        if !self.may_boot(mac, sender).await {
            return Outcome::DhcpUnregistered;
        }
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

    async fn may_boot(&self, mac: MacAddress, sender: SocketAddr) -> bool {
        match self.answer {
            Answer::All => true,
            Answer::None => false,
            Answer::Registered => match self.driver.may_netboot(mac, sender).await {
                Ok(known) => known,
                Err(error) => {
                    tracing::warn!(%mac, error = %crate::error_chain(&error), "cannot look up who asks to boot");
                    false
                }
            },
        }
    }
}
