//! The report of a run without a coordinator, from its header, its profile and its record stream. The agent makes it
//! when the run ends; whoever imports the run makes it again, and finds out whether the stored one follows from the stream.

use vetting_protocol::agent_api::Record;
use vetting_protocol::operator_api::BootView;
use vetting_protocol::plan::DiskConsent;
use vetting_protocol::results::ResultsHeader;
use vetting_protocol::run::RunPlace;

use crate::course::{Course, CourseError};
use crate::facts::{Ending, HostFacts, RunHeader};
use crate::host_rules;
use crate::profile::host_stages::{self, HostStageError};
use crate::profile::{Profile, ProfileError, Registry};
use crate::report::Report;
use crate::threshold::RuleError;

/// A stream that no report can be made from.
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    /// The profile.
    #[error("the profile cannot be used")]
    Profile(#[from] ProfileError),
    /// A stage of the spec.
    #[error("the spec and the profile do not fit")]
    HostStage(#[from] HostStageError),
    /// A rule.
    #[error("a rule of the profile cannot be used")]
    Rule(#[from] RuleError),
    /// A line of the stream is not a record.
    #[error("line {line} of the record stream is no record: {what}")]
    NoRecord {
        /// 1-based.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A record that contradicts those before it.
    #[error("line {line} of the record stream contradicts what comes before it")]
    Contradiction {
        /// 1-based.
        line: usize,
        /// How.
        source: CourseError,
    },
}

/// The profile that a run without a coordinator is judged by: the text it was stored as, with the rules and stages of the
/// spec that the machine was given, and without the stages that restart the machine, since nothing gives it its run back afterwards.
///
/// # Errors
/// A mistake in it, another profile than the header names, or a stage of the spec that it cannot have so.
pub fn profile(
    header: &ResultsHeader,
    yaml_text: &str,
    file_name: &str,
    spec: Option<&str>,
) -> Result<Profile, AloneError> {
    let registry = Registry::builtin()?.with_replacement(header.profile, yaml_text, file_name)?;
    let mut profile = registry.get(header.profile).clone();
    profile.own = header.own_profile;
    let profile = profile
        .with_host_rules(&spec.map(host_rules::of_spec).unwrap_or_default())
        .with_host_stages(&spec.map(host_stages::of_spec).unwrap_or_default())?
        .without_restarts();
    Ok(if header.has_spec { profile } else { profile.without_spec() })
}

/// Reads a record stream, one record a line.
///
/// # Errors
/// A line that is no record.
pub fn records(stream: &str) -> Result<Vec<Record>, AloneError> {
    (1..)
        .zip(stream.lines())
        .map(|(line, text)| {
            serde_json::from_str(text).map_err(|error| AloneError::NoRecord { line, what: error.to_string() })
        })
        .collect()
}

/// Goes through the records of a run.
///
/// # Errors
/// A record that does not fit.
pub fn course<'a>(
    header: &ResultsHeader,
    profile: &Profile,
    records: impl IntoIterator<Item = &'a Record>,
) -> Result<Course, AloneError> {
    let mut course = Course::new(profile, header.started_ms)?;
    for (line, record) in (1..).zip(records) {
        course.apply(record).map_err(|source| AloneError::Contradiction { line, source })?;
    }
    Ok(course)
}

/// Judges the run.
pub fn report(header: &ResultsHeader, profile: &Profile, course: &Course, ending: Ending) -> Report {
    let host = HostFacts {
        id: None,
        name: header.machine_name.clone(),
        mac: header.macs.first().copied(),
        notes: String::new(),
    };
    let run = RunHeader {
        id: None,
        uuid: Some(header.uuid.clone()),
        report_version: 1,
        profile: profile.name,
        own_profile: profile.own,
        profile_description: profile.description.clone(),
        sampling_interval_ms: profile.sampling_interval_ms,
        started_ms: header.started_ms,
        ended_ms: course.latest_ms(),
        consent: if header.wipe { DiskConsent::WipeAllowed } else { DiskConsent::EmptyDisksOnly },
        place: RunPlace::LiveImage,
        judged_by: format!("vetting-agent {} without a coordinator", header.agent_version),
    };
    let boot = BootView {
        woken_ms: None,
        script_served_ms: None,
        image_served_ms: None,
        claimed_ms: Some(header.started_ms),
        kernel_to_init_ms: header.timeline.init_ms,
        kernel_to_claim_ms: Some(header.timeline.claim_ms),
        kernel_to_network_ms: header.timeline.network_ms,
    };
    Report::new(course.facts(host, run, boot, ending))
}

/// How a run ended whose stream does or does not tell its end.
pub fn ending(course: &Course) -> Ending {
    match course.finished_ms() {
        Some(_) => Ending::Regular,
        None => Ending::AgentCrashed {
            how: "the record stream breaks off: the power went, the machine restarted or the program died"
                .to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use vetting_protocol::agent_api::BootTimeline;
    use vetting_protocol::ids::StageName;
    use vetting_protocol::outcome::Outcome;
    use vetting_protocol::profile::ProfileName;
    use vetting_protocol::run::RunResult;

    use super::*;

    const PROFILE: &str = r#"name: quick
description: two stages
sampling_interval: 5s
stages:
  - {stage: Inventory, limit: 1m}
  - {stage: SpecValidate, limit: 1m}
  - {stage: Firmware, limit: 1m}
thresholds:
  - {stage: "*", kind: temp, key: "cpu/*", op: lt, threshold: 95, unit: celsius, severity: critical, note: here}
"#;

    fn header(has_spec: bool) -> ResultsHeader {
        ResultsHeader {
            format: 1,
            protocol_version: 1,
            uuid: "7a0d8e0e-0000-4000-8000-000000000001".to_owned(),
            agent_version: "0.1.0".to_owned(),
            machine_name: "SN1".to_owned(),
            system_uuid: None,
            macs: Vec::new(),
            profile: ProfileName::Quick,
            own_profile: true,
            wipe: false,
            has_spec,
            started_ms: 1_000,
            timeline: BootTimeline { init_ms: Some(1), network_ms: None, claim_ms: 2 },
        }
    }

    fn stage(name: StageName, outcome: Outcome) -> [Record; 2] {
        [
            Record::StageStarted { stage: name, ts_ms: 2_000 },
            Record::StageFinished { stage: name, outcome, details: serde_json::Value::Null, ts_ms: 3_000 },
        ]
    }

    fn judged(has_spec: bool, records: &[Record]) -> Report {
        let header = header(has_spec);
        let profile = profile(&header, PROFILE, "profile.yaml", None).unwrap();
        let course = course(&header, &profile, records).unwrap();
        report(&header, &profile, &course, ending(&course))
    }

    fn no_spec() -> Vec<Record> {
        [
            stage(StageName::Inventory, Outcome::Pass),
            stage(StageName::SpecValidate, Outcome::skip("no expected spec was given")),
            stage(StageName::Firmware, Outcome::Pass),
        ]
        .concat()
    }

    #[test]
    fn without_a_spec_a_machine_can_pass_and_the_report_says_that_nothing_was_compared() {
        let mut records = no_spec();
        records.push(Record::PipelineFinished { ts_ms: 4_000 });
        let report = judged(false, &records);
        assert_eq!(report.verdict.result, RunResult::Pass, "{:?}", report.verdict);
        assert!(report.verdict.remarks[0].text.contains("no expected spec"));
        assert!(report.verdict.reasons[0].text.contains("no comparison with a spec"));
        assert!(report.to_html().contains("changed: not the shipped one"));
        assert_eq!(
            judged(true, &records[..4]).verdict.result,
            RunResult::Fail,
            "with a spec a skip is no pass"
        );
    }

    #[test]
    fn stages_of_the_spec_are_those_of_the_run_and_the_report_says_so() {
        let spec = "cpu: {sockets: 2}\nstages:\n  - {stage: Firmware, limit: 5m, note: slow BMC}\n  \
            - {stage: Reboot, profiles: [quick], limit: 9m, restarts: 1, note: x}\n";
        let header = header(true);
        let profile = profile(&header, PROFILE, "profile.yaml", Some(spec)).unwrap();
        let limits: Vec<u64> = profile.planned_stages().iter().map(|planned| planned.limit_ms).collect();
        assert_eq!(limits, [60_000, 60_000, 300_000], "nothing restarts a machine that works alone");
        let passed = profile.stages.iter().flat_map(|planned| stage(planned.work.name(), Outcome::Pass));
        let course = course(&header, &profile, &passed.collect::<Vec<_>>()).unwrap();
        let report = report(&header, &profile, &course, ending(&course));
        let remark = "The host's own stages: Firmware: limit 5m, instead of: limit 1m (slow BMC).";
        assert!(report.verdict.remarks.iter().any(|told| told.text == remark), "{:?}", report.verdict);
        let page = report.to_html();
        assert!(page.contains("Stages of this host") && page.contains("slow BMC"));
        let refused = "cpu: {sockets: 2}\nstages:\n  - {stage: Inventory, disabled: true, note: x}\n";
        assert!(super::profile(&header, PROFILE, "profile.yaml", Some(refused)).is_err());
    }

    #[test]
    fn a_stream_that_breaks_off_is_no_pass() {
        let report = judged(false, &no_spec());
        assert_eq!(report.verdict.result, RunResult::Fail);
        assert!(report.verdict.reasons[0].text.contains("breaks off"));
        assert_eq!(judged(false, &[]).verdict.result, RunResult::Fail);
    }

    #[test]
    fn a_record_that_does_not_fit_is_told_with_its_line() {
        let header = header(false);
        let profile = profile(&header, PROFILE, "profile.yaml", None).unwrap();
        let records = [no_spec(), no_spec()].concat();
        let error = course(&header, &profile, &records).unwrap_err();
        assert!(matches!(error, AloneError::Contradiction { line: 7, .. }), "{error:?}");
        let beyond = stage(StageName::Storage, Outcome::Pass);
        assert!(matches!(course(&header, &profile, &beyond), Err(AloneError::Contradiction { line: 1, .. })));
        assert!(matches!(super::records("{}\n"), Err(AloneError::NoRecord { line: 1, .. })));
    }

    #[test]
    fn a_limit_of_the_hardware_judges_here_too() {
        use vetting_protocol::limit::{Bound, HardwareLimit, LimitGrade};
        let limit = Record::HardwareLimits {
            limits: vec![HardwareLimit {
                kind: "temp".to_owned(),
                key: "bmc/CPU1_Temp".to_owned(),
                bound: Bound::Upper,
                grade: LimitGrade::Critical,
                value: 90.0,
                unit: "celsius".to_owned(),
                origin: "upper critical".to_owned(),
                observed: Some(45.0),
                asserted: None,
            }],
        };
        let hot = Record::Measurement(vetting_protocol::measurement::Measurement {
            ts_ms: 2_500,
            stage: Some(StageName::Inventory),
            kind: "temp".to_owned(),
            key: "bmc/CPU1_Temp".to_owned(),
            value: Some(95.0),
            unit: "celsius".to_owned(),
        });
        let [start, end] = stage(StageName::Inventory, Outcome::Pass);
        let header = header(false);
        let profile = profile(&header, PROFILE, "profile.yaml", None).unwrap();
        // told twice, as by a second boot
        let records = [limit.clone(), start, limit, hot, end];
        let course = course(&header, &profile, &records).unwrap();
        let halted = course.halted().unwrap();
        assert!(halted.starts_with("Inventory: temp bmc/CPU1_Temp must be < 90 °C"), "{halted}");
        let report = report(&header, &profile, &course, Ending::Regular);
        let limits = report.facts.rules.iter().filter(|rule| rule.key.as_str() == "bmc/CPU1_Temp");
        assert_eq!(limits.count(), 1);
    }

    #[test]
    fn a_critical_breach_halts() {
        let hot = Record::Measurement(vetting_protocol::measurement::Measurement {
            ts_ms: 2_500,
            stage: Some(StageName::Inventory),
            kind: "temp".to_owned(),
            key: "cpu/0".to_owned(),
            value: Some(101.0),
            unit: "celsius".to_owned(),
        });
        let [start, end] = stage(StageName::Inventory, Outcome::Pass);
        let header = header(false);
        let profile = profile(&header, PROFILE, "profile.yaml", None).unwrap();
        let course = course(&header, &profile, &[start, hot, end]).unwrap();
        assert!(course.halted().unwrap().starts_with("Inventory: temp cpu/0"), "{:?}", course.halted());
        let report = report(&header, &profile, &course, Ending::Regular);
        assert_eq!(report.verdict.result, RunResult::Fail);
        assert_eq!(report.facts.series.len(), 1);
    }
}
