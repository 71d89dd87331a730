//! The functions of each table family.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::diff::{Severity, SpecDiff};
use vetting_protocol::firmware::{FirmwareComponent, FirmwareVersion};
use vetting_protocol::ids::{HostId, RunId, Sha256Hex, StageName};
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::{BootTarget, RunResult, RunState};

use super::{NOW_MS, host_and_run, host_values, run_values, scratch};
use crate::run::state::EndedBy;
use crate::store::sessions::{ClaimOutcome, SequenceStep, TimelineEntry};
use crate::store::thresholds::{ThresholdOp, ThresholdSource};
use crate::store::{
    Connection, StoreError, artifacts, diffs, events, firmware, hosts, measurements, runs, sessions,
    settings, stages, thresholds, tokens,
};

/// Whence an agent speaks.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// Runs `test` as one job on a database of its own.
fn on_a_database<T: Send + 'static>(
    test: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> T {
    scratch().store.write_blocking(test).unwrap()
}

#[test]
fn a_duplicate_host_is_refused_naming_what_is_taken() {
    on_a_database(|db| {
        let first = hosts::insert(db, &host_values("r1", "52:54:00:00:00:01"), NOW_MS)?;
        let second = hosts::insert(db, &host_values("r2", "52:54:00:00:00:02"), NOW_MS)?;
        for (attempt, word) in [
            (hosts::insert(db, &host_values("r1", "52:54:00:00:00:03"), NOW_MS).map(|_| ()), "named r1"),
            (hosts::insert(db, &host_values("r3", "52-54-00-00-00-02"), NOW_MS).map(|_| ()), "host r2 has"),
            (hosts::update(db, second, &host_values("r1", "52:54:00:00:00:02"), NOW_MS), "named r1"),
            (hosts::update(db, second, &host_values("r2", "52:54:00:00:00:01"), NOW_MS), "host r1 has"),
        ] {
            let Err(StoreError::Conflict { what }) = attempt else { panic!("{word} was not refused") };
            assert!(what.contains(word), "{what}");
        }
        hosts::update(db, first, &host_values("r9", "52:54:00:00:00:01"), NOW_MS + 1)?;
        let host = hosts::get(db, first)?;
        assert_eq!((host.name.as_str(), host.created_at_ms, host.updated_at_ms), ("r9", NOW_MS, NOW_MS + 1));
        let unknown = HostId(77);
        let values = host_values("r7", "52:54:00:00:00:07");
        assert!(matches!(hosts::update(db, unknown, &values, NOW_MS), Err(StoreError::NotFound { .. })));
        assert!(matches!(hosts::get(db, unknown), Err(StoreError::NotFound { .. })));
        assert!(matches!(hosts::require_by_name(db, "r1"), Err(StoreError::NotFound { .. })));
        Ok(())
    });
}

#[test]
fn a_host_goes_with_everything_but_not_while_a_run_is_active() {
    on_a_database(|db| {
        let (host, run) = host_and_run(db)?;
        stages::seed(db, run, StageName::ALL)?;
        let stage = stages::by_name(db, run, StageName::Smart)?;
        let sample = sample(NOW_MS, "cpu/0", Some(50.0));
        measurements::insert(
            db,
            run,
            &[measurements::MeasurementValues { stage_id: Some(stage.id), ..sample }],
        )?;
        sessions::offer_claim(db, run, Sha256Hex::of(b"s"), NOW_MS, NOW_MS + 1)?;
        runs::set_ending(db, run, EndedBy::Aborted, None)?;
        assert!(matches!(hosts::delete(db, host), Err(StoreError::Conflict { .. })));
        runs::set_state(db, run, &runs::RunChange::to(RunState::Aborted, NOW_MS))?;
        hosts::delete(db, host)?;
        let rows: i64 = db.raw().query_row(
            "SELECT (SELECT COUNT(*) FROM runs) + (SELECT COUNT(*) FROM stages)
                  + (SELECT COUNT(*) FROM measurements) + (SELECT COUNT(*) FROM run_sessions)
                  + (SELECT COUNT(*) FROM run_timeline) + (SELECT COUNT(*) FROM run_verdicts)",
            [],
            |row| row.get(0),
        )?;
        assert_eq!(rows, 0);
        Ok(())
    });
}

#[test]
fn the_active_states_are_those_without_a_result() {
    on_a_database(|db| {
        let (host, run) = host_and_run(db)?;
        for state in RunState::ALL.iter().copied() {
            runs::set_state(db, run, &runs::RunChange::to(state, NOW_MS))?;
            assert_eq!(runs::active_of_host(db, host)?.is_some(), !state.is_terminal(), "{state}");
            assert_eq!(runs::active(db)?.len(), usize::from(!state.is_terminal()), "{state}");
            assert_eq!(runs::in_state(db, state)?.len(), 1);
        }
        Ok(())
    });
}

