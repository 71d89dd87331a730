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
use crate::inventory;

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
        Duration::from_secs(2)
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::Inventory {} = work else {
            return Err(StageError::WrongWork { stage: StageName::Inventory });
        };
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
