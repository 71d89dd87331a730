//! Machines that nobody registered: tokens, codes, cards, and who may claim.

use reqwest::Method;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::enrolment::{
    Adopted, EnrolAnswer, EnrolRequest, EnrolmentTokenCreated, EnrolmentTokenView, Identity, PendingView,
    PresentedNic,
};
use vetting_protocol::models::ModelView;
use vetting_protocol::operator_api::HostView;
use vetting_protocol::run::RunState;

use super::*;

pub(super) const UUID: &str = "4c4c4544-0043-3010-8057-b5c04f503332";
pub(super) const OTHER_UUID: &str = "3f8a5c1e-7d42-11eb-9a03-0242ac130003";
pub(super) const CARD: &str = "b8:ca:3a:00:00:01";
pub(super) const SECOND_CARD: &str = "b8:ca:3a:00:00:02";
const HOUR_MS: u64 = 3_600_000;

pub(super) fn identity(uuid: &str, cards: &[&str]) -> Identity {
    Identity {
        system_uuid: Some(uuid.to_owned()),
        manufacturer: Some("Dell Inc.".to_owned()),
        product: Some("PowerEdge R640".to_owned()),
        system_serial: Some("C0W2P32".to_owned()),
        board_serial: None,
        chassis_serial: None,
        nics: cards.iter().map(|mac| PresentedNic { mac: mac.parse().unwrap(), removable: false }).collect(),
        boot_mac: cards.first().map(|mac| mac.parse().unwrap()),
        cpu: None,
        memory_bytes: None,
        disks: None,
    }
}

impl Lab {
    fn enrolling(
        &self,
        identity: &Identity,
        token: Option<&Secret>,
        ticket: Option<&Secret>,
    ) -> RequestBuilder {
        self.https(Method::POST, "/agent/v1/enrol").json(&EnrolRequest {
            protocol_version: PROTOCOL_VERSION,
            agent_version: "0".to_owned(),
            token: token.cloned(),
            ticket: ticket.cloned(),
            identity: identity.clone(),
        })
    }

    pub(super) async fn enrol(
        &self,
        identity: &Identity,
        token: Option<&Secret>,
        ticket: Option<&Secret>,
    ) -> EnrolAnswer {
        good(self.enrolling(identity, token, ticket)).await
    }

    pub(super) async fn token(&self, body: Value) -> Secret {
        let made: EnrolmentTokenCreated =
            good(self.operator(Method::POST, "enrolment/tokens").json(&body)).await;
        made.token
    }

    async fn pending(&self) -> Vec<PendingView> {
        good(self.operator(Method::GET, "enrolment/pending")).await
    }

    fn adopting(&self, code: &str, body: &Value) -> RequestBuilder {
        self.operator(Method::POST, &format!("enrolment/pending/{code}/adopt")).json(body)
    }

    async fn end(&self, run: RunId) {
        let abort = self.operator(Method::POST, &format!("runs/{run}/abort")).json(&json!({}));
        assert!(abort.send().await.unwrap().status().is_success());
        self.over(run).await;
    }

    async fn host(&self, name: &str) -> HostView {
        good(self.operator(Method::GET, &format!("hosts/{name}"))).await
    }
}

pub(super) fn waiting(answer: EnrolAnswer) -> (String, Secret, Option<String>) {
    match answer {
        EnrolAnswer::Waiting { code, ticket, note, .. } => (code, ticket, note),
        other => panic!("{other:?}"),
    }
}

fn claim(run: RunId, secret: &Secret, uuid: Option<&str>, cards: &[&str]) -> ClaimRequest {
    ClaimRequest {
        system_uuid: uuid.map(str::to_owned),
        macs: cards.iter().map(|mac| mac.parse().unwrap()).collect(),
        ..Lab::claim_request(run, secret, BOOT)
    }
}

