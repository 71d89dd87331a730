//! What was found on a machine, and the coordinator's own tables.

use serde_json::json;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::diff::{Severity, SpecDiff};
use vetting_protocol::firmware::{FirmwareComponent, FirmwareVersion};
use vetting_protocol::ids::{RunId, Sha256Hex};
use vetting_protocol::users::Role;

use super::{NOW_MS, host_and_run, on_a_database, sample};
use crate::store::thresholds::{ThresholdOp, ThresholdSource};
use crate::store::{
    StoreError, artifacts, diffs, events, firmware, measurements, settings, thresholds, tokens,
};

#[test]
fn a_series_keeps_every_peak_however_few_its_points() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        assert_eq!(measurements::series(db, run, "temp", 10)?, []);
        let mut samples: Vec<_> = (0..1000)
            .map(|second| {
                let value = if second == 700 { 99.0 } else { 40.0 };
                sample(NOW_MS + second * 1000, "cpu/0", Some(value))
            })
            .collect();
        samples.push(sample(NOW_MS, "nvme0", Some(30.0)));
        samples.push(sample(NOW_MS + 1, "nvme0", None));
        let ids = measurements::insert(db, run, &samples)?;
        assert_eq!(ids.end - ids.start, 1002);
        assert_eq!(measurements::insert(db, run, &samples[..2])?.start, ids.end);
        assert!(measurements::insert(db, run, &[])?.is_empty());
        assert_eq!(measurements::count(db, run)?, 1004);
        let series = measurements::series(db, run, "temp", 10)?;
        assert_eq!(series.iter().map(|series| series.key.as_str()).collect::<Vec<_>>(), ["cpu/0", "nvme0"]);
        assert_eq!(series[0].points.len(), 10);
        assert_eq!(series[0].points[7].max.to_bits(), 99.0_f64.to_bits());
        assert!(series[0].points.iter().filter(|point| point.max > 90.0).count() == 1);
        assert!(series[0].points.iter().all(|point| point.min < 41.0));
        assert_eq!(series[1].points, [measurements::SeriesPoint { ts_ms: NOW_MS, min: 30.0, max: 30.0 }]);
        let never = measurements::insert(db, run, &[sample(i64::MAX, "cpu/0", None)]);
        assert!(matches!(never, Err(StoreError::Time(_))));
        Ok(())
    });
}

#[test]
fn a_breach_shows_the_value_farthest_from_its_rule() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        let rule = |op, threshold, nominal| thresholds::ThresholdValues {
            stage_name: "*".to_owned(),
            kind: "volt".to_owned(),
            key: "*".to_owned(),
            op,
            threshold,
            nominal,
            unit: "volts".to_owned(),
            severity: Severity::Critical,
            source: ThresholdSource::Profile,
            fallback: false,
            terms: thresholds::TermsValues::default(),
        };
        let rules = [
            rule(ThresholdOp::Lt, 10.0, 0.0),
            rule(ThresholdOp::Gte, 10.0, 0.0),
            rule(ThresholdOp::WithinPct, 5.0, 12.0),
        ];
        thresholds::seed(db, run, &rules)?;
        let seeded = thresholds::list(db, run)?;
        assert_eq!(seeded.iter().map(|row| row.values.clone()).collect::<Vec<_>>(), rules);
        let mut evaluations = Vec::new();
        for rule in &seeded {
            for (second, observed, passed) in
                [(3, 11.0, false), (2, 14.0, false), (1, 8.0, false), (0, 9.0, true)]
            {
                evaluations.push(measurements::EvaluationValues {
                    threshold_id: rule.id,
                    stage_name: "CPUStress".to_owned(),
                    kind: "volt".to_owned(),
                    key: "+12V".to_owned(),
                    ts_ms: NOW_MS + second * 1000,
                    observed,
                    passed,
                });
            }
        }
        measurements::insert_evaluations(db, run, &evaluations)?;
        assert_eq!(measurements::count_evaluations(db, run)?, 12);
        let breaches = measurements::breaches(db, run)?;
        let worst: Vec<i64> = breaches
            .iter()
            .map(|breach| {
                assert_eq!((breach.samples, breach.first_ts_ms), (3, NOW_MS + 1000));
                format!("{:.0}", breach.worst).parse().unwrap()
            })
            .collect();
        assert_eq!(worst, [14, 8, 8]);
        Ok(())
    });
}

