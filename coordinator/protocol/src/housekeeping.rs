//! What operators ask of the janitor and of notifications.

use serde::{Deserialize, Serialize};

use crate::ids::{RunId, named_enum};

/// Asks for a sweep now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SweepOrder {
    /// Only tell what would go.
    #[serde(default)]
    pub dry_run: bool,
    /// Also remove files that no row knows.
    #[serde(default)]
    pub orphans: bool,
}

/// What a sweep did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SweepView {
    /// Nothing was removed.
    pub dry_run: bool,
    /// `artifacts.retention_days`; absent: kept for ever.
    pub artifacts_days: Option<u32>,
    /// `logs.retention_days`; absent: kept for ever.
    pub logs_days: Option<u32>,
    /// Files of runs that are old enough.
    pub removed: Vec<RemovedFile>,
    /// Files that no row knows.
    pub orphans: Vec<OrphanFile>,
    /// What was left alone, and why.
    pub problems: Vec<String>,
}

/// A file of a run that is old enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RemovedFile {
    /// Whose.
    pub run: RunId,
    /// `report`, `tool_output`, ….
    pub kind: String,
    /// Absolute path on the coordinator's box.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// A file that no row knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OrphanFile {
    /// Absolute path on the coordinator's box.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Whether it goes, or went.
    pub removed: bool,
}

named_enum! {
    /// What became of a notification.
    NotificationState, "pending, delivered or failed" {
        /// It is sent as soon as the receiver takes it.
        Pending = "pending",
        /// The receiver took it.
        Delivered = "delivered",
        /// Given up after a long time, or pushed out by newer ones.
        Failed = "failed",
    }
}

/// Receivers, and the newest of what they are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NotificationsView {
    /// Those of the configuration, and those that it no longer has but something is left for.
    pub receivers: Vec<ReceiverView>,
    /// What is pending or failed, and the newest of what was delivered; the newest first.
    pub notifications: Vec<NotificationView>,
}

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReceiverView {
    /// Its name in the configuration.
    pub name: String,
    /// `webhook`, `ntfy`, `smtp`; `none` where the configuration no longer has it.
    pub by: String,
    /// How many wait.
    pub pending: u64,
    /// How many were given up.
    pub failed: u64,
}

/// One message to one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NotificationView {
    /// Key; the same in each attempt.
    pub id: i64,
    /// To whom.
    pub receiver: String,
    /// What became of it.
    pub state: NotificationState,
    /// Its first line.
    pub title: String,
    /// UTC.
    pub created_at: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again, UTC; of one that waits.
    pub next_attempt_at: Option<String>,
    /// Why the last attempt did not succeed.
    pub last_error: Option<String>,
}

/// Failed ones that are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RetriedView {
    /// How many.
    pub retried: u64,
}
