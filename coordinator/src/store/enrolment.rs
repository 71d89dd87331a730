//! Tables `enrolment_tokens` and `enrolments`: what lets machines in, and who waits.
//!
//! Only hashes of tokens and tickets are here. Refuses to hold more waiting machines than a person could look
//! through: anyone on the network can ask.

use rusqlite::{OptionalExtension as _, Row, params};
use vetting_protocol::enrolment::Identity;
use vetting_protocol::ids::{HostId, MacAddress, Sha256Hex};
use vetting_protocol::named_enum;
use vetting_protocol::profile::ProfileName;

use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;

/// Most machines that wait, or were turned away, at a time.
pub const MAX_ENROLMENTS: u32 = 200;
/// Most of them from one address.
pub const MAX_FROM_ONE_ADDRESS: u32 = 32;

/// What an enrolment token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenValues {
    /// Machines it may register.
    pub uses_allowed: u32,
    /// Names of its machines.
    pub name_pattern: String,
    /// Their expected spec, checked already; empty for none.
    pub expected_spec_yaml: String,
    /// The run that it starts.
    pub start_profile: Option<ProfileName>,
    /// Ms since the epoch.
    pub expires_at_ms: i64,
}

/// An enrolment token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Key.
    pub id: i64,
    /// What it is good for.
    pub values: TokenValues,
    /// Machines it has registered.
    pub uses: u32,
    /// Ms since the epoch.
    pub created_at_ms: i64,
    /// Ms since the epoch; absent while it is not revoked.
    pub revoked_at_ms: Option<i64>,
}

named_enum! {
    /// What was decided of a machine that asked.
    EnrolmentState, "a state of an enrolment" {
        /// Nothing yet.
        Waiting = "waiting",
        /// It was taken in.
        Accepted = "accepted",
        /// It was turned away.
        Rejected = "rejected",
    }
}

/// A machine that asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentRow {
    /// Key.
    pub id: i64,
    /// What its console shows.
    pub code: String,
    /// What was decided.
    pub state: EnrolmentState,
    /// The host it became.
    pub host_id: Option<HostId>,
    /// Who it says it is; cleaned.
    pub identity: Identity,
    /// Whence it asks.
    pub address: String,
    /// What an operator should know.
    pub note: Option<String>,
    /// Ms since the epoch.
    pub created_at_ms: i64,
    /// Ms since the epoch.
    pub last_seen_at_ms: i64,
}

/// A machine that asks for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEnrolment {
    /// Unique.
    pub code: String,
    /// Of the ticket.
    pub ticket_hash: Sha256Hex,
    /// Cleaned.
    pub identity: Identity,
    /// The card it is known by while it waits, and afterwards if it is turned away.
    pub card: MacAddress,
    /// Whence it asks.
    pub address: String,
    /// What an operator should know.
    pub note: Option<String>,
}

