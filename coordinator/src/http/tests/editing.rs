//! Pages of lists, versions of what is edited, and bodies of the wrong kind.

use reqwest::header;
use vetting_protocol::housekeeping::{NotificationState, NotificationsView};
use vetting_protocol::operator_api::HostView;

use super::*;
use crate::store::StoreError;
use crate::store::components::{self, ComponentRow};
use crate::store::outbox::{self, NotificationValues};

/// The address of the next page.
fn next_of(answer: &reqwest::Response) -> Option<String> {
    let link = answer.headers().get(header::LINK)?.to_str().unwrap();
    let address = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
    Some(address.unwrap_or_else(|| panic!("{link}")).to_owned())
}

/// The names or numbers of a page, and the address of the next.
async fn page(lab: &Lab, path: &str, key: &str) -> (Vec<Value>, Option<String>) {
    let answer = lab.https(Method::GET, path).bearer_auth(lab.operator.expose()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    let next = next_of(&answer);
    let rows: Vec<Value> = answer.json().await.unwrap();
    (rows.into_iter().map(|row| row[key].clone()).collect(), next)
}

async fn all_pages(lab: &Lab, first: &str, key: &str) -> Vec<Vec<Value>> {
    let (mut pages, mut next) = (Vec::new(), Some(first.to_owned()));
    while let Some(path) = next {
        let (rows, after) = page(lab, &path, key).await;
        pages.push(rows);
        next = after;
    }
    pages
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let lab = Lab::open().await;
    for number in 1..=3 {
        lab.add_host(&format!("node{number}"), &format!("52:54:00:ab:cd:0{number}")).await;
    }
    let names = all_pages(&lab, "/api/v1/hosts?limit=2", "name").await;
    assert_eq!(names, [vec![json!("node1"), json!("node2")], vec![json!("node3")]]);
    assert_eq!(page(&lab, "/api/v1/hosts", "name").await.0.len(), 3);
    for _ in 0..3 {
        let run = lab.start_run("node1").await;
        let abort: RunSummary = good(lab.operator(Method::POST, &format!("runs/{run}/abort"))).await;
        assert!(abort.state.is_terminal());
    }
    lab.start_run("node2").await;
    let runs = all_pages(&lab, "/api/v1/runs?host=node1&limit=2", "id").await;
    assert_eq!(runs, [vec![json!(3), json!(2)], vec![json!(1)]]);
    let events = all_pages(&lab, "/api/v1/events?kind=host_*&limit=1", "kind").await;
    assert_eq!(events, vec![vec![json!("host_added")]; 3]);
}

#[tokio::test]
async fn lists_that_grow_are_read_page_by_page_and_nothing_is_left_out() {
    let lab = Lab::open().await;
    for name in ["r640", "r650", "r660"] {
        let body = json!({"name": name, "expected_spec_yaml": SPEC});
        let _: Value = good(lab.operator(Method::POST, "models").json(&body)).await;
    }
    let host = json!({"name": "node1", "mac": MAC, "expected_spec_yaml": "model: r650\n"});
    let _: Value = good(lab.operator(Method::POST, "hosts").json(&host)).await;
    let hosts = all_pages(&lab, "/api/v1/models?limit=2", "hosts").await;
    assert_eq!(hosts, [vec![json!([]), json!(["node1"])], vec![json!([])]]);
    assert_eq!(page(&lab, "/api/v1/models", "name").await.0.len(), 3);

    let mut runs = Vec::new();
    for _ in 0..3 {
        let run = lab.start_run("node1").await;
        let _: RunSummary = good(lab.operator(Method::POST, &format!("runs/{run}/abort"))).await;
        runs.push(run);
    }
    let stored: Result<(), StoreError> = lab
        .server
        .driver
        .store
        .write(move |connection| {
            for run in runs {
                // board and system tell the same number
                let part = |kind: &str| ComponentRow {
                    run,
                    kind: kind.to_owned(),
                    serial: "7XK2".to_owned(),
                    model: None,
                    place: kind.to_owned(),
                };
                components::replace(connection, run, &[part("system"), part("board")])?;
            }
            for number in 0..5 {
                let message = json!({"title": "t"});
                let values =
                    NotificationValues { receiver: "phone".to_owned(), event_id: Some(number), message };
                outbox::insert(connection, &values, START_MS)?;
            }
            for id in [2, 5] {
                outbox::attempted(connection, id, NotificationState::Delivered, 0, None, START_MS)?;
            }
            Ok(())
        })
        .await;
    stored.unwrap();
    let places = all_pages(&lab, "/api/v1/components/7XK2?limit=2", "kind").await;
    let both = [json!("board"), json!("system")];
    assert_eq!(places, [[both.clone(), both.clone()].concat(), both.to_vec()]);

    let (mut pages, mut next) = (Vec::new(), Some("/api/v1/notifications?limit=2".to_owned()));
    while let Some(path) = next {
        let answer = lab.https(Method::GET, &path).bearer_auth(lab.operator.expose()).send().await.unwrap();
        next = next_of(&answer);
        let view: NotificationsView = answer.json().await.unwrap();
        pages.push(view.notifications.into_iter().map(|one| one.id).collect::<Vec<_>>());
    }
    assert_eq!(pages, [vec![4, 3], vec![1, 5], vec![2]], "what waits, then what was delivered");
}

#[tokio::test]
async fn an_edit_of_an_older_version_is_refused() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let tag = async |path: &str| {
        let answer = lab.operator(Method::GET, path).send().await.unwrap();
        answer.headers()["etag"].to_str().unwrap().to_owned()
    };
    let first = tag("hosts/node1").await;
    let edit = |tag: &str, notes: &str| {
        lab.operator(Method::PATCH, "hosts/node1").header("if-match", tag).json(&json!({ "notes": notes }))
    };
    let answer = edit(&first, "one").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let second = answer.headers()["etag"].to_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(tag("hosts/node1").await, second);
    assert_eq!(refused(edit(&first, "two")).await, refusal(412, "other-version"));
    let removal = |tag: &str| lab.operator(Method::DELETE, "hosts/node1").header("if-match", tag);
    assert_eq!(refused(removal(&first)).await, refusal(412, "other-version"));
    let host: HostView = good(lab.operator(Method::GET, "hosts/node1")).await;
    assert_eq!(host.notes, "one");
    assert_eq!(removal(&second).send().await.unwrap().status(), StatusCode::NO_CONTENT);

    let body = json!({"name": "r640", "expected_spec_yaml": SPEC});
    let made = lab.operator(Method::POST, "models").json(&body).send().await.unwrap();
    let first = made.headers()["etag"].to_str().unwrap().to_owned();
    let edit = |tag: &str, gib: u32| {
        let spec = format!("memory: {{total_gib: {gib}}}\n");
        let request = lab.operator(Method::PATCH, "models/r640").header("if-match", tag);
        request.json(&json!({ "expected_spec_yaml": spec }))
    };
    assert_eq!(edit(&first, 2).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(refused(edit(&first, 3)).await, refusal(412, "other-version"));
    let removal = lab.operator(Method::DELETE, "models/r640").header("if-match", &first);
    assert_eq!(refused(removal).await, refusal(412, "other-version"));
}

#[tokio::test]
async fn all_that_an_edit_can_change_of_a_host_makes_another_version() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let edits = [
        ("mac", json!("52:54:00:ab:cd:77")),
        ("wol_broadcast_ip", json!("192.0.2.255")),
        ("wol_port", json!(7)),
        ("expected_spec_yaml", json!("memory: {total_gib: 2}\n")),
        ("notes", json!("from Oslo")),
        ("serial_console", json!("tcp://192.0.2.9:2001?port=ttyS1")),
        ("burn_watts", json!(650)),
        ("name", json!("node2")),
    ];
    let mut path = "hosts/node1".to_owned();
    for (field, value) in edits {
        let before = lab.operator(Method::GET, &path).send().await.unwrap().headers()["etag"].clone();
        let edit =
            lab.operator(Method::PATCH, &path).header("if-match", &before).json(&json!({ field: value }));
        let answer = edit.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{field}");
        assert_ne!(answer.headers()["etag"], before, "{field}");
        path = format!("hosts/{}", answer.json::<HostView>().await.unwrap().name);
    }
}

