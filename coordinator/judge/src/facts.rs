//! All that is known of a run when it is judged. Plain data: whoever holds the run's rows fills it.

use serde::{Deserialize, Serialize};
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::diff::SpecDiff;
use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::ids::{HostId, MacAddress, RunId, StageName};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::operator_api::{ArtifactView, BootView};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::DiskConsent;
use vetting_protocol::profile::{ProfileName, StageChange};
use vetting_protocol::run::{RunPlace, RunResult};

use crate::siblings::Outlier;
use crate::tally::Evaluation;
use crate::threshold::Rule;
use crate::waiver::Waiver;

/// Kinds of measurement that the report draws.
pub const CHARTED: [&str; 4] = ["temp", "fan", "power", "cpu_freq"];
/// Points of one line of a chart.
pub const MOST_POINTS: u32 = 400;
/// Lines of the event log in a report.
pub const MOST_EVENTS: u32 = 2_000;

/// A run, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFacts {
    /// The machine.
    pub host: HostFacts,
    /// The run.
    pub run: RunHeader,
    /// How the run came to its end.
    pub ending: Ending,
    /// Where the time before the stages went.
    pub boot: BootView,
    /// The stages of the plan, in order.
    pub stages: Vec<StageFacts>,
    /// Earlier attempts at stages that were run again, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptFacts>,
    /// Why what was tested before may not be what was tested later, in words; empty if it is the same machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts_in_doubt: Vec<String>,
    /// Stages that the machine's spec has otherwise than the profile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stage_changes: Vec<StageChange>,
    /// What differs from the spec; absent if no comparison was made.
    pub diffs: Option<Vec<DiffFacts>>,
    /// The rules of the run.
    pub rules: Vec<Rule>,
    /// What the rules said, one entry a rule, stage and key that had samples.
    pub evaluations: Vec<Evaluation>,
    /// Samples taken.
    pub sample_count: u64,
    /// What the machine is made of; absent if it was never told.
    pub inventory: Option<Inventory>,
    /// Its firmware; absent likewise.
    pub firmware: Option<FirmwareReport>,
    /// Time series for the charts, each thinned out by the caller or [`Series::thin_out`].
    pub series: Vec<Series>,
    /// The run's event log, oldest first.
    pub events: Vec<EventFacts>,
    /// Files stored so far (the report itself is not among them).
    pub artifacts: Vec<ArtifactView>,
    /// What operators decided not to count, the oldest first; those taken back are among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<Waiver>,
    /// Figures that are far from those of other machines of the same model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outliers: Vec<Outlier>,
    /// Where parts of this machine were before, in other machines, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts_before: Vec<PartBefore>,
}

/// A part of the machine in an earlier run, of another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartBefore {
    /// `disk`, `dimm`, ….
    pub kind: String,
    /// Serial number.
    pub serial: String,
    /// Slot or kernel name there.
    pub place: String,
    /// The other machine.
    pub host: String,
    /// The run.
    pub run: RunId,
    /// When it began, ms since the epoch.
    pub started_ms: i64,
    /// Its verdict; absent while it had none.
    pub result: Option<RunResult>,
    /// The stage it failed in.
    pub failed_stage: Option<String>,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFacts {
    /// Key; absent where no coordinator knows the machine.
    pub id: Option<HostId>,
    /// Name.
    pub name: String,
    /// MAC address it boots from; absent if it has no network card.
    pub mac: Option<MacAddress>,
    /// Operator's notes.
    pub notes: String,
}

/// The run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunHeader {
    /// Key; absent for a run without a coordinator.
    pub id: Option<RunId>,
    /// What tells a run without a coordinator from all others; absent for the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Which report of the run this is: 1, and one more for each time that a waiver changed what is to be judged.
    #[serde(default = "first")]
    pub report_version: u32,
    /// The profile.
    pub profile: ProfileName,
    /// The profile is not the one that comes with the program: an operator's file stood in for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_profile: bool,
    /// What the profile is for.
    pub profile_description: String,
    /// Interval of the sensor sidecar, milliseconds.
    pub sampling_interval_ms: u64,
    /// When it was created, ms since the epoch.
    pub started_ms: i64,
    /// When it ended, ms since the epoch.
    pub ended_ms: i64,
    /// What could be done to disks.
    pub consent: DiskConsent,
    /// On which system it was made.
    pub place: RunPlace,
    /// Version of the coordinator, or of the agent when it judged alone.
    pub judged_by: String,
}

fn first() -> u32 {
    1
}

/// How a run came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ending {
    /// The agent worked through its plan or halted where it was told to.
    Regular,
    /// No agent claimed the run.
    NeverAppeared {
        /// How long the coordinator waited, ms.
        waited_ms: u64,
        /// How far the machine came: `the boot script was never asked for`.
        last_seen: String,
    },
    /// The agent stopped reporting.
    WentSilent {
        /// The stage it was in.
        stage: Option<StageName>,
        /// How long nothing was heard, ms.
        silent_ms: u64,
        /// What it was and what was under way, in sentences; absent if nobody asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<String>,
    },
    /// The machine came back with another boot_id though no reboot was planned.
    UnplannedReboot {
        /// The stage it was in.
        stage: Option<StageName>,
        /// What it was and what was under way, in sentences; absent if nobody asked.
        evidence: Option<String>,
    },
    /// The agent's process died.
    AgentCrashed {
        /// `exit code 101`, `signal SIGSEGV`.
        how: String,
    },
    /// An operator ended it.
    Aborted {
        /// Why.
        reason: String,
    },
    /// The coordinator could not go on.
    CoordinatorFault {
        /// What happened.
        reason: String,
    },
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageFacts {
    /// Its name as stored. One that no [`StageName`] knows fails the run.
    pub name: String,
    /// Whether the profile requires it to pass.
    pub required: bool,
    /// How it ended; absent if it did not.
    pub outcome: Option<Outcome>,
    /// What the agent had said, where the judge found otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Outcome>,
    /// When it began, ms since the epoch.
    pub started_ms: Option<i64>,
    /// When it ended, ms since the epoch.
    pub ended_ms: Option<i64>,
    /// What the agent said of it.
    pub details: serde_json::Value,
    /// Its sub-steps, in order.
    pub sub_steps: Vec<SubStepFacts>,
}

