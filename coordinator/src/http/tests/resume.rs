//! A coordinator that was killed between a change of state and what follows it: the next one goes on, or ends the run with
//! an explanation.

use reqwest::Method;
use vetting_protocol::agent_api::{AfterRun, Directive, Record};
use vetting_protocol::ids::StageName;
use vetting_protocol::operator_api::RunSummary;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::{RunResult, RunState};

use super::*;
use crate::store::rival::execute;

fn packets(lab: &Lab) -> usize {
    lab.power.0.lock().unwrap().len()
}

async fn ordered() -> (Lab, RunId) {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let run = lab.start_run("node1").await;
    (lab, run)
}

async fn state(lab: &Lab, run: RunId) -> RunState {
    lab.detail(run).await.summary.state
}

#[tokio::test]
async fn queued_the_packet_is_sent() {
    let (lab, run) = ordered().await;
    let lab = lab.restarted_after(|path| execute(path, "UPDATE runs SET state = 'Queued'")).await;
    assert_eq!((state(&lab, run).await, packets(&lab)), (RunState::Waking, 2));
    lab.claim_again(run, BOOT).await;
    assert_eq!(state(&lab, run).await, RunState::Running);
}

#[tokio::test]
async fn waking_the_packet_is_repeated_until_the_machine_comes() {
    let (lab, run) = ordered().await;
    assert_eq!(packets(&lab), 1);
    let lab = lab.restarted().await;
    // a packet that was not followed by a boot may have been lost with the coordinator
    for (after_ms, sent) in [(0, 2), (29_999, 2), (30_000, 3), (59_999, 3), (60_000, 4)] {
        lab.clock.set(START_MS + after_ms);
        lab.server.driver.check_deadlines().await.unwrap();
        while packets(&lab) < sent {
            lab.server.driver.check_deadlines().await.unwrap();
        }
        assert_eq!(packets(&lab), sent, "{after_ms} ms");
    }
    assert_eq!(lab.detail(run).await.boot.woken_ms, Some(START_MS));
    lab.script(MAC).await;
    lab.clock.set(START_MS + 120_000);
    lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!((state(&lab, run).await, packets(&lab)), (RunState::Booting, 4));
}

#[tokio::test]
async fn booting_the_secret_that_was_served_still_claims() {
    let (lab, run) = ordered().await;
    let secret = lab.secret().await;
    let lab = lab.restarted().await;
    assert_eq!(state(&lab, run).await, RunState::Booting);
    let _: ClaimResponse = good(lab.claiming(&Lab::claim_request(run, &secret, BOOT))).await;
    assert_eq!(state(&lab, run).await, RunState::Running);
}

#[tokio::test]
async fn running_an_agent_that_never_saw_its_token_claims_once_more() {
    let (lab, run) = ordered().await;
    let claimed = lab.claim_again(run, BOOT).await;
    let lab = lab.restarted().await;
    let again = Lab::claim_request(run, &claimed.secret, BOOT);
    let response: ClaimResponse = good(lab.claiming(&again)).await;
    let claimed = Claimed { token: response.token.clone(), response, ..claimed };
    lab.send(&claimed, 1, healthy(&claimed)).await;
    lab.verdict(&claimed).await;
    assert_eq!(lab.detail(run).await.summary.result, Some(RunResult::Pass));
}

#[tokio::test]
async fn rebooting_the_machine_may_come_back_to_another_coordinator() {
    let (lab, run) = ordered().await;
    let claimed = lab.claim_again(run, BOOT).await;
    lab.send(
        &claimed,
        1,
        vec![started(StageName::Inventory), reboot_planned(StageName::Inventory, BootTarget::Linux)],
    )
    .await;
    let lab = lab.restarted().await;
    assert_eq!(state(&lab, run).await, RunState::Rebooting);
    let lab = {
        lab.claim_again(run, "another-boot").await;
        lab.restarted().await
    };
    assert_eq!(state(&lab, run).await, RunState::Running);
}

