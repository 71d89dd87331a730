//! Tables `host_agents` and `host_inventories`: agents on installed systems, and what their machines were last made of.

use rusqlite::{OptionalExtension as _, params};
use vetting_protocol::ids::{HostId, Sha256Hex};
use vetting_protocol::inventory::Inventory;

use super::{Connection, StoreError, row};
use crate::clock::timestamp_text;

const SET_TOKEN: &str = "INSERT INTO host_agents (host_id, token_hash, created_at) VALUES (?1, ?2, ?3)
     ON CONFLICT (host_id) DO UPDATE SET token_hash = excluded.token_hash, created_at = excluded.created_at";
const REVOKE: &str = "DELETE FROM host_agents WHERE host_id = ?1";
const BY_TOKEN: &str = "SELECT host_id FROM host_agents WHERE token_hash = ?1";
const KNOWN: &str = "SELECT 1 FROM host_agents WHERE host_id = ?1";
const HEARD: &str = "UPDATE host_agents SET boot_id = ?2, agent_version = ?3 WHERE host_id = ?1";
const DIGEST: &str = "SELECT sha256 FROM host_inventories WHERE host_id = ?1";
const INVENTORY: &str = "SELECT inventory_json FROM host_inventories WHERE host_id = ?1";
const SET_INVENTORY: &str =
    "INSERT INTO host_inventories (host_id, taken_at, sha256, inventory_json) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT (host_id) DO UPDATE SET taken_at = excluded.taken_at, sha256 = excluded.sha256,
     inventory_json = excluded.inventory_json";

/// Gives a host's agent a token, by its hash. An earlier one is good no more.
pub fn set_token(
    connection: &Connection,
    host: HostId,
    token_hash: Sha256Hex,
    now_ms: i64,
) -> Result<(), StoreError> {
    connection.prepare_cached(SET_TOKEN)?.execute(params![
        host.0,
        token_hash.to_string(),
        timestamp_text(now_ms)?
    ])?;
    Ok(())
}

/// Takes it away. False if there was none.
pub fn revoke(connection: &Connection, host: HostId) -> Result<bool, StoreError> {
    Ok(connection.prepare_cached(REVOKE)?.execute([host.0])? > 0)
}

/// The host whose agent has this token.
pub fn by_token(connection: &Connection, token_hash: Sha256Hex) -> Result<Option<HostId>, StoreError> {
    let mut statement = connection.prepare_cached(BY_TOKEN)?;
    Ok(statement.query_row([token_hash.to_string()], |row| row.get(0).map(HostId)).optional()?)
}

/// Whether a host has an agent with a token.
pub fn is_known(connection: &Connection, host: HostId) -> Result<bool, StoreError> {
    Ok(connection.prepare_cached(KNOWN)?.exists([host.0])?)
}

/// Notes what an agent told of itself.
pub fn heard(
    connection: &Connection,
    host: HostId,
    boot_id: &str,
    agent_version: &str,
) -> Result<(), StoreError> {
    connection.prepare_cached(HEARD)?.execute(params![host.0, boot_id, agent_version])?;
    Ok(())
}

/// The digest of the inventory that is stored.
pub fn inventory_digest(connection: &Connection, host: HostId) -> Result<Option<Sha256Hex>, StoreError> {
    let mut statement = connection.prepare_cached(DIGEST)?;
    statement
        .query_and_then([host.0], |row| row::parsed(row, ("host_inventories", "sha256")))?
        .next()
        .transpose()
}

/// The inventory that is stored.
pub fn inventory(connection: &Connection, host: HostId) -> Result<Option<Inventory>, StoreError> {
    let mut statement = connection.prepare_cached(INVENTORY)?;
    let found = statement
        .query_and_then([host.0], |row| row::json_or_null(row, ("host_inventories", "inventory_json")))?
        .next()
        .transpose()?;
    Ok(found.flatten())
}

/// Replaces it.
pub fn set_inventory(
    connection: &Connection,
    host: HostId,
    digest: Sha256Hex,
    inventory_json: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    connection.prepare_cached(SET_INVENTORY)?.execute(params![
        host.0,
        timestamp_text(now_ms)?,
        digest.to_string(),
        inventory_json
    ])?;
    Ok(())
}
