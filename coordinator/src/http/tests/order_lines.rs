//! Who gave an order: every operation of the API that changes something leaves a line with the caller's name.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;

use reqwest::Method;
use vetting_protocol::enrolment::{EnrolmentTokenCreated, Identity};
use vetting_protocol::operator_api::{TokenCreated, VerdictView};

use super::enrolment::{CARD, OTHER_UUID, SECOND_CARD, UUID, identity, waiting};
use super::*;
use crate::http::openapi::DOCUMENT;

/// A power strip that does what it is told.
const STRIP: &str = "#!/bin/sh\ncase $1 in status) echo on;; esac\n";
/// What takes a BMC with a virtual drive, or a stick's results: redfish.rs and run_imports.rs look at their lines.
const ELSEWHERE: [&str; 3] =
    ["put /api/v1/hosts/{name}/media", "delete /api/v1/hosts/{name}/media", "post /api/v1/run-imports"];

/// What the document says that changes something, and the one thing that is fetched and lets somebody in.
fn orders() -> BTreeSet<String> {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let mut orders = BTreeSet::from(["get /api/v1/runs/{run}/artifacts/{kind}".to_owned()]);
    for (path, operations) in document["paths"].as_object().unwrap() {
        let methods = operations.as_object().unwrap().keys().filter(|method| *method != "get");
        if path.starts_with("/api/") {
            orders.extend(methods.map(|method| format!("{method} {path}")));
        }
    }
    orders
}

impl Lab {
    async fn events_after(&self, id: i64) -> Vec<EventView> {
        good(self.operator(Method::GET, &format!("events?after={id}&limit=1000"))).await
    }
}

/// Orders in the name of alice.
struct Alice {
    lab: Lab,
    token: Secret,
    done: BTreeSet<String>,
}

impl Alice {
    async fn comes() -> (Self, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("strip");
        std::fs::write(&script, STRIP).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let text = format!(
            "power: {{off_pause: 0s, hooks: {{strip: {{command: ['{}', '{{action}}']}}}}}}\n\
             notifications: {{receivers: {{nobody: {{ntfy: {{server: 'http://{}', topic: t}}}}}}}}\n",
            script.display(),
            // nobody listens there any more
            tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
        );
        let told = Config::parse(&text).unwrap();
        let lab = Lab::open_configured(|config| {
            config.power.off_pause = told.power.off_pause;
            config.power.hooks = told.power.hooks;
            config.notifications = told.notifications;
            config.artifacts.retention_days = NonZeroU32::new(1);
        })
        .await;
        let made: TokenCreated =
            good(lab.operator(Method::POST, "tokens").json(&json!({"name": "alice"}))).await;
        (Self { lab, token: made.token, done: BTreeSet::new() }, folder)
    }

