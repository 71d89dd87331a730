//! The hand-off to memtest86+: a machine whose serial line is a TCP connection or a cable, played by a recording of the
//! real thing.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use vetting_judge::memtest::outcome;
use vetting_protocol::memtest::{MemtestEnd, MemtestObservation};
use vetting_protocol::plan::StageWork;
use vetting_protocol::run::{RunResult, RunState};

use super::*;
use crate::serial_console::OpenLine;
use crate::serial_console::cable::Cable;
use crate::store::{StoreError, hosts, runs};

const GOOD: &[u8] = include_bytes!("../../memtest/recorded/7.20-good.raw");
const BAD: &[u8] = include_bytes!("../../memtest/recorded/7.20-bad.raw");
const AGAIN: &str = "6f1c0a52-0000-4000-8000-000000000002";
/// A cursor movement: the line is alive.
const ALIVE: &[u8] = b"\x1b[H";

/// A machine in stage Memtest of a deep run that has announced its restart into memtest86+; with its serial line.
async fn sent_to_memtest() -> (Lab, RunId, TcpListener) {
    let line = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (lab, run) = sent_over(&format!("tcp://{}", line.local_addr().unwrap())).await;
    (lab, run, line)
}

async fn sent_over(line: &str) -> (Lab, RunId) {
    let lab = Lab::open().await;
    std::fs::create_dir(lab.config.image.dir.join("netboot")).unwrap();
    std::fs::write(lab.config.image.dir.join("netboot/memtest86+x64.bin"), "memtest").unwrap();
    lab.add_host("node1", MAC).await;
    let serial = format!("{line}?port=ttyS1");
    let edit = lab.operator(Method::PATCH, "hosts/node1").json(&json!({"serial_console": serial}));
    assert_eq!(good::<Value>(edit).await["serial_console"], serial);
    let run = announce(&lab).await;
    (lab, run)
}

async fn announce(lab: &Lab) -> RunId {
    let order = lab.operator(Method::POST, "runs").json(&json!({"host": "node1", "profile": "deep"}));
    let run = good::<RunSummary>(order).await.id;
    let claimed = lab.claim_again(run, BOOT).await;
    let planned = Record::RebootPlanned {
        stage: StageName::Memtest,
        target: BootTarget::Memtest,
        budget_ms: 3_600_000,
        reason: "memtest86+".to_owned(),
    };
    lab.send(&claimed, 1, vec![started(StageName::Memtest), planned]).await;
    assert_eq!(lab.detail(run).await.summary.state, RunState::Rebooting);
    run
}

/// The machine asks for its boot script and loads memtest86+.
async fn load_memtest(lab: &Lab) {
    let script = lab.script(MAC).await;
    assert!(
        script.contains("/boot/files/memtest.bin") && script.contains("console=ttyS1,115200"),
        "{script}"
    );
    assert!(!script.contains("vetting.claim"), "{script}");
    let path = format!("/boot/files/memtest.bin?mac={MAC}");
    let loaded = lab.http(Method::GET, &path).send().await.unwrap();
    assert_eq!(loaded.text().await.unwrap(), "memtest");
    // that it was loaded is noted soon after
    while boots_next(lab).await == Some(BootTarget::Memtest) {
        tokio::task::yield_now().await;
    }
}

async fn boots_next(lab: &Lab) -> Option<BootTarget> {
    let store = &lab.server.driver.store;
    let run: Result<_, StoreError> = store
        .read(|connection| {
            let host = hosts::by_name(connection, "node1")?.unwrap();
            runs::active_of_host(connection, host.id)
        })
        .await;
    run.unwrap().unwrap().next_boot_target
}

