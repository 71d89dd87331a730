//! Whether a machine is one of the registered ones, by SMBIOS UUID and MAC addresses together.
//!
//! Neither is enough alone: boards share UUIDs, cards move. A wrong answer would give a bad machine the good one's
//! verdict, so whatever speaks for two answers goes to a person.

use vetting_protocol::enrolment::Identity;
use vetting_protocol::ids::{HostId, MacAddress};

use super::uuid::SystemUuid;

/// Makers' prefixes of USB network adapters and docks whose addresses repeat: sold by the thousand with few addresses
/// in their chips' defaults (Realtek's and ASIX's own prefixes).
const ADAPTER_PREFIXES: [[u8; 3]; 2] = [[0x00, 0xe0, 0x4c], [0x00, 0x0e, 0xc6]];

/// A registered machine, as far as it can be recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Key.
    pub id: HostId,
    /// Name.
    pub name: String,
    /// What was recorded of it; absent until it showed itself, or if it has none.
    pub uuid: Option<SystemUuid>,
    /// Every card.
    pub macs: Vec<MacAddress>,
}

/// Who a machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognition {
    /// This registered one.
    Match {
        /// Which.
        host: HostId,
    },
    /// None of them, and nothing of it is known at another.
    NewMachine,
    /// A person must look.
    Conflict {
        /// What speaks against what, in words.
        why: String,
    },
}

/// Whether the machine that claims a run is the one it was ordered for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimant {
    /// Nothing speaks against it.
    Same,
    /// It shows nothing that could be compared, and nothing was recorded.
    Unverified,
    /// It is another one.
    Other {
        /// What speaks against it.
        why: String,
    },
}

/// Whether this card alone says nothing of its machine: software made its address up, or it is of a kind that is
/// carried from machine to machine.
pub fn is_movable(mac: MacAddress) -> bool {
    let octets = mac.octets();
    octets[0] & 2 != 0 || ADAPTER_PREFIXES.iter().any(|prefix| octets.starts_with(prefix))
}

/// The UUID a machine presents, if it tells it from others. `ignored` are those that the lab knows to be shared.
pub fn telling_uuid(presented: Option<&str>, ignored: &[SystemUuid]) -> Option<SystemUuid> {
    presented.and_then(|text| text.parse().ok()).filter(|uuid| !ignored.contains(uuid))
}

/// Who the machine is that presents this.
pub fn recognise(known: &[Known], presented: &Identity, ignored: &[SystemUuid]) -> Recognition {
    let uuid = telling_uuid(presented.system_uuid.as_deref(), ignored);
    let has = |host: &Known, movable: bool| {
        presented
            .nics
            .iter()
            .any(|nic| (nic.removable || is_movable(nic.mac)) == movable && host.macs.contains(&nic.mac))
    };
    let by_card: Vec<&Known> = known.iter().filter(|host| has(host, false)).collect();
    let by_movable_card: Vec<&Known> = known.iter().filter(|host| has(host, true)).collect();
    let by_uuid: Vec<&Known> =
        known.iter().filter(|host| uuid.is_some() && effective(host, ignored) == uuid.as_ref()).collect();
    match by_card.as_slice() {
        [] => without_own_card(uuid.as_ref(), &by_movable_card, &by_uuid, ignored),
        [host] => {
            let elsewhere = by_uuid.iter().filter(|other| other.id != host.id).copied().collect::<Vec<_>>();
            if !elsewhere.is_empty() && !by_uuid.iter().any(|other| other.id == host.id) {
                return conflict(format!(
                    "it has a card of {}, but the UUID of {}: a card was moved, or two boards share a UUID",
                    host.name,
                    names(&elsewhere)
                ));
            }
            match (effective(host, ignored), &uuid) {
                (Some(recorded), shown) if shown.as_ref() != Some(recorded) => {
                    conflict(other_board(host, shown.as_ref()))
                }
                (Some(_) | None, _) => Recognition::Match { host: host.id },
            }
        }
        several => conflict(format!("its cards belong to {}", names(several))),
    }
}

fn effective<'a>(host: &'a Known, ignored: &[SystemUuid]) -> Option<&'a SystemUuid> {
    host.uuid.as_ref().filter(|uuid| !ignored.contains(uuid))
}

fn without_own_card(
    uuid: Option<&SystemUuid>,
    by_movable_card: &[&Known],
    by_uuid: &[&Known],
    ignored: &[SystemUuid],
) -> Recognition {
    match (by_uuid, by_movable_card) {
        ([], []) => Recognition::NewMachine,
        ([], movable) => {
            let surely_others =
                uuid.is_some() && movable.iter().all(|host| effective(host, ignored).is_some());
            if surely_others {
                return Recognition::NewMachine;
            }
            conflict(format!(
                "only a card that may be carried from machine to machine, or whose address software made up, says \
                 that it is {}",
                names(movable)
            ))
        }
        ([host], [other]) if host.id == other.id => Recognition::Match { host: host.id },
        (alike, _) => conflict(format!(
            "it has the UUID of {}, but none of its cards: the cards were replaced, or two boards share a UUID",
            names(alike)
        )),
    }
}

/// Whether the machine that presents this may have the run of `host`. `others` are all other registered machines.
pub fn verify(
    host: &Known,
    others: &[Known],
    presented_uuid: Option<&str>,
    presented_macs: &[MacAddress],
    ignored: &[SystemUuid],
) -> Claimant {
    let uuid = telling_uuid(presented_uuid, ignored);
    let recorded = effective(host, ignored);
    if let Some(recorded) = recorded
        && uuid.as_ref() != Some(recorded)
    {
        return Claimant::Other { why: other_board(host, uuid.as_ref()) };
    }
    if recorded.is_some() {
        return Claimant::Same;
    }
    if presented_macs.is_empty() && uuid.is_none() {
        return Claimant::Unverified;
    }
    if !presented_macs.iter().any(|mac| host.macs.contains(mac)) {
        let name = &host.name;
        return Claimant::Other { why: format!("it has none of the cards that {name} is registered with") };
    }
    let alike: Vec<&Known> =
        others.iter().filter(|other| uuid.is_some() && effective(other, ignored) == uuid.as_ref()).collect();
    if alike.is_empty() {
        return Claimant::Same;
    }
    Claimant::Other {
        why: format!(
            "it has a card of {}, but the UUID of {}: a card was moved, or two boards share a UUID \
             (then name it in `enrolment.ignored_uuids`)",
            host.name,
            names(&alike)
        ),
    }
}

fn other_board(host: &Known, shown: Option<&SystemUuid>) -> String {
    let shown = shown.map_or_else(|| "tells none".to_owned(), |uuid| format!("has {uuid}"));
    let recorded = host.uuid.as_ref().map(ToString::to_string).unwrap_or_default();
    format!(
        "it has a card of {name}, whose UUID is {recorded}, but {shown}: the card was moved, or the board replaced \
         (`host forget-identity {name}` if it was)",
        name = host.name
    )
}

fn names(hosts: &[&Known]) -> String {
    hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(" and ")
}

fn conflict(why: String) -> Recognition {
    Recognition::Conflict { why }
}
