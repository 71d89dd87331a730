//! The words that agent, coordinator and judge share on the wire: plain serde types.
//!
//! Owns every name that crosses the network or the database in text form. Does no I/O, reads no clock,
//! and knows nothing of SQL, HTTP or the machine. Times are milliseconds since the Unix epoch, UTC.

pub mod agent_api;
pub mod crash;
pub mod diff;
pub mod endpoint;
pub mod enrolment;
pub mod erasure;
pub mod exchange;
pub mod firmware;
pub mod host_mode;
pub mod housekeeping;
pub mod ids;
pub mod inventory;
pub mod limit;
pub mod measurement;
pub mod memtest;
pub mod models;
pub mod network_test;
pub mod operator_api;
pub mod outcome;
pub mod plan;
pub mod power;
pub mod problem;
pub mod profile;
pub mod queue;
pub mod results;
pub mod run;
pub mod secret;
pub mod stick;
pub mod users;

#[cfg(feature = "schema")]
#[doc(hidden)]
pub use schemars;

/// Version of the agent API. The coordinator refuses a claim from an agent that speaks another one,
/// so an old image can never report to a new coordinator half understood.
pub const PROTOCOL_VERSION: u32 = 4;
