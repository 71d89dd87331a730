//! The coordinator as the other end of a network test: asks it for a server, by the token of the run.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use vetting_protocol::ids::RunId;
use vetting_protocol::network_test::{NetworkTestAnswer, NetworkTestRequest};
use vetting_protocol::secret::Secret;
use vetting_protocol::stick::Proxy;

use super::Timing;
use super::backoff::Backoff;
use super::client::Client;
use crate::boot_parameters::{CaPin, Endpoint};
use crate::cancel::Cancel;
use crate::console::chain;
use crate::counterpart::{Counterpart, NoCounterpart, TestServer, Way};

/// Longest wait for an answer on a way.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest pause that the coordinator may ask for.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How often the cancel is looked at in a pause.
const LOOK: Duration = Duration::from_millis(100);

/// The coordinator of one run.
#[derive(Debug, Clone)]
pub struct CoordinatorEnd {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its CA.
    pub pin: CaPin,
    /// The way to it.
    pub proxy: Option<Proxy>,
    /// The run.
    pub run: RunId,
    /// The run's token.
    pub token: Secret,
    /// Pauses between attempts.
    pub timing: Timing,
}

impl CoordinatorEnd {
    fn resolve(&self, port: u16) -> Result<Vec<SocketAddr>, NoCounterpart> {
        let host = self.endpoint.host.as_str();
        let unavailable = |why: String| NoCounterpart::Unavailable {
            reason: format!("the address of the coordinator {host} is not known: {why}"),
        };
        let found: Vec<SocketAddr> =
            (host, port).to_socket_addrs().map_err(|error| unavailable(error.to_string()))?.collect();
        if found.is_empty() { Err(unavailable("its name has none".to_owned())) } else { Ok(found) }
    }

    async fn ask(
        &self,
        client: &Client,
        test: Duration,
        cancel: &Cancel,
    ) -> Result<TestServer, NoCounterpart> {
        let request = NetworkTestRequest { duration_ms: u64::try_from(test.as_millis()).unwrap_or(u64::MAX) };
        let mut backoff = Backoff::new(self.timing.first_retry, self.timing.longest_retry);
        loop {
            let pause = match client.network_test(self.run, &self.token, &request).await {
                Ok(NetworkTestAnswer::Server { port, link_mbps }) => {
                    return Ok(TestServer { addresses: self.resolve(port)?, link_mbps });
                }
                Ok(NetworkTestAnswer::SwitchedOff {}) => {
                    let reason =
                        "the network test is switched off (network_test.enabled in the coordinator's config)";
                    return Err(NoCounterpart::NotOffered { reason: reason.to_owned() });
                }
                Ok(NetworkTestAnswer::Unavailable { reason }) => {
                    return Err(NoCounterpart::Unavailable { reason });
                }
                Ok(NetworkTestAnswer::Busy { retry_ms }) => {
                    Duration::from_millis(retry_ms).min(LONGEST_PAUSE)
                }
                Err(error) if error.is_transient() => backoff.next(),
                Err(error) => return Err(NoCounterpart::Unavailable { reason: chain(&error) }),
            };
            let until = tokio::time::Instant::now() + pause;
            while tokio::time::Instant::now() < until {
                if cancel.is_raised() {
                    return Err(NoCounterpart::Cancelled);
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

impl Counterpart for CoordinatorEnd {
    fn addresses(&self) -> Result<Vec<SocketAddr>, NoCounterpart> {
        self.resolve(self.endpoint.port)
    }

    fn answers(&self, way: &Way, at: SocketAddr) -> bool {
        let answered = || -> std::io::Result<()> {
            let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
            socket.bind_device(Some(way.interface.as_bytes()))?;
            socket.bind(&SocketAddr::new(way.source, 0).into())?;
            socket.connect_timeout(&at.into(), ANSWER)
        };
        answered().is_ok()
    }

    fn open(&self, test: Duration, cancel: &Cancel) -> Result<TestServer, NoCounterpart> {
        let unavailable = |reason: String| NoCounterpart::Unavailable { reason };
        // a connection belongs to the runtime it was made in
        let client = Client::new(self.endpoint.clone(), self.pin, self.proxy.as_ref())
            .map_err(|error| unavailable(chain(&error)))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unavailable(chain(&error)))?;
        runtime.block_on(self.ask(&client, test, cancel))
    }
}
