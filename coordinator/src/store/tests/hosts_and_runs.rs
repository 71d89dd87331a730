//! Hosts, runs and their stages.

use serde_json::json;
use vetting_protocol::ids::{HostId, RunId, Sha256Hex, StageName};
use vetting_protocol::outcome::StepState;
use vetting_protocol::run::{BootTarget, RunResult, RunState};

use super::{NOW_MS, host_and_run, host_values, on_a_database, run_values, sample};
use crate::run::state::EndedBy;
use crate::store::{StoreError, hosts, measurements, runs, sessions, stages};

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
        let skipped = stages::skip_remaining(db, run, NOW_MS + 3, &json!({"reason": "halted"}))?;
        assert_eq!(skipped, StageName::ALL.len() - 2);

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
