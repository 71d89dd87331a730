//! The sockets of TFTP: one for requests, one for each transfer.
//!
//! Refuses: more transfers at a time than a rack starts, and clients that ask over and over.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::counters::{Counters, Outcome};
use super::files::{BootFiles, FileError};
use super::interface::Interface;
use super::rate_limit::RateLimit;
use super::server::{MINUTE_MS, hear};
use super::tftp::packet::{self, ErrorCode, FromClient, Wanted};
use super::tftp::transfer::{Next, Transfer};
use crate::clock::Clock;

/// RFC 1350.
pub(super) const PORT: u16 = 69;
/// Transfers at a time; each holds one file of some hundred kilobytes.
const MOST_TRANSFERS: usize = 64;
/// A boot asks for three files, with repeats.
const REQUESTS_PER_MINUTE: u32 = 40;
/// Longer than any request and any acknowledgement.
const LONGEST_DATAGRAM: usize = 2048;
/// The longest a transfer may take, however alive its client looks.
const LONGEST_TRANSFER: Duration = Duration::from_mins(5);

/// Serves the boot files on one interface.
#[derive(Clone)]
pub(super) struct TftpServer {
    pub(super) interface: Interface<IpAddr>,
    pub(super) base_url: Arc<str>,
    pub(super) files: BootFiles,
    pub(super) counters: Arc<Counters>,
    pub(super) clock: Clock,
}

impl TftpServer {
    /// Serves until dropped, and then ends what is under way.
    pub(super) async fn serve(self, requests: UdpSocket) {
        let mut limit: RateLimit<IpAddr> = RateLimit::new(REQUESTS_PER_MINUTE, MINUTE_MS);
        let mut transfers = JoinSet::new();
        let mut buffer = [0; LONGEST_DATAGRAM];
        loop {
            let (length, client) = tokio::select! {
                Some(_ended) = transfers.join_next() => continue,
                heard = hear(&requests, &mut buffer, "TFTP") => heard,
            };
            let asked = match packet::read(&buffer[..length]) {
                Ok(asked @ (FromClient::Read { .. } | FromClient::Write | FromClient::OtherMode)) => asked,
                Ok(FromClient::Ack(_) | FromClient::Error(_)) | Err(_) => {
                    self.counters.count(Outcome::TftpMalformed);
                    continue;
                }
            };
            if transfers.len() >= MOST_TRANSFERS || !limit.allows(client.ip(), self.clock.now_ms()) {
                self.counters.count(Outcome::TftpLimited);
                continue;
            }
            let server = self.clone();
            transfers.spawn(async move {
                let outcome = server.respond(asked, client).await;
                server.counters.count(outcome);
            });
        }
    }

    async fn respond(&self, asked: FromClient, client: SocketAddr) -> Outcome {
        // its own port: that is the transfer's identifier (RFC 1350 section 4)
        let socket = match self.interface.socket(self.interface.address, 0) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%client, error = %crate::error_chain(&error), "TFTP");
                return Outcome::TftpUnfinished;
            }
        };
        if let Err(error) = socket.connect(client).await {
            tracing::warn!(%client, %error, "TFTP");
            return Outcome::TftpUnfinished;
        }
        let (name, wanted) = match asked {
            FromClient::Read { name, wanted } => (name, wanted),
            FromClient::Write => return refuse(&socket, ErrorCode::AccessViolation, "read only").await,
            FromClient::OtherMode | FromClient::Ack(_) | FromClient::Error(_) => {
                return refuse(&socket, ErrorCode::IllegalOperation, "octet only").await;
            }
        };
        // some firmware asks from the root
        let known = name.strip_prefix('/').unwrap_or(&name).to_owned();
        let content = match self.content(known).await {
            Ok(content) => content,
            Err(error) => {
                tracing::info!(%client, name, error = %crate::error_chain(&error), "TFTP: refused");
                let (code, text) = match error {
                    FileError::Unknown => (ErrorCode::NotFound, "no such boot file"),
                    FileError::Unfit { .. } => (ErrorCode::AccessViolation, "not a plain file"),
                    FileError::Read { .. } => (ErrorCode::NotDefined, "the file cannot be read"),
                };
                return refuse(&socket, code, text).await;
            }
        };
        match timeout(LONGEST_TRANSFER, send(&socket, content, wanted)).await {
            Ok(Next::Done) => {
                tracing::info!(%client, name, "TFTP: sent");
                Outcome::TftpSent
            }
            Ok(Next::Refused | Next::Lost | Next::Send | Next::Wait) | Err(_) => {
                tracing::debug!(%client, name, "TFTP: not finished");
                Outcome::TftpUnfinished
            }
        }
    }

    async fn content(&self, name: String) -> Result<Bytes, FileError> {
        let (files, base_url) = (self.files.clone(), Arc::clone(&self.base_url));
        let read = tokio::task::spawn_blocking(move || files.get(&name, &base_url));
        read.await.unwrap_or(Err(FileError::Unknown))
    }
}

