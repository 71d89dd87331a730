//! Runs from their order to their end, restarts and deadlines.

use reqwest::Method;
use vetting_protocol::agent_api::{AfterRun, Directive, EventLevel, Record};
use vetting_protocol::diff::{Severity, SpecDiff};
use vetting_protocol::ids::{Sha256Hex, StageName};
use vetting_protocol::operator_api::{HostView, RunSummary};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::{RunResult, RunState};

use super::*;

#[tokio::test]
async fn a_healthy_machine_passes_and_has_its_report() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let records = healthy(&claimed);
    let answer = lab.send(&claimed, 1, records).await;
    assert!(matches!(answer.directive, Directive::AwaitVerdict | Directive::Finished { .. }));
    let Directive::Finished { result, then, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!((result, then), (RunResult::Pass, AfterRun::PowerOff));
    let detail = lab.detail(claimed.run).await;
    assert_eq!((detail.summary.state, detail.summary.result), (RunState::Completed, Some(RunResult::Pass)));
    for kind in ["report", "report_html"] {
        let artifact = detail.artifacts.iter().find(|artifact| artifact.kind == kind).unwrap();
        let bytes = std::fs::read(&artifact.path).unwrap();
        assert_eq!((Sha256Hex::of(&bytes), bytes.len() as u64), (artifact.sha256, artifact.size_bytes));
        let path = format!("runs/{}/artifacts/{kind}", claimed.run);
        let served = lab.operator(Method::GET, &path).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(served, bytes);
    }
}

#[tokio::test]
async fn a_machine_that_differs_fails_is_held_and_let_go() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let mut records = Vec::new();
    for stage in [StageName::Inventory, StageName::Firmware] {
        records.extend([started(stage), finished(stage, Outcome::Pass)]);
    }
    let diff = SpecDiff {
        field: "memory.total_gib".to_owned(),
        expected: Some("32".to_owned()),
        actual: Some("16".to_owned()),
        severity: Severity::Critical,
    };
    let stage = StageName::SpecValidate;
    records.extend([started(stage), Record::SpecDiffs { diffs: vec![diff] }, finished(stage, Outcome::Pass)]);
    let answer = lab.send(&claimed, 1, records).await;
    assert!(matches!(answer.directive, Directive::HaltPipeline { .. }), "{answer:?}");
    lab.send(&claimed, 2, vec![Record::PipelineFinished { ts_ms: START_MS }]).await;
    let Directive::Finished { result, reasons, then, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!((result, then), (RunResult::Fail, AfterRun::Stay));
    assert!(reasons.iter().any(|reason| reason.contains("memory.total_gib")), "{reasons:?}");
    let detail = lab.detail(claimed.run).await;
    assert_eq!(
        (detail.summary.state, detail.hold_ip.as_deref()),
        (RunState::FailedHolding, Some("127.0.0.1"))
    );
    assert_eq!(detail.summary.failed_stage.as_deref(), Some("SpecValidate"));

    let release = lab.operator(Method::POST, &format!("runs/{}/release", claimed.run)).json(&json!({}));
    assert_eq!(good::<RunSummary>(release).await.state, RunState::Released);
    let Directive::Finished { then, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!(then, AfterRun::PowerOff);
}

#[tokio::test]
async fn a_machine_that_never_comes_fails_with_that_reason() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let run = lab.start_run("node1").await;
    lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(lab.detail(run).await.summary.state, RunState::Waking);
    lab.clock.set(START_MS + 15 * 60 * 1_000);
    lab.server.driver.check_deadlines().await.unwrap();
    let detail = lab.over(run).await;
    assert_eq!((detail.summary.state, detail.summary.result), (RunState::Completed, Some(RunResult::Fail)));
    assert!(detail.reasons[0].contains("never claimed its run within 15m"), "{:?}", detail.reasons);
    assert!(detail.artifacts.iter().any(|artifact| artifact.kind == "report"));
}

