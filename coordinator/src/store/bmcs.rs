//! `hosts.ipmi_config_json`: how a machine's BMC is reached. Holds no password, only its name.

use rusqlite::{OptionalExtension as _, params};
use vetting_protocol::ids::HostId;
use vetting_protocol::power::BmcSettings;

use super::{Connection, StoreError};
use crate::clock::timestamp_text;

const GET: &str = "SELECT ipmi_config_json FROM hosts WHERE id = ?1";
const SET: &str = "UPDATE hosts SET ipmi_config_json = ?2, updated_at = ?3 WHERE id = ?1";

/// How a machine's BMC is reached; absent if it has none here.
///
/// # Errors
/// [`StoreError::NotFound`] without the host; a text that no version of this program wrote.
pub fn get(connection: &Connection, host: HostId) -> Result<Option<BmcSettings>, StoreError> {
    let text: Option<Option<String>> =
        connection.prepare_cached(GET)?.query_row([host.0], |row| row.get(0)).optional()?;
    let text = text.ok_or_else(|| StoreError::not_found(format!("host {host}")))?;
    let unknown = |found: &String| StoreError::UnknownText {
        table: "hosts",
        column: "ipmi_config_json",
        found: found.clone(),
    };
    text.map(|text| serde_json::from_str(&text).map_err(|_| unknown(&text))).transpose()
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
    // words and numbers always have a JSON form
    let text = settings.map(|settings| serde_json::to_string(settings).unwrap_or_default());
    let changed = connection.prepare_cached(SET)?.execute(params![host.0, text, timestamp_text(now_ms)?])?;
    if changed == 0 { Err(StoreError::not_found(format!("host {host}"))) } else { Ok(()) }
}