#[tokio::test]
async fn a_token_registers_a_machine_and_starts_its_run() {
    let lab = Lab::open().await;
    let token = lab
        .token(json!({"uses": 1, "valid_ms": HOUR_MS, "expected_spec_yaml": SPEC, "start_run": "quick"}))
        .await;
    let machine = identity(UUID, &[CARD, SECOND_CARD]);
    let EnrolAnswer::Run { host_name, run_id, claim_secret, .. } =
        lab.enrol(&machine, Some(&token), None).await
    else {
        panic!()
    };
    assert_eq!(host_name, "dell-c0w2p32");
    let host = lab.host(&host_name).await;
    assert_eq!((host.mac.to_string().as_str(), host.further_macs.len()), (CARD, 1));
    assert_eq!(host.identity.unwrap().system_uuid, UUID);
    let answer = lab.claiming(&claim(run_id, &claim_secret, Some(UUID), &[CARD])).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(lab.detail(run_id).await.summary.state, RunState::Running);
    // the machine is known now: asking again takes nothing of the token
    let again = lab.enrol(&machine, Some(&token), None).await;
    assert!(matches!(again, EnrolAnswer::Run { .. }), "{again:?}");
    let tokens: Vec<EnrolmentTokenView> = good(lab.operator(Method::GET, "enrolment/tokens")).await;
    assert_eq!((tokens[0].uses, tokens[0].uses_allowed), (1, 1));
    // of the token there is only a hash
    let bytes = std::fs::read(&lab.config.database.path).unwrap();
    assert!(!bytes.windows(43).any(|window| window == token.expose().as_bytes()));
}

#[tokio::test]
async fn a_machine_whose_tokens_model_was_removed_is_registered_and_its_run_waits_for_the_model() {
    let lab = Lab::open().await;
    let model = json!({"name": "r640", "expected_spec_yaml": SPEC});
    let _: ModelView = good(lab.operator(Method::POST, "models").json(&model)).await;
    let body =
        json!({"uses": 1, "valid_ms": HOUR_MS, "expected_spec_yaml": "model: r640\n", "start_run": "quick"});
    let token = lab.token(body).await;
    assert_eq!(lab.operator(Method::DELETE, "models/r640").send().await.unwrap().status(), 204);
    let machine = identity(UUID, &[CARD]);
    // it is known when it asks again, which is no news
    for _ in 0..2 {
        let answer = lab.enrol(&machine, Some(&token), None).await;
        assert!(matches!(answer, EnrolAnswer::Registered { .. }), "{answer:?}");
    }
    let host = lab.host("dell-c0w2p32").await;
    let told: Vec<EventView> =
        lab.events().await.into_iter().filter(|event| event.kind == "run_not_started").collect();
    let [told] = &told[..] else { panic!("{told:?}") };
    assert_eq!((told.level, told.host_id, told.run_id), (EventLevel::Warning, Some(host.id), None));
    assert!(told.message.contains("`model add r640 --spec FILE` makes it"), "{}", told.message);

    let _: ModelView = good(lab.operator(Method::POST, "models").json(&model)).await;
    let run = lab.start_run("dell-c0w2p32").await;
    let answer = lab.enrol(&machine, Some(&token), None).await;
    assert!(matches!(answer, EnrolAnswer::Run { run_id, .. } if run_id == run), "{answer:?}");
}

#[tokio::test]
async fn a_token_that_is_no_good_leaves_the_decision_to_an_operator() {
    let lab = Lab::open().await;
    let make = || lab.token(json!({"uses": 1, "valid_ms": HOUR_MS}));
    let (used, expired, revoked) = (make().await, make().await, make().await);
    let first = lab.enrol(&identity(OTHER_UUID, &[SECOND_CARD]), Some(&used), None).await;
    assert!(matches!(first, EnrolAnswer::Registered { .. }), "no run without a spec: {first:?}");
    assert_eq!(lab.operator(Method::DELETE, "enrolment/tokens/3").send().await.unwrap().status(), 204);
    let machine = identity(UUID, &[CARD]);
    let garbage = Secret::new("'; DROP TABLE hosts; --".to_owned());
    for (token, word) in [(&used, "used up"), (&revoked, "revoked"), (&garbage, "not known")] {
        let (_, _, note) = waiting(lab.enrol(&machine, Some(token), None).await);
        assert!(note.as_deref().is_some_and(|note| note.contains(word)), "{note:?}");
    }
    lab.clock.set(START_MS + i64::try_from(HOUR_MS).unwrap());
    let (_, _, note) = waiting(lab.enrol(&machine, Some(&expired), None).await);
    assert!(note.unwrap().contains("expired"));
    let hosts: Vec<HostView> = good(lab.operator(Method::GET, "hosts")).await;
    assert_eq!(hosts.len(), 1);
    for (body, word) in [
        (json!({"uses": 0, "valid_ms": 1}), "uses"),
        (json!({"uses": 1, "valid_ms": 0}), "valid_ms"),
        (json!({"uses": 1, "valid_ms": 1, "start_run": "quick"}), "spec"),
        (json!({"uses": 1, "valid_ms": 1, "name_pattern": "../{mac}"}), "pattern"),
    ] {
        let request = lab.operator(Method::POST, "enrolment/tokens").json(&body);
        let problem: Problem = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(problem.status, 422);
        assert!(problem.detail.contains(word), "{}", problem.detail);
    }
}

