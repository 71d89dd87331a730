//! Table `notifications`: what receivers outside are still to be told, and lately were.

use rusqlite::{Row, params};
use vetting_protocol::housekeeping::NotificationState;

use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;

/// A message for a receiver.
#[derive(Debug, Clone, PartialEq)]
pub struct NotificationValues {
    /// Its name in the configuration.
    pub receiver: String,
    /// What happened; absent for a test.
    pub event_id: Option<i64>,
    /// The message, as its sender reads it.
    pub message: serde_json::Value,
}

/// A message, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct NotificationRow {
    /// Key.
    pub id: i64,
    /// The message.
    pub values: NotificationValues,
    /// What became of it.
    pub state: NotificationState,
    /// Ms since the epoch.
    pub created_at_ms: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, ms since the epoch.
    pub next_attempt_ms: i64,
    /// Why the last attempt did not succeed.
    pub last_error: Option<String>,
}

const INSERT: &str =
    "INSERT INTO notifications (receiver, event_id, state, message_json, created_at, next_attempt_ms)
     VALUES (?1, ?2, 'pending', ?3, ?4, ?5) ON CONFLICT (receiver, event_id) DO NOTHING";
const NEXT: &str = "SELECT * FROM notifications WHERE receiver = ?1 AND state = 'pending' AND
     (next_attempt_ms <= ?2 OR next_attempt_ms > ?3) ORDER BY id LIMIT 1";
const SET: &str =
    "UPDATE notifications SET state = ?2, attempts = attempts + 1, next_attempt_ms = ?3, last_error = ?4,
     finished_at = ?5 WHERE id = ?1 AND state = 'pending'";
const RETRY: &str =
    "UPDATE notifications SET state = 'pending', created_at = ?2, next_attempt_ms = ?3, finished_at = NULL
     WHERE state = 'failed' AND (?1 IS NULL OR receiver = ?1)";
const HASTEN: &str = "UPDATE notifications SET next_attempt_ms = ?2
     WHERE state = 'pending' AND attempts > 0 AND (?1 IS NULL OR receiver = ?1)";
const COUNTS: &str = "SELECT receiver, sum(state = 'pending'), sum(state = 'failed') FROM notifications
     GROUP BY receiver ORDER BY receiver";
const LATEST: &str = "SELECT * FROM notifications
     WHERE (state = 'delivered') > ?1 OR ((state = 'delivered') = ?1 AND id < ?2)
     ORDER BY state = 'delivered', id DESC LIMIT ?3";
const FORGET_OLD: &str = "DELETE FROM notifications WHERE state <> 'pending' AND finished_at < ?1";
const FORGET_MANY: &str =
    "DELETE FROM notifications WHERE state <> 'pending' AND id <= (SELECT id FROM notifications
     WHERE state <> 'pending' ORDER BY id DESC LIMIT 1 OFFSET ?1)";
const PUSH_OUT: &str = "UPDATE notifications SET state = 'failed', finished_at = ?3,
     last_error = COALESCE(last_error, 'never tried') || '; pushed out by newer ones'
     WHERE receiver = ?1 AND state = 'pending' AND id <= (SELECT id FROM notifications
     WHERE receiver = ?1 AND state = 'pending' ORDER BY id DESC LIMIT 1 OFFSET ?2)";

fn notification(row: &Row<'_>) -> Result<NotificationRow, StoreError> {
    Ok(NotificationRow {
        id: row.get("id")?,
        values: NotificationValues {
            receiver: row.get("receiver")?,
            event_id: row.get("event_id")?,
            message: row::json(row, ("notifications", "message_json"))?,
        },
        state: row::parsed(row, ("notifications", "state"))?,
        created_at_ms: row::time(row, ("notifications", "created_at"))?,
        attempts: row::integer(row, ("notifications", "attempts"))?,
        next_attempt_ms: row.get("next_attempt_ms")?,
        last_error: row.get("last_error")?,
    })
}

/// Notes a message to be sent at once. The same event for the same receiver again is no second message.
pub fn insert(connection: &Connection, values: &NotificationValues, now_ms: i64) -> Result<(), StoreError> {
    connection.prepare_cached(INSERT)?.execute(params![
        values.receiver,
        values.event_id,
        values.message.to_string(),
        timestamp_text(now_ms)?,
        now_ms
    ])?;
    Ok(())
}

/// The oldest message that a receiver is to be told now. One whose time is later than `latest_ms` was set by a clock that
/// was corrected since, and is due.
pub fn next(
    connection: &Connection,
    receiver: &str,
    now_ms: i64,
    latest_ms: i64,
) -> Result<Option<NotificationRow>, StoreError> {
    let mut statement = connection.prepare_cached(NEXT)?;
    statement.query_and_then(params![receiver, now_ms, latest_ms], notification)?.next().transpose()
}

/// An attempt came to its end; one that stays pending is tried again at `next_attempt_ms`.
pub fn attempted(
    connection: &Connection,
    id: i64,
    state: NotificationState,
    next_attempt_ms: i64,
    error: Option<&str>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let finished_at = match state {
        NotificationState::Pending => None,
        NotificationState::Delivered | NotificationState::Failed => Some(timestamp_text(now_ms)?),
    };
    let values = params![id, state.as_str(), next_attempt_ms, error, finished_at];
    connection.prepare_cached(SET)?.execute(values)?;
    Ok(())
}

/// Has failed messages tried again, and pending ones at once; of one receiver or of all. Says how many had failed.
pub fn retry(connection: &Connection, receiver: Option<&str>, now_ms: i64) -> Result<u64, StoreError> {
    connection.prepare_cached(HASTEN)?.execute(params![receiver, now_ms])?;
    let values = params![receiver, timestamp_text(now_ms)?, now_ms];
    Ok(connection.prepare_cached(RETRY)?.execute(values)? as u64)
}

/// How many are pending and how many failed, by receiver.
pub fn counts(connection: &Connection) -> Result<Vec<(String, u64, u64)>, StoreError> {
    let mut statement = connection.prepare_cached(COUNTS)?;
    let counted = statement.query_map([], |row| {
        let (receiver, pending, failed): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((receiver, pending.unsigned_abs(), failed.unsigned_abs()))
    })?;
    Ok(counted.collect::<Result<_, _>>()?)
}

/// Where a list of messages goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Beyond what is pending or failed.
    pub delivered: bool,
    /// Only older ones than this.
    pub before: i64,
}

/// So many messages from there: first what is pending or failed, then what was delivered; the newest first.
pub fn latest(connection: &Connection, from: Place, limit: u32) -> Result<Vec<NotificationRow>, StoreError> {
    let values = params![from.delivered, from.before, limit];
    connection.prepare_cached(LATEST)?.query_and_then(values, notification)?.collect()
}

/// Forgets what was done before `before_ms`, and all but the newest `most` of what is done.
pub fn forget(connection: &Connection, before_ms: i64, most: u32) -> Result<(), StoreError> {
    connection.prepare_cached(FORGET_OLD)?.execute([timestamp_text(before_ms)?])?;
    connection.prepare_cached(FORGET_MANY)?.execute([most])?;
    Ok(())
}

/// Gives up the oldest pending messages of a receiver beyond the newest `most`; says how many.
pub fn push_out(connection: &Connection, receiver: &str, most: u32, now_ms: i64) -> Result<u64, StoreError> {
    let values = params![receiver, most, timestamp_text(now_ms)?];
    Ok(connection.prepare_cached(PUSH_OUT)?.execute(values)? as u64)
}
