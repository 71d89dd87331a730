//! The database is locked, the disk is full, times are nonsense: what is answered, and that nothing acknowledged is lost.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Body, Method};
use vetting_protocol::agent_api::{Acknowledgement, EventLevel, Heartbeat, MAX_ARTIFACT_BYTES, Record};
use vetting_protocol::ids::{Sha256Hex, StageName};
use vetting_protocol::operator_api::HostView;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::{RunResult, RunState};

use super::*;
use crate::store::rival::WriteLock;
use crate::store::settings;

const UNAVAILABLE: (u16, &str) = (503, "storage-unavailable");

async fn unavailable(request: RequestBuilder) -> Problem {
    let answer = request.send().await.unwrap();
    let retry_after = answer.headers().get("retry-after").cloned();
    let problem: Problem = answer.json().await.unwrap();
    assert_eq!((problem.status, problem.kind.trim_start_matches("about:blank#")), UNAVAILABLE, "{problem:?}");
    assert!(retry_after.is_some());
    problem
}

fn impatient() -> StoreOptions {
    StoreOptions { busy_timeout: Duration::from_millis(1), ..StoreOptions::default() }
}

fn two_samples() -> Vec<Record> {
    let stage = StageName::Inventory;
    vec![started(stage), temperature(Some(stage), Some(40.0)), temperature(Some(stage), Some(41.0))]
}

#[tokio::test]
async fn a_locked_database_is_told_and_a_resend_counts_once() {
    let lab = Lab::open_with(impatient()).await;
    let claimed = lab.claimed().await;
    lab.send(&claimed, 1, two_samples()).await;
    let lock = WriteLock::take(&lab.config.database.path);
    for _ in 0..2 {
        let problem = unavailable(lab.sending(&claimed, 2, two_samples())).await;
        assert!(problem.detail.contains("locked by another process"), "{}", problem.detail);
    }
    let host = json!({"name": "node2", "mac": "52:54:00:ab:cd:02", "expected_spec_yaml": SPEC});
    unavailable(lab.operator(Method::POST, "hosts").json(&host)).await;
    unavailable(lab.operator(Method::POST, &format!("runs/{}/abort", claimed.run)).json(&json!({}))).await;
    let heartbeat = Heartbeat { boot_id: BOOT.to_owned() };
    unavailable(lab.agent(&claimed, Method::POST, "heartbeat").json(&heartbeat)).await;
    // reading goes on, and finds what was acknowledged and nothing else
    let detail = lab.detail(claimed.run).await;
    assert_eq!((detail.summary.state, detail.measurement_count), (RunState::Running, 2));
    drop(lock);
    for _ in 0..2 {
        assert_eq!(lab.send(&claimed, 2, two_samples()).await.acknowledged_sequence, 2);
    }
    assert_eq!(lab.detail(claimed.run).await.measurement_count, 4);
    let added: HostView = good(lab.operator(Method::POST, "hosts").json(&host)).await;
    assert_eq!(added.name, "node2");
}

#[tokio::test]
async fn a_machine_that_boots_while_the_database_is_locked_waits_and_then_claims() {
    let lab = Lab::open_with(impatient()).await;
    lab.add_host("node1", MAC).await;
    let run = lab.start_run("node1").await;
    let secret = lab.secret().await;
    let lock = WriteLock::take(&lab.config.database.path);
    let script = lab.script(MAC).await;
    assert!(script.contains("trying again") && script.contains("chain"), "{script}");
    // one that is not ours is not kept from its disk
    assert!(lab.script("52:54:00:ff:ff:ff").await.contains("sanboot"));
    unavailable(lab.claiming(&Lab::claim_request(run, &secret, BOOT))).await;
    drop(lock);
    let _: ClaimResponse = good(lab.claiming(&Lab::claim_request(run, &secret, BOOT))).await;
    assert!(lab.events().await.iter().all(|event| event.kind != "claim_refused"));
}

