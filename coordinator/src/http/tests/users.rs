//! People and roles, through the operator API.

use reqwest::Method;
use vetting_protocol::operator_api::TokenCreated;
use vetting_protocol::users::UserView;

use super::*;

pub(super) const PASSWORD: &str = "correct horse battery";

impl Lab {
    pub(super) async fn add_user(&self, name: &str, role: &str) {
        let body = json!({"name": name, "role": role, "password": PASSWORD});
        let _: UserView = good(self.operator(Method::POST, "users").json(&body)).await;
    }
}

#[tokio::test]
async fn a_viewer_reads_and_changes_nothing() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let body = json!({"name": "grafana", "role": "viewer"});
    let viewer: TokenCreated = good(lab.operator(Method::POST, "tokens").json(&body)).await;
    let run = claimed.run;
    let ask = |method: Method, path: &str| {
        lab.https(method, &format!("/api/v1/{path}")).bearer_auth(viewer.token.expose()).json(&json!({}))
    };
    for path in ["hosts", "hosts/node1", "runs", "runs/1", "runs/1/verdict", "events", "tokens", "users"] {
        assert_eq!(ask(Method::GET, path).send().await.unwrap().status(), 200, "{path}");
    }
    let changes = [
        (Method::POST, "hosts".to_owned()),
        (Method::PATCH, "hosts/node1".to_owned()),
        (Method::DELETE, "hosts/node1".to_owned()),
        (Method::POST, "hosts/node1/agent-token".to_owned()),
        (Method::POST, "hosts/node1/power/off".to_owned()),
        (Method::PUT, "hosts/node1/bmc".to_owned()),
        (Method::POST, "runs".to_owned()),
        (Method::POST, format!("runs/{run}/abort")),
        (Method::POST, format!("runs/{run}/release")),
        (Method::POST, format!("runs/{run}/retry")),
        (Method::POST, format!("runs/{run}/resume")),
        (Method::POST, format!("runs/{run}/waivers")),
        (Method::POST, "models".to_owned()),
        (Method::POST, "tokens".to_owned()),
        (Method::DELETE, "tokens/1".to_owned()),
        (Method::POST, "users".to_owned()),
        (Method::PATCH, "users/alice".to_owned()),
        (Method::POST, "enrolment/tokens".to_owned()),
        (Method::POST, "janitor".to_owned()),
        // reading it is being root on the machine
        (Method::GET, format!("runs/{run}/artifacts/hold_key")),
    ];
    for (method, path) in changes {
        let said = format!("{method} {path}");
        assert_eq!(refused(ask(method, &path)).await, refusal(403, "role-missing"), "{said}");
    }
}

#[tokio::test]
async fn a_token_ends_by_itself() {
    let lab = Lab::open().await;
    let body = json!({"name": "visitor", "valid_ms": 60_000});
    let token: TokenCreated = good(lab.operator(Method::POST, "tokens").json(&body)).await;
    assert_eq!(token.view.expires_at.as_deref(), Some("2023-11-14 22:14:20"));
    let ask = || lab.https(Method::GET, "/api/v1/hosts").bearer_auth(token.token.expose());
    assert_eq!(ask().send().await.unwrap().status(), 200);
    lab.clock.set(START_MS + 60_000);
    assert_eq!(refused(ask()).await, refusal(401, "token-unknown"));
}

#[tokio::test]
async fn people_are_added_changed_and_never_shown_with_their_password() {
    let lab = Lab::open().await;
    let add = |body: Value| lab.operator(Method::POST, "users").json(&body);
    let alice = json!({"name": "alice", "role": "operator", "password": PASSWORD});
    let said = add(alice.clone()).send().await.unwrap().text().await.unwrap();
    assert!(!said.contains("argon2") && !said.contains("horse"), "{said}");
    assert_eq!(refused(add(alice)).await, refusal(409, "taken"));
    let with = |name: &str, role: &str, password: &str| {
        refused(add(json!({"name": name, "role": role, "password": password})))
    };
    assert_eq!(with("a/b", "viewer", PASSWORD).await, refusal(422, "invalid"));
    assert_eq!(with("bob", "viewer", "elevenchars").await, refusal(422, "invalid"));
    assert_eq!(with("bob", "root", PASSWORD).await, refusal(400, "malformed"));
    let edit = |body: Value| lab.operator(Method::PATCH, "users/alice").json(&body);
    let edited: UserView = good(edit(json!({"role": "viewer", "disabled": true}))).await;
    assert!(edited.disabled_at.is_some() && edited.role == Role::Viewer);
    let edited: UserView = good(edit(json!({"disabled": false}))).await;
    assert!(edited.disabled_at.is_none() && edited.role == Role::Viewer);
    assert_eq!(
        refused(lab.operator(Method::PATCH, "users/bob").json(&json!({}))).await,
        refusal(404, "not-found")
    );
    let events = lab.events().await;
    let said: Vec<_> = events.iter().map(|event| (event.kind.as_str(), event.message.as_str())).collect();
    assert_eq!(
        said,
        [
            ("user_added", "test added the user alice as operator"),
            ("user_changed", "test changed user alice: role to viewer, to disabled"),
            ("user_changed", "test changed user alice: to enabled"),
        ]
    );
}
