//! Stage SpecValidate: the machine against its expected spec. The comparison is the judge's; this stage gives it the
//! facts and reports every diff.

use std::time::Duration;

use serde_json::json;
use vetting_judge::spec::{Spec, compare};
use vetting_protocol::agent_api::Record;
use vetting_protocol::diff::{Severity, SpecDiff};
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::StageWork;

use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};

/// Diffs that the reason names; all are records of their own.
const NAMED: usize = 10;

pub(super) struct SpecValidateStage;

impl Stage for SpecValidateStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::SpecValidate,
            effect: Effect::ReadOnly,
            applies_to: "every machine",
            finds: "parts and firmware that are missing or are not what was ordered",
        }
    }

    fn estimate(&self, _work: &StageWork, _inventory: Option<&Inventory>) -> Duration {
        Duration::from_secs(1)
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::SpecValidate {} = work else {
            return Err(StageError::WrongWork { stage: StageName::SpecValidate });
        };
        let inventory = context.inventory()?;
        let firmware = context
            .facts
            .firmware
            .as_ref()
            .ok_or(StageError::Prerequisite { missing: "the firmware", stage: StageName::Firmware })?;
        let Some(yaml) = context.expected_spec_yaml else {
            let outcome = Outcome::skip("no expected spec was given");
            return Ok(StageReport { outcome, details: json!({}) });
        };
        let spec = match Spec::parse(yaml) {
            Ok(spec) => spec,
            Err(error) => {
                let outcome = Outcome::error(error.to_string());
                return Ok(StageReport { outcome, details: json!({}) });
            }
        };
        let diffs = compare(&spec, inventory, firmware);
        let count = |severity| diffs.iter().filter(|diff: &&SpecDiff| diff.severity == severity).count();
        let details = json!({
            "critical": count(Severity::Critical),
            "warning": count(Severity::Warning),
            "info": count(Severity::Info),
        });
        let outcome = outcome(&diffs);
        context.reporter.record(Record::SpecDiffs { diffs });
        Ok(StageReport { outcome, details })
    }
}

fn outcome(diffs: &[SpecDiff]) -> Outcome {
    let critical: Vec<String> =
        diffs.iter().filter(|diff| diff.severity == Severity::Critical).map(in_words).collect();
    if critical.is_empty() {
        return Outcome::Pass;
    }
    let more = critical.len().saturating_sub(NAMED);
    let named: Vec<String> = critical.into_iter().take(NAMED).collect();
    let named = named.join("; ");
    Outcome::fail(if more == 0 { named } else { format!("{named}; and {more} more") })
}

fn in_words(diff: &SpecDiff) -> String {
    let expected = diff.expected.as_deref().unwrap_or("nothing");
    let actual = diff.actual.as_deref().unwrap_or("nothing");
    format!("{}: expected {expected}, found {actual}", diff.field)
}

#[cfg(test)]
mod tests;
