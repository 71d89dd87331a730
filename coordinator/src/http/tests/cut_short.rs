//! A client that goes away in the middle, and what was stored without what follows it: nothing stays undone.

use std::time::Duration;

use futures_util::FutureExt as _;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::operator_api::RunCreate;
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::{BootTarget, RunPlace, RunResult, RunState};

use super::*;
use crate::run::state::EndedBy;
use crate::store::StoreError;
use crate::store::events::{self, EventValues};
use crate::store::runs::{self, OverrideFlags, RunChange, RunValues};

/// Fails a test that would wait for ever; none waits so long otherwise.
async fn within_reason<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it is left undone")
}

/// Who ordered it.
fn order_line() -> EventValues {
    events::of_box(EventLevel::Info, "operator_order", "test ordered it".to_owned(), START_MS)
}

#[tokio::test]
async fn an_abort_that_is_not_waited_for_still_ends_with_a_report() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    // the write is queued; what follows it is not yet done when the request is dropped
    assert!(lab.server.driver.abort(claimed.run, order_line()).now_or_never().is_none());
    let detail = within_reason(lab.over(claimed.run)).await;
    assert_eq!((detail.summary.state, detail.summary.result), (RunState::Aborted, Some(RunResult::Fail)));
    assert!(detail.artifacts.iter().any(|artifact| artifact.kind == "report"));
}

#[tokio::test]
async fn a_last_batch_that_is_not_waited_for_still_brings_the_verdict() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let driver = &lab.server.driver;
    let session = driver.session(claimed.run, claimed.token.sha256()).await.unwrap();
    let batch = Batch { sequence: 1, boot_id: BOOT.to_owned(), records: healthy(&claimed) };
    let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    assert!(driver.ingest(session, batch, remote).now_or_never().is_none());
    let detail = within_reason(lab.over(claimed.run)).await;
    assert_eq!(detail.summary.result, Some(RunResult::Pass));
}

#[tokio::test]
async fn an_order_that_is_not_waited_for_still_wakes_the_machine() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let order = RunCreate {
        host: "node1".to_owned(),
        profile: ProfileName::Quick,
        non_destructive: false,
        wipe: false,
        erase: false,
        place: RunPlace::LiveImage,
        after_pass: None,
        after_fail: None,
    };
    assert!(lab.server.driver.start_run(order, order_line()).now_or_never().is_none());
    within_reason(async {
        while lab.power.0.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_report_that_was_not_made_is_made_by_the_next_look() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let run = claimed.run;
    // as after a report that failed, or a task that died
    let stored: Result<(), StoreError> = lab
        .server
        .driver
        .store
        .write(move |connection| {
            runs::set_ending(connection, run, EndedBy::WentSilent, None)?;
            runs::set_state(connection, run, &RunChange::to(RunState::Reporting, START_MS))
        })
        .await;
    stored.unwrap();
    lab.server.driver.check_deadlines().await.unwrap();
    let detail = within_reason(lab.over(run)).await;
    assert_eq!((detail.summary.state, detail.summary.result), (RunState::Completed, Some(RunResult::Fail)));
}

#[tokio::test]
async fn a_run_that_was_never_woken_is_woken_by_the_next_look() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let stored: Result<RunId, StoreError> = lab
        .server
        .driver
        .store
        .write(move |connection| {
            let host = crate::store::hosts::require_by_name(connection, "node1")?;
            let values = RunValues {
                host_id: host.id,
                profile: ProfileName::Quick,
                non_destructive: false,
                override_flags: OverrideFlags::NONE,
                next_boot_target: BootTarget::Linux,
            };
            runs::create(connection, &values, START_MS)
        })
        .await;
    let run = stored.unwrap();
    lab.server.driver.check_deadlines().await.unwrap();
    while lab.detail(run).await.summary.state == RunState::Queued {}
    assert_eq!(lab.power.0.lock().unwrap().len(), 1);
    assert_eq!(lab.detail(run).await.summary.state, RunState::Waking);
}