#[test]
fn diffs_firmware_and_files_are_replaced_not_doubled() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        let diff = SpecDiff {
            field: "memory.total_gib".to_owned(),
            expected: Some("64".to_owned()),
            actual: None,
            severity: Severity::Critical,
        };
        let version = FirmwareVersion {
            component: FirmwareComponent::NvmeFw,
            identifier: "nvme0".to_owned(),
            version: "1.0".to_owned(),
            vendor: String::new(),
            raw: json!({"slot": 1}),
        };
        let file = artifacts::ArtifactValues {
            stage_id: None,
            kind: "report".to_owned(),
            path: "/var/report.json".to_owned(),
            sha256: Sha256Hex::of(b"1"),
            size_bytes: 1,
        };
        for _ in 0..2 {
            diffs::replace(db, run, std::slice::from_ref(&diff))?;
            firmware::replace(db, run, std::slice::from_ref(&version))?;
            artifacts::insert(db, run, &file)?;
        }
        let found = diffs::list(db, run)?;
        assert_eq!((found.len(), &found[0].diff, found[0].ignored), (1, &diff, false));
        assert_eq!(firmware::list(db, run)?, [version]);
        assert_eq!(artifacts::list(db, run)?.len(), 1);
        assert_eq!(artifacts::latest(db, run, "report")?.map(|row| row.values), Some(file));
        assert_eq!(artifacts::latest(db, run, "fio")?, None);
        Ok(())
    });
}

#[test]
fn events_come_in_order_after_a_line() {
    on_a_database(|db| {
        let (host, run) = host_and_run(db)?;
        let event = |run_id, message: &str| events::EventValues {
            run_id,
            host_id: Some(host),
            ts_ms: NOW_MS,
            level: EventLevel::Warning,
            kind: "sensor_lost".to_owned(),
            message: message.to_owned(),
            data: Some(json!([1])),
        };
        let first = events::insert(db, &event(Some(run), "a"))?;
        events::insert(db, &event(None, "b"))?;
        events::insert(db, &event(Some(run), "c"))?;
        let words =
            |rows: Vec<events::EventRow>| rows.into_iter().map(|row| row.values.message).collect::<String>();
        assert_eq!(words(events::after(db, 0, 2)?), "ab");
        assert_eq!(words(events::after(db, first, 10)?), "bc");
        assert_eq!(words(events::latest(db, 2)?), "bc");
        assert_eq!(words(events::of_run(db, run, 0, 10)?), "ac");
        assert_eq!(words(events::of_run(db, run, first, 10)?), "c");
        assert_eq!(events::after(db, 0, 1)?[0].values, event(Some(run), "a"));
        let orphan = events::insert(db, &event(Some(RunId(99)), "x"));
        assert!(matches!(orphan, Err(StoreError::Sqlite { .. })), "foreign keys are on");
        Ok(())
    });
}

#[test]
fn a_revoked_token_is_worth_nothing() {
    on_a_database(|db| {
        let hash = Sha256Hex::of(b"token");
        let values = tokens::TokenValues {
            name: "ci".to_owned(),
            token_hash: hash,
            role: Role::Viewer,
            expires_at_ms: Some(NOW_MS + 1_000_000),
        };
        let token = tokens::create(db, &values, NOW_MS)?;
        let other = tokens::TokenValues { token_hash: Sha256Hex::of(b"2"), ..values };
        assert!(matches!(tokens::create(db, &other, NOW_MS), Err(StoreError::Conflict { .. })));
        assert!(token.wants_touch(NOW_MS));
        tokens::touch(db, token.id, NOW_MS)?;
        let found = tokens::find_valid(db, hash, NOW_MS)?.unwrap();
        assert_eq!(found.role, Role::Viewer);
        assert_eq!(tokens::find_valid(db, hash, NOW_MS + 1_000_000)?, None, "it is over");
        assert!(!found.wants_touch(NOW_MS + tokens::TOUCH_INTERVAL_MS - 1));
        assert!(found.wants_touch(NOW_MS + tokens::TOUCH_INTERVAL_MS));
        assert_eq!(tokens::find_valid(db, Sha256Hex::of(b"other"), NOW_MS)?, None);
        tokens::revoke(db, token.id, NOW_MS + 1)?;
        assert_eq!(tokens::revoke(db, token.id, NOW_MS + 2)?.revoked_at_ms, Some(NOW_MS + 1));
        assert_eq!(tokens::find_valid(db, hash, NOW_MS)?, None);
        assert!(matches!(tokens::revoke(db, 99, NOW_MS), Err(StoreError::NotFound { .. })));
        assert_eq!(tokens::list(db)?.len(), 1);
        Ok(())
    });
}

#[test]
fn a_setting_is_set_replaced_and_removed() {
    on_a_database(|db| {
        assert_eq!(settings::get(db, "a")?, None);
        settings::set(db, "a", "1")?;
        settings::set(db, "a", "2")?;
        assert_eq!(settings::get(db, "a")?.as_deref(), Some("2"));
        assert!(settings::remove(db, "a")?);
        assert!(!settings::remove(db, "a")?);
        Ok(())
    });
}