const INSERT_TOKEN: &str = "INSERT INTO enrolment_tokens
     (token_hash, uses_allowed, name_pattern, expected_spec_yaml, start_profile, created_at, expires_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const TOKEN: &str = "SELECT * FROM enrolment_tokens WHERE id = ?1";
const TOKEN_BY_HASH: &str = "SELECT * FROM enrolment_tokens WHERE token_hash = ?1";
const TOKENS: &str = "SELECT * FROM enrolment_tokens ORDER BY id";
const USE_TOKEN: &str = "UPDATE enrolment_tokens SET uses = uses + 1
     WHERE id = ?1 AND uses < uses_allowed AND revoked_at IS NULL AND expires_at > ?2";
const REVOKE_TOKEN: &str = "UPDATE enrolment_tokens SET revoked_at = COALESCE(revoked_at, ?2) WHERE id = ?1";

const INSERT: &str = "INSERT INTO enrolments
     (code, ticket_hash, state, identity_json, mac, address, note, created_at, last_seen_at)
     VALUES (?1, ?2, 'waiting', ?3, ?4, ?5, ?6, ?7, ?7)";
const BY_TICKET: &str = "SELECT * FROM enrolments WHERE ticket_hash = ?1";
const BY_CODE: &str = "SELECT * FROM enrolments WHERE code = ?1 AND state = 'waiting'";
const CODE_IN_USE: &str = "SELECT 1 FROM enrolments WHERE code = ?1";
const WAITING: &str = "SELECT * FROM enrolments WHERE state = 'waiting' ORDER BY id";
const COUNT: &str =
    "SELECT COUNT(*), COALESCE(SUM(address = ?1), 0) FROM enrolments WHERE state <> 'accepted'";
const SEEN: &str = "UPDATE enrolments SET last_seen_at = ?2, address = ?3 WHERE id = ?1";
const DECIDE: &str = "UPDATE enrolments SET state = ?2, host_id = ?3 WHERE id = ?1 AND state = 'waiting'";
const TURNED_AWAY: &str =
    "SELECT 1 FROM enrolments WHERE state = 'rejected' AND mac = ?1 AND last_seen_at > ?2";
const SWEEP: &str = "DELETE FROM enrolments
     WHERE (state = 'waiting' AND (last_seen_at <= ?1 OR created_at <= ?2)) OR last_seen_at <= ?2";

fn token(row: &Row<'_>) -> Result<TokenRow, StoreError> {
    Ok(TokenRow {
        id: row.get("id")?,
        values: TokenValues {
            uses_allowed: row::integer(row, ("enrolment_tokens", "uses_allowed"))?,
            name_pattern: row.get("name_pattern")?,
            expected_spec_yaml: row.get("expected_spec_yaml")?,
            start_profile: row::parsed_or_null(row, ("enrolment_tokens", "start_profile"))?,
            expires_at_ms: row::time(row, ("enrolment_tokens", "expires_at"))?,
        },
        uses: row::integer(row, ("enrolment_tokens", "uses"))?,
        created_at_ms: row::time(row, ("enrolment_tokens", "created_at"))?,
        revoked_at_ms: row::time_or_null(row, ("enrolment_tokens", "revoked_at"))?,
    })
}

/// Notes a new token by its hash.
pub fn create_token(
    connection: &Connection,
    token_hash: Sha256Hex,
    values: &TokenValues,
    now_ms: i64,
) -> Result<TokenRow, StoreError> {
    let id = connection.prepare_cached(INSERT_TOKEN)?.insert(params![
        token_hash.to_string(),
        values.uses_allowed,
        values.name_pattern,
        values.expected_spec_yaml,
        values.start_profile.map(ProfileName::as_str),
        timestamp_text(now_ms)?,
        timestamp_text(values.expires_at_ms)?,
    ])?;
    get_token(connection, id)
}

fn get_token(connection: &Connection, id: i64) -> Result<TokenRow, StoreError> {
    let mut statement = connection.prepare_cached(TOKEN)?;
    statement
        .query_and_then([id], token)?
        .next()
        .unwrap_or_else(|| Err(StoreError::not_found(format!("enrolment token {id}"))))
}

/// Every token, oldest first.
pub fn tokens(connection: &Connection) -> Result<Vec<TokenRow>, StoreError> {
    connection.prepare_cached(TOKENS)?.query_and_then([], token)?.collect()
}

/// The token with this hash, good or not.
pub fn find_token(connection: &Connection, token_hash: Sha256Hex) -> Result<Option<TokenRow>, StoreError> {
    connection
        .prepare_cached(TOKEN_BY_HASH)?
        .query_and_then([token_hash.to_string()], token)?
        .next()
        .transpose()
}

/// Takes one use of a token; `false` if it has none left, has expired or is revoked.
pub fn use_token(connection: &Connection, id: i64, now_ms: i64) -> Result<bool, StoreError> {
    Ok(connection.prepare_cached(USE_TOKEN)?.execute(params![id, timestamp_text(now_ms)?])? == 1)
}

/// Makes a token worthless. Once more is no error: the first time stays.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn revoke_token(connection: &Connection, id: i64, now_ms: i64) -> Result<TokenRow, StoreError> {
    connection.prepare_cached(REVOKE_TOKEN)?.execute(params![id, timestamp_text(now_ms)?])?;
    get_token(connection, id)
}

