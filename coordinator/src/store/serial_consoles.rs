//! Table `host_serial_consoles`: where the serial line of a host can be had.

use rusqlite::{OptionalExtension as _, params};
use vetting_protocol::ids::HostId;

use super::{Connection, StoreError};
use crate::serial_console::SerialConsole;

const GET: &str = "SELECT console FROM host_serial_consoles WHERE host_id = ?1";
const SET: &str = "INSERT INTO host_serial_consoles (host_id, console) VALUES (?1, ?2)
     ON CONFLICT (host_id) DO UPDATE SET console = excluded.console";
const CLEAR: &str = "DELETE FROM host_serial_consoles WHERE host_id = ?1";

/// The serial line of a host, if it has one.
///
/// # Errors
/// [`StoreError::UnknownText`] for a text that no version of this program wrote.
pub fn get(connection: &Connection, host: HostId) -> Result<Option<SerialConsole>, StoreError> {
    let found: Option<String> =
        connection.prepare_cached(GET)?.query_row([host.0], |row| row.get(0)).optional()?;
    found
        .map(|text| {
            text.parse().map_err(|_| StoreError::UnknownText {
                table: "host_serial_consoles",
                column: "console",
                found: text,
            })
        })
        .transpose()
}

/// Sets the serial line of a host, or takes it away.
pub fn set(connection: &Connection, host: HostId, console: Option<&SerialConsole>) -> Result<(), StoreError> {
    match console {
        Some(console) => connection.prepare_cached(SET)?.execute(params![host.0, console.to_string()])?,
        None => connection.prepare_cached(CLEAR)?.execute([host.0])?,
    };
    Ok(())
}
