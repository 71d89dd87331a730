//! Table `settings`: key and value for the coordinator itself.

use rusqlite::{OptionalExtension as _, params};

use super::{Connection, StoreError};

const GET: &str = "SELECT value FROM settings WHERE key = ?1";
const SET: &str = "INSERT INTO settings (key, value) VALUES (?1, ?2)
     ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const REMOVE: &str = "DELETE FROM settings WHERE key = ?1";

/// The value of `key`, if it has one.
pub fn get(connection: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    Ok(connection.prepare_cached(GET)?.query_row([key], |row| row.get(0)).optional()?)
}

/// Gives `key` a value, in place of an earlier one.
pub fn set(connection: &Connection, key: &str, value: &str) -> Result<(), StoreError> {
    connection.prepare_cached(SET)?.execute(params![key, value])?;
    Ok(())
}

/// Takes the value of `key` away; true if it had one.
pub fn remove(connection: &Connection, key: &str) -> Result<bool, StoreError> {
    Ok(connection.prepare_cached(REMOVE)?.execute([key])? > 0)
}