fn enrolment(row: &Row<'_>) -> Result<EnrolmentRow, StoreError> {
    Ok(EnrolmentRow {
        id: row.get("id")?,
        code: row.get("code")?,
        state: row::parsed(row, ("enrolments", "state"))?,
        host_id: row.get::<_, Option<i64>>("host_id")?.map(HostId),
        identity: row::json(row, ("enrolments", "identity_json"))?,
        address: row.get("address")?,
        note: row.get("note")?,
        created_at_ms: row::time(row, ("enrolments", "created_at"))?,
        last_seen_at_ms: row::time(row, ("enrolments", "last_seen_at"))?,
    })
}

/// Notes a machine that asks for the first time. `None` when too many wait.
///
/// # Errors
/// [`StoreError::Conflict`] if the code is in use; make another.
pub fn insert(
    connection: &Connection,
    new: &NewEnrolment,
    now_ms: i64,
) -> Result<Option<EnrolmentRow>, StoreError> {
    let (all, from_there): (u32, u32) =
        connection.prepare_cached(COUNT)?.query_row([&new.address], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if all >= MAX_ENROLMENTS || from_there >= MAX_FROM_ONE_ADDRESS {
        return Ok(None);
    }
    let in_use: Option<i64> =
        connection.prepare_cached(CODE_IN_USE)?.query_row([&new.code], |row| row.get(0)).optional()?;
    if in_use.is_some() {
        return Err(StoreError::conflict(format!("the code {} is in use", new.code)));
    }
    let identity = serde_json::to_string(&new.identity)
        .map_err(|error| StoreError::conflict(format!("an identity has no text: {error}")))?;
    connection.prepare_cached(INSERT)?.execute(params![
        new.code,
        new.ticket_hash.to_string(),
        identity,
        new.card.to_string(),
        new.address,
        new.note,
        timestamp_text(now_ms)?,
    ])?;
    by_ticket(connection, new.ticket_hash)
}

/// The machine that holds this ticket.
pub fn by_ticket(connection: &Connection, ticket: Sha256Hex) -> Result<Option<EnrolmentRow>, StoreError> {
    connection.prepare_cached(BY_TICKET)?.query_and_then([ticket.to_string()], enrolment)?.next().transpose()
}

/// The waiting machine that shows this code.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn by_code(connection: &Connection, code: &str) -> Result<EnrolmentRow, StoreError> {
    let mut statement = connection.prepare_cached(BY_CODE)?;
    statement.query_and_then([code], enrolment)?.next().unwrap_or_else(|| {
        Err(StoreError::not_found("machine waiting with that code; `host pending` lists those that wait"))
    })
}

/// Every machine that waits, the longest first.
pub fn waiting(connection: &Connection) -> Result<Vec<EnrolmentRow>, StoreError> {
    connection.prepare_cached(WAITING)?.query_and_then([], enrolment)?.collect()
}

/// Notes that a machine still asks.
pub fn seen(connection: &Connection, id: i64, address: &str, now_ms: i64) -> Result<(), StoreError> {
    connection.prepare_cached(SEEN)?.execute(params![id, timestamp_text(now_ms)?, address])?;
    Ok(())
}

/// Notes what was decided of a waiting machine, and which host it became.
///
/// # Errors
/// [`StoreError::NotFound`] if it does not wait any more.
pub fn decide(
    connection: &Connection,
    id: i64,
    state: EnrolmentState,
    host: Option<HostId>,
) -> Result<(), StoreError> {
    let decided =
        connection.prepare_cached(DECIDE)?.execute(params![id, state.as_str(), host.map(|host| host.0)])?;
    if decided == 0 { Err(StoreError::not_found("machine waiting with that code")) } else { Ok(()) }
}

/// Whether a machine with this card was turned away since.
pub fn turned_away(connection: &Connection, mac: MacAddress, since_ms: i64) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached(TURNED_AWAY)?;
    let found: Option<i64> = statement
        .query_row(params![mac.to_string(), timestamp_text(since_ms)?], |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}

/// Removes who waits but was last heard of before `unseen_ms`, whose code is from before `codes_ms`, and what was decided
/// of machines that were last heard of before that.
pub fn sweep(connection: &Connection, unseen_ms: i64, codes_ms: i64) -> Result<usize, StoreError> {
    let removed = connection
        .prepare_cached(SWEEP)?
        .execute(params![timestamp_text(unseen_ms)?, timestamp_text(codes_ms)?])?;
    Ok(removed)
}
