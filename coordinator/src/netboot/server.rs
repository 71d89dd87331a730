//! The sockets of the netboot server: one set for each named interface. What is said is decided in `proxy_dhcp` and
//! `tftp`; this module hears, asks who may be answered, limits, counts and sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dhcproto::v4::{CLIENT_PORT, SERVER_PORT};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vetting_protocol::operator_api::{NetbootInterface, NetbootView};

use super::counters::Counters;
use super::files::BootFiles;
use super::interface::{self, Interface, InterfaceError};
use super::other_offers::OtherOffers;
use super::proxy_dhcp::ServerPort;
use super::proxy_dhcp_server::{ProxyDhcpServer, Shared};
use super::rate_limit::RateLimit;
use super::tftp_server::TftpServer;
use super::uefi_loader::UefiLoaders;
use crate::clock::Clock;
use crate::config::{Answer, Netboot};
use crate::run::driver::Driver;

/// PXE 2.1 section 2.2: where a client asks the proxyDHCP server whose offer it took.
const PROXY_PORT: u16 = 4011;
/// Longer than any frame.
pub(super) const LONGEST_DATAGRAM: usize = 2048;
/// A boot asks three times, each with up to four repeats, in about two minutes.
const ANSWERS_PER_MINUTE: u32 = 20;
pub(super) const MINUTE_MS: i64 = 60_000;
/// After an error of the operating system, lest it fill the log.
const PAUSE: Duration = Duration::from_secs(1);

/// A netboot server whose ports are open.
pub struct NetbootServer {
    served: Vec<Served>,
    served_ipv6: Vec<ServedIpv6>,
    config: Netboot,
    files: BootFiles,
    counters: Arc<Counters>,
    http_port: u16,
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
    dhcp: Option<DhcpSockets>,
    tftp: UdpSocket,
}

struct DhcpSockets {
    /// Port 67.
    server: UdpSocket,
    /// Port 4011.
    proxy: UdpSocket,
    /// What others broadcast to machines; `None` where this box lets nobody hear it.
    client: Option<UdpSocket>,
}

/// What an operator is told of the netboot server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NetbootStatus {
    answer: Answer,
    interfaces: Vec<NetbootInterface>,
    counters: Arc<Counters>,
    http_port: u16,
}

impl NetbootStatus {
    /// As it is now. `public_address` is the configuration's.
    pub fn view(&self, public_address: Option<String>) -> NetbootView {
        NetbootView {
            interfaces: self.interfaces.clone(),
            answer: self.answer.to_string(),
            packets: self.counters.all(),
            http_port: self.http_port,
            public_address,
        }
    }
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
            config: config.clone(),
            files: BootFiles::of_image(image),
            counters: Arc::default(),
            http_port: http.port(),
        })
    }

    /// Whether TFTP could open the socket of a transfer as the user we are now.
    ///
    /// # Errors
    /// It could not: the kernel is older than 5.7 and `CAP_NET_RAW` is gone.
    pub fn check_transfers(&self) -> Result<(), InterfaceError> {
        let ipv4 = self.served.iter().map(|served| served.interface.of_any_kind());
        for interface in ipv4.chain(self.served_ipv6.iter().map(|served| served.interface.of_any_kind())) {
            interface.socket(interface.address, 0)?;
        }
        Ok(())
    }

    /// What became of the packets.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// For operators.
    pub fn status(&self) -> NetbootStatus {
        let told = |interface: Interface<IpAddr>, base_url: &Arc<str>| NetbootInterface {
            name: interface.name,
            address: interface.address,
            boot_url: base_url.to_string(),
        };
        let ipv4 = self.served.iter().map(|served| told(served.interface.of_any_kind(), &served.base_url));
        let ipv6 =
            self.served_ipv6.iter().map(|served| told(served.interface.of_any_kind(), &served.base_url));
        NetbootStatus {
            answer: self.config.answer,
            interfaces: ipv4.chain(ipv6).collect(),
            counters: self.counters(),
            http_port: self.http_port,
        }
    }

    /// Serves until `stop` says so.
    pub fn serve(self, driver: &Driver, clock: &Clock, stop: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
        let Netboot { answer, secure_boot, secure_boot_by_host, .. } = self.config;
        let shared = Arc::new(Shared {
            answer,
            driver: driver.clone(),
            clock: clock.clone(),
            counters: Arc::clone(&self.counters),
            limit: Mutex::new(RateLimit::new(ANSWERS_PER_MINUTE, MINUTE_MS)),
            uefi_loaders: Mutex::new(UefiLoaders::new(secure_boot, secure_boot_by_host)),
        });
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
            tracing::info!(interface = interface.name, address = %interface.address, %answer, "netboot");
            let address = interface.address;
            let server = tftp_server(interface.of_any_kind(), &base_url);
            tasks.push(tokio::spawn(until(stop.clone(), server.serve(tftp))));
            let Some(DhcpSockets { server, proxy, client }) = dhcp else { continue };
            for (port, socket) in [(ServerPort::Dhcp, server), (ServerPort::Proxy, proxy)] {
                let (base_url, shared) = (Arc::clone(&base_url), Arc::clone(&shared));
                let server = ProxyDhcpServer { address, base_url, port, socket, shared };
                tasks.push(tokio::spawn(until(stop.clone(), server.serve())));
            }
            if let Some(socket) = client {
                let others = OtherOffers { address, base_url, socket, shared: Arc::clone(&shared) };
                tasks.push(tokio::spawn(until(stop.clone(), others.watch())));
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
            Answer::Registered | Answer::All => Some(DhcpSockets {
                server: interface.socket(Ipv4Addr::UNSPECIFIED, SERVER_PORT)?,
                proxy: interface.socket(interface.address, PROXY_PORT)?,
                client: interface.hear_broadcasts(CLIENT_PORT),
            }),
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
