//! The uplink against a coordinator that answers late, wrongly, or not at all.

mod coordinator;
mod proxy;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use vetting_protocol::agent_api::{
    AfterRun, AgentCrash, BootTimeline, ClaimRequest, EventLevel, MAX_BATCH_RECORDS,
};
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::run::RunResult;

use super::*;
use coordinator::{FakeCoordinator, Reply, Seen, acknowledge, problem};

/// No wait of any length, so that no test depends on how fast the machine is.
const AT_ONCE: Timing = Timing {
    batch_age: Duration::from_millis(1),
    heartbeat: Duration::from_hours(1),
    verdict_poll: Duration::from_millis(1),
    first_retry: Duration::from_millis(1),
    longest_retry: Duration::from_millis(2),
};

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Console for Lines {
    fn line(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

impl Lines {
    fn contain(&self, words: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(words))
    }
}

fn request() -> ClaimRequest {
    ClaimRequest {
        protocol_version: 1,
        agent_version: "test".to_owned(),
        run_id: RunId(7),
        claim_secret: Secret::new("once".to_owned()),
        boot_id: "boot".to_owned(),
        system_uuid: None,
        macs: Vec::new(),
        timeline: BootTimeline { init_ms: None, network_ms: None, claim_ms: 1 },
        left_behind: None,
    }
}

fn claim_answer(run: i64) -> Reply {
    Reply::Json(
        200,
        json!({
            "token": "t0ken",
            "server_time_ms": 1,
            "plan": {
                "run_id": run, "host_name": "h", "profile": "quick", "sampling_interval_ms": 5000,
                "expected_spec_yaml": "", "consent": "non_destructive", "stages": [],
                "resumed": null, "serial_console": false, "power_control": false,
            },
        }),
    )
}

fn session() -> Session {
    Session { run: RunId(7), token: Secret::new("t0ken".to_owned()), boot_id: "boot".to_owned(), sequence: 0 }
}

fn uplink_with(
    coordinator: &FakeCoordinator,
    timing: Timing,
    limit: usize,
    cancel: &Cancel,
) -> (Uplink, Arc<Lines>) {
    let lines = Arc::new(Lines::default());
    let console = Arc::clone(&lines) as Arc<dyn Console>;
    let uplink =
        Uplink::start(coordinator.client(), session(), timing, limit, console, cancel.clone()).unwrap();
    (uplink, lines)
}

fn event(number: usize) -> Record {
    Record::Event { level: EventLevel::Info, kind: "n".to_owned(), message: number.to_string(), ts_ms: 0 }
}

fn numbers(batch: &Seen) -> Vec<usize> {
    let records = batch.json()["records"].as_array().unwrap().clone();
    records.iter().map(|record| record["message"].as_str().unwrap().parse().unwrap()).collect()
}

fn acknowledge_all(seen: &Seen) -> Reply {
    acknowledge(seen.sequence(), &Directive::Continue)
}

#[test]
fn a_claim_is_tried_until_the_coordinator_can() {
    let mut tries = 0;
    let coordinator = FakeCoordinator::start(move |_| {
        tries += 1;
        match tries {
            1 => Reply::HangUp,
            2 => problem(503, "database is locked"),
            _ => claim_answer(7),
        }
    });
    let lines = Lines::default();
    let answer = claim(&coordinator.client(), AT_ONCE, &lines, &Cancel::new(), request).unwrap();
    assert_eq!(answer.token.expose(), "t0ken");
    assert_eq!(coordinator.seen().len(), 3);
    assert_eq!(coordinator.seen()[0].path, "/agent/v1/claim");
    assert!(lines.contain("does not answer"), "{:?}", lines.0);
    assert!(lines.contain("cannot take it now (503: database is locked)"), "{:?}", lines.0);
    assert!(lines.contain("next try in"));
}

#[test]
fn nobody_listening_is_told_and_tried_again_until_cancelled() {
    struct RaiseAtThird(Mutex<Vec<String>>, Cancel);
    impl Console for RaiseAtThird {
        fn line(&self, text: &str) {
            let mut lines = self.0.lock().unwrap();
            lines.push(text.to_owned());
            if lines.len() == 3 {
                self.1.raise();
            }
        }
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pin = CaPinOf("nobody").pin();
    let client = Client::new(free.to_string().parse().unwrap(), pin, None).unwrap();
    let console = RaiseAtThird(Mutex::default(), Cancel::new());
    let cancel = console.1.clone();
    let refused = claim(&client, AT_ONCE, &console, &cancel, request);
    assert!(matches!(refused, Err(ClaimError::Interrupted)));
    assert!(console.0.lock().unwrap()[0].contains("(connection refused); next try in"), "{:?}", console.0);
}

struct CaPinOf(&'static str);

impl CaPinOf {
    fn pin(&self) -> crate::boot_parameters::CaPin {
        crate::boot_parameters::CaPin(Sha256Hex::of(self.0.as_bytes()))
    }
}

fn assert_untrusted(coordinator: &FakeCoordinator, pin: crate::boot_parameters::CaPin) {
    let client = Client::new(coordinator.endpoint.clone(), pin, None).unwrap();
    let refused = claim(&client, AT_ONCE, &Lines::default(), &Cancel::new(), request);
    assert!(
        matches!(refused, Err(ClaimError::Refused(RequestError::Untrusted { .. }))),
        "{:?}",
        refused.err()
    );
    assert_eq!(coordinator.seen().len(), 0, "not one request reaches a stranger");
}

#[test]
fn only_the_pinned_ca_is_believed() {
    let coordinator = FakeCoordinator::start(|_| claim_answer(7));
    assert_untrusted(&coordinator, CaPinOf("another CA").pin());
    // the leaf is no CA, also when it is the one that is pinned
    assert_untrusted(&coordinator, coordinator.leaf_pin);
    assert!(claim(&coordinator.client(), AT_ONCE, &Lines::default(), &Cancel::new(), request).is_ok());
}

#[test]
fn a_certificate_of_that_ca_for_another_name_is_not_believed() {
    let coordinator = FakeCoordinator::start_as("another-service", |_| claim_answer(7));
    assert_untrusted(&coordinator, coordinator.pin);
}

#[test]
fn a_refusal_is_final_and_in_the_coordinators_words() {
    for status in [403, 404, 409, 422] {
        let coordinator = FakeCoordinator::start(move |_| problem(status, "claimed already"));
        let refused = claim(&coordinator.client(), AT_ONCE, &Lines::default(), &Cancel::new(), request);
        let Err(ClaimError::Refused(error)) = refused else { panic!("{status}") };
        assert!(error.to_string().contains("claimed already"));
        assert_eq!(coordinator.seen().len(), 1);
    }
}

#[test]
fn an_answer_that_is_not_the_protocols_never_shows_a_secret() {
    let coordinator = FakeCoordinator::start(|_| {
        Reply::Json(200, json!({ "token": 7, "token2": "s3cr3t", "plan": "s3cr3t" }))
    });
    let refused = claim(&coordinator.client(), AT_ONCE, &Lines::default(), &Cancel::new(), request);
    let Err(ClaimError::Refused(error @ RequestError::NotUnderstood { .. })) = refused else { panic!() };
    assert!(!error.to_string().contains("s3cr3t"));
}

#[test]
fn the_plan_of_another_run_is_refused() {
    let coordinator = FakeCoordinator::start(|_| claim_answer(8));
    let refused = claim(&coordinator.client(), AT_ONCE, &Lines::default(), &Cancel::new(), request);
    assert!(matches!(refused, Err(ClaimError::OtherRun { .. })));
}

#[test]
fn every_record_arrives_once_and_in_order_though_answers_get_lost() {
    // applies each batch at its first arrival and answers only the third
    let mut arrivals: BTreeMap<u64, usize> = BTreeMap::new();
    let coordinator = FakeCoordinator::start(move |seen| {
        let count = arrivals.entry(seen.sequence()).or_default();
        *count += 1;
        match *count {
            1 => Reply::HangUp,
            2 => problem(503, "disk full"),
            _ => acknowledge_all(seen),
        }
    });
    let (uplink, lines) = uplink_with(&coordinator, AT_ONCE, SPOOL_LIMIT_BYTES, &Cancel::new());
    let total = 2 * MAX_BATCH_RECORDS + 17;
    for number in 0..total {
        uplink.record(event(number));
    }
    uplink.flush(&Cancel::new()).unwrap();
    let mut applied: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for batch in coordinator.batches() {
        assert_eq!(batch.path, "/agent/v1/runs/7/batches");
        assert_eq!(batch.authorization.as_deref(), Some("Bearer t0ken"));
        assert!(numbers(&batch).len() <= MAX_BATCH_RECORDS);
        let first = applied.entry(batch.sequence()).or_insert_with(|| batch.body.clone());
        assert_eq!(*first, batch.body, "a resend is the same batch");
    }
    assert!(applied.keys().copied().eq(1..=applied.len() as u64), "{:?}", applied.keys());
    let batches = coordinator.batches();
    let received: Vec<usize> = applied
        .keys()
        .flat_map(|sequence| numbers(batches.iter().find(|batch| batch.sequence() == *sequence).unwrap()))
        .collect();
    assert!(received.iter().copied().eq(0..total));
    assert!(lines.contain("answers again"));
}

#[test]
fn a_refused_batch_ends_the_run() {
    let coordinator = FakeCoordinator::start(|_| problem(401, "this token was revoked"));
    let cancel = Cancel::new();
    let (uplink, _) = uplink_with(&coordinator, AT_ONCE, SPOOL_LIMIT_BYTES, &cancel);
    uplink.record(event(1));
    let ended = uplink.flush(&Cancel::new());
    assert!(
        matches!(ended, Err(UplinkError::Request(RequestError::Refused { status: 401, .. }))),
        "{ended:?}"
    );
    assert!(uplink.failure().is_some());
    while !cancel.is_raised() {
        std::thread::yield_now();
    }
}

#[test]
fn an_answer_that_does_not_acknowledge_is_no_acknowledgement() {
    let coordinator = FakeCoordinator::start(|_| acknowledge(0, &Directive::Continue));
    let (uplink, _) = uplink_with(&coordinator, AT_ONCE, SPOOL_LIMIT_BYTES, &Cancel::new());
    uplink.record(event(1));
    let ended = uplink.flush(&Cancel::new());
    assert!(matches!(ended, Err(UplinkError::NotAcknowledged { sent: 1, acknowledged: 0 })), "{ended:?}");
}

#[test]
fn a_flush_gives_the_directive_of_its_own_answer() {
    let halt = Directive::HaltPipeline { reason: "critical breach".to_owned() };
    let answer = halt.clone();
    let coordinator = FakeCoordinator::start(move |seen| acknowledge(seen.sequence(), &answer));
    let (uplink, _) = uplink_with(&coordinator, AT_ONCE, SPOOL_LIMIT_BYTES, &Cancel::new());
    uplink.record(event(1));
    assert_eq!(uplink.flush(&Cancel::new()).unwrap(), halt);
}

#[test]
fn an_abort_by_heartbeat_raises_cancel_and_a_verdict_is_waited_for() {
    let mut beats = 0;
    let coordinator = FakeCoordinator::start(move |seen| {
        assert_eq!(seen.path, "/agent/v1/runs/7/heartbeat");
        assert_eq!(seen.json(), json!({ "boot_id": "boot" }));
        beats += 1;
        let directive = match beats {
            1 => Directive::AwaitVerdict,
            _ => Directive::Abort { reason: "operator".to_owned(), then: AfterRun::PowerOff },
        };
        acknowledge(0, &directive)
    });
    let timing = Timing { heartbeat: Duration::from_millis(1), ..AT_ONCE };
    let cancel = Cancel::new();
    let (uplink, _) = uplink_with(&coordinator, timing, SPOOL_LIMIT_BYTES, &cancel);
    let mut seen = 0;
    loop {
        let (directive, answers) = uplink.next_answer(seen, &Cancel::new()).unwrap();
        seen = answers;
        if matches!(directive, Directive::Abort { .. }) {
            break;
        }
    }
    while !cancel.is_raised() {
        std::thread::yield_now();
    }
}

#[test]
fn sensors_wait_while_the_spool_is_full_and_stages_do_not() {
    let open = Arc::new(AtomicBool::new(false));
    let door = Arc::clone(&open);
    let coordinator = FakeCoordinator::start(move |seen| {
        if door.load(Ordering::SeqCst) { acknowledge_all(seen) } else { problem(503, "not now") }
    });
    let (uplink, _) = uplink_with(&coordinator, AT_ONCE, 100, &Cancel::new());
    for number in 0..2 * MAX_BATCH_RECORDS {
        uplink.record(event(number));
    }
    let (sender, waited) = crossbeam_channel::bounded(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            uplink.wait_for_room();
            sender.send(()).unwrap();
        });
        assert!(waited.recv_timeout(Duration::from_millis(300)).is_err(), "it is full");
        open.store(true, Ordering::SeqCst);
        waited.recv().unwrap();
    });
    uplink.flush(&Cancel::new()).unwrap();
}

