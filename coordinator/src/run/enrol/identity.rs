//! What is recorded of a machine that is taken in, by which it is recognised again: its cards and its UUID.

use vetting_protocol::enrolment::Identity;
use vetting_protocol::ids::{HostId, MacAddress};

use super::super::error::RunError;
use crate::enrolment::recognise::{is_movable, telling_uuid};
use crate::enrolment::uuid::SystemUuid;
use crate::store::hosts::{self, HostRow};
use crate::store::{Connection, identities};

/// The card a new host is registered with: the one it booted from, else the first that stays with its machine.
///
/// # Errors
/// It has none.
pub(super) fn primary_card(identity: &Identity) -> Result<MacAddress, RunError> {
    let any = || firm_cards(identity).next().or(identity.nics.first().map(|nic| nic.mac));
    identity.boot_mac.or_else(any).ok_or_else(|| RunError::Invalid {
        what: "a machine without a network card cannot be recognised again".to_owned(),
    })
}

/// The cards that stay with a machine: a USB adapter or an address that software made up may be elsewhere tomorrow.
fn firm_cards(identity: &Identity) -> impl Iterator<Item = MacAddress> + '_ {
    identity.nics.iter().filter(|nic| !nic.removable && !is_movable(nic.mac)).map(|nic| nic.mac)
}

pub(super) fn record_identity(
    connection: &Connection,
    host: HostId,
    identity: &Identity,
    ignored: &[SystemUuid],
    now_ms: i64,
) -> Result<(), RunError> {
    for mac in firm_cards(identity).take(identities::MAX_FURTHER_MACS) {
        if hosts::by_mac(connection, mac)?.is_none() {
            identities::add_mac(connection, host, mac, now_ms)?;
        }
    }
    match telling_uuid(identity.system_uuid.as_deref(), ignored) {
        Some(uuid) => identities::record(connection, host, &uuid.to_string(), now_ms)?,
        None => identities::forget(connection, host)?,
    }
    Ok(())
}

/// Refuses cards of other hosts; adds the one that the machine booted from, whatever its kind.
pub(super) fn take_over_cards(
    connection: &Connection,
    host: &HostRow,
    identity: &Identity,
    now_ms: i64,
) -> Result<(), RunError> {
    let boot = primary_card(identity)?;
    for mac in firm_cards(identity).chain([boot]) {
        match hosts::by_mac(connection, mac)? {
            Some(other) if other.id != host.id => {
                let what = format!(
                    "its card {mac} belongs to {name}; `host mac remove {name} {mac}` or `host edit {name} --mac …` \
                     first",
                    name = other.name
                );
                return Err(RunError::Invalid { what });
            }
            Some(_) => {}
            None => identities::add_mac(connection, host.id, mac, now_ms)?,
        }
    }
    Ok(())
}

/// `Dell Inc. PowerEdge R640, serial ABC123, 2 cards`.
pub(super) fn described(identity: &Identity) -> String {
    let maker = identity.manufacturer.as_deref().unwrap_or("unknown maker");
    let product = identity.product.as_deref().unwrap_or("unknown model");
    let serial = identity.system_serial.as_deref().unwrap_or("unknown");
    let cards: Vec<String> = identity.nics.iter().take(4).map(|nic| nic.mac.to_string()).collect();
    let more = if identity.nics.len() > cards.len() { " …" } else { "" };
    format!("{maker} {product}, serial {serial}, {}{more}", cards.join(" "))
}