#[tokio::test]
async fn a_full_disk_is_told_and_all_goes_on_when_there_is_room_again() {
    let lab = Lab::open_with(StoreOptions { max_page_count: Some(300), ..StoreOptions::default() }).await;
    let claimed = lab.claimed().await;
    let ballast = "x".repeat(400_000);
    let store = &lab.server.driver.store;
    store.write(move |connection| settings::set(connection, "ballast", &ballast)).await.unwrap();
    let batch = || {
        let text = |ts_ms| Record::Event {
            level: EventLevel::Info,
            kind: "long".to_owned(),
            message: "m".repeat(60_000),
            ts_ms,
        };
        vec![text(START_MS), temperature(None, Some(1.0))]
    };
    let mut acknowledged = 0;
    let problem = loop {
        let request = lab.sending(&claimed, acknowledged + 1, batch());
        let answer = request.send().await.unwrap();
        if answer.status() != StatusCode::OK {
            break answer.json::<Problem>().await.unwrap();
        }
        acknowledged = answer.json::<Acknowledgement>().await.unwrap().acknowledged_sequence;
        assert!(acknowledged < 100, "the limit does not hold");
    };
    assert_eq!(problem.status, 503);
    assert!(problem.detail.contains("full"), "{}", problem.detail);
    assert!(acknowledged > 0);
    assert_eq!(lab.detail(claimed.run).await.measurement_count, acknowledged);
    let _: Vec<HostView> = good(lab.operator(Method::GET, "hosts")).await;

    store.write(|connection| settings::remove(connection, "ballast")).await.unwrap();
    assert_eq!(lab.send(&claimed, acknowledged + 1, batch()).await.acknowledged_sequence, acknowledged + 1);
    assert_eq!(lab.send(&claimed, acknowledged + 1, batch()).await.acknowledged_sequence, acknowledged + 1);
    assert_eq!(lab.detail(claimed.run).await.measurement_count, acknowledged + 1);
    lab.send(&claimed, acknowledged + 2, healthy(&claimed)).await;
    lab.verdict(&claimed).await;
    assert_eq!(lab.detail(claimed.run).await.summary.result, Some(RunResult::Pass));
}

#[tokio::test]
async fn times_that_the_database_cannot_hold_are_refused() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let stage = StageName::Inventory;
    for ts_ms in [i64::MAX, i64::MIN, 253_402_300_800_000, -62_167_219_200_001] {
        let Record::Measurement(sample) = temperature(None, Some(1.0)) else { panic!() };
        let records = [
            vec![Record::Measurement(Measurement { ts_ms, ..sample })],
            vec![Record::StageStarted { stage, ts_ms }],
            vec![Record::SubStepStarted { stage, ordinal: 0, name: "x".to_owned(), ts_ms }],
            vec![Record::StageFinished { stage, outcome: Outcome::Pass, details: Value::Null, ts_ms }],
            vec![Record::Event {
                level: EventLevel::Info,
                kind: "x".to_owned(),
                message: "x".to_owned(),
                ts_ms,
            }],
        ];
        for records in records {
            let said = format!("{records:?}");
            assert_eq!(refused(lab.sending(&claimed, 1, records)).await, refusal(422, "invalid"), "{said}");
        }
    }
    lab.send(&claimed, 1, healthy(&claimed)).await;
    lab.verdict(&claimed).await;
    assert_eq!(lab.detail(claimed.run).await.summary.result, Some(RunResult::Pass));
}

#[tokio::test]
async fn an_artifact_over_the_limit_leaves_nothing() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let piece = Bytes::from(vec![0_u8; 1024 * 1024]);
    let pieces = usize::try_from(MAX_ARTIFACT_BYTES).unwrap() / piece.len() + 1;
    // in chunks, so that the length is not known before the last
    let body = futures_util::stream::iter(std::iter::repeat_n(piece, pieces).map(Ok::<_, std::io::Error>));
    let upload = lab
        .agent(&claimed, Method::PUT, "artifacts/fio/large.bin")
        .header("X-Content-SHA256", Sha256Hex::of(b"").to_string());
    let chunked = upload.body(Body::wrap_stream(body));
    assert_eq!(refused(chunked).await, refusal(413, "too-large"));
    assert_eq!(std::fs::read_dir(lab.path("artifacts/run-1/fio")).unwrap().count(), 0);
    assert!(lab.detail(claimed.run).await.artifacts.is_empty());
}

#[tokio::test]
async fn of_two_agents_that_claim_at_once_one_gets_the_run() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let run = lab.start_run("node1").await;
    let secret = lab.secret().await;
    let request = |boot: &str| lab.claiming(&Lab::claim_request(run, &secret, boot)).send();
    let (one, other) = tokio::join!(request(BOOT), request("another-boot"));
    let mut statuses = [one.unwrap().status().as_u16(), other.unwrap().status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(lab.events().await.iter().filter(|event| event.kind == "claim_refused").count(), 1);
    assert_eq!(lab.detail(run).await.summary.state, RunState::Running);
}

