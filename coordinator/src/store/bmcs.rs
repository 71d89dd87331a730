//! `hosts.ipmi_config_json` and `hosts.pdu_config_json`: how a machine's BMC is reached, and how its outlet is switched.
//! Hold no password, only names.

use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vetting_protocol::ids::HostId;
use vetting_protocol::power::{BmcSettings, PduSettings};

use super::{Connection, StoreError};
use crate::clock::timestamp_text;

const GET_BMC: &str = "SELECT ipmi_config_json FROM hosts WHERE id = ?1";
const SET_BMC: &str = "UPDATE hosts SET ipmi_config_json = ?2, updated_at = ?3 WHERE id = ?1";
const GET_PDU: &str = "SELECT pdu_config_json FROM hosts WHERE id = ?1";
const SET_PDU: &str = "UPDATE hosts SET pdu_config_json = ?2, updated_at = ?3 WHERE id = ?1";

fn read<T: DeserializeOwned>(
    connection: &Connection,
    host: HostId,
    sql: &str,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let text: Option<Option<String>> =
        connection.prepare_cached(sql)?.query_row([host.0], |row| row.get(0)).optional()?;
    let text = text.ok_or_else(|| StoreError::not_found(format!("host {host}")))?;
    let unknown = |found: &String| StoreError::UnknownText { table: "hosts", column, found: found.clone() };
    text.map(|text| serde_json::from_str(&text).map_err(|_| unknown(&text))).transpose()
}

fn write(
    connection: &Connection,
    host: HostId,
    sql: &str,
    settings: Option<&impl Serialize>,
    now_ms: i64,
) -> Result<(), StoreError> {
    // words and numbers always have a JSON form
    let text = settings.map(|settings| serde_json::to_string(settings).unwrap_or_default());
    let changed = connection.prepare_cached(sql)?.execute(params![host.0, text, timestamp_text(now_ms)?])?;
    if changed == 0 { Err(StoreError::not_found(format!("host {host}"))) } else { Ok(()) }
}

/// How a machine's BMC is reached; absent if it has none here.
///
/// # Errors
/// [`StoreError::NotFound`] without the host; a text that no version of this program wrote.
pub fn get(connection: &Connection, host: HostId) -> Result<Option<BmcSettings>, StoreError> {
    read(connection, host, GET_BMC, "ipmi_config_json")
}

/// Notes it; `None` takes it away.
///
/// # Errors
/// [`StoreError::NotFound`] without the host.
pub fn set(
    connection: &Connection,
    host: HostId,
    settings: Option<&BmcSettings>,
    now_ms: i64,
) -> Result<(), StoreError> {
    write(connection, host, SET_BMC, settings, now_ms)
}

/// How a machine's outlet is switched; absent if nobody told.
///
/// # Errors
/// As [`get`].
pub fn pdu(connection: &Connection, host: HostId) -> Result<Option<PduSettings>, StoreError> {
    read(connection, host, GET_PDU, "pdu_config_json")
}

/// Notes it; `None` takes it away.
///
/// # Errors
/// As [`set`].
pub fn set_pdu(
    connection: &Connection,
    host: HostId,
    settings: Option<&PduSettings>,
    now_ms: i64,
) -> Result<(), StoreError> {
    write(connection, host, SET_PDU, settings, now_ms)
}
