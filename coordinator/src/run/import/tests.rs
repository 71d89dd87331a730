//! The same records, judged by a machine alone and by the coordinator, give the same verdict; and an import is whole,
//! once, or nothing.

use std::path::PathBuf;

use proptest::prelude::*;
use vetting_judge::alone;
use vetting_protocol::PROTOCOL_VERSION;
use vetting_protocol::agent_api::BootTimeline;
use vetting_protocol::diff::{Severity, SpecDiff};
use vetting_protocol::ids::StageName;
use vetting_protocol::measurement::Measurement;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::profile::ProfileName;
use vetting_protocol::results::{
    HEADER_FILE, MANIFEST_FILE, ManifestLine, PROFILE_FILE, REPORT_FILE, REPORT_HTML_FILE, RESULTS_FORMAT,
    ResultsHeader, STREAM_FILE, manifest_text,
};
use vetting_protocol::run::RunState;

use super::*;
use crate::results_folder::FolderError;
use crate::store::{artifacts, diffs, measurements};

const T0: i64 = 1_795_487_400_000;

const PROFILE: &str = r#"name: quick
description: four stages
sampling_interval: 5s
stages:
  - {stage: Inventory, limit: 1m}
  - {stage: SpecValidate, limit: 1m}
  - {stage: Firmware, limit: 1m, required: false}
  - {stage: Storage, limit: 1h, fio_read: 1s, fio_random: 1s, surface: {mode: read_whole}}
thresholds:
  - {stage: "*", kind: temp, key: "cpu/*", op: lt, threshold: 95, unit: celsius, severity: critical, note: here}
  - {stage: "*", kind: temp, key: "cpu/*", op: lt, threshold: 60, unit: celsius, severity: warning, note: here}
  - {stage: Storage, kind: fio, key: "*/read_errors", op: lte, threshold: 0, unit: count, severity: critical, note: here}
"#;

fn header(uuid: &str, macs: &[&str]) -> ResultsHeader {
    ResultsHeader {
        format: RESULTS_FORMAT,
        protocol_version: PROTOCOL_VERSION,
        uuid: uuid.to_owned(),
        agent_version: "0.1.0".to_owned(),
        machine_name: format!("SN-{uuid}"),
        system_uuid: None,
        macs: macs.iter().map(|mac| mac.parse().unwrap()).collect(),
        profile: ProfileName::Quick,
        own_profile: true,
        wipe: false,
        has_spec: false,
        started_ms: T0,
        timeline: BootTimeline { init_ms: Some(900), network_ms: None, claim_ms: 2_000 },
    }
}

/// Writes a folder as the agent does.
fn write_folder(path: &Path, header: &ResultsHeader, records: &[Record]) {
    let profile = alone::profile(header, PROFILE, PROFILE_FILE, None).unwrap();
    let course = alone::course(header, &profile, records).unwrap();
    let report = alone::report(header, &profile, &course, alone::ending(&course));
    let stream: String =
        records.iter().flat_map(|record| [serde_json::to_string(record).unwrap(), "\n".to_owned()]).collect();
    let files = [
        (HEADER_FILE, serde_json::to_string(header).unwrap()),
        (PROFILE_FILE, PROFILE.to_owned()),
        (STREAM_FILE, stream),
        (REPORT_FILE, report.to_json().unwrap()),
        (REPORT_HTML_FILE, report.to_html()),
    ];
    std::fs::create_dir_all(path).unwrap();
    let mut lines = Vec::new();
    for (name, text) in files {
        std::fs::write(path.join(name), &text).unwrap();
        lines.push(ManifestLine { name: name.to_owned(), sha256: Sha256Hex::of(text.as_bytes()) });
    }
    std::fs::write(path.join(MANIFEST_FILE), manifest_text(&lines)).unwrap();
}

/// What one stage does, for the property.
#[derive(Debug, Clone)]
struct Scripted {
    outcome: Outcome,
    celsius: Option<f64>,
    unit: &'static str,
    sub_step: Option<Outcome>,
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => Just(Outcome::Pass),
        1 => Just(Outcome::fail("sda: 3 bad blocks")),
        1 => Just(Outcome::error("the tool hung")),
        1 => Just(Outcome::skip("no such part")),
    ]
}

fn any_stage() -> impl Strategy<Value = Scripted> {
    (
        any_outcome(),
        prop_oneof![6 => (20.0..70.0_f64).prop_map(Some), 1 => Just(Some(99.0)), 1 => Just(None)],
        prop_oneof![8 => Just("celsius"), 1 => Just("kelvin")],
        prop::option::of(any_outcome()),
    )
        .prop_map(|(outcome, celsius, unit, sub_step)| Scripted { outcome, celsius, unit, sub_step })
}