#[tokio::test]
async fn silence_ends_a_run_but_not_the_coordinators_own_absence() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    lab.send(&claimed, 1, vec![started(StageName::Inventory)]).await;
    lab.clock.set(START_MS + 3_600_000);
    let lab = lab.restarted().await;
    lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(lab.detail(claimed.run).await.summary.state, RunState::Running);
    lab.clock.set(START_MS + 3_600_000 + 120_000);
    lab.server.driver.check_deadlines().await.unwrap();
    let detail = lab.over(claimed.run).await;
    assert_eq!(detail.summary.state, RunState::Completed);
    assert!(detail.reasons[0].contains("went silent in stage Inventory"), "{:?}", detail.reasons);
    assert_eq!(detail.stages[0].state.as_str(), "failed");
}

#[tokio::test]
async fn a_corrected_clock_fails_no_run() {
    const DAY_MS: i64 = 86_400_000;
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    for (jumped_ms, waking) in [(DAY_MS, 2), (-DAY_MS, 3)] {
        lab.clock.jump(START_MS + jumped_ms);
        let node = format!("node{waking}");
        lab.add_host(&node, &format!("52:54:00:ab:cd:0{waking}")).await;
        let waking = lab.start_run(&node).await;
        lab.clock.jump(START_MS + 2 * jumped_ms);
        lab.server.driver.check_deadlines().await.unwrap();
        assert_eq!(lab.detail(waking).await.summary.state, RunState::Waking, "{jumped_ms}");
        assert_eq!(lab.detail(claimed.run).await.summary.state, RunState::Running, "{jumped_ms}");
    }
    // and real silence is still noticed, in its time
    let now_ms = START_MS - 2 * DAY_MS;
    lab.clock.set(now_ms + 119_999);
    lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(lab.detail(claimed.run).await.summary.state, RunState::Running);
    lab.clock.set(now_ms + 120_000);
    lab.server.driver.check_deadlines().await.unwrap();
    let detail = lab.over(claimed.run).await;
    assert!(detail.reasons[0].contains("nothing was heard for 2m"), "{:?}", detail.reasons);
}

#[tokio::test]
async fn a_run_goes_on_after_the_coordinator_was_restarted() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let mut records = healthy(&claimed);
    let rest = records.split_off(3);
    lab.send(&claimed, 1, records.clone()).await;
    let lab = lab.restarted().await;
    // the answer to the first was lost
    assert_eq!(lab.send(&claimed, 1, records).await.acknowledged_sequence, 1);
    lab.send(&claimed, 2, rest).await;
    let Directive::Finished { result, reasons, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!(result, RunResult::Pass, "{reasons:?}");
    let stages = u64::try_from(claimed.response.plan.stages.len()).unwrap();
    assert_eq!(lab.detail(claimed.run).await.measurement_count, stages);
}

#[tokio::test]
async fn a_breach_before_a_restart_still_fails_the_stage_after_it() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let inventory = StageName::Inventory;
    lab.send(&claimed, 1, vec![started(inventory), temperature(Some(inventory), Some(130.0))]).await;
    let lab = lab.restarted().await;
    let answer = lab.send(&claimed, 2, vec![finished(inventory, Outcome::Pass)]).await;
    assert!(matches!(answer.directive, Directive::HaltPipeline { .. }), "{answer:?}");
}

/// The same coordinator with a profile quick in which SMART need not pass.
async fn with_optional_smart(mut lab: Lab) -> Lab {
    let builtin = include_str!("../../../judge/profiles/quick.yaml");
    let replaced = builtin.replace("{stage: SMART, ", "{stage: SMART, required: false, ");
    assert_ne!(replaced, builtin);
    let path = lab.path("quick.yaml");
    std::fs::write(&path, replaced).unwrap();
    lab.config.profiles.insert(ProfileName::Quick, path);
    lab.restarted().await
}

fn up_to_smart(claimed: &Claimed, outcome: Outcome) -> (Vec<Record>, Vec<Record>) {
    let mut records = healthy(claimed);
    let position = records
        .iter()
        .position(|record| matches!(record, Record::StageFinished { stage: StageName::Smart, .. }))
        .unwrap();
    records[position] = finished(StageName::Smart, outcome);
    let rest = records.split_off(position + 1);
    (records, rest)
}