#[test]
fn a_change_leaves_alone_what_it_does_not_name() {
    on_a_database(|db| {
        let (host, run) = host_and_run(db)?;
        let fresh = runs::get(db, run)?;
        assert_eq!(
            (fresh.state, fresh.agent_token_hash, fresh.host_name.as_str()),
            (RunState::Queued, None, "r1")
        );
        assert!(fresh.override_flags.wipe);
        runs::set_failed_stage(db, run, "Storage")?;
        runs::set_failed_stage(db, run, "SMART")?;
        runs::set_state(
            db,
            run,
            &runs::RunChange {
                result: Some(RunResult::Fail),
                completed_at_ms: Some(NOW_MS + 5),
                next_boot_target: Some(BootTarget::Disk),
                hold_ip: Some("192.0.2.7".to_owned()),
                report_path: Some("/r.json".to_owned()),
                ..runs::RunChange::to(RunState::FailedHolding, NOW_MS + 5)
            },
        )?;
        assert_eq!(runs::get(db, run)?.hold_ip.as_deref(), Some("192.0.2.7"));
        runs::set_state(db, run, &runs::RunChange::to(RunState::Released, NOW_MS + 9))?;
        let released = runs::get(db, run)?;
        assert_eq!(released.hold_ip, None);
        assert_eq!(released.result, Some(RunResult::Fail));
        assert_eq!(released.completed_at_ms, Some(NOW_MS + 5));
        assert_eq!(released.failed_stage.as_deref(), Some("Storage"));
        assert_eq!(released.next_boot_target, Some(BootTarget::Disk));
        assert_eq!(released.report_path.as_deref(), Some("/r.json"));
        assert_eq!(sessions::timeline(db, run)?.state_since_ms, Some(NOW_MS + 9));
        let next = runs::create(db, &run_values(host), NOW_MS)?;
        let listed: Vec<RunId> = runs::list(db, Some(host), 10)?.into_iter().map(|run| run.id).collect();
        assert_eq!(listed, [next, run]);
        assert_eq!(runs::list(db, None, 1)?.len(), 1);
        assert_eq!(hosts::list(db)?[0].latest_run.as_ref().map(|run| run.id), Some(next));
        Ok(())
    });
}

#[test]
fn a_text_that_no_type_knows_is_an_error() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        db.raw().execute("UPDATE runs SET state = 'Dreaming'", [])?;
        let Err(StoreError::UnknownText { table, column, found }) = runs::get(db, run) else { panic!() };
        assert_eq!((table, column, found.as_str()), ("runs", "state", "Dreaming"));
        db.raw().execute("UPDATE runs SET state = 'Queued', started_at = 'soon'", [])?;
        assert!(matches!(runs::get(db, run), Err(StoreError::UnknownText { column: "started_at", .. })));
        Ok(())
    });
}

#[test]
fn every_ending_and_the_verdict_are_read_back() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        assert_eq!(runs::verdict(db, run)?, None);
        let reasons = vec!["sda has 3 unreadable sectors".to_owned()];
        assert!(runs::set_verdict(db, run, RunResult::Fail, &reasons).is_err());
        for ending in EndedBy::ALL {
            runs::set_ending(db, run, ending, None)?;
            assert_eq!(
                runs::verdict(db, run)?.map(|verdict| (verdict.ending, verdict.result)),
                Some((ending, None))
            );
        }
        runs::set_verdict(db, run, RunResult::Fail, &reasons)?;
        let verdict = runs::verdict(db, run)?.unwrap();
        assert_eq!((verdict.result, verdict.reasons), (Some(RunResult::Fail), reasons));
        Ok(())
    });
}

fn claim_of(run_id: RunId, secret: &[u8], token: &[u8], now_ms: i64) -> sessions::Claim {
    sessions::Claim {
        run_id,
        secret_hash: Sha256Hex::of(secret),
        token_hash: Sha256Hex::of(token),
        boot_id: "boot-1".to_owned(),
        from: "192.0.2.7".to_owned(),
        now_ms,
    }
}

