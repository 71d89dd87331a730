//! Network interfaces of this box, and UDP sockets that hear and speak on one of them only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrIn;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// Why an interface cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The config names none.
    #[error("netboot.interfaces names no interface; this box has: {there}")]
    NoneNamed {
        /// Those there are.
        there: String,
    },
    /// There is none of this name.
    #[error("netboot.interfaces: there is no interface {name}; this box has: {there}")]
    Missing {
        /// As configured.
        name: String,
        /// Those there are.
        there: String,
    },
    /// It has no IPv4 address that machines could call.
    #[error("netboot.interfaces: {name} has no IPv4 address")]
    NoAddress {
        /// As configured.
        name: String,
    },
    /// Machines cannot fetch boot scripts.
    #[error("netboot: listen.http is {http}, where no other machine reaches it; make it 0.0.0.0:{}", http.port())]
    HttpUnreachable {
        /// As configured.
        http: SocketAddr,
    },
    /// The operating system.
    #[error("cannot list the network interfaces")]
    List {
        /// Why.
        source: std::io::Error,
    },
    /// A socket.
    #[error(
        "cannot serve UDP port {port} on {name}; it takes CAP_NET_BIND_SERVICE and CAP_NET_RAW, and no other server there"
    )]
    Socket {
        /// The interface.
        name: String,
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
}

/// An interface that is served.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Our first IPv4 address on it.
    pub address: Ipv4Addr,
}

impl Interface {
    /// The interface of this name.
    ///
    /// # Errors
    /// There is none, or it has no IPv4 address.
    pub fn find(name: &str) -> Result<Self, InterfaceError> {
        let mut there = false;
        for one in getifaddrs().map_err(|errno| InterfaceError::List { source: errno.into() })? {
            if one.interface_name != name {
                continue;
            }
            there = true;
            let ipv4 = one.address.as_ref().and_then(|address| address.as_sockaddr_in());
            if let Some(address) = ipv4.map(SockaddrIn::ip) {
                return Ok(Self { name: name.to_owned(), address });
            }
        }
        if there {
            return Err(InterfaceError::NoAddress { name: name.to_owned() });
        }
        Err(InterfaceError::Missing { name: name.to_owned(), there: names()? })
    }

    /// `http://ADDRESS:PORT` of the boot endpoints for machines on this interface.
    ///
    /// # Errors
    /// The listener is where they cannot come.
    pub fn base_url(&self, http: SocketAddr) -> Result<String, InterfaceError> {
        let address = match http.ip() {
            ip if ip.is_unspecified() => self.address,
            IpAddr::V4(ip) if !ip.is_loopback() => ip,
            IpAddr::V4(_) | IpAddr::V6(_) => return Err(InterfaceError::HttpUnreachable { http }),
        };
        Ok(format!("http://{address}:{}", http.port()))
    }

    /// A socket that hears this interface only, at `address` (unspecified: broadcasts too).
    ///
    /// # Errors
    /// Another server has the port, or we lack the capabilities.
    pub fn socket(&self, address: Ipv4Addr, port: u16) -> Result<UdpSocket, InterfaceError> {
        self.open(address, port).map_err(|source| InterfaceError::Socket {
            name: self.name.clone(),
            port,
            source,
        })
    }

    /// A socket that hears only what is broadcast to this port, beside the box's own DHCP client if there is one;
    /// `None`, and a word in the log, where that client keeps the port to itself.
    pub fn hear_broadcasts(&self, port: u16) -> Option<UdpSocket> {
        match self.open(Ipv4Addr::BROADCAST, port) {
            Ok(socket) => Some(socket),
            Err(error) => {
                let interface = &self.name;
                tracing::info!(interface, port, %error, "other boot servers cannot be heard of here");
                None
            }
        }
    }

    fn open(&self, address: Ipv4Addr, port: u16) -> std::io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind_device(Some(self.name.as_bytes()))?;
        if address.is_unspecified() || address.is_broadcast() {
            // a DHCP server or client may run on this box too: it hears its broadcasts all the same
            socket.set_reuse_address(true)?;
            socket.set_broadcast(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((address, port)).into())?;
        UdpSocket::from_std(socket.into())
    }
}

/// The names of this box's interfaces.
///
/// # Errors
/// The operating system does not tell.
pub fn names() -> Result<String, InterfaceError> {
    let all = getifaddrs().map_err(|errno| InterfaceError::List { source: errno.into() })?;
    let mut names: Vec<String> = all.map(|one| one.interface_name).collect();
    names.sort();
    names.dedup();
    Ok(names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_told_with_those_that_are() {
        let error = Interface::find("nosuch0").unwrap_err().to_string();
        assert!(error.contains("nosuch0") && error.contains("lo"), "{error}");
    }

    #[test]
    fn scripts_are_fetched_where_machines_can_come() {
        let interface = Interface { name: "eth1".to_owned(), address: Ipv4Addr::new(192, 0, 2, 7) };
        let url = |http: &str| interface.base_url(http.parse().unwrap()).map_err(|error| error.to_string());
        assert_eq!(url("0.0.0.0:8080").unwrap(), "http://192.0.2.7:8080");
        assert_eq!(url("[::]:8080").unwrap(), "http://192.0.2.7:8080");
        assert_eq!(url("198.51.100.1:80").unwrap(), "http://198.51.100.1:80");
        assert!(url("127.0.0.1:8080").unwrap_err().contains("0.0.0.0:8080"));
        assert!(url("[2001:db8::1]:8080").is_err());
    }

    #[tokio::test]
    async fn a_socket_hears_its_interface() {
        let interface = Interface::find("lo").unwrap();
        let socket = interface.socket(interface.address, 0).unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).await.unwrap();
        assert_eq!(socket.recv_from(&mut [0; 9]).await.unwrap().0, 1);
    }
}