/// The records of a run, which halts where the pipeline would.
fn records(script: &[Scripted], critical_diff: bool, ends: bool) -> Vec<Record> {
    let header = header("script", &[]);
    let profile = alone::profile(&header, PROFILE, PROFILE_FILE, None).unwrap();
    let mut all = Vec::new();
    let stages = [StageName::Inventory, StageName::SpecValidate, StageName::Firmware, StageName::Storage];
    for ((stage, script), at) in stages.into_iter().zip(script).zip((0_i64..).step_by(10_000)) {
        let ts_ms = T0 + at;
        all.push(Record::StageStarted { stage, ts_ms });
        all.push(Record::Measurement(Measurement {
            ts_ms: ts_ms + 1,
            stage: Some(stage),
            kind: "temp".to_owned(),
            key: "cpu/0".to_owned(),
            value: script.celsius,
            unit: script.unit.to_owned(),
        }));
        if let Some(outcome) = &script.sub_step {
            let name = "sda part".to_owned();
            all.push(Record::SubStepStarted { stage, ordinal: 0, name, ts_ms: ts_ms + 2 });
            if *outcome != Outcome::skip("no such part") {
                let (outcome, details) = (outcome.clone(), serde_json::json!({"a": 1}));
                all.push(Record::SubStepFinished { stage, ordinal: 0, outcome, details, ts_ms: ts_ms + 3 });
            }
        }
        if stage == StageName::SpecValidate {
            let severity = if critical_diff { Severity::Critical } else { Severity::Warning };
            let diff = SpecDiff {
                field: "memory.total_gib".to_owned(),
                expected: Some("64".to_owned()),
                actual: Some("32".to_owned()),
                severity,
            };
            all.push(Record::SpecDiffs { diffs: vec![diff] });
        }
        let (outcome, details) = (script.outcome.clone(), serde_json::Value::Null);
        all.push(Record::StageFinished { stage, outcome, details, ts_ms: ts_ms + 5_000 });
        if alone::course(&header, &profile, &all).unwrap().halted().is_some() {
            break;
        }
    }
    if ends {
        all.push(Record::PipelineFinished { ts_ms: T0 + 100_000 });
    }
    all
}

fn good() -> Vec<Scripted> {
    let stage = Scripted { outcome: Outcome::Pass, celsius: Some(40.0), unit: "celsius", sub_step: None };
    vec![stage; 4]
}

/// Writes the results of a machine that passed, as its agent does.
pub(crate) fn write_good_folder(path: &Path, uuid: &str, mac: &str) {
    write_folder(path, &header(uuid, &[mac]), &records(&good(), false, true));
}

struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("vetting.db")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { folder, store, runtime }
    }

    fn results(&self) -> PathBuf {
        self.folder.path().join("stick")
    }

    fn artifacts(&self) -> PathBuf {
        self.folder.path().join("artifacts")
    }

    fn import(&self, host: Option<&str>) -> Result<Imported, RunError> {
        let folder = ResultsFolder::read(&self.results(), false).unwrap();
        let host = host.map(str::to_owned);
        self.runtime.block_on(import(&self.store, &self.artifacts(), folder, host, None, T0 + 200_000))
    }

    fn report(&self, run: RunId) -> Report {
        let row = self.store.read_blocking(move |connection| runs::get(connection, run)).unwrap();
        assert_eq!(row.state, RunState::Completed);
        let report: Report =
            serde_json::from_slice(&std::fs::read(row.report_path.unwrap()).unwrap()).unwrap();
        assert_eq!(row.result, Some(report.verdict.result));
        report
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn alone_and_by_the_coordinator_a_run_is_judged_alike(
        script in prop::collection::vec(any_stage(), 4),
        critical_diff in prop::bool::weighted(0.2),
        ends in prop::bool::weighted(0.9),
    ) {
        let bench = Bench::new();
        let records = records(&script, critical_diff, ends);
        write_folder(&bench.results(), &header("u1", &["52:54:00:00:00:01"]), &records);
        let alone = ResultsFolder::read(&bench.results(), false).unwrap();
        prop_assert!(alone.differences.is_empty());
        let imported = bench.import(None).unwrap();
        let coordinators = bench.report(imported.run);
        prop_assert_eq!(&coordinators.verdict, &alone.report.verdict);
        let outcomes = |report: &Report| -> Vec<_> {
            report.facts.stages.iter().map(|stage| (stage.name.clone(), stage.outcome.clone())).collect()
        };
        prop_assert_eq!(outcomes(&coordinators), outcomes(&alone.report));
        prop_assert_eq!(&coordinators.facts.evaluations, &alone.report.facts.evaluations);
        prop_assert_eq!(&coordinators.facts.diffs, &alone.report.facts.diffs);
        prop_assert_eq!(coordinators.facts.sample_count, alone.report.facts.sample_count);
    }
}

