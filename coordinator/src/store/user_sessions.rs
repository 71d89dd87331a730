//! Table `user_sessions`: browsers that are logged in, by the hash of their cookie.

use std::net::IpAddr;

use rusqlite::{named_params, params};
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::named_enum;

use super::users::{self, UserRow};
use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;

/// A session's use is noted at most this often, ms: a page that follows a run must not cost a commit a look.
pub const TOUCH_INTERVAL_MS: i64 = 60_000;

named_enum! {
    /// How somebody logged in.
    LoginWay, "password or proxy" {
        /// By their password.
        Password = "password",
        /// By the word of a reverse proxy.
        Proxy = "proxy",
    }
}

/// A new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionValues {
    /// Of the cookie's text.
    pub token_hash: Sha256Hex,
    /// Whose.
    pub user_id: i64,
    /// How it was begun.
    pub way: LoginWay,
    /// From where.
    pub address: IpAddr,
    /// When it ends however much it is used, ms since the epoch.
    pub expires_at_ms: i64,
}

/// A session that is good, with its person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Whose.
    pub user: UserRow,
    /// How it was begun.
    pub way: LoginWay,
    /// Ms since the epoch, to [`TOUCH_INTERVAL_MS`].
    pub last_used_at_ms: i64,
}

const INSERT: &str =
    "INSERT INTO user_sessions (token_hash, user_id, way, address, created_at, last_used_at, expires_at)
     VALUES (:hash, :user, :way, :address, :now, :now, :end)";
const VALID: &str =
    "SELECT u.*, s.way, s.last_used_at FROM user_sessions AS s JOIN users AS u ON u.id = s.user_id
     WHERE s.token_hash = ?1 AND s.expires_at > ?2 AND s.last_used_at > ?3 AND u.disabled_at IS NULL";
const TOUCH: &str = "UPDATE user_sessions SET last_used_at = ?2 WHERE token_hash = ?1";
const END: &str = "DELETE FROM user_sessions WHERE token_hash = ?1";
const END_ALL_OF: &str = "DELETE FROM user_sessions WHERE user_id = ?1";
const SWEEP: &str = "DELETE FROM user_sessions WHERE expires_at <= ?1 OR last_used_at <= ?2";

/// Begins a session, and forgets those that are over.
pub fn begin(
    connection: &Connection,
    values: &SessionValues,
    now_ms: i64,
    idle_ms: i64,
) -> Result<(), StoreError> {
    let now = timestamp_text(now_ms)?;
    connection
        .prepare_cached(SWEEP)?
        .execute(params![now, timestamp_text(now_ms.saturating_sub(idle_ms).max(0))?])?;
    connection.prepare_cached(INSERT)?.execute(named_params! {
        ":hash": values.token_hash.to_string(),
        ":user": values.user_id,
        ":way": values.way.as_str(),
        ":address": values.address.to_string(),
        ":now": now,
        ":end": timestamp_text(values.expires_at_ms)?,
    })?;
    Ok(())
}

/// The session with this hash, unless it is over, was idle for `idle_ms`, or its person is disabled. Reads only: call
/// [`touch`] when [`SessionRow::wants_touch`].
pub fn find_valid(
    connection: &Connection,
    token_hash: Sha256Hex,
    now_ms: i64,
    idle_ms: i64,
) -> Result<Option<SessionRow>, StoreError> {
    let idle_since = timestamp_text(now_ms.saturating_sub(idle_ms).max(0))?;
    let mut statement = connection.prepare_cached(VALID)?;
    statement
        .query_and_then(params![token_hash.to_string(), timestamp_text(now_ms)?, idle_since], |row| {
            Ok(SessionRow {
                user: users::user(row)?,
                way: row::parsed(row, ("user_sessions", "way"))?,
                last_used_at_ms: row::time(row, ("user_sessions", "last_used_at"))?,
            })
        })?
        .next()
        .transpose()
}

impl SessionRow {
    /// Its last use is noted too long ago.
    pub fn wants_touch(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.last_used_at_ms) >= TOUCH_INTERVAL_MS
    }
}

/// Notes a session's use.
pub fn touch(connection: &Connection, token_hash: Sha256Hex, now_ms: i64) -> Result<(), StoreError> {
    connection.prepare_cached(TOUCH)?.execute(params![token_hash.to_string(), timestamp_text(now_ms)?])?;
    Ok(())
}

/// Ends a session. One that is over is no error.
pub fn end(connection: &Connection, token_hash: Sha256Hex) -> Result<(), StoreError> {
    connection.prepare_cached(END)?.execute([token_hash.to_string()])?;
    Ok(())
}

/// Ends every session of a person.
pub(super) fn end_all_of(connection: &Connection, user_id: i64) -> Result<(), StoreError> {
    connection.prepare_cached(END_ALL_OF)?.execute([user_id])?;
    Ok(())
}
