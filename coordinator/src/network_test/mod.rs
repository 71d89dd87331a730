//! Servers that machines under test exchange data with: one `iperf3 --server --one-off` for each test.
//!
//! Owns the ports of the config and the processes on them. A server is started for a run that asks with its token, takes
//! one test and is gone; one that nobody comes to is killed. Refuses to call a server there that does not listen.

mod link;
mod server;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vetting_protocol::network_test::{LONGEST_NETWORK_TEST_MS, NetworkTestAnswer, NetworkTestRequest};

use crate::config;
use crate::http::listener::Connection;
use server::{NoServer, Server};

/// When every port is in use.
const RETRY_MS: u64 = 5_000;
/// What a test may take beyond its time: until it begins, and for its last words.
const SLACK: Duration = Duration::from_mins(1);

/// The servers of this coordinator.
#[derive(Debug)]
pub struct NetworkTest {
    config: config::NetworkTest,
    /// Where servers listen; `None`: at every address.
    address: Option<IpAddr>,
    program: String,
    taken: Arc<Mutex<BTreeSet<u16>>>,
}

/// A port that is given back when this is dropped.
#[derive(Debug)]
struct Port {
    number: u16,
    taken: Arc<Mutex<BTreeSet<u16>>>,
}

impl Drop for Port {
    fn drop(&mut self) {
        lock(&self.taken).remove(&self.number);
    }
}

fn lock(taken: &Mutex<BTreeSet<u16>>) -> MutexGuard<'_, BTreeSet<u16>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NetworkTest {
    /// As configured, for servers that listen where the agent API does. Nothing is started yet.
    pub fn new(config: &config::NetworkTest, agent_api: IpAddr) -> Self {
        let address = Some(agent_api).filter(|address| !address.is_unspecified());
        Self { config: config.clone(), address, program: "iperf3".to_owned(), taken: Arc::default() }
    }

    /// Opens a server for one test.
    pub async fn open(&self, asked_by: Connection, request: &NetworkTestRequest) -> NetworkTestAnswer {
        if !self.config.enabled {
            return NetworkTestAnswer::SwitchedOff {};
        }
        let limit = Duration::from_millis(request.duration_ms.min(LONGEST_NETWORK_TEST_MS)) + SLACK;
        let mut tried = BTreeSet::new();
        while let Some(port) = self.take_port(&tried) {
            let number = port.number;
            tried.insert(number);
            match Server::start(&self.program, self.address, number).await {
                Ok(server) => {
                    let remote = asked_by.remote.ip();
                    tracing::info!(port = number, %remote, "iperf3 server started for one test");
                    tokio::spawn(async move {
                        server.serve(limit).await;
                        drop(port);
                    });
                    let link_mbps = link::speed_mbps(asked_by.local.ip().to_canonical());
                    return NetworkTestAnswer::Server { port: number, link_mbps };
                }
                // another program has it
                Err(NoServer::PortInUse) => {}
                Err(error @ (NoServer::Start { .. } | NoServer::Ended { .. } | NoServer::Silent)) => {
                    let reason = crate::error_chain(&error);
                    tracing::warn!(reason, "no iperf3 server for the network test");
                    return NetworkTestAnswer::Unavailable { reason };
                }
            }
        }
        NetworkTestAnswer::Busy { retry_ms: RETRY_MS }
    }

    /// A port that nobody was given, but for those `tried`.
    fn take_port(&self, tried: &BTreeSet<u16>) -> Option<Port> {
        let mut taken = lock(&self.taken);
        let range = self.config.ports;
        let number =
            (range.first..=range.last).find(|port| !taken.contains(port) && !tried.contains(port))?;
        taken.insert(number);
        Some(Port { number, taken: Arc::clone(&self.taken) })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::PortRange;

    fn test(enabled: bool, program: &str) -> NetworkTest {
        // of a private range: no server is started there but by tests
        let config = config::NetworkTest { enabled, ports: PortRange { first: 61_301, last: 61_302 } };
        let address = Ipv4Addr::LOCALHOST.into();
        NetworkTest { program: program.to_owned(), ..NetworkTest::new(&config, address) }
    }

    async fn open(test: &NetworkTest) -> NetworkTestAnswer {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 8443));
        let asked_by = Connection { remote: local, local };
        test.open(asked_by, &NetworkTestRequest { duration_ms: 1_000 }).await
    }

    /// A program that does what the lines say.
    fn program(folder: &tempfile::TempDir, lines: &str) -> String {
        let path = folder.path().join("iperf3");
        std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn nothing_is_started_while_it_is_off() {
        assert_eq!(open(&test(false, "/nonexistent")).await, NetworkTestAnswer::SwitchedOff {});
    }

    #[tokio::test]
    async fn a_box_without_iperf3_says_what_to_install() {
        let NetworkTestAnswer::Unavailable { reason } = open(&test(true, "/nonexistent/iperf3")).await else {
            panic!("a server that cannot be");
        };
        assert!(reason.contains("apt install iperf3") && reason.contains("network_test"), "{reason}");
    }

    #[tokio::test]
    async fn a_server_that_ends_at_once_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let broken = program(&folder, "echo 'iperf3: error - unrecognized option' >&2; exit 1");
        let NetworkTestAnswer::Unavailable { reason } = open(&test(true, &broken)).await else {
            panic!("a server that cannot be");
        };
        assert!(reason.contains("unrecognized option"), "{reason}");
    }

    #[tokio::test]
    async fn ports_are_given_once_and_then_there_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let lines = "echo \"Server listening on $4 (test #1)\"; read -r forever < /dev/zero";
        let test = test(true, &program(&folder, lines));
        let port = |answer| match answer {
            NetworkTestAnswer::Server { port, link_mbps } => (port, link_mbps),
            other => panic!("{other:?}"),
        };
        // the loopback has no speed
        assert_eq!(port(open(&test).await), (61_301, None));
        assert_eq!(port(open(&test).await), (61_302, None));
        assert_eq!(open(&test).await, NetworkTestAnswer::Busy { retry_ms: RETRY_MS });
    }

    #[tokio::test]
    async fn ports_that_another_program_has_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let in_use = "unable to start listener for connections: Address already in use";
        let test = test(true, &program(&folder, &format!("echo 'iperf3: error - {in_use}' >&2; exit 1")));
        assert_eq!(open(&test).await, NetworkTestAnswer::Busy { retry_ms: RETRY_MS });
        assert!(lock(&test.taken).is_empty());
    }
}