#[test]
fn a_flush_can_be_interrupted_and_dropping_sends_nothing_more() {
    let coordinator = FakeCoordinator::start(|_| problem(503, "never"));
    let (uplink, _) = uplink_with(&coordinator, AT_ONCE, SPOOL_LIMIT_BYTES, &Cancel::new());
    uplink.record(event(1));
    let interrupt = Cancel::new();
    interrupt.raise();
    assert!(matches!(uplink.flush(&interrupt), Err(UplinkError::Interrupted)));
    drop(uplink);
}

#[test]
fn an_artifact_travels_with_its_digest() {
    let digest = Sha256Hex::of(b"content");
    let coordinator = FakeCoordinator::start(move |seen| {
        assert_eq!(seen.digest, Some(digest.to_string()));
        Reply::Json(200, json!({ "sha256": Sha256Hex::of(&seen.body), "size_bytes": seen.body.len() }))
    });
    let (uplink, _) = uplink_with(&coordinator, AT_ONCE, SPOOL_LIMIT_BYTES, &Cancel::new());
    uplink.store("fio", "sda.json", b"content".to_vec(), &Cancel::new()).unwrap();
    assert_eq!(coordinator.seen()[0].path, "/agent/v1/runs/7/artifacts/fio/sda.json");
}

#[test]
fn a_refused_artifact_does_not_leave_its_sender_waiting() {
    let coordinator = FakeCoordinator::start(|_| problem(413, "too large"));
    let (uplink, _) = uplink_with(&coordinator, AT_ONCE, SPOOL_LIMIT_BYTES, &Cancel::new());
    let store = || uplink.store("fio", "sda.json", b"content".to_vec(), &Cancel::new());
    let refused = store();
    assert!(matches!(refused, Err(UplinkError::Request(RequestError::Refused { status: 413, .. }))));
    assert!(store().is_err());
}

