//! Whether the machine that claims a run is the one it was ordered for: a good machine's verdict must not be earned, nor
//! a bad one's be escaped, by moving a network card.

use vetting_protocol::agent_api::{ClaimRequest, EventLevel};

use super::driver::of_run;
use super::error::RunError;
use crate::enrolment::recognise::{Claimant, Known, telling_uuid, verify};
use crate::enrolment::uuid::SystemUuid;
use crate::store::identities::RecognisableRow;
use crate::store::{Connection, StoreError, events, identities, runs};

/// Every registered machine, as far as it can be recognised.
pub(super) fn known_machines(connection: &Connection) -> Result<Vec<Known>, StoreError> {
    let known = |row: RecognisableRow| {
        let uuid = row.system_uuid.as_deref().map(|text| {
            text.parse().map_err(|_| StoreError::UnknownText {
                table: "host_identities",
                column: "system_uuid",
                found: text.to_owned(),
            })
        });
        Ok(Known { id: row.id, name: row.name, uuid: uuid.transpose()?, macs: row.macs })
    };
    identities::recognisable(connection)?.into_iter().map(known).collect()
}

/// Refuses a claim by another machine; records what the right one is recognised by from then on.
pub(super) fn identify(
    connection: &Connection,
    claim: &ClaimRequest,
    ignored: &[SystemUuid],
    now_ms: i64,
) -> Result<(), RunError> {
    let run = claim.run_id;
    let host_id = runs::get(connection, run)?.host_id;
    let (own, others): (Vec<_>, Vec<_>) =
        known_machines(connection)?.into_iter().partition(|known| known.id == host_id);
    let host = own.first().ok_or_else(|| StoreError::not_found(format!("host {host_id}")))?;
    match verify(host, &others, claim.system_uuid.as_deref(), &claim.macs, ignored) {
        Claimant::Other { why } => Err(RunError::OtherMachine { run, why }),
        Claimant::Unverified => {
            let message = "the machine that claims tells neither a UUID nor a MAC address, so nothing shows that it \
                           is the right one";
            let line = of_run(run, now_ms, EventLevel::Warning, "machine_unverified", message);
            events::insert(connection, &line)?;
            Ok(())
        }
        Claimant::Same => {
            if host.uuid.is_none()
                && let Some(uuid) = telling_uuid(claim.system_uuid.as_deref(), ignored)
            {
                identities::record(connection, host_id, &uuid.to_string(), now_ms)?;
            }
            Ok(())
        }
    }
}
