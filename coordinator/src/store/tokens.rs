//! Table `operator_tokens`: what may use the operator API. Only hashes of the tokens are here.

use rusqlite::{OptionalExtension as _, Row, params};
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::users::Role;

use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;

/// A token's use is noted at most this often, ms: a busy client must not cost a commit a request.
pub const TOUCH_INTERVAL_MS: i64 = 60_000;

/// An operator's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Key.
    pub id: i64,
    /// What it is for; unique.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Ms since the epoch.
    pub created_at_ms: i64,
    /// When it ends by itself, ms since the epoch.
    pub expires_at_ms: Option<i64>,
    /// Ms since the epoch, to [`TOUCH_INTERVAL_MS`]; absent while never used.
    pub last_used_at_ms: Option<i64>,
    /// Ms since the epoch; absent while it was not revoked.
    pub revoked_at_ms: Option<i64>,
}

const BY_NAME: &str = "SELECT id FROM operator_tokens WHERE name = ?1";
const INSERT: &str = "INSERT INTO operator_tokens (name, token_hash, role, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)";
const GET: &str = "SELECT * FROM operator_tokens WHERE id = ?1";
const LIST: &str = "SELECT * FROM operator_tokens ORDER BY id";
const VALID: &str = "SELECT * FROM operator_tokens WHERE token_hash = ?1 AND revoked_at IS NULL
       AND (expires_at IS NULL OR expires_at > ?2)";
const REVOKE: &str = "UPDATE operator_tokens SET revoked_at = COALESCE(revoked_at, ?2) WHERE id = ?1";
const TOUCH: &str = "UPDATE operator_tokens SET last_used_at = ?2 WHERE id = ?1";

fn token(row: &Row<'_>) -> Result<TokenRow, StoreError> {
    Ok(TokenRow {
        id: row.get("id")?,
        name: row.get("name")?,
        role: row::parsed(row, ("operator_tokens", "role"))?,
        created_at_ms: row::time(row, ("operator_tokens", "created_at"))?,
        expires_at_ms: row::time_or_null(row, ("operator_tokens", "expires_at"))?,
        last_used_at_ms: row::time_or_null(row, ("operator_tokens", "last_used_at"))?,
        revoked_at_ms: row::time_or_null(row, ("operator_tokens", "revoked_at"))?,
    })
}

/// A new token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenValues {
    /// What it is for; unique.
    pub name: String,
    /// Of its text.
    pub token_hash: Sha256Hex,
    /// What it may do.
    pub role: Role,
    /// When it ends by itself, ms since the epoch.
    pub expires_at_ms: Option<i64>,
}

/// Notes a new token by its hash.
///
/// # Errors
/// [`StoreError::Conflict`] if the name was used before, also by a revoked one.
pub fn create(connection: &Connection, values: &TokenValues, now_ms: i64) -> Result<TokenRow, StoreError> {
    let name = &values.name;
    let taken: Option<i64> =
        connection.prepare_cached(BY_NAME)?.query_row([name], |row| row.get(0)).optional()?;
    if taken.is_some() {
        return Err(StoreError::conflict(format!(
            "a token named {name} exists already, perhaps a revoked one"
        )));
    }
    let id = connection.prepare_cached(INSERT)?.insert(params![
        name,
        values.token_hash.to_string(),
        values.role.as_str(),
        timestamp_text(now_ms)?,
        row::time_text(values.expires_at_ms)?,
    ])?;
    get(connection, id)
}

fn get(connection: &Connection, id: i64) -> Result<TokenRow, StoreError> {
    let mut statement = connection.prepare_cached(GET)?;
    statement
        .query_and_then([id], token)?
        .next()
        .unwrap_or_else(|| Err(StoreError::not_found(format!("token {id}"))))
}

/// Every token, oldest first.
pub fn list(connection: &Connection) -> Result<Vec<TokenRow>, StoreError> {
    connection.prepare_cached(LIST)?.query_and_then([], token)?.collect()
}

/// Makes a token worthless. Once more is no error: the first time stays.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn revoke(connection: &Connection, id: i64, now_ms: i64) -> Result<TokenRow, StoreError> {
    connection.prepare_cached(REVOKE)?.execute(params![id, timestamp_text(now_ms)?])?;
    get(connection, id)
}

/// The token with this hash, unless it is revoked or over. Reads only: call [`touch`] when [`TokenRow::wants_touch`].
pub fn find_valid(
    connection: &Connection,
    token_hash: Sha256Hex,
    now_ms: i64,
) -> Result<Option<TokenRow>, StoreError> {
    let mut statement = connection.prepare_cached(VALID)?;
    statement
        .query_and_then(params![token_hash.to_string(), timestamp_text(now_ms)?], token)?
        .next()
        .transpose()
}

impl TokenRow {
    /// Its last use is noted too long ago.
    pub fn wants_touch(&self, now_ms: i64) -> bool {
        self.last_used_at_ms.is_none_or(|last| now_ms.saturating_sub(last) >= TOUCH_INTERVAL_MS)
    }
}

/// Notes a token's use.
pub fn touch(connection: &Connection, id: i64, now_ms: i64) -> Result<(), StoreError> {
    connection.prepare_cached(TOUCH)?.execute(params![id, timestamp_text(now_ms)?])?;
    Ok(())
}