impl StageFacts {
    /// It failed by what the judge found in it, not by what the agent said: SpecValidate fails by differences alone.
    pub fn failed_by_judge(&self) -> bool {
        let failed = matches!(self.outcome, Some(Outcome::Fail { .. }));
        failed && (self.reported == Some(Outcome::Pass) || self.name == StageName::SpecValidate.as_str())
    }
}

/// An attempt at a stage that another one followed. It decides nothing any more, and is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptFacts {
    /// The stage.
    pub stage: StageName,
    /// 1 for the first.
    pub attempt: u32,
    /// How it ended; absent if it did not.
    pub outcome: Option<Outcome>,
}

/// A sub-step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubStepFacts {
    /// `sda badblocks`.
    pub name: String,
    /// How it ended; absent if it did not.
    pub outcome: Option<Outcome>,
    /// When it began, ms since the epoch.
    pub started_ms: Option<i64>,
    /// When it ended, ms since the epoch.
    pub ended_ms: Option<i64>,
    /// What the agent said of it.
    pub details: serde_json::Value,
}

/// A diff, and whether an operator chose to ignore it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffFacts {
    /// What differs.
    pub diff: SpecDiff,
    /// An operator said it does not matter.
    pub ignored: bool,
}

/// A line of the event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventFacts {
    /// ms since the epoch.
    pub ts_ms: i64,
    /// How grave.
    pub level: EventLevel,
    /// A stable word.
    pub kind: String,
    /// In words.
    pub message: String,
}

/// A quantity over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// The quantity: `temp`.
    pub kind: String,
    /// Which one: `cpu/0`.
    pub key: String,
    /// Its unit.
    pub unit: String,
    /// In order of time.
    pub points: Vec<SeriesPoint>,
}

/// The extremes of a piece of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesPoint {
    /// Its begin, ms since the epoch.
    pub ts_ms: i64,
    /// Lowest value in it.
    pub min: f64,
    /// Highest value in it.
    pub max: f64,
}

impl Series {
    /// A series of at most `most` points from samples in any order: equal pieces of time, each with its lowest and
    /// highest value, so that no peak is lost. Values that are not finite are left out.
    pub fn thin_out(
        kind: &str,
        key: &str,
        unit: &str,
        samples: impl IntoIterator<Item = (i64, f64)>,
        most: usize,
    ) -> Self {
        let mut samples: Vec<(i64, f64)> =
            samples.into_iter().filter(|(_, value)| value.is_finite()).collect();
        samples.sort_by_key(|(ts_ms, _)| *ts_ms);
        let first = samples.first().map_or(0, |(ts_ms, _)| *ts_ms);
        let last = samples.last().map_or(0, |(ts_ms, _)| *ts_ms);
        let pieces = u64::try_from(most.max(1)).unwrap_or(u64::MAX);
        let width = (last.abs_diff(first) / pieces).saturating_add(1);
        let mut points: Vec<SeriesPoint> = Vec::new();
        let mut piece_of_last = None;
        for (ts_ms, value) in samples {
            let piece = ts_ms.abs_diff(first) / width;
            match points.last_mut() {
                Some(point) if piece_of_last == Some(piece) => {
                    point.min = point.min.min(value);
                    point.max = point.max.max(value);
                }
                Some(_) | None => points.push(SeriesPoint { ts_ms, min: value, max: value }),
            }
            piece_of_last = Some(piece);
        }
        Self { kind: kind.to_owned(), key: key.to_owned(), unit: unit.to_owned(), points }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn thinning_out_keeps_the_extremes(
            samples in prop::collection::vec((any::<i64>(), -1e6..1e6_f64), 0..200),
            most in 1..50_usize,
        ) {
            let series = Series::thin_out("temp", "cpu/0", "celsius", samples.clone(), most);
            prop_assert!(series.points.len() <= most);
            let fold = |values: &mut dyn Iterator<Item = f64>, pick: fn(f64, f64) -> f64| values.reduce(pick);
            let values = || samples.iter().map(|(_, value)| *value);
            prop_assert_eq!(
                fold(&mut series.points.iter().map(|point| point.max), f64::max),
                fold(&mut values(), f64::max)
            );
            prop_assert_eq!(
                fold(&mut series.points.iter().map(|point| point.min), f64::min),
                fold(&mut values(), f64::min)
            );
        }
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let samples = [(1, f64::NAN), (2, 40.0), (3, f64::INFINITY)];
        assert_eq!(Series::thin_out("temp", "cpu/0", "celsius", samples, 10).points.len(), 1);
    }
}
