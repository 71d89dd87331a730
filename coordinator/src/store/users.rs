//! Table `users`: people who may log in to the web page. Only argon2id hashes of their passwords are here.

use rusqlite::{Row, named_params, params};
use vetting_protocol::users::Role;

use super::{Connection, StoreError, row, user_sessions};
use crate::clock::timestamp_text;

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// Key.
    pub id: i64,
    /// Unique.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// PHC form.
    pub password_hash: String,
    /// Ms since the epoch.
    pub created_at_ms: i64,
    /// Ms since the epoch.
    pub password_set_at_ms: i64,
    /// Ms since the epoch; absent while never.
    pub last_login_at_ms: Option<i64>,
    /// Ms since the epoch; absent while they may log in.
    pub disabled_at_ms: Option<i64>,
}

/// A new person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserValues {
    /// Unique.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// PHC form.
    pub password_hash: String,
}

/// Changes to a person: what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserChange {
    /// What they may do from now on.
    pub role: Option<Role>,
    /// PHC form.
    pub password_hash: Option<String>,
    /// Whether they are kept out.
    pub disabled: Option<bool>,
}

const INSERT: &str = "INSERT INTO users (name, role, password_hash, created_at, password_set_at)
     VALUES (:name, :role, :hash, :now, :now)";
const BY_NAME: &str = "SELECT * FROM users WHERE name = ?1";
const LIST: &str = "SELECT * FROM users ORDER BY name";
const SET_ROLE: &str = "UPDATE users SET role = ?2 WHERE id = ?1";
const SET_PASSWORD: &str = "UPDATE users SET password_hash = ?2, password_set_at = ?3 WHERE id = ?1";
const DISABLE: &str = "UPDATE users SET disabled_at = COALESCE(disabled_at, ?2) WHERE id = ?1";
const ENABLE: &str = "UPDATE users SET disabled_at = NULL WHERE id = ?1";
const LOGGED_IN: &str = "UPDATE users SET last_login_at = ?2 WHERE id = ?1";

pub(super) fn user(row: &Row<'_>) -> Result<UserRow, StoreError> {
    Ok(UserRow {
        id: row.get("id")?,
        name: row.get("name")?,
        role: row::parsed(row, ("users", "role"))?,
        password_hash: row.get("password_hash")?,
        created_at_ms: row::time(row, ("users", "created_at"))?,
        password_set_at_ms: row::time(row, ("users", "password_set_at"))?,
        last_login_at_ms: row::time_or_null(row, ("users", "last_login_at"))?,
        disabled_at_ms: row::time_or_null(row, ("users", "disabled_at"))?,
    })
}

/// Adds a person.
///
/// # Errors
/// [`StoreError::Conflict`] if the name was used before, also by a disabled one.
pub fn create(connection: &Connection, values: &UserValues, now_ms: i64) -> Result<UserRow, StoreError> {
    if find(connection, &values.name)?.is_some() {
        return Err(StoreError::conflict(format!(
            "a user named {} exists already, perhaps a disabled one",
            values.name
        )));
    }
    connection.prepare_cached(INSERT)?.execute(named_params! {
        ":name": values.name,
        ":role": values.role.as_str(),
        ":hash": values.password_hash,
        ":now": timestamp_text(now_ms)?,
    })?;
    require(connection, &values.name)
}

/// A person by name, disabled or not.
pub fn find(connection: &Connection, name: &str) -> Result<Option<UserRow>, StoreError> {
    connection.prepare_cached(BY_NAME)?.query_and_then([name], user)?.next().transpose()
}

/// A person by name.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn require(connection: &Connection, name: &str) -> Result<UserRow, StoreError> {
    find(connection, name)?.ok_or_else(|| StoreError::not_found(format!("user named {name}")))
}

/// Every person, by name.
pub fn list(connection: &Connection) -> Result<Vec<UserRow>, StoreError> {
    connection.prepare_cached(LIST)?.query_and_then([], user)?.collect()
}

/// Changes a person. A new password and a disabling end every session of theirs.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn change(
    connection: &Connection,
    name: &str,
    change: &UserChange,
    now_ms: i64,
) -> Result<UserRow, StoreError> {
    let (id, now) = (require(connection, name)?.id, timestamp_text(now_ms)?);
    if let Some(role) = change.role {
        connection.prepare_cached(SET_ROLE)?.execute(params![id, role.as_str()])?;
    }
    if let Some(hash) = &change.password_hash {
        connection.prepare_cached(SET_PASSWORD)?.execute(params![id, hash, now])?;
    }
    match change.disabled {
        Some(true) => connection.prepare_cached(DISABLE)?.execute(params![id, now])?,
        Some(false) => connection.prepare_cached(ENABLE)?.execute([id])?,
        None => 0,
    };
    if change.password_hash.is_some() || change.disabled == Some(true) {
        user_sessions::end_all_of(connection, id)?;
    }
    require(connection, name)
}

/// Notes a log-in.
pub fn logged_in(connection: &Connection, id: i64, now_ms: i64) -> Result<(), StoreError> {
    connection.prepare_cached(LOGGED_IN)?.execute(params![id, timestamp_text(now_ms)?])?;
    Ok(())
}
