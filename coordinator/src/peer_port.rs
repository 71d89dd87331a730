//! Ports for peers that cannot choose one themselves. Between the choice and the moment that such a peer listens nobody
//! else must get its port: neither another test nor a listener that asks the kernel for any.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;

/// Below what Linux gives to who asks for any port (`net.ipv4.ip_local_port_range`).
const PORTS: Range<u16> = 10_000..30_000;

/// A port, held while the peer lives.
pub(crate) struct PeerPort {
    pub number: u16,
    _lock: File,
}

impl PeerPort {
    /// One that is free for UDP and TCP.
    pub fn take() -> Self {
        let folder = std::env::temp_dir().join("vetting-peer-ports");
        std::fs::create_dir_all(&folder).unwrap();
        // every test is a process of its own: they begin to look in different places
        let span = usize::from(PORTS.end - PORTS.start);
        let first = usize::try_from(std::process::id()).unwrap() * 7 % span;
        let found = PORTS.cycle().skip(first).take(span).find_map(|number| {
            let lock = File::create(folder.join(number.to_string())).unwrap();
            lock.try_lock().ok()?;
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
                && UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
            free.then_some(Self { number, _lock: lock })
        });
        found.expect("a port is free")
    }
}