#[tokio::test]
async fn two_operators_at_once_get_one_run_one_host_and_one_end() {
    let lab = Lab::open().await;
    let add = || {
        let host = json!({"name": "node1", "mac": MAC, "expected_spec_yaml": SPEC});
        lab.operator(Method::POST, "hosts").json(&host).send()
    };
    let order =
        || lab.operator(Method::POST, "runs").json(&json!({"host": "node1", "profile": "quick"})).send();
    let statuses = |one: reqwest::Result<reqwest::Response>, other: reqwest::Result<reqwest::Response>| {
        let mut statuses = [one.unwrap().status().as_u16(), other.unwrap().status().as_u16()];
        statuses.sort_unstable();
        statuses
    };
    let (one, other) = tokio::join!(add(), add());
    assert_eq!(statuses(one, other), [201, 409]);
    let (one, other) = tokio::join!(order(), order());
    assert_eq!(statuses(one, other), [201, 409]);
    let runs: Vec<RunSummary> = good(lab.operator(Method::GET, "runs")).await;
    assert_eq!(runs.len(), 1);
    // one aborts, the other removes the host: refused while the run is active, or after it all is gone
    let abort = || lab.operator(Method::POST, "runs/1/abort").json(&json!({})).send();
    let (one, other) = tokio::join!(abort(), abort());
    assert_eq!(statuses(one, other), [200, 200]);
    let ended = lab.over(runs[0].id).await;
    assert_eq!(ended.summary.state, RunState::Aborted);
    let told = |event: &&EventView| event.kind == "run_state" && event.message.contains("Aborted");
    assert_eq!(lab.events().await.iter().filter(told).count(), 1);
    let remove = || lab.operator(Method::DELETE, "hosts/node1?with_runs=true").send();
    let (one, other) = tokio::join!(remove(), remove());
    assert_eq!(statuses(one, other), [204, 404]);
}

#[tokio::test]
async fn a_host_that_is_removed_takes_its_run_from_the_agent_and_nothing_comes_back() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    lab.send(&claimed, 1, two_samples()).await;
    let remove = || lab.operator(Method::DELETE, "hosts/node1?with_runs=true");
    assert_eq!(refused(remove()).await, (409, "taken".to_owned()));
    assert_eq!(lab.detail(claimed.run).await.summary.state, RunState::Running);
    let _: RunSummary = good(lab.operator(Method::POST, "runs/1/abort").json(&json!({}))).await;
    lab.over(claimed.run).await;
    assert_eq!(remove().send().await.unwrap().status(), StatusCode::NO_CONTENT);
    // the agent has not heard of it yet
    assert_eq!(refused(lab.sending(&claimed, 2, two_samples())).await, (401, "token-unknown".to_owned()));
    let upload = lab
        .agent(&claimed, Method::PUT, "artifacts/fio/sda.json")
        .header("X-Content-SHA256", Sha256Hex::of(b"x").to_string())
        .body("x");
    assert_eq!(refused(upload).await, (401, "token-unknown".to_owned()));
    let heartbeat = Heartbeat { boot_id: BOOT.to_owned() };
    let heartbeat = lab.agent(&claimed, Method::POST, "heartbeat").json(&heartbeat);
    assert_eq!(refused(heartbeat).await, (401, "token-unknown".to_owned()));
    assert!(!lab.path("artifacts/run-1").exists());
    assert_eq!(refused(lab.operator(Method::GET, "runs/1")).await, (404, "not-found".to_owned()));
    assert!(lab.script(MAC).await.contains("sanboot"));
}

#[tokio::test]
async fn a_machine_whose_clock_jumps_is_judged_all_the_same() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let year_ms = 365 * 24 * 3_600_000;
    let mut records = healthy(&claimed);
    // ten years back and ahead again between two records
    for (index, record) in records.iter_mut().enumerate() {
        let shift_ms = if index % 2 == 0 { -10 * year_ms } else { 10 * year_ms };
        match record {
            Record::StageStarted { ts_ms, .. } | Record::StageFinished { ts_ms, .. } => *ts_ms += shift_ms,
            Record::Measurement(sample) => sample.ts_ms += shift_ms,
            _ => {}
        }
    }
    lab.send(&claimed, 1, records).await;
    lab.verdict(&claimed).await;
    let detail = lab.detail(claimed.run).await;
    assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:?}", detail.reasons);
    assert_eq!(detail.measurement_count, claimed.response.plan.stages.len() as u64);
}

#[tokio::test]
async fn a_machine_that_is_too_hot_is_found_out_whatever_its_clock_says() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let stage = StageName::Inventory;
    let hot = |ts_ms| {
        let Record::Measurement(sample) = temperature(Some(stage), Some(150.0)) else { panic!() };
        Record::Measurement(Measurement { ts_ms, ..sample })
    };
    // each sample is an hour before the last
    let mut records = vec![started(stage)];
    records.extend((0..5).map(|hour| hot(START_MS - hour * 3_600_000)));
    records.extend([finished(stage, Outcome::Pass), Record::PipelineFinished { ts_ms: START_MS }]);
    lab.send(&claimed, 1, records).await;
    lab.verdict(&claimed).await;
    let detail = lab.detail(claimed.run).await;
    assert_eq!(detail.summary.result, Some(RunResult::Fail));
    assert!(detail.reasons.iter().any(|reason| reason.contains("temp cpu/0")), "{:?}", detail.reasons);
}