#[test]
fn an_import_has_everything_and_a_second_one_changes_nothing() {
    let bench = Bench::new();
    write_folder(&bench.results(), &header("u1", &["52:54:00:00:00:01"]), &records(&good(), false, true));
    let first = bench.import(Some("rack1-u07")).unwrap();
    assert_eq!((first.host.as_str(), first.result, first.news), ("rack1-u07", RunResult::Pass, News::Host));
    let run = first.run;
    let (samples, kinds, compared) = bench
        .store
        .read_blocking(move |connection| {
            let kinds: Vec<String> =
                artifacts::list(connection, run)?.into_iter().map(|row| row.values.kind).collect();
            let found = (measurements::count(connection, run)?, kinds, diffs::list(connection, run)?.len());
            Ok::<_, RunError>(found)
        })
        .unwrap();
    assert_eq!((samples, compared), (4, 1));
    assert_eq!(kinds.iter().filter(|kind| *kind == ORIGINAL).count(), 6);
    assert!(kinds.iter().any(|kind| kind == "report") && kinds.iter().any(|kind| kind == "report_html"));
    let second = bench.import(None).unwrap();
    assert_eq!(second, Imported { news: News::Known, ..first });
}

#[test]
fn a_machine_is_known_by_its_cards_and_one_without_is_known_again() {
    let bench = Bench::new();
    let import = |uuid: &str, name: &str, macs: &[&str]| {
        let header = ResultsHeader { machine_name: name.to_owned(), ..header(uuid, macs) };
        write_folder(&bench.results(), &header, &records(&good(), false, true));
        let imported = bench.import(None).unwrap();
        (imported.host, imported.news)
    };
    let (first, second) = ("52:54:00:00:00:01", "52:54:00:00:00:02");
    assert_eq!(import("u1", "A", &[first]), ("A".to_owned(), News::Host));
    assert_eq!(import("u2", "renamed", &[second, first]), ("A".to_owned(), News::Run));
    assert_eq!(import("u3", "B", &[]), ("B".to_owned(), News::Host));
    assert_eq!(import("u4", "B", &[]), ("B".to_owned(), News::Run));
}

#[test]
fn what_was_changed_or_broke_off_is_refused() {
    let bench = Bench::new();
    let path = bench.results();
    let write = || write_folder(&path, &header("u1", &[]), &records(&good(), false, true));
    let append = |name: &str, text: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).open(path.join(name)).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    for name in [HEADER_FILE, PROFILE_FILE, STREAM_FILE, REPORT_FILE, REPORT_HTML_FILE] {
        write();
        append(name, " ");
        assert!(matches!(ResultsFolder::read(&path, false), Err(FolderError::Changed { .. })), "{name}");
    }
    write();
    append(MANIFEST_FILE, &format!("{}  more.txt\n", Sha256Hex::of(b"")));
    assert!(matches!(ResultsFolder::read(&path, false), Err(FolderError::Malformed { .. })));
    write();
    std::fs::remove_file(path.join(MANIFEST_FILE)).unwrap();
    assert!(matches!(ResultsFolder::read(&path, false), Err(FolderError::Incomplete { .. })));
    std::fs::remove_file(path.join(REPORT_FILE)).unwrap();
    let whole = std::fs::read_to_string(path.join(STREAM_FILE)).unwrap();
    std::fs::write(path.join(STREAM_FILE), &whole[..whole.len() - 10]).unwrap();
    let broken_off = ResultsFolder::read(&path, true).unwrap();
    assert_eq!(broken_off.report.verdict.result, RunResult::Fail);
    assert!(broken_off.report.verdict.reasons[0].text.contains("breaks off"));
}

#[test]
fn a_report_that_does_not_follow_from_its_records_is_told() {
    let bench = Bench::new();
    let path = bench.results();
    let mut script = good();
    script[3].celsius = Some(99.0);
    write_folder(&path, &header("u1", &[]), &records(&script, false, true));
    // a report that says pass, with a manifest made anew: the records still say what was measured
    let forged = path.join(REPORT_FILE);
    let mut report: Report = serde_json::from_slice(&std::fs::read(&forged).unwrap()).unwrap();
    report.verdict.result = RunResult::Pass;
    std::fs::write(&forged, report.to_json().unwrap()).unwrap();
    let manifest = std::fs::read_to_string(path.join(MANIFEST_FILE)).unwrap();
    let digest = Sha256Hex::of(&std::fs::read(&forged).unwrap());
    let lines: String = manifest
        .lines()
        .map(|line| {
            if line.ends_with(REPORT_FILE) {
                format!("{digest}  {REPORT_FILE}\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    std::fs::write(path.join(MANIFEST_FILE), lines).unwrap();
    let folder = ResultsFolder::read(&path, false).unwrap();
    assert_eq!(folder.differences, ["the verdict: pass in the report, fail by its records"]);
}

#[test]
fn a_link_or_a_folder_without_results_is_refused() {
    let bench = Bench::new();
    let path = bench.results();
    assert!(matches!(crate::results_folder::find(&path), Err(FolderError::NoResults { .. })));
    write_folder(&path.join("results/run"), &header("u1", &[]), &records(&good(), false, true));
    assert_eq!(crate::results_folder::find(&path).unwrap(), [path.join("results/run")]);
    let run = path.join("results/run");
    std::fs::remove_file(run.join(STREAM_FILE)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", run.join(STREAM_FILE)).unwrap();
    let error = ResultsFolder::read(&run, false).unwrap_err().to_string();
    assert!(error.contains("no plain file"), "{error}");
}