/// Plays memtest86+ until ESC comes; the clock goes on.
async fn play(lab: &Lab, line: &mut dyn OpenLine, recording: &[u8], clock_ms: &mut i64) {
    for piece in recording.chunks(4_096) {
        line.write_all(piece).await.unwrap();
    }
    let mut key = [0_u8; 1];
    loop {
        *clock_ms += 10_000;
        lab.clock.set(*clock_ms);
        tokio::select! {
            read = line.read(&mut key) => {
                assert_eq!((read.unwrap(), key), (1, [0x1b]));
                return;
            }
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => line.write_all(ALIVE).await.unwrap(),
        }
    }
}

/// The machine is back in the live image: what its agent is told of memtest86+.
async fn back(lab: &Lab, run: RunId) -> MemtestObservation {
    assert!(lab.script(MAC).await.contains("vetting.claim"));
    let claimed = lab.claim_again(run, AGAIN).await;
    let plan = claimed.response.plan;
    let resumed = plan.resumed.unwrap();
    assert_eq!((resumed.stage, resumed.reboots.len()), (StageName::Memtest, 1));
    assert!(plan.stages.iter().any(|stage| matches!(stage.work, StageWork::Memtest { .. })));
    assert_eq!(lab.detail(run).await.summary.state, RunState::Running);
    resumed.reboots[0].memtest.clone().unwrap()
}

#[tokio::test]
async fn a_pass_is_seen_and_ended_by_escape() {
    let (lab, run, listener) = sent_to_memtest().await;
    let (mut line, _) = listener.accept().await.unwrap();
    load_memtest(&lab).await;
    let mut clock_ms = START_MS;
    play(&lab, &mut line, GOOD, &mut clock_ms).await;
    let seen = back(&lab, run).await;
    assert_eq!((seen.passes, seen.end), (1, Some(MemtestEnd::Stopped)));
    assert_eq!(outcome(&seen, 1), Outcome::Pass);
    let events = lab.events().await;
    assert!(events.iter().any(|event| event.message.contains("Memtest86+ v7.20 is seen")), "{events:?}");
}

#[tokio::test]
async fn over_a_serial_cable_a_pass_is_seen_and_ended_by_escape() {
    let mut cable = Cable::lay();
    let (lab, run) = sent_over(&format!("device:{}", cable.device.display())).await;
    load_memtest(&lab).await;
    let mut clock_ms = START_MS;
    play(&lab, &mut cable.machine, GOOD, &mut clock_ms).await;
    let seen = back(&lab, run).await;
    assert_eq!((seen.passes, seen.errors, seen.end), (1, 0, Some(MemtestEnd::Stopped)));
    assert_eq!(outcome(&seen, 1), Outcome::Pass);
}

#[tokio::test]
async fn bad_memory_is_seen_with_its_address() {
    let (lab, run, listener) = sent_to_memtest().await;
    let (mut line, _) = listener.accept().await.unwrap();
    load_memtest(&lab).await;
    let mut clock_ms = START_MS;
    play(&lab, &mut line, BAD, &mut clock_ms).await;
    let seen = back(&lab, run).await;
    assert!(matches!(outcome(&seen, 1), Outcome::Fail { reason } if reason.contains("0x1800120")));
}

#[tokio::test]
async fn a_coordinator_that_died_meanwhile_takes_the_line_up_again() {
    let (lab, run, listener) = sent_to_memtest().await;
    let (mut line, _) = listener.accept().await.unwrap();
    load_memtest(&lab).await;
    line.write_all(&GOOD[..GOOD.len() / 2]).await.unwrap();
    let lab = lab.restarted().await;
    let (mut line, _) = listener.accept().await.unwrap();
    let mut clock_ms = START_MS;
    play(&lab, &mut line, &GOOD[GOOD.len() / 2..], &mut clock_ms).await;
    let seen = back(&lab, run).await;
    assert_eq!((seen.passes, seen.errors, seen.end), (1, 0, Some(MemtestEnd::Stopped)));
}