#[test]
fn a_cancel_ends_the_wait_for_an_artifact() {
    let coordinator = FakeCoordinator::start(|_| problem(503, "not now"));
    let (uplink, _) = uplink_with(&coordinator, AT_ONCE, SPOOL_LIMIT_BYTES, &Cancel::new());
    let interrupt = Cancel::new();
    interrupt.raise();
    let ended = uplink.store("fio", "sda.json", b"content".to_vec(), &interrupt);
    assert!(matches!(ended, Err(UplinkError::Interrupted)));
}

#[test]
fn a_crash_is_told_until_heard_and_the_machine_held_until_released() {
    let mut requests = 0;
    let coordinator = FakeCoordinator::start(move |seen| {
        requests += 1;
        let finished =
            |then| Directive::Finished { result: RunResult::Fail, reasons: Vec::new(), then, hold: None };
        match requests {
            1 => problem(503, "not now"),
            2 => {
                assert_eq!(seen.json()["how"], Value::from("signal SIGKILL"));
                acknowledge(0, &Directive::AwaitVerdict)
            }
            3 => acknowledge(0, &finished(AfterRun::Stay)),
            _ => acknowledge(0, &finished(AfterRun::PowerOff)),
        }
    });
    let crash = AgentCrash {
        boot_id: "boot".to_owned(),
        how: "signal SIGKILL".to_owned(),
        last_lines: vec!["[5/6] CPUStress".to_owned()],
    };
    let timing = Timing { heartbeat: Duration::from_millis(1), ..AT_ONCE };
    let patience = Duration::from_mins(5);
    let then =
        report_crash(&coordinator.client(), &session(), &crash, timing, patience, &Lines::default()).unwrap();
    assert_eq!(then, AfterRun::PowerOff);
    let paths: Vec<String> = coordinator.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths[..2], ["/agent/v1/runs/7/crash"; 2]);
    assert_eq!(paths[2..], ["/agent/v1/runs/7/heartbeat"; 2]);
}

