//! Stage Inventory: what the machine is made of, as a fact for the judge and for the stages that follow.

use std::time::Duration;

use serde_json::json;
use vetting_protocol::agent_api::Record;
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::StageWork;

use super::disks;
use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};
use crate::clock;
use crate::inventory;

/// How long a link may take from "set up" to its carrier. Copper of 10 Gbit/s negotiates for up to seven seconds, and
/// the claim only waits for the first interface.
const LINK_SETTLES: Duration = Duration::from_secs(10);

pub(super) struct InventoryStage;

impl Stage for InventoryStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Inventory,
            effect: Effect::ReadOnly,
            applies_to: "every machine",
            finds: "what the machine is made of; parts that cannot be read are named with the reason",
        }
    }

    fn estimate(&self, _work: &StageWork, _inventory: Option<&Inventory>) -> Duration {
        LINK_SETTLES + Duration::from_secs(2)
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::Inventory {} = work else {
            return Err(StageError::WrongWork { stage: StageName::Inventory });
        };
        if context.host.is_live() {
            wait_for_links(context);
        }
        let inventory = inventory::collect(context.host, context.tools);
        if context.cancel.is_raised() {
            return Ok(StageReport { outcome: super::cancelled(), details: json!({}) });
        }
        let details = json!({
            "disks": inventory.disks.len(),
            "nics": inventory.nics.len(),
            "pci_functions": inventory.pci.len(),
            "dimms": inventory.memory.dimms.len(),
            "logical_cores": inventory.cpu.logical_cores,
            "absent": inventory.absent.len(),
        });
        context.reporter.record(Record::Inventory(Box::new(inventory.clone())));
        context.facts.disks_first_seen = disks::first_seen(context.host, &inventory);
        context.facts.inventory = Some(inventory);
        Ok(StageReport { outcome: Outcome::Pass, details })
    }
}

/// Waits for links that are still negotiated, or the inventory calls a connected port unconnected, and nobody notices
/// when its link is lost later.
fn wait_for_links(context: &StageContext<'_>) {
    let begin = clock::monotonic();
    while inventory::without_carrier(context.host)
        && begin.elapsed() < LINK_SETTLES
        && context.wait(super::LOOK)
    {}
}