#[test]
fn a_claim_secret_works_once_and_not_for_long() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        sessions::offer_claim(db, run, Sha256Hex::of(b"old"), NOW_MS, NOW_MS + 100)?;
        let session = sessions::offer_claim(db, run, Sha256Hex::of(b"new"), NOW_MS, NOW_MS + 100)?;
        let claim = |secret: &[u8], now| sessions::claim(db, &claim_of(run, secret, b"token", now));
        assert_eq!(claim(b"old", NOW_MS)?, ClaimOutcome::Unknown);
        assert_eq!(claim(b"new", NOW_MS + 100)?, ClaimOutcome::Expired);
        let others = sessions::claim(db, &claim_of(RunId(run.0 + 1), b"new", b"token", NOW_MS))?;
        assert_eq!(others, ClaimOutcome::Unknown);
        assert_eq!(claim(b"new", NOW_MS + 99)?, ClaimOutcome::Claimed { session });
        let ClaimOutcome::AlreadyUsed { session: used } = claim(b"new", NOW_MS + 99)? else { panic!() };
        assert_eq!(
            (used.id, used.boot_id.as_str(), used.claimed_from.as_str()),
            (session, "boot-1", "192.0.2.7")
        );
        assert_eq!(runs::get(db, run)?.agent_token_hash, Some(Sha256Hex::of(b"token")));
        assert_eq!(sessions::by_token(db, Sha256Hex::of(b"token"))?.map(|s| s.id), Some(session));
        assert_eq!(sessions::by_token(db, Sha256Hex::of(b"other"))?, None);
        sessions::reissue_token(db, &used, Sha256Hex::of(b"again"))?;
        assert_eq!(sessions::by_token(db, Sha256Hex::of(b"token"))?, None);
        assert!(sessions::by_token(db, Sha256Hex::of(b"again"))?.is_some());
        Ok(())
    });
}

#[test]
fn the_session_after_a_reboot_supersedes_the_one_before() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        let mut claimed = Vec::new();
        for name in [b"a", b"b"] {
            sessions::offer_claim(db, run, Sha256Hex::of(name), NOW_MS, NOW_MS + 100)?;
            let outcome = sessions::claim(db, &claim_of(run, name, name, NOW_MS))?;
            let ClaimOutcome::Claimed { session } = outcome else { panic!("{outcome:?}") };
            claimed.push(session);
        }
        let superseded =
            |name| sessions::by_token(db, Sha256Hex::of(name)).map(|found| found.unwrap().superseded);
        assert!(superseded(b"a")?);
        assert!(!superseded(b"b")?);
        assert_eq!(sessions::latest_claimed(db, run)?.map(|session| session.id), claimed.last().copied());
        // an offer that nobody took supersedes nothing, and revoking it leaves the claimed ones
        sessions::offer_claim(db, run, Sha256Hex::of(b"c"), NOW_MS, NOW_MS + 100)?;
        assert!(!superseded(b"b")?);
        sessions::revoke_claim(db, run)?;
        assert_eq!(sessions::claim(db, &claim_of(run, b"c", b"c", NOW_MS))?, ClaimOutcome::Unknown);
        assert!(sessions::by_token(db, Sha256Hex::of(b"b"))?.is_some());
        Ok(())
    });
}

#[test]
fn batches_count_up_without_gaps() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        let session = sessions::offer_claim(db, run, Sha256Hex::of(b"s"), NOW_MS, NOW_MS + 1)?;
        let advance = |sequence| sessions::advance_sequence(db, session, sequence);
        assert_eq!(advance(2)?, SequenceStep::Gap { expected: 1 });
        assert_eq!(advance(1)?, SequenceStep::Applied);
        assert_eq!(advance(1)?, SequenceStep::Duplicate);
        assert_eq!(advance(0)?, SequenceStep::Duplicate);
        assert_eq!(advance(2)?, SequenceStep::Applied);
        assert_eq!(advance(u64::MAX)?, SequenceStep::Gap { expected: 3 });
        let nobody = sessions::SessionId(session.0 + 1);
        assert!(matches!(sessions::advance_sequence(db, nobody, 1), Err(StoreError::NotFound { .. })));
        Ok(())
    });
}

#[test]
fn each_timeline_entry_lands_in_its_own_place() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        for entry in [
            TimelineEntry::Woken(1),
            TimelineEntry::ScriptServed(2),
            TimelineEntry::ImageServed(3),
            TimelineEntry::Claimed(4),
            TimelineEntry::KernelToInit(5),
            TimelineEntry::KernelToNetwork(8),
            TimelineEntry::KernelToClaim(6),
            TimelineEntry::LastContact(99, ADDRESS),
            TimelineEntry::LastContact(7, ADDRESS),
        ] {
            sessions::note(db, run, entry)?;
        }
        assert_eq!(
            sessions::timeline(db, run)?,
            sessions::Timeline {
                woken_ms: Some(1),
                script_served_ms: Some(2),
                image_served_ms: Some(3),
                claimed_ms: Some(4),
                kernel_to_init_ms: Some(5),
                kernel_to_network_ms: Some(8),
                kernel_to_claim_ms: Some(6),
                last_contact_ms: Some(7),
                last_contact_ip: Some(ADDRESS),
                state_since_ms: Some(NOW_MS),
            }
        );
        assert_eq!(sessions::timeline(db, RunId(99))?, sessions::Timeline::default());
        Ok(())
    });
}

