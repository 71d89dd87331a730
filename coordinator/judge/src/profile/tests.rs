//! The built-in profiles are sound, and a mistake is told with its place.

use proptest::prelude::*;
use vetting_protocol::plan::{DiskBudget, StageWork, SurfaceScan};

use super::*;
use crate::fixtures;
use crate::threshold::RuleSeverity;

const SMALL: &str = r#"name: quick
description: d
sampling_interval: 5s
stages:
  - {stage: CPUStress, limit: 5m, cpu: 60s, per_core: 30s, memory: 2m, memory_percent: 80}
thresholds:
  - {stage: "*", kind: temp, key: "cpu/*", op: lt, threshold: 95, unit: celsius, severity: critical, note: n}
"#;

fn refused(from: &str, to: &str) -> (usize, usize, String) {
    assert!(SMALL.contains(from), "{from}");
    let text = SMALL.replacen(from, to, 1);
    match fixtures::registry().clone().with_replacement(ProfileName::Quick, &text, "mine.yaml") {
        Err(ProfileError::Malformed { file, mistake }) => {
            assert_eq!(file, "mine.yaml");
            (mistake.line, mistake.column, format!("{}: {}", mistake.path, mistake.what))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_built_in_profiles_are_what_they_say() {
    let registry = fixtures::registry();
    for name in ProfileName::ALL {
        let profile = registry.get(*name);
        assert_eq!(profile.name, *name);
        let stages: Vec<StageName> = profile.stages.iter().map(|stage| stage.work.name()).collect();
        let restarts = |stage: &StageName| matches!(stage, StageName::Reboot | StageName::Memtest);
        let expected = StageName::ALL.iter().copied();
        let expected: Vec<_> =
            expected.filter(|stage| *name != ProfileName::Quick || !restarts(stage)).collect();
        assert_eq!(stages, expected, "{name}");
        assert!(!profile.requires(StageName::Memtest) || *name == ProfileName::Quick);
        assert!(profile.requires(StageName::Storage));
        assert!(profile.thresholds.iter().all(|threshold| threshold.note.len() > 10));
        assert!(profile.rules().any(|rule| rule.severity == RuleSeverity::Critical));
    }
    let ceilings_ms: u64 = registry.get(ProfileName::Quick).stages.iter().map(|stage| stage.limit_ms).sum();
    assert!(ceilings_ms <= 30 * 60_000, "{ceilings_ms}");
    let work_ms = |name| -> u64 {
        let of = |stage: &ProfileStage| match stage.work {
            StageWork::CpuStress { cpu_ms, per_core_ms, memory_ms, .. } => cpu_ms + per_core_ms + memory_ms,
            StageWork::Memory { duration_ms, .. } => duration_ms,
            _ => 0,
        };
        registry.get(name).stages.iter().map(of).sum()
    };
    assert!(work_ms(ProfileName::Quick) <= 10 * 60_000);
    assert!(work_ms(ProfileName::Quick) < work_ms(ProfileName::Deep));
    assert!(work_ms(ProfileName::Deep) < work_ms(ProfileName::Soak));
}

#[test]
fn a_replacement_takes_the_place_of_one_profile() {
    let registry =
        fixtures::registry().clone().with_replacement(ProfileName::Quick, SMALL, "mine.yaml").unwrap();
    let quick = registry.get(ProfileName::Quick);
    assert_eq!(quick.sampling_interval_ms, 5_000);
    assert_eq!(
        quick.planned_stages()[0],
        PlannedStage {
            limit_ms: 300_000,
            needs_turn: false,
            work: StageWork::CpuStress {
                cpu_ms: 60_000,
                per_core_ms: 30_000,
                memory_ms: 120_000,
                memory_percent: 80
            }
        }
    );
    assert_eq!(registry.get(ProfileName::Deep), fixtures::registry().get(ProfileName::Deep));
    assert!(matches!(
        registry.with_replacement(ProfileName::Deep, SMALL, "mine.yaml"),
        Err(ProfileError::OtherName { found: ProfileName::Quick, wanted: ProfileName::Deep, .. })
    ));
}

#[test]
fn mistakes_are_told_with_their_place() {
    let mistakes: Vec<String> = [
        ("description: d", "descriptoin: d"),
        ("sampling_interval: 5s", "sampling_interval: 5"),
        ("sampling_interval: 5s", "sampling_interval: 5ms"),
        ("cpu: 60s", "cpus: 60s"),
        ("cpu: 60s", "cpu: 10m"),
        ("cpu: 60s, ", ""),
        ("memory_percent: 80", "memory_percent: 96"),
        ("per_core: 30s, ", ""),
        ("memory_percent: 80", "memory_percent: 80, fade: 5s"),
        ("memory_percent: 80", "memory_percent: 80, fio_read: 5s"),
        ("memory_percent: 80", "memory_percent: 80, required: false"),
        ("stage: CPUStress", "stage: CpuStress"),
        ("op: lt", "op: less"),
        ("op: lt", "op: within_pct"),
        ("op: lt", "op: lt, nominal: 3"),
        ("threshold: 95", "threshold: .nan"),
        ("key: \"cpu/*\"", "key: \"cpu/[\""),
        ("stage: \"*\"", "stage: Blessing"),
        ("severity: critical", "severity: info"),
        ("note: n", "note: ' '"),
    ]
    .iter()
    .map(|(from, to)| {
        let (line, column, what) = refused(from, to);
        format!("{from} -> {to}\n  {line}:{column} {what}")
    })
    .collect();
    insta::assert_snapshot!(mistakes.join("\n"));
}

#[test]
fn an_empty_file_is_refused() {
    for text in ["", "# nothing\n", "---\n", "{}", "[]"] {
        assert!(document::parse(text, "empty.yaml").is_err(), "{text:?}");
    }
}

#[test]
fn a_scan_of_nothing_is_refused() {
    let zones = |zones, zone_mib| {
        let text = format!(
            "{{name: quick, description: d, sampling_interval: 5s, thresholds: [], stages: [{{stage: Storage, \
             limit: 5m, fio_read: 5s, fio_random: 5s, surface: {{mode: read_zones, zones: {zones}, zone_mib: {zone_mib}}}}}]}}"
        );
        document::parse(&text, "x").map(|profile| profile.stages[0].work.clone())
    };
    assert!(zones(1, 8).is_err() && zones(2, 0).is_err());
    let surface = SurfaceScan::ReadZones { zones: 2, zone_mib: 8 };
    assert_eq!(
        zones(2, 8).ok(),
        Some(StageWork::Storage {
            fio_read_ms: 5_000,
            fio_random_ms: 5_000,
            surface,
            budget: DiskBudget::UNLIMITED
        })
    );
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[ -~\n]{0,200}", at in 0..SMALL.len()) {
        let _ = document::parse(&text, "x");
        let mut mutated = SMALL.to_owned();
        mutated.insert_str(at, &text[..text.len().min(6)]);
        let _ = document::parse(&mutated, "x");
    }
}