fn enrol_request() -> vetting_protocol::enrolment::EnrolRequest {
    let host = crate::host::Host::recorded("/nonexistent");
    vetting_protocol::enrolment::EnrolRequest {
        protocol_version: 2,
        agent_version: "test".to_owned(),
        token: Some(Secret::new("t0ken".to_owned())),
        ticket: None,
        identity: crate::identity::present(&host, None),
    }
}

#[test]
fn a_machine_waits_with_its_code_until_an_operator_gives_it_a_run() {
    let mut asked = 0;
    let coordinator = FakeCoordinator::start(move |seen| {
        assert_eq!(seen.path, "/agent/v1/enrol");
        assert_eq!(seen.authorization, None);
        asked += 1;
        let waiting = |code: &str| json!({"state": "waiting", "code": code, "ticket": "t1cket", "note": "its token is used up", "retry_ms": 1});
        match asked {
            1 => Reply::HangUp,
            2 => problem(429, "too many machines wait"),
            3 | 4 => Reply::Json(200, waiting("K7R4QX")),
            5 => Reply::Json(200, waiting("ACD9AC")),
            6 => Reply::Json(
                200,
                json!({"state": "registered", "host_name": "r1", "ticket": null, "retry_ms": 1}),
            ),
            _ => {
                let run = json!({"state": "run", "host_name": "r1", "run_id": 7, "claim_secret": "once", "server_time_ms": 5});
                Reply::Json(200, run)
            }
        }
    });
    let lines = Lines::default();
    let enrolled = enrol(&coordinator.client(), AT_ONCE, &lines, enrol_request()).unwrap();
    assert_eq!(
        (enrolled.host_name.as_str(), enrolled.run, enrolled.claim.expose()),
        ("r1", RunId(7), "once")
    );
    assert!(lines.contain("CODE: K7R4QX") && lines.contain("CODE: ACD9AC") && lines.contain("used up"));
    assert!(lines.contain("host adopt K7R4QX") && lines.contain("run start r1"));
    let said = lines.0.lock().unwrap();
    assert_eq!(said.iter().filter(|line| line.contains("CODE: K7R4QX")).count(), 1, "told once");
    assert!(!said.iter().any(|line| line.contains("t0ken") || line.contains("t1cket")));
    let tickets: Vec<Value> = coordinator.seen().iter().map(|seen| seen.json()["ticket"].clone()).collect();
    assert_eq!(tickets[2], Value::Null);
    assert!(tickets[3..].iter().all(|ticket| ticket == "t1cket"), "also after an answer without one");
}

#[test]
fn a_machine_that_is_turned_away_or_refused_gives_up() {
    let turned_away = FakeCoordinator::start(|_| Reply::Json(200, json!({"state": "rejected"})));
    let lines = Lines::default();
    let error = enrol(&turned_away.client(), AT_ONCE, &lines, enrol_request()).unwrap_err();
    assert!(matches!(error, EnrolError::Rejected), "{error:?}");
    let refusing = FakeCoordinator::start(|_| problem(409, "another protocol"));
    let error = enrol(&refusing.client(), AT_ONCE, &lines, enrol_request()).unwrap_err();
    assert!(matches!(error, EnrolError::Refused(RequestError::Refused { status: 409, .. })), "{error:?}");
}