#[tokio::test]
async fn a_version_of_what_has_none_is_refused_and_nothing_is_done() {
    let lab = Lab::open().await;
    lab.add_user("alice", "viewer").await;
    lab.add_host("node1", MAC).await;
    let orders = [
        (Method::PATCH, "users/alice", json!({"disabled": true})),
        (Method::PUT, "hosts/node1/bmc", json!({"address": "192.0.2.1", "user": "root", "secret": "lab"})),
        (Method::PUT, "hosts/node1/pdu", json!({})),
        (Method::DELETE, "hosts/node1/pdu", json!({})),
        (Method::DELETE, "tokens/1", json!({})),
        (Method::POST, "runs", json!({"host": "node1", "profile": "quick"})),
        (Method::POST, "runs/1/abort", json!({})),
    ];
    for tag in ["*", "\"0123456789abcdef0123\""] {
        for (method, path, body) in &orders {
            let order = lab.operator(method.clone(), path).header("if-match", tag).json(body);
            assert_eq!(refused(order).await, refusal(400, "no-versions"), "{method} {path}");
        }
    }
    let users: Vec<Value> = good(lab.operator(Method::GET, "users")).await;
    assert_eq!(users[0]["disabled_at"], Value::Null);
    let runs: Vec<Value> = good(lab.operator(Method::GET, "runs").header("if-match", "*")).await;
    assert!(runs.is_empty(), "reading is not refused");
}

#[tokio::test]
async fn what_is_no_json_is_refused_with_its_place() {
    let lab = Lab::open().await;
    let send = |kind: &'static str, text: &'static str| {
        lab.operator(Method::POST, "tokens").header("content-type", kind).body(text)
    };
    let form = send("application/x-www-form-urlencoded", "name=ci");
    assert_eq!(refused(form).await, refusal(415, "media-type"));
    let answer = send("application/json; charset=utf-8", "{\n  \"name\": \n").send().await.unwrap();
    let problem: Problem = answer.json().await.unwrap();
    assert_eq!(problem.status, 400);
    assert!(problem.detail.contains("line 3 column 0"), "{}", problem.detail);
    assert_eq!(send("application/json", "{\"name\": \"ci\"}").send().await.unwrap().status(), 201);
    let bare = lab.operator(Method::POST, "tokens").body("{\"name\": \"cd\"}");
    assert_eq!(bare.send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_machine_that_no_packet_can_reach_is_refused_when_it_is_described() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    for edit in [json!({"wol_broadcast_ip": "0.0.0.0"}), json!({"wol_port": 0})] {
        let answer = refused(lab.operator(Method::PATCH, "hosts/node1").json(&edit)).await;
        assert_eq!(answer.0, 422, "{answer:?}");
    }
}
