//! A whole run on a recorded machine, judged here, and what it leaves.

use vetting_judge::report::Report;
use vetting_protocol::results::{
    MANIFEST_FILE, REPORT_FILE, REPORT_HTML_FILE, RESULTS_FOLDER, STREAM_FILE, artifact_of, parse_manifest,
};

use super::*;

const PROFILE: &str = "name: quick
description: what a recorded machine can tell
sampling_interval: 1h
stages:
  - {stage: Inventory, limit: 1m}
  - {stage: Firmware, limit: 1m}
  - {stage: SpecValidate, limit: 1m}
thresholds: []
";

fn arguments(folder: &Path, spec: Option<&str>) -> AloneArguments {
    let profile = folder.join("mine.yaml");
    std::fs::write(&profile, PROFILE).unwrap();
    let spec = spec.map(|text| {
        let path = folder.join("spec.yaml");
        std::fs::write(&path, text).unwrap();
        path
    });
    AloneArguments {
        results: Some(folder.to_owned()),
        profile: Some(ProfileName::Quick),
        profile_file: Some(profile),
        spec,
        wipe: false,
        medium: None,
        devices_ready_file: None,
        init_ms: None,
    }
}

/// Runs on a recorded machine; gives its exit code, report, and the folder of results.
fn vet(spec: Option<&str>) -> (Exit, Report, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hosts/qemu-pc-i440fx");
    let machine = Machine::at(Some(&recorded)).unwrap();
    let exit = here(&machine, &arguments(folder.path(), spec)).unwrap();
    let mut runs = std::fs::read_dir(folder.path().join(RESULTS_FOLDER)).unwrap();
    let run = runs.next().unwrap().unwrap().path();
    assert!(runs.next().is_none());
    let report = serde_json::from_slice(&std::fs::read(run.join(REPORT_FILE)).unwrap()).unwrap();
    (exit, report, run, folder)
}

#[test]
fn a_run_leaves_a_report_that_follows_from_its_stream() {
    let (exit, report, run, _folder) = vet(None);
    assert_eq!((exit, report.verdict.result), (Exit::Pass, RunResult::Pass), "{:?}", report.verdict);
    assert!(report.facts.run.own_profile && report.facts.inventory.is_some());
    let text = |name: &str| std::fs::read_to_string(run.join(name)).unwrap();
    let mut names: Vec<_> =
        parse_manifest(&text(MANIFEST_FILE)).unwrap().into_iter().map(|line| line.name).collect();
    names.sort();
    for (kind, name) in names.iter().filter_map(|name| artifact_of(name)) {
        assert_eq!(kind, "tool_output", "{name}");
    }
    names.retain(|name| artifact_of(name).is_none());
    assert_eq!(names, [PROFILE_FILE, REPORT_HTML_FILE, REPORT_FILE, HEADER_FILE, STREAM_FILE]);
    let header: ResultsHeader = serde_json::from_str(&text(HEADER_FILE)).unwrap();
    let profile = alone::profile(&header, &text(PROFILE_FILE), PROFILE_FILE, None).unwrap();
    let records = alone::records(&text(STREAM_FILE)).unwrap();
    let course = alone::course(&header, &profile, &records).unwrap();
    assert_eq!(alone::report(&header, &profile, &course, alone::ending(&course)), report);
}

#[test]
fn a_machine_that_is_not_as_expected_fails() {
    let (exit, report, ..) = vet(Some("cpu: {sockets: 64}\n"));
    assert_eq!((exit, report.verdict.result), (Exit::Fail, RunResult::Fail));
    assert!(report.verdict.reasons[0].text.contains("cpu.sockets"), "{:?}", report.verdict);
}

#[test]
fn a_spec_or_profile_with_a_mistake_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hosts/qemu-pc-i440fx");
    let machine = Machine::at(Some(&recorded)).unwrap();
    let error = here(&machine, &arguments(folder.path(), Some("cpu: {sokets: 1}\n"))).unwrap_err();
    assert!(error.to_string().contains("line 1"), "{error}");
    let arguments = arguments(folder.path(), None);
    std::fs::write(folder.path().join("mine.yaml"), "name: quick\n").unwrap();
    let error = here(&machine, &arguments).unwrap_err().to_string();
    assert!(error.contains("mine.yaml: line 1"), "{error}");
    assert!(!folder.path().join(RESULTS_FOLDER).exists());
}
