//! The other end of a network test: who asks for it, and what it is.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::cancel::Cancel;

/// A server that waits for one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestServer {
    /// Where it listens: one or more addresses of the same machine.
    pub addresses: Vec<SocketAddr>,
    /// Speed of its own link, Mbit/s; absent where that is not known.
    pub link_mbps: Option<u32>,
}

/// Why there is no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCounterpart {
    /// Nobody means there to be one.
    #[error("{reason}")]
    NotOffered {
        /// Who says so.
        reason: String,
    },
    /// There should be one.
    #[error("{reason}")]
    Unavailable {
        /// Why there is none, and what to do.
        reason: String,
    },
    /// The work was cancelled.
    #[error("it was cancelled")]
    Cancelled,
}

/// The way that packets are to take out of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The interface.
    pub interface: String,
    /// An address of it.
    pub source: IpAddr,
}

/// Whoever opens servers for network tests.
pub trait Counterpart: Send + Sync {
    /// Whether there will be servers, and where.
    fn addresses(&self) -> Result<Vec<SocketAddr>, NoCounterpart>;

    /// Whether it answers on this way at all.
    fn answers(&self, way: &Way, at: SocketAddr) -> bool;

    /// Has a server opened for one test of this length. Asks again while it is busy or away.
    fn open(&self, test: Duration, cancel: &Cancel) -> Result<TestServer, NoCounterpart>;
}

/// Nobody: a run without a coordinator, or a stage that is run by hand.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Nobody {
    fn refusal() -> NoCounterpart {
        NoCounterpart::NotOffered {
            reason: "there is no coordinator that would be the other end of a network test".to_owned(),
        }
    }
}

impl Counterpart for Nobody {
    fn addresses(&self) -> Result<Vec<SocketAddr>, NoCounterpart> {
        Err(Self::refusal())
    }

    fn answers(&self, _way: &Way, _at: SocketAddr) -> bool {
        false
    }

    fn open(&self, _test: Duration, _cancel: &Cancel) -> Result<TestServer, NoCounterpart> {
        Err(Self::refusal())
    }
}
