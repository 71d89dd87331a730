//! What is in the event log, who did it, and how it is asked for.

use reqwest::Method;
use vetting_protocol::operator_api::{EventView, TokenCreated};

use super::*;

async fn asked(lab: &Lab, query: &str) -> Vec<EventView> {
    good(lab.operator(Method::GET, &format!("events?{query}"))).await
}

fn kinds(events: &[EventView]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

#[tokio::test]
async fn events_are_asked_for_by_run_host_and_kind() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    lab.add_host("node2", "52:54:00:ab:cd:02").await;
    assert_eq!(kinds(&asked(&lab, "host=node2").await), ["host_added"]);
    let of_host = asked(&lab, "host=node1").await;
    assert!(kinds(&of_host).starts_with(&["host_added", "run_created"]), "{:?}", kinds(&of_host));
    let of_run = asked(&lab, &format!("run={}&kind=run_*", claimed.run)).await;
    assert!(of_run.len() > 3 && of_run.iter().all(|event| event.kind.starts_with("run_")));
    assert_eq!(asked(&lab, "kind=host_added&limit=1").await.len(), 1);
    let after = of_run[0].id;
    assert_eq!(asked(&lab, &format!("run={}&kind=run_*&after={after}", claimed.run)).await, of_run[1..]);
    assert!(asked(&lab, "kind=%5B").await.is_empty());
    assert_eq!(refused(lab.operator(Method::GET, "events?host=none")).await, refusal(404, "not-found"));
    assert_eq!(refused(lab.operator(Method::GET, "events?host=node1&run=1")).await, refusal(422, "invalid"));
}

#[tokio::test]
async fn what_operators_do_leaves_their_name() {
    let lab = Lab::open().await;
    let made: TokenCreated =
        good(lab.operator(Method::POST, "tokens").json(&json!({"name": "ansible"}))).await;
    let ansible = |method: Method, path: &str, body: Value| {
        lab.https(method, &format!("/api/v1/{path}")).bearer_auth(made.token.expose()).json(&body)
    };
    let done = [
        (Method::POST, "models", json!({"name": "r640", "expected_spec_yaml": SPEC})),
        (Method::PATCH, "models/r640", json!({"expected_spec_yaml": SPEC})),
        (Method::POST, "hosts", json!({"name": "node1", "mac": MAC, "expected_spec_yaml": SPEC})),
        (Method::PATCH, "hosts/node1", json!({"notes": "new", "name": "node9"})),
        (Method::POST, "hosts/node9/macs", json!({"mac": "52:54:00:ab:cd:09"})),
        (Method::DELETE, "hosts/node9/macs/52:54:00:ab:cd:09", json!({})),
        (Method::POST, "runs", json!({"host": "node9", "profile": "quick"})),
        (Method::POST, "runs/1/abort", json!({})),
        (Method::DELETE, "models/r640", json!({})),
        (Method::DELETE, "hosts/node9?with_runs=true", json!({})),
        (Method::DELETE, "tokens/2", json!({})),
    ];
    for (number, (method, path, body)) in done.into_iter().enumerate() {
        let before = lab.events().await.last().map_or(0, |event| event.id);
        let answer = ansible(method, path, body).send().await.unwrap();
        assert!(answer.status().is_success(), "{number} {path}: {}", answer.text().await.unwrap());
        let new = asked(&lab, &format!("after={before}")).await;
        let by = |event: &&EventView| event.data.as_ref().is_some_and(|data| data["by"] == "ansible");
        let event = new.iter().find(by).unwrap_or_else(|| panic!("{path}: {new:?}"));
        assert!(event.message.starts_with("ansible "), "{}", event.message);
    }
    // what it did stays after host and runs are gone
    let left = lab.events().await;
    assert!(
        left.iter().any(|event| event.message.contains("removed host node9") && event.message.contains(MAC))
    );
    assert!(left.iter().all(|event| !serde_json::to_string(event).unwrap().contains(made.token.expose())));
}
