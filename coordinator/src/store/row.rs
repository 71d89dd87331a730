//! Columns to values and back. A text that no type knows is an error, never a default.

use std::str::FromStr;

use rusqlite::Row;

use super::StoreError;
use crate::clock;

/// Table and column, for the error message.
pub(super) type Column = (&'static str, &'static str);

fn unknown((table, column): Column, found: String) -> StoreError {
    StoreError::UnknownText { table, column, found }
}

/// A text column as one of the protocol's types.
pub(super) fn parsed<T: FromStr>(row: &Row<'_>, column: Column) -> Result<T, StoreError> {
    let text: String = row.get(column.1)?;
    text.parse().map_err(|_| unknown(column, text))
}

/// The same, where NULL is allowed.
pub(super) fn parsed_or_null<T: FromStr>(row: &Row<'_>, column: Column) -> Result<Option<T>, StoreError> {
    let text: Option<String> = row.get(column.1)?;
    text.map(|text| text.parse().map_err(|_| unknown(column, text))).transpose()
}

/// A time column, ms since the epoch.
pub(super) fn time(row: &Row<'_>, column: Column) -> Result<i64, StoreError> {
    let text: String = row.get(column.1)?;
    clock::timestamp_ms(&text).map_err(|_| unknown(column, text))
}

/// The same, where NULL is allowed.
pub(super) fn time_or_null(row: &Row<'_>, column: Column) -> Result<Option<i64>, StoreError> {
    let text: Option<String> = row.get(column.1)?;
    text.map(|text| clock::timestamp_ms(&text).map_err(|_| unknown(column, text))).transpose()
}

/// A JSON column.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: Column) -> Result<T, StoreError> {
    let text: String = row.get(column.1)?;
    serde_json::from_str(&text).map_err(|_| unknown(column, text))
}

/// The same, where NULL is allowed.
pub(super) fn json_or_null<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: Column,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = row.get(column.1)?;
    text.map(|text| serde_json::from_str(&text).map_err(|_| unknown(column, text))).transpose()
}

/// An integer column that must fit into a narrower or unsigned type.
pub(super) fn integer<T: TryFrom<i64>>(row: &Row<'_>, column: Column) -> Result<T, StoreError> {
    let number: i64 = row.get(column.1)?;
    T::try_from(number).map_err(|_| unknown(column, number.to_string()))
}

/// The same, where NULL is allowed.
pub(super) fn integer_or_null<T: TryFrom<i64>>(
    row: &Row<'_>,
    column: Column,
) -> Result<Option<T>, StoreError> {
    let number: Option<i64> = row.get(column.1)?;
    number.map(|number| T::try_from(number).map_err(|_| unknown(column, number.to_string()))).transpose()
}

/// An unsigned number as `SQLite` holds it.
pub(super) fn signed(number: u64, column: &'static str) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::OutOfRange { column, found: number.to_string() })
}

/// A time as the database holds it; `None` is NULL.
pub(super) fn time_text(ms: Option<i64>) -> Result<Option<String>, StoreError> {
    Ok(ms.map(clock::timestamp_text).transpose()?)
}