#[test]
fn a_finished_stage_takes_no_more_and_the_rest_is_closed() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        stages::seed(db, run, StageName::ALL)?;
        stages::seed(db, run, StageName::ALL)?;
        let (smart, storage) = (StageName::Smart, StageName::Storage);
        stages::start(db, run, smart, NOW_MS)?;
        stages::start(db, run, smart, NOW_MS + 50)?;
        stages::start_sub_step(db, run, smart, 0, "sda SMART", NOW_MS)?;
        stages::finish_sub_step(db, run, smart, 0, StepState::Passed, NOW_MS + 1, &json!({"a": 1}))?;
        let missing = stages::finish_sub_step(db, run, smart, 1, StepState::Passed, NOW_MS, &json!({}));
        assert!(matches!(missing, Err(StoreError::NotFound { .. })));
        let again = stages::start_sub_step(db, run, smart, 0, "sda SMART", NOW_MS);
        assert!(matches!(again, Err(StoreError::Conflict { .. })));
        stages::finish(db, run, smart, StepState::Failed, NOW_MS + 2, &json!({"reason": "worn"}))?;
        for late in [
            stages::start(db, run, smart, NOW_MS),
            stages::finish(db, run, smart, StepState::Passed, NOW_MS, &json!({})),
            stages::start_sub_step(db, run, smart, 1, "sdb SMART", NOW_MS),
        ] {
            assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
        }
        stages::start(db, run, storage, NOW_MS)?;
        stages::start_sub_step(db, run, storage, 0, "sda fio", NOW_MS)?;
        assert_eq!(stages::fail_running(db, run, NOW_MS + 3, &json!({"reason": "gone"}))?, 1);
        assert_eq!(stages::skip_remaining(db, run, NOW_MS + 3, &json!({"reason": "halted"}))?, 4);

        let listed = stages::list(db, run)?;
        assert_eq!(listed.iter().map(|stage| stage.name).collect::<Vec<_>>(), StageName::ALL);
        let found = |name| listed.iter().find(|stage| stage.name == name).unwrap();
        assert_eq!(found(smart).started_at_ms, Some(NOW_MS));
        assert_eq!(found(smart).summary, Some(json!({"reason": "worn"})));
        assert_eq!(found(smart).sub_steps[0].summary, json!({"a": 1}));
        assert_eq!(found(storage).state, StepState::Failed);
        assert_eq!(found(storage).sub_steps[0].state, StepState::Failed);
        assert_eq!(found(StageName::Inventory).state, StepState::Skipped);
        assert!(listed.iter().all(|stage| stage.state.is_finished()));
        stages::judge(db, run, smart, StepState::Passed, &json!({}))?;
        assert_eq!(stages::by_name(db, run, smart)?.state, StepState::Passed);
        Ok(())
    });
}

fn sample(ts_ms: i64, key: &str, value: Option<f64>) -> measurements::MeasurementValues {
    measurements::MeasurementValues {
        stage_id: None,
        ts_ms,
        kind: "temp".to_owned(),
        key: key.to_owned(),
        value,
        unit: "celsius".to_owned(),
    }
}

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
        let token = tokens::create(db, "ci", hash, NOW_MS)?;
        assert!(matches!(
            tokens::create(db, "ci", Sha256Hex::of(b"2"), NOW_MS),
            Err(StoreError::Conflict { .. })
        ));
        assert!(token.wants_touch(NOW_MS));
        tokens::touch(db, token.id, NOW_MS)?;
        let found = tokens::find_valid(db, hash)?.unwrap();
        assert!(!found.wants_touch(NOW_MS + tokens::TOUCH_INTERVAL_MS - 1));
        assert!(found.wants_touch(NOW_MS + tokens::TOUCH_INTERVAL_MS));
        assert_eq!(tokens::find_valid(db, Sha256Hex::of(b"other"))?, None);
        tokens::revoke(db, token.id, NOW_MS + 1)?;
        assert_eq!(tokens::revoke(db, token.id, NOW_MS + 2)?.revoked_at_ms, Some(NOW_MS + 1));
        assert_eq!(tokens::find_valid(db, hash)?, None);
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
