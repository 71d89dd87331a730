//! placeholder, replaced once the judge's interface is merged
use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};
use std::time::Duration;
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::plan::StageWork;
pub(super) struct SpecValidateStage;
impl Stage for SpecValidateStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::SpecValidate,
            effect: Effect::ReadOnly,
            applies_to: "every machine",
            finds: "differences between the expected spec and what the machine is",
        }
    }
    fn estimate(&self, _work: &StageWork, _inventory: Option<&Inventory>) -> Duration {
        Duration::from_secs(1)
    }
    fn run(&self, _context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::SpecValidate {} = work else {
            return Err(StageError::WrongWork { stage: StageName::SpecValidate });
        };
        Err(StageError::Other { message: "this build cannot compare".to_owned() })
    }
}
