//! What a disk had counted before the load and after it: a counter of faults that grew under the test is worse than the
//! same number on arrival.

use std::collections::BTreeMap;

use serde_json::json;
use vetting_protocol::outcome::Outcome;

use super::super::disks::{self, Target};
use super::super::sub_steps::{Found, SubSteps};
use super::{
    Health, SmartReport, StageContext, Subject, Turn, behind, details, health_outcome, measure, report_of,
};
use crate::tools::smartctl::{Answer, AtaAttribute};

/// ATA attributes that count faults: reallocated sectors, end-to-end errors, reported uncorrectable, command time-outs,
/// pending, offline uncorrectable, interface CRC errors.
const ATA_FAULTS: [u8; 7] = [5, 184, 187, 188, 197, 198, 199];

/// Counters of faults, by the names that measurements have.
#[derive(Debug, Clone, PartialEq)]
pub struct Counters(BTreeMap<String, f64>);

impl Counters {
    pub(super) fn of(report: &SmartReport) -> Self {
        let mut counters = BTreeMap::new();
        let mut count = |name: &str, value: Option<f64>| {
            if let Some(value) = value {
                counters.insert(name.to_owned(), value);
            }
        };
        count("self_test_failures", report.self_test_failures);
        match &report.health {
            Health::Ata(health) => {
                let is_fault = |attribute: &&AtaAttribute| {
                    ATA_FAULTS.contains(&attribute.id) && attribute.is_judged_by_its_number()
                };
                for attribute in health.attributes.iter().filter(is_fault) {
                    count(&attribute.key(), Some(attribute.raw));
                }
            }
            Health::Nvme(health) => {
                count("media_errors", Some(health.media_errors));
                // falls as spare is used up
                count("spare_used", Some(100.0 - health.available_spare_percent));
            }
            Health::Scsi(health) => {
                count("grown_defects", health.grown_defects);
                count("pending_defects", health.pending_defects);
                for (page, errors) in
                    [("read", health.read), ("write", health.write), ("verify", health.verify)]
                {
                    count(&format!("{page}_uncorrected"), errors.map(|errors| errors.uncorrected));
                }
            }
        }
        Self(counters)
    }

    /// By how much each grew since `before`; one that is not told any more has no value.
    fn growth_since<'c>(&'c self, before: &'c Self) -> impl Iterator<Item = (&'c str, Option<f64>)> {
        before
            .0
            .iter()
            .map(|(name, before)| (name.as_str(), self.0.get(name).map(|now| (now - before).max(0.0))))
    }
}

/// Asks a disk again after the load.
pub(in super::super) fn after_load(context: &StageContext<'_>, target: &Target<'_>) -> Found {
    let found = compare(context, &target.disk.name, || Subject::of(context, target, Turn::default()));
    let vanished = disks::vanished(context, target).map(|gone| Found::new(gone, json!({})));
    vanished.unwrap_or(found)
}

/// Asks the drives behind RAID controllers again, all at once, with sub-steps from `first` on.
pub(in super::super) fn drives_after_load(
    context: &StageContext<'_>,
    sub_steps: &SubSteps<'_, '_>,
    first: u32,
) -> Vec<Outcome> {
    behind::each(&context.facts.drives_behind, first, |ordinal, drive| {
        sub_steps.run(ordinal, &format!("{} SMART after", drive.name), || {
            compare(context, &drive.name, || Subject::behind_controller(drive))
        })
    })
}

/// Asks again and measures what grew. What had no SMART before has nothing to compare, and is not asked.
fn compare<'t>(context: &StageContext<'_>, name: &str, subject: impl FnOnce() -> Subject<'t>) -> Found {
    let Some(before) = context.facts.smart_counters.get(name) else {
        return Found::new(Outcome::Pass, json!({ "notes": ["there is no reading from before the load"] }));
    };
    let subject = subject();
    let answer = report_of(context, &subject);
    let report = match answer {
        Ok(Answer::Report(report)) => report,
        Ok(Answer::NotSupported { reason } | Answer::NotOpened { reason }) => {
            let reason = format!("{name}: told its SMART data before the load and no longer does ({reason})");
            return Found::new(Outcome::error(reason), json!({}));
        }
        Err(error) => return Found::new(Outcome::error(format!("{name}: {}", error.reason())), json!({})),
    };
    measure(context, &subject, &report);
    let after = Counters::of(&report);
    for (counter, growth) in after.growth_since(before) {
        context.measure("smart_growth", format!("{name}/{counter}"), growth, "count");
    }
    Found::new(health_outcome(&subject, &report), details(&report))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(of: &[(&str, f64)]) -> Counters {
        Counters(of.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect())
    }

    #[test]
    fn what_grew_and_what_is_no_longer_told() {
        let before = counters(&[("5_x", 8.0), ("197_y", 2.0), ("198_z", 0.0)]);
        let after = counters(&[("5_x", 10.0), ("197_y", 0.0), ("199_new", 7.0)]);
        let growth: Vec<_> = after.growth_since(&before).collect();
        // pending sectors that were rewritten well are no growth
        assert_eq!(growth, [("197_y", Some(0.0)), ("198_z", None), ("5_x", Some(2.0))]);
    }
}
