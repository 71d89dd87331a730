//! The network test: a machine under test asks the coordinator for something to exchange data with.
//!
//! `POST /agent/v1/runs/{run}/network-test` with the bearer token of the run. One server is opened for one test, and is
//! gone after it.

use serde::{Deserialize, Serialize};

/// Asks for a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkTestRequest {
    /// How long the test will take once it has begun, milliseconds.
    pub duration_ms: u64,
}

/// Longest test that a server is opened for, milliseconds: seven days.
pub const LONGEST_NETWORK_TEST_MS: u64 = 7 * 24 * 3_600_000;

/// What becomes of the question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "network_test", rename_all = "snake_case", deny_unknown_fields)]
pub enum NetworkTestAnswer {
    /// The coordinator's config says that there is no such test.
    SwitchedOff {},
    /// There should be a server, and there is none.
    Unavailable {
        /// Why, and what to do.
        reason: String,
    },
    /// Every port is in use: ask again.
    Busy {
        /// After so long, milliseconds.
        retry_ms: u64,
    },
    /// An iperf3 server waits for one test.
    Server {
        /// Its TCP port, at the addresses of the agent API.
        port: u16,
        /// Speed of the coordinator's own link, Mbit/s; absent where its driver does not say. No test is faster.
        link_mbps: Option<u32>,
    },
}