#[tokio::test]
async fn the_last_use_of_a_token_is_one_machines_only() {
    let lab = Lab::open().await;
    let token = lab.token(json!({"uses": 3, "valid_ms": HOUR_MS})).await;
    let machines: Vec<Identity> = (0..12)
        .map(|n| {
            identity(&format!("3f8a5c1e-7d42-11eb-9a03-0242ac1300{n:02x}"), &[&format!("b8ca3a0001{n:02x}")])
        })
        .collect();
    let asked = machines.iter().map(|machine| lab.enrol(machine, Some(&token), None));
    let answers = futures_util::future::join_all(asked).await;
    let registered = answers.iter().filter(|answer| matches!(answer, EnrolAnswer::Registered { .. })).count();
    assert_eq!(registered, 3);
    let hosts: Vec<HostView> = good(lab.operator(Method::GET, "hosts")).await;
    assert_eq!(hosts.len(), 3);
    // the same serial number thrice, and three names
    assert!(hosts.iter().all(|host| host.name.starts_with("dell-c0w2p32")));
}

#[tokio::test]
async fn an_operator_adopts_by_code() {
    let lab = Lab::open().await;
    let machine = identity(UUID, &[CARD]);
    let (code, ticket, note) = waiting(lab.enrol(&machine, None, None).await);
    assert_eq!((code.len(), note), (6, None));
    let (same, ..) = waiting(lab.enrol(&machine, None, Some(&ticket)).await);
    assert_eq!(same, code);
    lab.clock.set(START_MS + 90_000);
    let pending = lab.pending().await;
    assert_eq!((pending[0].code.as_str(), pending[0].address.as_str()), (code.as_str(), "127.0.0.1"));
    assert_eq!((pending[0].age_ms, &pending[0].identity), (90_000, &machine));

    assert_eq!(refused(lab.adopting("XXXXXX", &json!({}))).await, refusal(404, "not-found"));
    let unspecified = json!({"name": "n1", "start_run": "quick"});
    assert_eq!(refused(lab.adopting(&code, &unspecified)).await, refusal(422, "invalid"));
    assert_eq!(lab.pending().await.len(), 1, "nothing of a refused adoption stays");
    let typed = format!("{}-{}", code[..3].to_lowercase(), &code[3..]);
    let body = json!({"name": "n1", "expected_spec_yaml": SPEC, "start_run": "quick"});
    let adopted: Adopted = good(lab.adopting(&typed, &body)).await;
    assert!(lab.pending().await.is_empty());
    assert_eq!(refused(lab.adopting(&code, &body)).await, refusal(404, "not-found"));
    let EnrolAnswer::Run { run_id, claim_secret, host_name, .. } =
        lab.enrol(&machine, None, Some(&ticket)).await
    else {
        panic!()
    };
    assert_eq!((Some(run_id), host_name.as_str()), (adopted.run, "n1"));
    let answer = lab.claiming(&claim(run_id, &claim_secret, Some(UUID), &[CARD])).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_host_without_a_spec_gets_no_run() {
    let lab = Lab::open().await;
    let (code, ticket, _) = waiting(lab.enrol(&identity(UUID, &[CARD]), None, None).await);
    let adopted: Adopted = good(lab.adopting(&code, &json!({}))).await;
    assert_eq!(adopted.name, "dell-c0w2p32");
    let body = json!({"host": adopted.name, "profile": "quick"});
    let problem: Problem =
        lab.operator(Method::POST, "runs").json(&body).send().await.unwrap().json().await.unwrap();
    assert_eq!(problem.status, 422);
    assert!(problem.detail.contains("host edit dell-c0w2p32 --spec"), "{}", problem.detail);
    let answer = lab.enrol(&identity(UUID, &[CARD]), None, Some(&ticket)).await;
    assert!(matches!(answer, EnrolAnswer::Registered { .. }), "{answer:?}");
}

#[tokio::test]
async fn one_that_was_turned_away_stays_away() {
    let lab = Lab::open().await;
    let machine = identity(UUID, &[CARD]);
    let (code, ticket, _) = waiting(lab.enrol(&machine, None, None).await);
    let path = format!("enrolment/pending/{code}/reject");
    let answer: Value = good(lab.operator(Method::POST, &path)).await;
    assert_eq!(answer["rejected"], code);
    for ticket in [Some(&ticket), None] {
        assert_eq!(lab.enrol(&machine, None, ticket).await, EnrolAnswer::Rejected);
    }
    assert_eq!(refused(lab.operator(Method::POST, &path)).await, refusal(404, "not-found"));
    lab.clock.set(START_MS + 25 * 3_600_000);
    assert!(matches!(lab.enrol(&machine, None, None).await, EnrolAnswer::Waiting { .. }));
}

#[tokio::test]
async fn codes_expire_and_who_is_gone_is_forgotten() {
    let lab = Lab::open().await;
    let machine = identity(UUID, &[CARD]);
    let (code, ticket, _) = waiting(lab.enrol(&machine, None, None).await);
    lab.clock.set(START_MS + 11 * 60_000);
    assert_eq!(refused(lab.adopting(&code, &json!({}))).await, refusal(404, "not-found"));
    let (fresh, ..) = waiting(lab.enrol(&machine, None, Some(&ticket)).await);
    assert_ne!(fresh, code);
}

#[tokio::test]
async fn a_hostile_lan_cannot_fill_the_database() {
    let lab = Lab::open().await;
    let mut answers = Vec::new();
    for n in 0..40 {
        let machine = identity(OTHER_UUID, &[&format!("b8ca3a0002{n:02x}")]);
        answers.push(lab.enrolling(&machine, None, None).send().await.unwrap().status().as_u16());
    }
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 32);
    assert_eq!(lab.pending().await.len(), 32);
    assert!(answers[32..].iter().all(|status| *status == 429));
    let waits = lab.events().await.into_iter().filter(|event| event.kind == "machine_waiting").count();
    assert_eq!(waits, 32);
    for _ in 0..240 {
        answers.push(lab.enrolling(&identity(UUID, &[]), None, None).send().await.unwrap().status().as_u16());
    }
    assert_eq!(answers.last(), Some(&429), "and nobody may ask without end");
    assert!(answers.contains(&422), "a machine without a card is none");
}

