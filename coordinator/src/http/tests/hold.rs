//! Failed machines that are kept up for a person, and how they are let go.

use reqwest::Method;
use vetting_protocol::agent_api::{AfterRun, Directive, Record};
use vetting_protocol::ids::StageName;
use vetting_protocol::operator_api::RunSummary;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::RunState;

use super::*;

/// A run that failed, with its agent alive.
async fn held(lab: &Lab) -> Claimed {
    let claimed = lab.claimed().await;
    let stage = StageName::Inventory;
    let records = vec![
        started(stage),
        finished(stage, Outcome::fail("a DIMM is missing")),
        Record::PipelineFinished { ts_ms: START_MS },
    ];
    lab.send(&claimed, 1, records).await;
    assert_eq!(then(lab, &claimed).await, AfterRun::Stay);
    claimed
}

/// What the agent is told to do with its machine.
async fn then(lab: &Lab, claimed: &Claimed) -> AfterRun {
    let Directive::Finished { then, .. } = lab.verdict(claimed).await else { panic!() };
    then
}

#[tokio::test]
async fn a_held_machine_has_its_address_and_takes_no_new_run_until_it_is_released() {
    let lab = Lab::open().await;
    let claimed = held(&lab).await;
    let detail = lab.detail(claimed.run).await;
    assert_eq!(
        (detail.summary.state, detail.hold_ip.as_deref()),
        (RunState::FailedHolding, Some("127.0.0.1"))
    );
    let again = || lab.operator(Method::POST, "runs").json(&json!({"host": "node1", "profile": "quick"}));
    let problem: Problem = again().send().await.unwrap().json().await.unwrap();
    assert_eq!(problem.status, 409);
    assert!(problem.detail.contains("`run release 1`"), "{}", problem.detail);
    let remove = lab.operator(Method::DELETE, "hosts/node1?with_runs=true");
    assert_eq!(refused(remove).await, refusal(409, "taken"));
    // a person may have switched it off and on: the disk, not the live image
    assert!(lab.script(MAC).await.contains("sanboot"));

    let release = || lab.operator(Method::POST, &format!("runs/{}/release", claimed.run)).json(&json!({}));
    assert_eq!(good::<RunSummary>(release()).await.state, RunState::Released);
    assert_eq!(good::<RunSummary>(release()).await.state, RunState::Released);
    assert_eq!(then(&lab, &claimed).await, AfterRun::PowerOff);
    assert_eq!(lab.detail(claimed.run).await.hold_ip, None);
    let _: RunSummary = good(again()).await;
}

#[tokio::test]
async fn a_machine_nobody_looks_at_is_let_go_also_over_a_restart() {
    let lab = Lab::open().await;
    let claimed = held(&lab).await;
    let limit_ms = i64::try_from(lab.config.hold.limit.as_ms()).unwrap();
    lab.clock.set(START_MS + limit_ms - 1);
    lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(then(&lab, &claimed).await, AfterRun::Stay);
    let lab = lab.restarted().await;
    lab.clock.set(START_MS + limit_ms);
    lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(lab.detail(claimed.run).await.summary.state, RunState::Released);
    assert_eq!(then(&lab, &claimed).await, AfterRun::PowerOff);
}