#[tokio::test]
async fn a_stage_that_need_not_pass_does_not_halt_when_it_is_skipped() {
    let lab = with_optional_smart(Lab::open().await).await;
    let claimed = lab.claimed().await;
    let (before, rest) = up_to_smart(&claimed, Outcome::skip("no disk tells of itself"));
    assert_eq!(lab.send(&claimed, 1, before).await.directive, Directive::Continue);
    let waiting = lab.detail(claimed.run).await;
    assert!(waiting.stages.last().unwrap().state.as_str() == "pending");
    lab.send(&claimed, 2, rest).await;
    let Directive::Finished { result, reasons, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!(result, RunResult::Pass, "{reasons:?}");
    let detail = lab.detail(claimed.run).await;
    assert_eq!(detail.summary.failed_stage, None);
    let told = |event: &EventView| event.message.contains("no disk tells of itself");
    assert!(lab.events().await.iter().any(told));
}

#[tokio::test]
async fn a_stage_that_need_not_pass_halts_and_fails_all_the_same_when_it_errs() {
    let lab = with_optional_smart(Lab::open().await).await;
    let claimed = lab.claimed().await;
    let (before, _) = up_to_smart(&claimed, Outcome::error("smartctl is missing"));
    let answer = lab.send(&claimed, 1, before).await;
    assert!(matches!(answer.directive, Directive::HaltPipeline { .. }), "{answer:?}");
    lab.send(&claimed, 2, vec![Record::PipelineFinished { ts_ms: START_MS }]).await;
    let Directive::Finished { result, reasons, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!(result, RunResult::Fail, "{reasons:?}");
    assert_eq!(lab.detail(claimed.run).await.summary.failed_stage.as_deref(), Some("SMART"));
    let told = |event: &EventView| event.level == EventLevel::Warning && event.message.contains("smartctl");
    assert!(lab.events().await.iter().any(told));
}

#[tokio::test]
async fn what_a_run_was_ordered_with_counts_whatever_its_profile_says_later() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let lab = with_optional_smart(lab).await;
    let (before, _) = up_to_smart(&claimed, Outcome::skip("smartctl is missing"));
    let answer = lab.send(&claimed, 1, before).await;
    assert!(matches!(answer.directive, Directive::HaltPipeline { .. }), "{answer:?}");
    lab.send(&claimed, 2, vec![Record::PipelineFinished { ts_ms: START_MS }]).await;
    let Directive::Finished { result, reasons, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!(result, RunResult::Fail);
    assert!(reasons[0].contains("smartctl is missing"), "{reasons:?}");
}

#[tokio::test]
async fn an_aborted_agent_is_told_so() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let abort = lab.operator(Method::POST, &format!("runs/{}/abort", claimed.run)).json(&json!({}));
    let _: RunSummary = good(abort).await;
    assert!(matches!(lab.verdict(&claimed).await, Directive::Abort { .. }));
    let detail = lab.over(claimed.run).await;
    assert_eq!((detail.summary.state, detail.summary.result), (RunState::Aborted, Some(RunResult::Fail)));
    // what it had still to say is not an error
    let answer = lab.send(&claimed, 1, vec![temperature(None, Some(1.0))]).await;
    assert!(matches!(answer.directive, Directive::Abort { .. }));
}

#[tokio::test]
async fn the_addresses_are_announced() {
    let lab = Lab::open().await;
    let said: Value =
        serde_json::from_slice(&std::fs::read(lab.config.announcement_path()).unwrap()).unwrap();
    assert_eq!(said["https"], json!(lab.server.https));
    assert_eq!(said["http"], json!(lab.server.http));
    assert_eq!(said["ca_fingerprint"], json!(lab.server.ca_fingerprint));
}

#[tokio::test]
async fn every_line_of_a_run_names_its_host() {
    let lab = Lab::open().await;
    lab.script("52:54:00:ff:ff:ff").await;
    let claimed = lab.claimed().await;
    let host: HostView = good(lab.operator(Method::GET, "hosts/node1")).await;
    lab.send(&claimed, 1, healthy(&claimed)).await;
    lab.verdict(&claimed).await;
    let events = lab.events().await;
    assert!(events.iter().any(|event| event.run_id == Some(claimed.run)));
    for event in events {
        let of_host = event.run_id.is_some() || event.kind == "host_added";
        assert_eq!(event.host_id, of_host.then_some(host.id), "{event:?}");
    }
}