#[tokio::test]
async fn what_the_line_had_before_memtest86plus_was_loaded_does_not_count() {
    let (lab, run, listener) = sent_to_memtest().await;
    let (mut line, _) = listener.accept().await.unwrap();
    // an earlier failure, as a console server replays it; all of it was read once the line is opened anew
    line.write_all(BAD).await.unwrap();
    drop(line);
    let (mut line, _) = listener.accept().await.unwrap();
    load_memtest(&lab).await;
    let mut clock_ms = START_MS;
    play(&lab, &mut line, &GOOD[GOOD.len() / 2..], &mut clock_ms).await;
    let seen = back(&lab, run).await;
    assert_eq!((seen.errors, seen.passes, seen.end), (0, 1, Some(MemtestEnd::Stopped)));
}

#[tokio::test]
async fn a_machine_that_leaves_memtest_untold_has_no_result() {
    let (lab, run, listener) = sent_to_memtest().await;
    let (mut line, _) = listener.accept().await.unwrap();
    load_memtest(&lab).await;
    line.write_all(&GOOD[..GOOD.len() / 2]).await.unwrap();
    let seen = back(&lab, run).await;
    assert!(matches!(seen.end, Some(MemtestEnd::Left | MemtestEnd::NeverSeen)), "{seen:?}");
    assert!(matches!(outcome(&seen, 1), Outcome::Error { .. }));
}

#[tokio::test]
async fn without_a_line_the_machine_is_kept_out_of_memtest() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let run = announce(&lab).await;
    assert!(lab.script(MAC).await.contains("vetting.claim"));
    let seen = back(&lab, run).await;
    assert_eq!(seen.end, Some(MemtestEnd::NoLine));
    assert!(matches!(outcome(&seen, 1), Outcome::Error { .. }));
}

#[tokio::test]
async fn a_machine_that_never_comes_back_from_memtest_fails() {
    let (lab, run, listener) = sent_to_memtest().await;
    let (mut line, _) = listener.accept().await.unwrap();
    load_memtest(&lab).await;
    line.write_all(BAD).await.unwrap();
    loop {
        let events = lab.events().await;
        if events.iter().any(|event| event.kind == "memtest_error") {
            break;
        }
    }
    // the budget is added to the patience with a restart
    lab.clock.set(START_MS + i64::try_from(lab.config.timeouts.reboot.as_ms()).unwrap() + 3_599_000);
    lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(lab.detail(run).await.summary.state, RunState::Rebooting);
    lab.clock.set(START_MS + i64::try_from(lab.config.timeouts.reboot.as_ms()).unwrap() + 3_600_000);
    lab.server.driver.check_deadlines().await.unwrap();
    let detail = lab.over(run).await;
    assert_eq!(detail.summary.result, Some(RunResult::Fail));
    let reasons = detail.reasons.join("\n");
    assert!(reasons.contains("0x1800120"), "{reasons}");
}

#[tokio::test]
async fn a_line_that_is_none_is_refused_with_what_to_write() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let edit = lab.operator(Method::PATCH, "hosts/node1").json(&json!({"serial_console": "com1"}));
    assert_eq!(refused(edit).await, refusal(422, "invalid"));
}

#[tokio::test]
async fn an_order_says_what_becomes_of_the_machine() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let body =
        json!({"host": "node1", "profile": "quick", "after_pass": "reboot", "after_fail": "power_off"});
    let run = good::<RunSummary>(lab.operator(Method::POST, "runs").json(&body)).await.id;
    let claimed = lab.claim_again(run, BOOT).await;
    lab.send(
        &claimed,
        1,
        vec![started(StageName::Inventory), finished(StageName::Inventory, Outcome::fail("x"))],
    )
    .await;
    lab.send(&claimed, 2, vec![Record::PipelineFinished { ts_ms: START_MS }]).await;
    let Directive::Finished { result, then, .. } = lab.verdict(&claimed).await else { panic!() };
    // the config would hold it
    assert_eq!((result, then), (RunResult::Fail, vetting_protocol::agent_api::AfterRun::PowerOff));
    assert!(lab.script(MAC).await.contains("local disk"));
}