#[tokio::test]
async fn rebooting_a_machine_that_does_not_come_back_is_told_so() {
    let (lab, run) = ordered().await;
    let claimed = lab.claim_again(run, BOOT).await;
    lab.send(
        &claimed,
        1,
        vec![started(StageName::Inventory), reboot_planned(StageName::Inventory, BootTarget::Linux)],
    )
    .await;
    let lab = lab.restarted().await;
    lab.clock.set(START_MS + i64::try_from(lab.config.timeouts.reboot.as_ms()).unwrap());
    lab.server.driver.check_deadlines().await.unwrap();
    let detail = lab.over(run).await;
    assert_eq!((detail.summary.state, detail.summary.result), (RunState::Completed, Some(RunResult::Fail)));
    assert!(!detail.reasons.is_empty());
}

/// Ends a run, then takes the end back as if the coordinator had died while it wrote the report.
async fn killed_while_reporting(records: fn(&Claimed) -> Vec<Record>) -> (Lab, Claimed) {
    let (lab, run) = ordered().await;
    let claimed = lab.claim_again(run, BOOT).await;
    lab.send(&claimed, 1, records(&claimed)).await;
    lab.over(run).await;
    let lab = lab
        .restarted_after(|path| {
            execute(
                path,
                "UPDATE runs SET state = 'Reporting', result = NULL, completed_at = NULL, report_path = NULL;
                 UPDATE run_verdicts SET result = NULL, reasons_json = '[]';
                 DELETE FROM artifacts WHERE kind LIKE 'report%'",
            );
        })
        .await;
    lab.over(run).await;
    (lab, claimed)
}

#[tokio::test]
async fn reporting_the_report_is_made_again_and_says_the_same() {
    let (lab, claimed) = killed_while_reporting(healthy).await;
    let Directive::Finished { result, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!(result, RunResult::Pass);
    let detail = lab.detail(claimed.run).await;
    for kind in ["report", "report_html"] {
        assert_eq!(detail.artifacts.iter().filter(|artifact| artifact.kind == kind).count(), 1, "{kind}");
    }
}

#[tokio::test]
async fn reporting_a_failed_machine_is_still_held() {
    let (lab, claimed) = killed_while_reporting(|_| {
        vec![
            started(StageName::Inventory),
            finished(StageName::Inventory, Outcome::fail("a DIMM is missing")),
            Record::PipelineFinished { ts_ms: START_MS },
        ]
    })
    .await;
    let Directive::Finished { then, reasons, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!(then, AfterRun::Stay);
    assert!(reasons.iter().any(|reason| reason.contains("a DIMM is missing")), "{reasons:?}");
    assert_eq!(lab.detail(claimed.run).await.hold_ip.as_deref(), Some("127.0.0.1"));
}

#[tokio::test]
async fn reporting_an_abort_stays_an_abort() {
    let (lab, run) = ordered().await;
    lab.claim_again(run, BOOT).await;
    let abort = lab.operator(Method::POST, &format!("runs/{run}/abort")).json(&json!({}));
    let _: RunSummary = good(abort).await;
    lab.over(run).await;
    let lab = lab
        .restarted_after(|path| {
            execute(path, "UPDATE runs SET state = 'Reporting', result = NULL, completed_at = NULL");
        })
        .await;
    let detail = lab.over(run).await;
    assert_eq!((detail.summary.state, detail.summary.result), (RunState::Aborted, Some(RunResult::Fail)));
    assert!(detail.reasons.iter().any(|reason| reason.contains("abort")), "{:?}", detail.reasons);
}

#[tokio::test]
async fn a_half_sent_file_is_forgotten() {
    let (lab, run) = ordered().await;
    let folder = lab.path(&format!("artifacts/run-{run}/fio"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(".upload-0123456789abcdef"), "half").unwrap();
    let _lab = lab.restarted().await;
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}
