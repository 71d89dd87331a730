//! Table `hosts`.

use std::net::Ipv4Addr;

use rusqlite::{OptionalExtension as _, Row, named_params, params};
use vetting_protocol::ids::{HostId, MacAddress};

use super::identities::{self, IdentityRow};
use super::runs::{self, RunRow};
use super::{Connection, StoreError, row, serial_consoles, turns};
use crate::clock::timestamp_text;
use crate::serial_console::SerialConsole;

/// A registered machine.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRow {
    /// Key.
    pub id: HostId,
    /// Unique.
    pub name: String,
    /// Unique.
    pub mac: MacAddress,
    /// Where magic packets go.
    pub wol_broadcast_ip: Ipv4Addr,
    /// UDP port for them.
    pub wol_port: u16,
    /// YAML, as it was saved.
    pub expected_spec_yaml: String,
    /// PDU power control.
    pub pdu_config_json: Option<String>,
    /// IPMI.
    pub ipmi_config_json: Option<String>,
    /// Operator's notes.
    pub notes: String,
    /// Ms since the epoch.
    pub created_at_ms: i64,
    /// Ms since the epoch.
    pub updated_at_ms: i64,
    /// Ms since the epoch; absent while never seen.
    pub last_seen_at_ms: Option<i64>,
}

/// What an operator says of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostValues {
    /// Unique.
    pub name: String,
    /// Unique.
    pub mac: MacAddress,
    /// Where magic packets go.
    pub wol_broadcast_ip: Ipv4Addr,
    /// UDP port for them.
    pub wol_port: u16,
    /// YAML; checked already.
    pub expected_spec_yaml: String,
    /// Operator's notes.
    pub notes: String,
}

impl From<HostRow> for HostValues {
    fn from(host: HostRow) -> Self {
        Self {
            name: host.name,
            mac: host.mac,
            wol_broadcast_ip: host.wol_broadcast_ip,
            wol_port: host.wol_port,
            expected_spec_yaml: host.expected_spec_yaml,
            notes: host.notes,
        }
    }
}

/// A machine with its newest run.
#[derive(Debug, Clone, PartialEq)]
pub struct HostWithRun {
    /// The machine.
    pub host: HostRow,
    /// Its newest run, if it ever had one.
    pub latest_run: Option<RunRow>,
    /// Its cards besides the one it boots from.
    pub further_macs: Vec<MacAddress>,
    /// What was recorded of it, once it showed a UUID that tells it from others.
    pub identity: Option<IdentityRow>,
    /// Its serial line, if it has one.
    pub serial_console: Option<SerialConsole>,
    /// What it draws in its hardest stage, watts, as an operator said.
    pub burn_watts: Option<u32>,
}

const INSERT: &str =
    "INSERT INTO hosts (name, mac, wol_broadcast_ip, wol_port, expected_spec_yaml, notes, created_at, updated_at)
     VALUES (:name, :mac, :broadcast, :port, :spec, :notes, :now, :now)";
const UPDATE: &str =
    "UPDATE hosts SET name = :name, mac = :mac, wol_broadcast_ip = :broadcast, wol_port = :port,
     expected_spec_yaml = :spec, notes = :notes, updated_at = :now WHERE id = :id";
const BY_ID: &str = "SELECT * FROM hosts WHERE id = ?1";
const BY_NAME: &str = "SELECT * FROM hosts WHERE name = ?1";
const BY_MAC: &str = "SELECT * FROM hosts WHERE mac = ?1";
const PAGE: &str = "SELECT * FROM hosts WHERE name > ?1 ORDER BY name LIMIT ?2";
const SPECS: &str = "SELECT name, expected_spec_yaml FROM hosts ORDER BY name";
const DELETE: &str = "DELETE FROM hosts WHERE id = ?1";
const SEEN: &str = "UPDATE hosts SET last_seen_at = ?2 WHERE id = ?1";

fn host(row: &Row<'_>) -> Result<HostRow, StoreError> {
    Ok(HostRow {
        id: HostId(row.get("id")?),
        name: row.get("name")?,
        mac: row::parsed(row, ("hosts", "mac"))?,
        wol_broadcast_ip: row::parsed(row, ("hosts", "wol_broadcast_ip"))?,
        wol_port: row::integer(row, ("hosts", "wol_port"))?,
        expected_spec_yaml: row.get("expected_spec_yaml")?,
        pdu_config_json: row.get("pdu_config_json")?,
        ipmi_config_json: row.get("ipmi_config_json")?,
        notes: row.get("notes")?,
        created_at_ms: row::time(row, ("hosts", "created_at"))?,
        updated_at_ms: row::time(row, ("hosts", "updated_at"))?,
        last_seen_at_ms: row::time_or_null(row, ("hosts", "last_seen_at"))?,
    })
}

/// Registers a machine.
///
/// # Errors
/// [`StoreError::Conflict`] names the host that has the name or the MAC address already.
pub fn insert(connection: &Connection, values: &HostValues, now_ms: i64) -> Result<HostId, StoreError> {
    refuse_duplicate(connection, values, None)?;
    connection.prepare_cached(INSERT)?.execute(named_params! {
        ":name": values.name,
        ":mac": values.mac.to_string(),
        ":broadcast": values.wol_broadcast_ip.to_string(),
        ":port": values.wol_port,
        ":spec": values.expected_spec_yaml,
        ":notes": values.notes,
        ":now": timestamp_text(now_ms)?,
    })?;
    Ok(HostId(connection.last_insert_rowid()))
}

