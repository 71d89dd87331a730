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
    pub(super) interface: Interface,
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