/// One error, not repeated: a client that misses it asks again.
async fn refuse(socket: &UdpSocket, code: ErrorCode, text: &str) -> Outcome {
    if let Err(error) = socket.send(&packet::error(code, text)).await {
        tracing::debug!(%error, "TFTP");
    }
    Outcome::TftpRefused
}

async fn send(socket: &UdpSocket, content: Bytes, wanted: Wanted) -> Next {
    let mut transfer = Transfer::new(content, wanted);
    let mut buffer = [0; LONGEST_DATAGRAM];
    loop {
        for datagram in transfer.datagrams() {
            // a client that closed its port is gone, a full queue drops: silence tells both
            if let Err(error) = socket.send(&datagram).await
                && error.kind() == std::io::ErrorKind::ConnectionRefused
            {
                return Next::Lost;
            }
        }
        let deadline = Instant::now() + transfer.patience();
        let next = loop {
            match timeout_at(deadline, socket.recv(&mut buffer)).await {
                Ok(Ok(length)) => match transfer.heard(&buffer[..length]) {
                    Next::Wait => {}
                    next @ (Next::Send | Next::Done | Next::Refused | Next::Lost) => break next,
                },
                Ok(Err(_)) => break Next::Lost,
                Err(_) => break transfer.silent(),
            }
        };
        if next != Next::Send {
            return next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(server: SocketAddr, request: &[u8]) -> (UdpSocket, Vec<u8>, SocketAddr) {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(request, server).await.unwrap();
        let mut buffer = [0; LONGEST_DATAGRAM];
        let (length, transfer) = client.recv_from(&mut buffer).await.unwrap();
        (client, buffer[..length].to_vec(), transfer)
    }

    #[tokio::test]
    async fn files_are_sent_and_everything_else_is_refused_and_counted() {
        let image = tempfile::tempdir().unwrap();
        let folder = image.path().join("netboot");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("snponly.efi"), "loader").unwrap();
        std::fs::write(image.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
        let interface = Interface::find("lo").unwrap();
        let requests = interface.socket(interface.address, 0).unwrap();
        let address = requests.local_addr().unwrap();
        let counters = Arc::<Counters>::default();
        let server = TftpServer {
            interface: interface.of_any_kind(),
            base_url: "http://192.0.2.1:8080".into(),
            files: BootFiles::of_image(image.path()),
            counters: Arc::clone(&counters),
            clock: Clock::settable(1_000),
        };
        let serving = tokio::spawn(server.serve(requests));

        for (request, code) in [
            (b"\0\x01../secret\0octet\0".as_slice(), 1),
            (b"\0\x01/etc/passwd\0octet\0", 1),
            (b"\0\x01//snponly.efi\0octet\0", 1),
            (b"\0\x01link\0octet\0", 2),
            (b"\0\x02snponly.efi\0octet\0", 2),
            (b"\0\x01snponly.efi\0mail\0", 4),
        ] {
            let (_, answer, _) = ask(address, request).await;
            assert_eq!(answer[..4], [0, 5, 0, code], "{request:?}: {answer:?}");
        }
        // nobody answers these; the next one shows that they were heard
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for malformed in [b"".as_slice(), b"\0\x01f", b"\xff\xff", b"\0\x04\0\x01"] {
            client.send_to(malformed, address).await.unwrap();
        }
        let (client, granted, transfer) = ask(address, b"\0\x01/snponly.efi\0octet\0tsize\x000\0").await;
        assert_eq!(granted, b"\0\x06tsize\x006\0");
        assert_ne!(transfer.port(), address.port());
        client.send_to(b"\0\x04\0\0", transfer).await.unwrap();
        let mut buffer = [0; LONGEST_DATAGRAM];
        let length = client.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"\0\x03\0\x01loader");
        client.send_to(b"\0\x04\0\x01", transfer).await.unwrap();
        while counters.of(Outcome::TftpSent) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(counters.of(Outcome::TftpMalformed), 4);
        assert_eq!(counters.of(Outcome::TftpRefused), 6);

        let (mut told, mut limited) = (0, 0);
        while limited == 0 {
            client.send_to(b"\0\x02f\0octet\0", address).await.unwrap();
            tokio::task::yield_now().await;
            told += 1;
            limited = counters.of(Outcome::TftpLimited);
        }
        assert!(told >= REQUESTS_PER_MINUTE - 7, "{told}");
        serving.abort();
    }
}
