//! Stage Firmware: which firmware runs on the machine's parts.

use std::time::Duration;

use serde_json::json;
use vetting_protocol::agent_api::Record;
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::StageWork;

use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};
use crate::inventory;

pub(super) struct FirmwareStage;

impl Stage for FirmwareStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Firmware,
            effect: Effect::ReadOnly,
            applies_to: "every machine",
            finds: "firmware versions of BIOS, BMC, NICs, storage controllers, CPU microcode and NVMe disks",
        }
    }

    fn estimate(&self, _work: &StageWork, _inventory: Option<&Inventory>) -> Duration {
        Duration::from_secs(2)
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::Firmware {} = work else {
            return Err(StageError::WrongWork { stage: StageName::Firmware });
        };
        let inventory = context.inventory()?;
        let report = inventory::firmware::collect(context.host, context.tools, inventory);
        if context.cancel.is_raised() {
            return Ok(StageReport { outcome: super::cancelled(), details: json!({}) });
        }
        let details = json!({ "versions": report.versions.len(), "absent": report.absent.len() });
        context.reporter.record(Record::Firmware(report.clone()));
        context.facts.firmware = Some(report);
        Ok(StageReport { outcome: Outcome::Pass, details })
    }
}
