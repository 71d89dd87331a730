//! Wake-on-LAN: the magic packet (AMD publication 20213) as a UDP broadcast.

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::BoxFuture;
use tokio::net::UdpSocket;
use vetting_protocol::ids::MacAddress;

use super::{Power, WakeTarget};

/// Six bytes of ones, then the address sixteen times.
pub const MAGIC_PACKET_BYTES: usize = 6 + 16 * 6;

/// A machine that could not be asked to come up.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// The packet did not leave.
    #[error(
        "cannot send a magic packet to {destination}; check the host's wol_broadcast_ip and this box's routes"
    )]
    Send {
        /// Where to.
        destination: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Wakes machines with UDP magic packets.
#[derive(Debug, Clone, Copy, Default)]
pub struct WakeOnLan;

/// The payload that wakes `mac`.
pub fn magic_packet(mac: MacAddress) -> [u8; MAGIC_PACKET_BYTES] {
    let mut packet = [0xff_u8; MAGIC_PACKET_BYTES];
    for repetition in packet[6..].chunks_exact_mut(6) {
        repetition.copy_from_slice(&mac.octets());
    }
    packet
}

impl Power for WakeOnLan {
    fn wake(&self, target: WakeTarget) -> BoxFuture<'_, Result<(), PowerError>> {
        Box::pin(async move {
            let destination = SocketAddr::from((target.broadcast_ip, target.port));
            let failed = |source| PowerError::Send { destination, source };
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.map_err(failed)?;
            socket.set_broadcast(true).map_err(failed)?;
            socket.send_to(&magic_packet(target.mac), destination).await.map_err(failed)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_packet_arrives_as_the_specification_says() {
        let listener = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mac: MacAddress = "52:54:00:ab:cd:01".parse().unwrap();
        WakeOnLan.wake(WakeTarget { mac, broadcast_ip: Ipv4Addr::LOCALHOST, port }).await.unwrap();
        let mut received = [0_u8; 200];
        let (length, _) = listener.recv_from(&mut received).await.unwrap();
        assert_eq!(length, 102);
        assert_eq!(received[..6], [0xff; 6]);
        assert!(received[6..102].chunks(6).all(|six| six == [0x52, 0x54, 0x00, 0xab, 0xcd, 0x01]));
    }
}