    /// Gives an order and looks for its line: the newest of alice's, with this in it.
    async fn orders(&mut self, order: &str, path: &str, body: Value, line: &str) -> Value {
        let before = self.lab.events_after(0).await.last().map_or(0, |event| event.id);
        let (method, _) = order.split_once(' ').unwrap();
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let request = self.lab.https(method, &format!("/api/v1/{path}")).bearer_auth(self.token.expose());
        let answer = if body.is_null() { request.send() } else { request.json(&body).send() }.await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        // that a receiver is dead is no fault of who has it tested
        let dead = order.ends_with("/test") && status == StatusCode::BAD_GATEWAY;
        assert!(status.is_success() || dead, "{order}: {status} {text}");
        let lines = self.lines(before).await;
        let mut new = lines.iter();
        assert!(new.any(|said| said.contains("alice") && said.contains(line)), "{order}: {lines:?}");
        self.done.insert(order.to_owned());
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// What the log says that alice did after this event.
    async fn lines(&self, after: i64) -> Vec<String> {
        let hers = |event: &EventView| {
            event.data.as_ref().is_some_and(|data| data["by"] == "alice" || data["caller"] == "alice")
        };
        self.lab.events_after(after).await.into_iter().filter(hers).map(|event| event.message).collect()
    }

    async fn orders_of_hosts(&mut self) {
        let host = json!({"name": "node1", "mac": MAC, "expected_spec_yaml": SPEC});
        self.orders("post /api/v1/hosts", "hosts", host, "added host node1").await;
        let list = json!({"format": "yaml", "text": format!("- {{name: node2, mac: '52:54:00:ab:cd:02', spec: {SPEC:?}}}")});
        self.orders("post /api/v1/host-imports", "host-imports", list, "imported host node2").await;
        let one = "/api/v1/hosts/{name}";
        self.orders(&format!("patch {one}"), "hosts/node1", json!({"notes": "x"}), "edited notes").await;
        self.orders(&format!("delete {one}"), "hosts/node2", Value::Null, "removed host node2").await;
        let (card, at) = ("52:54:00:ab:cd:09", "hosts/node1/macs");
        self.orders(&format!("post {one}/macs"), at, json!({"mac": card}), "added the card").await;
        let at = format!("{at}/{card}");
        self.orders(&format!("delete {one}/macs/{{mac}}"), &at, Value::Null, "took the card").await;
        let at = "hosts/node1/identity";
        self.orders(&format!("delete {one}/identity"), at, Value::Null, "identity of node1 forgotten").await;
        let at = "hosts/node1/agent-token";
        self.orders(&format!("post {one}/agent-token"), at, Value::Null, "made the token of the agent").await;
        let revoke = format!("delete {one}/agent-token");
        self.orders(&revoke, at, Value::Null, "revoked the token of the agent on host node1").await;
        self.orders(&revoke, at, Value::Null, "which had none").await;
    }

    async fn orders_of_power(&mut self) {
        let one = "/api/v1/hosts/{name}";
        let bmc = json!({"via": "ipmi", "host": "127.0.0.1", "port": 1, "user": "ADMIN", "secret": "rack1"});
        self.orders(&format!("put {one}/bmc"), "hosts/node1/bmc", bmc, "told how the BMC").await;
        self.orders(&format!("delete {one}/bmc"), "hosts/node1/bmc", Value::Null, "took the BMC").await;
        let switch = format!("post {one}/power/{{action}}");
        self.orders(&switch, "hosts/node1/power/on", Value::Null, "node1: on (Wake-on-LAN)").await;
        let pdu = json!({"via": "hook", "hook": "strip", "outlet": "7"});
        self.orders(&format!("put {one}/pdu"), "hosts/node1/pdu", pdu, "set the PDU outlet").await;
        self.orders(&switch, "hosts/node1/power/on", Value::Null, "switched the power of host node1: on")
            .await;
        let outlet = format!("post {one}/pdu/{{action}}");
        self.orders(&outlet, "hosts/node1/pdu/off", Value::Null, "switched the PDU outlet").await;
        self.orders(&format!("delete {one}/pdu"), "hosts/node1/pdu", Value::Null, "removed the PDU").await;
    }

    async fn orders_of_the_box(&mut self) {
        let model = json!({"name": "m", "expected_spec_yaml": SPEC});
        self.orders("post /api/v1/models", "models", model, "model m").await;
        let (one, edit) = ("/api/v1/models/{name}", json!({"expected_spec_yaml": SPEC}));
        self.orders(&format!("patch {one}"), "models/m", edit, "model m").await;
        self.orders(&format!("delete {one}"), "models/m", Value::Null, "model m").await;
        let made = self.orders("post /api/v1/tokens", "tokens", json!({"name": "ci"}), "token ci").await;
        let at = format!("tokens/{}", made["view"]["id"]);
        self.orders("delete /api/v1/tokens/{id}", &at, Value::Null, "token ci").await;
        let user = json!({"name": "bob", "role": "viewer", "password": "correct horse battery"});
        self.orders("post /api/v1/users", "users", user, "user bob").await;
        let edit = json!({"disabled": true});
        self.orders("patch /api/v1/users/{name}", "users/bob", edit, "user bob: to disabled").await;
        let sweep = json!({"dry_run": false, "orphans": true});
        self.orders("post /api/v1/janitor", "janitor", sweep, "had the janitor sweep").await;
        let (retry, test) =
            ("post /api/v1/notifications/retry", "post /api/v1/notifications/{receiver}/test");
        self.orders(retry, "notifications/retry", json!({}), "to all receivers").await;
        self.orders(test, "notifications/nobody/test", Value::Null, "a test message sent to nobody").await;
        let token = json!({"uses": 1, "valid_ms": 3_600_000});
        let tokens = "enrolment/tokens";
        let made = self.orders("post /api/v1/enrolment/tokens", tokens, token, "enrolment token 1").await;
        let made: EnrolmentTokenCreated = serde_json::from_value(made).unwrap();
        let at = format!("{tokens}/{}", made.view.id);
        self.orders("delete /api/v1/enrolment/tokens/{id}", &at, Value::Null, "enrolment token 1").await;
    }

    async fn orders_of_strangers(&mut self) {
        let one = "/api/v1/enrolment/pending/{code}";
        let (code, _, _) = waiting(self.lab.enrol(&identity(UUID, &[CARD]), None, None).await);
        let adopt = json!({"name": "node3", "expected_spec_yaml": SPEC, "start_run": "quick"});
        let at = format!("enrolment/pending/{code}/adopt");
        let adopted = self.orders(&format!("post {one}/adopt"), &at, adopt, "adopted the machine").await;
        let lines = self.lines(0).await;
        assert_eq!(
            &lines[lines.len() - 2..],
            [
                "alice ordered the run".to_owned(),
                format!("alice adopted the machine with code {code} as node3")
            ]
        );
        let abort = format!("runs/{}/abort", adopted["run"]);
        self.orders("post /api/v1/runs/{run}/abort", &abort, Value::Null, "aborted the run").await;
        let stranger =
            Identity { system_serial: Some("other".to_owned()), ..identity(OTHER_UUID, &[SECOND_CARD]) };
        let (code, _, _) = waiting(self.lab.enrol(&stranger, None, None).await);
        let at = format!("enrolment/pending/{code}/reject");
        self.orders(&format!("post {one}/reject"), &at, Value::Null, "turned the machine with code").await;
    }

    async fn orders_of_runs(&mut self) {
        let order = json!({"host": "node1", "profile": "quick"});
        let made = self.orders("post /api/v1/runs", "runs", order, "ordered the run").await;
        let run = RunId(made["id"].as_i64().unwrap());
        let claimed = self.lab.claim_again(run, BOOT).await;
        let one = "/api/v1/runs/{run}";
        self.fails(&claimed, 1).await;
        let at = format!("runs/{run}/artifacts/hold_key");
        let fetched =
            self.orders(&format!("get {one}/artifacts/{{kind}}"), &at, Value::Null, "fetched the key").await;
        assert_eq!(fetched, Value::Null, "it is no JSON");
        let verdict: VerdictView = good(self.lab.operator(Method::GET, &format!("runs/{run}/verdict"))).await;
        let finding = verdict.reasons.iter().find_map(|reason| reason.finding.clone()).unwrap();
        let waiver = json!({"finding": finding, "reason": "known", "by": "ada"});
        let at = format!("runs/{run}/waivers");
        self.orders(&format!("post {one}/waivers"), &at, waiver, "ada (sent as alice) waived").await;
        let back = json!({"reason": "after all", "by": "alice"});
        let at = format!("runs/{run}/waivers/1/withdraw");
        self.orders(&format!("post {one}/waivers/{{number}}/withdraw"), &at, back, "took back waiver 1")
            .await;
        let (at, stage) = (format!("runs/{run}/retry"), json!({"stage": "Inventory"}));
        self.orders(&format!("post {one}/retry"), &at, stage, "had stage Inventory run again").await;
        self.fails(&claimed, 2).await;
        let at = format!("runs/{run}/resume");
        self.orders(&format!("post {one}/resume"), &at, Value::Null, "had the run go on").await;
        self.fails(&claimed, 3).await;
        let at = format!("runs/{run}/release");
        self.orders(&format!("post {one}/release"), &at, json!({}), "released the machine").await;
        // who comes second is told that it is done, and did order it
        self.orders(&format!("post {one}/release"), &at, json!({}), "released the machine").await;
    }

    /// The machine fails in its first stage.
    async fn fails(&self, claimed: &Claimed, sequence: u64) {
        let stage = StageName::Inventory;
        let records = vec![
            started(stage),
            finished(stage, Outcome::fail("a DIMM is missing")),
            Record::PipelineFinished { ts_ms: START_MS },
        ];
        self.lab.send(claimed, sequence, records).await;
        self.lab.verdict(claimed).await;
    }
}

#[tokio::test]
async fn every_order_leaves_a_line_with_the_name_of_who_gave_it() {
    let (mut alice, _strip) = Alice::comes().await;
    alice.orders_of_hosts().await;
    alice.orders_of_power().await;
    alice.orders_of_the_box().await;
    alice.orders_of_strangers().await;
    alice.orders_of_runs().await;
    let known: BTreeSet<String> = alice.done.into_iter().chain(ELSEWHERE.map(str::to_owned)).collect();
    let (known, orders) = (&known, &orders());
    assert!(known.is_subset(orders), "no longer there: {:?}", known - orders);
    assert!(orders.is_subset(known), "nobody looked for the lines of {:?}", orders - known);
}
