//! The event log.

use serde::{Deserialize, Serialize};

use crate::agent_api::EventLevel;
use crate::ids::{HostId, RunId};

/// A line of the event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EventView {
    /// Key; ask for what came after it.
    pub id: i64,
    /// The run it belongs to.
    pub run_id: Option<RunId>,
    /// The host it belongs to.
    pub host_id: Option<HostId>,
    /// UTC with milliseconds.
    pub ts: String,
    /// How grave.
    pub level: EventLevel,
    /// A stable word.
    pub kind: String,
    /// In words.
    pub message: String,
    /// More of it.
    pub data: Option<serde_json::Value>,
}