#[tokio::test]
async fn oversized_and_foreign_requests_are_refused() {
    let lab = Lab::open().await;
    let mut large = identity(UUID, &[CARD]);
    large.cpu = Some("x".repeat(100_000));
    assert_eq!(refused(lab.enrolling(&large, None, None)).await, refusal(413, "too-large"));
    let mut body = serde_json::to_value(EnrolRequest {
        protocol_version: 1,
        agent_version: "0".to_owned(),
        token: None,
        ticket: None,
        identity: identity(UUID, &[CARD]),
    })
    .unwrap();
    let post = |body: &Value| lab.https(Method::POST, "/agent/v1/enrol").json(body);
    assert_eq!(refused(post(&body)).await, refusal(409, "protocol-version"));
    body["identity"]["admin"] = json!(true);
    assert_eq!(refused(post(&body)).await, refusal(400, "malformed"));
    for path in ["enrolment/tokens", "enrolment/pending"] {
        let request = lab.https(Method::GET, &format!("/api/v1/{path}"));
        assert_eq!(refused(request).await, refusal(401, "token-missing"), "{path}");
    }
}

#[tokio::test]
async fn what_a_machine_says_is_shown_without_its_control_characters() {
    let lab = Lab::open().await;
    let mut hostile = identity(UUID, &[CARD]);
    hostile.manufacturer = Some("\u{1b}[2J\u{1b}]0;owned\u{7}".to_owned());
    hostile.system_serial = Some("../../../etc/passwd".to_owned());
    let (code, ..) = waiting(lab.enrol(&hostile, None, None).await);
    let seen = serde_json::to_string(&lab.pending().await).unwrap();
    let told = serde_json::to_string(&lab.events().await).unwrap();
    assert!(!seen.contains("u001b") && !told.contains("u001b"), "{seen} {told}");
    let adopted: Adopted = good(lab.adopting(&code, &json!({}))).await;
    assert!(adopted.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{}", adopted.name);
}

#[tokio::test]
async fn any_card_of_a_host_boots_it() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    lab.add_host("node2", SECOND_CARD).await;
    let add = |mac: &str| lab.operator(Method::POST, "hosts/node1/macs").json(&json!({"mac": mac}));
    let host: HostView = good(add("B8-CA-3A-00-00-01")).await;
    assert_eq!(host.further_macs.len(), 1);
    for taken in [CARD, MAC, SECOND_CARD] {
        assert_eq!(refused(add(taken)).await, refusal(409, "taken"), "{taken}");
    }
    assert_eq!(refused(add("nonsense")).await, refusal(422, "invalid"));
    let body = json!({"name": "node3", "mac": CARD, "expected_spec_yaml": SPEC});
    assert_eq!(refused(lab.operator(Method::POST, "hosts").json(&body)).await, refusal(409, "taken"));
    lab.start_run("node1").await;
    assert!(lab.script(CARD).await.contains("vetting.claim="));
    let path = format!("hosts/node1/macs/{CARD}");
    assert_eq!(lab.operator(Method::DELETE, &path).send().await.unwrap().status(), 204);
    assert_eq!(refused(lab.operator(Method::DELETE, &path)).await, refusal(404, "not-found"));
    assert!(lab.script(CARD).await.contains("not a registered machine"));
}

