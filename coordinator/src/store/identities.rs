//! Tables `host_macs` and `host_identities`: by what a registered machine is recognised.
//!
//! Keeps an address at one host at most, `hosts.mac` included.

use rusqlite::{OptionalExtension as _, params};
use vetting_protocol::ids::{HostId, MacAddress};

use super::{Connection, StoreError, hosts, row};
use crate::clock::timestamp_text;

/// What was recorded of a machine besides its cards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRow {
    /// SMBIOS system UUID that tells it from others.
    pub system_uuid: String,
    /// Ms since the epoch.
    pub recorded_at_ms: i64,
}

/// A machine with all by which it can be recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecognisableRow {
    /// Key.
    pub id: HostId,
    /// Name.
    pub name: String,
    /// Every card, the one it boots from first.
    pub macs: Vec<MacAddress>,
    /// What was recorded of it.
    pub system_uuid: Option<String>,
}

/// Most further cards of one host.
pub const MAX_FURTHER_MACS: usize = 64;

const FURTHER: &str = "SELECT mac FROM host_macs WHERE host_id = ?1 ORDER BY mac";
const ADD: &str = "INSERT INTO host_macs (mac, host_id, added_at) VALUES (?1, ?2, ?3)";
const REMOVE: &str = "DELETE FROM host_macs WHERE host_id = ?1 AND mac = ?2";
const IDENTITY: &str = "SELECT * FROM host_identities WHERE host_id = ?1";
const RECORD: &str =
    "INSERT INTO host_identities (host_id, system_uuid, recorded_at) VALUES (?1, ?2, ?3)
     ON CONFLICT (host_id) DO UPDATE SET system_uuid = excluded.system_uuid, recorded_at = excluded.recorded_at";
const FORGET: &str = "DELETE FROM host_identities WHERE host_id = ?1";
const RECOGNISABLE: &str = "SELECT hosts.id, hosts.name, hosts.mac, host_identities.system_uuid
     FROM hosts LEFT JOIN host_identities ON host_identities.host_id = hosts.id ORDER BY hosts.name";

/// A host's cards besides the one it boots from.
pub fn further_macs(connection: &Connection, host: HostId) -> Result<Vec<MacAddress>, StoreError> {
    connection
        .prepare_cached(FURTHER)?
        .query_and_then([host.0], |row| row::parsed(row, ("host_macs", "mac")))?
        .collect()
}

/// Gives a host another card.
///
/// # Errors
/// [`StoreError::Conflict`] names the host that has it already, or says that there are too many.
pub fn add_mac(
    connection: &Connection,
    host: HostId,
    mac: MacAddress,
    now_ms: i64,
) -> Result<(), StoreError> {
    if let Some(other) = hosts::by_mac(connection, mac)? {
        return Err(StoreError::conflict(format!("host {} has the MAC address {mac} already", other.name)));
    }
    if further_macs(connection, host)?.len() >= MAX_FURTHER_MACS {
        return Err(StoreError::conflict(format!(
            "a host has at most {MAX_FURTHER_MACS} further MAC addresses"
        )));
    }
    connection.prepare_cached(ADD)?.execute(params![mac.to_string(), host.0, timestamp_text(now_ms)?])?;
    Ok(())
}

/// Takes a further card from a host.
///
/// # Errors
/// [`StoreError::NotFound`] if it is none of its further ones.
pub fn remove_mac(connection: &Connection, host: HostId, mac: MacAddress) -> Result<(), StoreError> {
    if connection.prepare_cached(REMOVE)?.execute(params![host.0, mac.to_string()])? == 0 {
        return Err(StoreError::not_found(format!(
            "further MAC address {mac} of this host; the one it boots from is changed by `host edit --mac`"
        )));
    }
    Ok(())
}

/// What was recorded of a machine, once it showed itself.
pub fn of_host(connection: &Connection, host: HostId) -> Result<Option<IdentityRow>, StoreError> {
    let mut statement = connection.prepare_cached(IDENTITY)?;
    statement
        .query_and_then([host.0], |row| {
            Ok(IdentityRow {
                system_uuid: row.get("system_uuid")?,
                recorded_at_ms: row::time(row, ("host_identities", "recorded_at"))?,
            })
        })?
        .next()
        .transpose()
}

/// Records what a machine is recognised by, in place of what was recorded before.
pub fn record(
    connection: &Connection,
    host: HostId,
    system_uuid: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    connection.prepare_cached(RECORD)?.execute(params![host.0, system_uuid, timestamp_text(now_ms)?])?;
    Ok(())
}

/// Forgets it: the next machine with a card of this host is believed to be it.
pub fn forget(connection: &Connection, host: HostId) -> Result<(), StoreError> {
    connection.prepare_cached(FORGET)?.execute([host.0])?;
    Ok(())
}

/// Every machine with all by which it can be recognised, by name.
pub fn recognisable(connection: &Connection) -> Result<Vec<RecognisableRow>, StoreError> {
    let mut rows: Vec<RecognisableRow> = connection
        .prepare_cached(RECOGNISABLE)?
        .query_and_then([], |row| {
            Ok::<_, StoreError>(RecognisableRow {
                id: HostId(row.get("id")?),
                name: row.get("name")?,
                macs: vec![row::parsed(row, ("hosts", "mac"))?],
                system_uuid: row.get("system_uuid")?,
            })
        })?
        .collect::<Result<_, _>>()?;
    for host in &mut rows {
        host.macs.extend(further_macs(connection, host.id)?);
    }
    Ok(rows)
}

const HOST_OF: &str = "SELECT host_id FROM host_macs WHERE mac = ?1";

/// The host that has this address as a further one.
pub(super) fn host_of(connection: &Connection, mac: MacAddress) -> Result<Option<HostId>, StoreError> {
    let mut statement = connection.prepare_cached(HOST_OF)?;
    Ok(statement.query_row([mac.to_string()], |row| row.get(0).map(HostId)).optional()?)
}
