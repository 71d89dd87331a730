//! Hears the LLDP frames of all interfaces for a while.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

use super::{ETHER_TYPE, Neighbour, parse};
use crate::cancel::Cancel;

/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(200);
/// Largest frame that is read, bytes.
const MOST_BYTES: usize = 2048;

/// Who was heard, by the index of our interface.
type Heard = BTreeMap<u32, Neighbour>;

/// Listens until it is asked what it heard.
#[derive(Debug)]
pub struct Listener {
    stop: Cancel,
    heard: Arc<Mutex<Heard>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Begins. The interfaces must take frames to groups (`allmulticast`).
    ///
    /// # Errors
    /// There can be no such socket: it takes `CAP_NET_RAW`.
    pub fn start() -> std::io::Result<Self> {
        let protocol = Protocol::from(i32::from(ETHER_TYPE.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
        socket.set_read_timeout(Some(LOOK))?;
        let (stop, heard) = (Cancel::new(), Arc::new(Mutex::new(Heard::new())));
        let thread = std::thread::Builder::new().name("lldp".to_owned()).spawn({
            let (stop, heard) = (stop.clone(), Arc::clone(&heard));
            move || hear(&socket, &heard, &stop)
        })?;
        Ok(Self { stop, heard, thread: Some(thread) })
    }

    /// Who is at the other end of the interface with this index, as far as was heard.
    pub fn neighbour(&self, interface: u32) -> Option<Neighbour> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).get(&interface).cloned()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.raise();
        if let Some(thread) = self.thread.take() {
            // a panic of the thread was printed by its hook
            let _ = thread.join();
        }
    }
}

fn hear(socket: &Socket, heard: &Mutex<Heard>, stop: &Cancel) {
    let mut frame = [0_u8; MOST_BYTES];
    while !stop.is_raised() {
        // the time-out, or an interface that went down: both pass
        let Ok((length, Some(from))) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) else { continue };
        let Some(neighbour) = frame.get(..length).and_then(parse) else { continue };
        let Ok(interface) = u32::try_from(from.ifindex()) else { continue };
        heard.lock().unwrap_or_else(PoisonError::into_inner).insert(interface, neighbour);
    }
}