#[tokio::test]
async fn a_card_that_was_moved_into_another_machine_earns_it_no_verdict() {
    let lab = Lab::open().await;
    lab.add_host("good", CARD).await;
    let first = lab.start_run("good").await;
    let secret = |script: String| {
        Secret::new(script.split_once("vetting.claim=").unwrap().1.split(' ').next().unwrap().to_owned())
    };
    let offered = secret(lab.script(CARD).await);
    let claimed = lab.claiming(&claim(first, &offered, Some(UUID), &[CARD])).send().await.unwrap();
    assert_eq!(claimed.status(), StatusCode::OK);
    assert_eq!(lab.host("good").await.identity.unwrap().system_uuid, UUID);
    lab.end(first).await;

    let second = lab.start_run("good").await;
    let offered = secret(lab.script(CARD).await);
    for (uuid, cards) in [(Some(OTHER_UUID), &[CARD][..]), (None, &[CARD]), (None, &[])] {
        let moved = lab.claiming(&claim(second, &offered, uuid, cards));
        assert_eq!(refused(moved).await, refusal(409, "other-machine"), "{uuid:?}");
    }
    let events = lab.events().await;
    let told = events.iter().rev().find(|event| event.kind == "claim_refused").unwrap();
    assert!(told.message.contains("good") && told.run_id == Some(second), "{told:?}");
    // the right one still can
    let right = lab.claiming(&claim(second, &offered, Some(UUID), &[CARD])).send().await.unwrap();
    assert_eq!(right.status(), StatusCode::OK);
    lab.end(second).await;

    // its board was replaced, and an operator says so
    assert_eq!(lab.operator(Method::DELETE, "hosts/good/identity").send().await.unwrap().status(), 204);
    let third = lab.start_run("good").await;
    let offered = secret(lab.script(CARD).await);
    let repaired = lab.claiming(&claim(third, &offered, Some(OTHER_UUID), &[CARD])).send().await.unwrap();
    assert_eq!(repaired.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_replaced_board_is_a_persons_decision() {
    let lab = Lab::open().await;
    let token = lab.token(json!({"uses": 9, "valid_ms": HOUR_MS})).await;
    lab.enrol(&identity(UUID, &[CARD]), Some(&token), None).await;
    let repaired = identity(OTHER_UUID, &[CARD, SECOND_CARD]);
    let (code, ticket, note) = waiting(lab.enrol(&repaired, Some(&token), None).await);
    assert!(note.is_some_and(|note| note.contains("board replaced")));
    let new = json!({"name": "another"});
    assert_eq!(refused(lab.adopting(&code, &new)).await, refusal(409, "taken"));
    let adopted: Adopted = good(lab.adopting(&code, &json!({"into": "dell-c0w2p32"}))).await;
    let host = lab.host(&adopted.name).await;
    assert_eq!((host.identity.unwrap().system_uuid.as_str(), host.further_macs.len()), (OTHER_UUID, 1));
    let answer = lab.enrol(&repaired, None, Some(&ticket)).await;
    assert!(matches!(answer, EnrolAnswer::Registered { .. }), "{answer:?}");
    let hosts: Vec<HostView> = good(lab.operator(Method::GET, "hosts")).await;
    assert_eq!(hosts.len(), 1);
}

#[tokio::test]
async fn an_unknown_machine_boots_the_live_image_only_where_the_lab_allows_it() {
    let mut lab = Lab::open().await;
    assert!(lab.script(CARD).await.contains("not a registered machine"));
    lab.config.enrolment.netboot = crate::config::EnrolmentNetboot::Allowed;
    let lab = lab.restarted().await;
    let script = lab.script(CARD).await;
    assert!(script.contains(" vetting.enrol ") && script.contains("vetting.ca=sha256:"), "{script}");
    let (code, ..) = waiting(lab.enrol(&identity(UUID, &[CARD]), None, None).await);
    let path = format!("enrolment/pending/{code}/reject");
    let _: Value = good(lab.operator(Method::POST, &path)).await;
    assert!(lab.script(CARD).await.contains("local disk"), "one that was turned away starts from its disk");
}
