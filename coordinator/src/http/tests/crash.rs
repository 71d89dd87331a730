//! Machines that went away: what is said of how, and what they left behind.

use vetting_protocol::crash::{CrashDump, LeftBehind};
use vetting_protocol::run::RunState;

use super::*;

/// In the middle of CPUStress, with a sub-step under way and hot.
async fn at_work(lab: &Lab) -> Claimed {
    let claimed = lab.claimed().await;
    let stage = StageName::CpuStress;
    let sub_step = Record::SubStepStarted { stage, ordinal: 0, name: "CPU pass".to_owned(), ts_ms: START_MS };
    let records = vec![
        started(stage),
        sub_step,
        temperature(Some(stage), Some(61.0)),
        temperature(Some(stage), Some(93.5)),
    ];
    lab.send(&claimed, 1, records).await;
    claimed
}

fn panic_at(ts_ms: i64) -> LeftBehind {
    let lines = vec!["Kernel panic - not syncing: Fatal exception in interrupt".to_owned()];
    let dump =
        CrashDump { store: "efi_pstore".to_owned(), reason: "Panic".to_owned(), ts_ms: Some(ts_ms), lines };
    LeftBehind { dumps: vec![dump], hardware_errors: Vec::new(), unread: Vec::new() }
}

async fn back_with(lab: &Lab, run: RunId, left: LeftBehind) -> RunDetail {
    let secret = lab.secret().await;
    let request =
        ClaimRequest { left_behind: Some(left), ..Lab::claim_request(run, &secret, "another-boot") };
    let _: ClaimResponse = good(lab.claiming(&request)).await;
    lab.over(run).await
}

#[tokio::test]
async fn a_machine_that_came_back_from_a_panic_fails_with_its_words_and_what_was_under_way() {
    let lab = Lab::open().await;
    let claimed = at_work(&lab).await;
    let detail = back_with(&lab, claimed.run, panic_at(START_MS + 5)).await;
    assert_eq!(detail.summary.failed_stage.as_deref(), Some("CPUStress"));
    let reason = &detail.reasons[0];
    for words in ["kernel panic", "Fatal exception in interrupt", "CPU pass", "temp cpu/0 93.5 \u{b0}C"] {
        assert!(reason.contains(words), "`{words}` is in {reason}");
    }
    let events = lab.events().await;
    let crash = events.iter().find(|event| event.kind == "crash").unwrap();
    assert_eq!(crash.data.as_ref().unwrap()["kind"], "kernel panic");
    assert_eq!(detail.summary.state, RunState::FailedHolding, "the machine is there");
}

#[tokio::test]
async fn a_dump_from_before_the_run_explains_nothing_and_is_told_where_it_was_found() {
    let lab = Lab::open().await;
    let claimed = at_work(&lab).await;
    let detail = back_with(&lab, claimed.run, panic_at(START_MS - 3_600_000)).await;
    assert!(detail.reasons[0].contains("reset or power loss: it left no dump"), "{}", detail.reasons[0]);

    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let run = lab.start_run("node1").await;
    let secret = lab.secret().await;
    let request = ClaimRequest {
        left_behind: Some(panic_at(START_MS - 3_600_000)),
        ..Lab::claim_request(run, &secret, BOOT)
    };
    let _: ClaimResponse = good(lab.claiming(&request)).await;
    assert!(lab.events().await.iter().any(|event| event.kind == "earlier_crash"));
}

#[tokio::test]
async fn a_silent_machine_is_not_said_to_hang_when_nobody_looked() {
    let lab = Lab::open().await;
    let claimed = at_work(&lab).await;
    let silence_ms = i64::try_from(lab.config.timeouts.silence.as_ms()).unwrap();
    lab.clock.set(START_MS + silence_ms);
    lab.server.driver.check_deadlines().await.unwrap();
    let reason = lab.over(claimed.run).await.reasons.remove(0);
    assert!(reason.contains("hang, power loss or lost network") && reason.contains("CPU pass"), "{reason}");
}