/// Replaces what an operator said of a machine.
///
/// # Errors
/// As [`insert`]; [`StoreError::NotFound`].
pub fn update(
    connection: &Connection,
    id: HostId,
    values: &HostValues,
    now_ms: i64,
) -> Result<(), StoreError> {
    refuse_duplicate(connection, values, Some(id))?;
    let changed = connection.prepare_cached(UPDATE)?.execute(named_params! {
        ":id": id.0,
        ":name": values.name,
        ":mac": values.mac.to_string(),
        ":broadcast": values.wol_broadcast_ip.to_string(),
        ":port": values.wol_port,
        ":spec": values.expected_spec_yaml,
        ":notes": values.notes,
        ":now": timestamp_text(now_ms)?,
    })?;
    if changed == 0 { Err(unknown_id(id)) } else { Ok(()) }
}

/// The writer is alone, so what is looked up here is still so at the insert.
fn refuse_duplicate(
    connection: &Connection,
    values: &HostValues,
    own: Option<HostId>,
) -> Result<(), StoreError> {
    if by_name(connection, &values.name)?.is_some_and(|other| Some(other.id) != own) {
        return Err(StoreError::conflict(format!("a host named {} exists already", values.name)));
    }
    match by_mac(connection, values.mac)? {
        // its own further card becomes the one it boots from only after it was removed there
        Some(other) if Some(other.id) != own || other.mac != values.mac => Err(StoreError::conflict(
            format!("host {} has the MAC address {} already", other.name, values.mac),
        )),
        Some(_) | None => Ok(()),
    }
}

fn unknown_id(id: HostId) -> StoreError {
    StoreError::not_found(format!("host {id}"))
}

/// A machine by its key.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn get(connection: &Connection, id: HostId) -> Result<HostRow, StoreError> {
    let mut statement = connection.prepare_cached(BY_ID)?;
    statement.query_and_then([id.0], host)?.next().unwrap_or_else(|| Err(unknown_id(id)))
}

/// A machine by its name.
pub fn by_name(connection: &Connection, name: &str) -> Result<Option<HostRow>, StoreError> {
    connection.prepare_cached(BY_NAME)?.query_and_then([name], host)?.next().transpose()
}

/// A machine by its name, which must exist.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn require_by_name(connection: &Connection, name: &str) -> Result<HostRow, StoreError> {
    by_name(connection, name)?.ok_or_else(|| StoreError::not_found(format!("host named {name}")))
}

/// A machine by the MAC address of any of its cards.
pub fn by_mac(connection: &Connection, mac: MacAddress) -> Result<Option<HostRow>, StoreError> {
    let found =
        connection.prepare_cached(BY_MAC)?.query_and_then([mac.to_string()], host)?.next().transpose()?;
    match found {
        Some(host) => Ok(Some(host)),
        None => identities::host_of(connection, mac)?.map(|id| get(connection, id)).transpose(),
    }
}

/// A machine with its newest run and all by which it is recognised.
pub fn with_run(connection: &Connection, host: HostRow) -> Result<HostWithRun, StoreError> {
    Ok(HostWithRun {
        latest_run: runs::latest_of_host(connection, host.id)?,
        further_macs: identities::further_macs(connection, host.id)?,
        identity: identities::of_host(connection, host.id)?,
        serial_console: serial_consoles::get(connection, host.id)?,
        burn_watts: turns::told_watts(connection, host.id)?,
        host,
    })
}

/// Every machine by name, each with its newest run.
pub fn list(connection: &Connection) -> Result<Vec<HostWithRun>, StoreError> {
    page(connection, None, None)
}

/// Machines by name after this name, each with its newest run; at most `limit`.
pub fn page(
    connection: &Connection,
    after: Option<&str>,
    limit: Option<u32>,
) -> Result<Vec<HostWithRun>, StoreError> {
    // a negative limit is none
    let limit = limit.map_or(-1, i64::from);
    let hosts: Vec<HostRow> = connection
        .prepare_cached(PAGE)?
        .query_and_then(params![after.unwrap_or_default(), limit], host)?
        .collect::<Result<_, _>>()?;
    hosts.into_iter().map(|host| with_run(connection, host)).collect()
}

/// The names of all machines, each with its spec.
pub fn specs(connection: &Connection) -> Result<Vec<(String, String)>, StoreError> {
    let mut statement = connection.prepare_cached(SPECS)?;
    let told = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(told.collect::<Result<_, _>>()?)
}

/// Deletes a machine with its runs and all that hangs from them.
///
/// # Errors
/// [`StoreError::NotFound`]; [`StoreError::Conflict`] while a run of it is active or holds it.
pub fn delete(connection: &Connection, id: HostId) -> Result<(), StoreError> {
    if let Some(run) = runs::active_of_host(connection, id)? {
        return Err(StoreError::conflict(format!("run {} of this host is active; abort it first", run.id)));
    }
    if let Some(run) = runs::held_of_host(connection, id)? {
        return Err(StoreError::conflict(format!(
            "this host is held by run {run}; `run release {run}` first"
        )));
    }
    if connection.prepare_cached(DELETE)?.execute([id.0])? == 0 { Err(unknown_id(id)) } else { Ok(()) }
}

/// Notes that a host-mode agent was heard.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn seen(connection: &Connection, id: HostId, now_ms: i64) -> Result<(), StoreError> {
    let changed = connection.prepare_cached(SEEN)?.execute(params![id.0, timestamp_text(now_ms)?])?;
    if changed == 0 { Err(unknown_id(id)) } else { Ok(()) }
}

const NAME_OF: &str = "SELECT name FROM hosts WHERE id = ?1";

/// The name of a machine.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn name_of(connection: &Connection, id: HostId) -> Result<String, StoreError> {
    connection
        .prepare_cached(NAME_OF)?
        .query_row([id.0], |row| row.get(0))
        .optional()?
        .ok_or_else(|| unknown_id(id))
}
