//! The operator API.

use reqwest::Method;
use vetting_protocol::operator_api::{HostView, RunSummary, TokenCreated, TokenView};
use vetting_protocol::run::RunState;

use super::*;

#[tokio::test]
async fn nothing_is_told_without_a_valid_token() {
    let lab = Lab::open().await;
    for path in ["hosts", "runs", "runs/1", "events", "tokens"] {
        let request = lab.https(Method::GET, &format!("/api/v1/{path}"));
        assert_eq!(refused(request).await, refusal(401, "token-missing"), "{path}");
    }
    let created: TokenCreated = good(lab.operator(Method::POST, "tokens").json(&json!({"name": "ci"}))).await;
    let with_it = || lab.https(Method::GET, "/api/v1/tokens").bearer_auth(created.token.expose());
    let tokens: Vec<TokenView> = good(with_it()).await;
    assert_eq!(tokens.len(), 2);
    let revoked = lab.operator(Method::DELETE, &format!("tokens/{}", created.view.id)).send().await.unwrap();
    assert_eq!(revoked.status(), 204);
    assert_eq!(refused(with_it()).await, refusal(401, "token-unknown"));
    assert_eq!(refused(lab.https(Method::GET, "/nowhere")).await, refusal(404, "not-found"));
    assert_eq!(refused(lab.https(Method::GET, "/agent/v1/claim")).await, refusal(405, "method-not-allowed"));
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_400_whatever_else_the_path_knows() {
    let lab = Lab::open().await;
    for (method, path) in [
        (Method::GET, "runs?foo=1"),
        (Method::GET, "runs?limit=many"),
        (Method::GET, "events?foo=1"),
        (Method::GET, "events?run=x"),
        (Method::DELETE, "hosts/node1?foo=1"),
    ] {
        let said = format!("{method} {path}");
        assert_eq!(refused(lab.operator(method, path)).await, refusal(400, "malformed"), "{said}");
    }
    for (method, path) in [
        (Method::GET, "/boot/ipxe?mac=nonsense"),
        (Method::GET, "/boot/ipxe?mac=1&mac=2"),
        (Method::GET, "/boot/files/vmlinuz?mac=1&mac=2"),
    ] {
        assert_eq!(lab.http(method, path).send().await.unwrap().status(), 400, "{path}");
    }
    assert_eq!(refused(lab.operator(Method::DELETE, "runs?foo=1")).await, refusal(405, "method-not-allowed"));
}

#[tokio::test]
async fn a_host_is_checked_before_it_is_saved() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let add = |name: &str, mac: &str, spec: &str| {
        let body = json!({"name": name, "mac": mac, "expected_spec_yaml": spec});
        refused(lab.operator(Method::POST, "hosts").json(&body))
    };
    assert_eq!(add("node1", "52:54:00:ab:cd:09", SPEC).await, refusal(409, "taken"));
    assert_eq!(add("node9", "52-54-00-AB-CD-01", SPEC).await, refusal(409, "taken"));
    assert_eq!(add("node9", "nonsense", SPEC).await, refusal(422, "invalid"));
    assert_eq!(add("a/b", "52:54:00:ab:cd:09", SPEC).await, refusal(422, "invalid"));
    for spec in ["", "memory: {total_gb: 1}\n", "memory: ["] {
        assert_eq!(add("node9", "52:54:00:ab:cd:09", spec).await, refusal(422, "spec-invalid"), "{spec}");
    }
    let body = json!({"name": "n", "mac": "52:54:00:ab:cd:09", "expected_spec_yaml": "cpu:\n  socket: 2\n"});
    let problem: Problem =
        lab.operator(Method::POST, "hosts").json(&body).send().await.unwrap().json().await.unwrap();
    assert!(problem.detail.contains("line 2"), "{}", problem.detail);

    let edited: HostView =
        good(lab.operator(Method::PATCH, "hosts/node1").json(&json!({"name": "node2", "notes": "moved"})))
            .await;
    assert_eq!(
        (edited.name.as_str(), edited.notes.as_str(), edited.mac.to_string().as_str()),
        ("node2", "moved", MAC)
    );
    assert_eq!(refused(lab.operator(Method::GET, "hosts/node1")).await, refusal(404, "not-found"));
    assert_eq!(lab.operator(Method::DELETE, "hosts/node2").send().await.unwrap().status(), 204);
    let hosts: Vec<HostView> = good(lab.operator(Method::GET, "hosts")).await;
    assert!(hosts.is_empty());
}

#[tokio::test]
async fn a_machine_with_a_history_goes_only_with_it() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    lab.send(&claimed, 1, healthy(&claimed)).await;
    lab.verdict(&claimed).await;
    assert!(lab.path("artifacts/run-1/report.json").exists());
    let remove = |query: &str| lab.operator(Method::DELETE, &format!("hosts/node1{query}"));
    let problem: Problem = remove("").send().await.unwrap().json().await.unwrap();
    assert_eq!(problem.status, 409);
    assert!(problem.detail.contains("--with-runs"), "{}", problem.detail);
    assert_eq!(refused(remove("?with_runs=false")).await, refusal(409, "taken"));
    assert_eq!(refused(remove("?with_run=true")).await, refusal(400, "malformed"));
    assert_eq!(remove("?with_runs=true").send().await.unwrap().status(), 204);
    assert_eq!(refused(remove("?with_runs=true")).await, refusal(404, "not-found"));
    assert!(!lab.path("artifacts/run-1").exists());
    let path = format!("runs/{}", claimed.run);
    assert_eq!(refused(lab.operator(Method::GET, &path)).await, refusal(404, "not-found"));
}

#[tokio::test]
async fn an_edit_is_checked_like_a_new_machine() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let edit = |body: Value| refused(lab.operator(Method::PATCH, "hosts/node1").json(&body));
    assert_eq!(edit(json!({"expected_spec_yaml": ""})).await, refusal(422, "spec-invalid"));
    assert_eq!(edit(json!({"expected_spec_yaml": "cpu: {socket: 2}"})).await, refusal(422, "spec-invalid"));
    assert_eq!(edit(json!({"mac": "nonsense"})).await, refusal(422, "invalid"));
    assert_eq!(edit(json!({"colour": "red"})).await, refusal(400, "malformed"));
    let host: HostView = good(lab.operator(Method::GET, "hosts/node1")).await;
    assert_eq!((host.expected_spec_yaml.as_str(), host.mac.to_string().as_str()), (SPEC, MAC));
}

#[tokio::test]
async fn one_active_run_a_host_and_abort_ends_it() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let run = lab.start_run("node1").await;
    let again = |body: Value| lab.operator(Method::POST, "runs").json(&body);
    assert_eq!(refused(again(json!({"host": "node1", "profile": "quick"}))).await, refusal(409, "taken"));
    assert_eq!(refused(again(json!({"host": "none", "profile": "quick"}))).await, refusal(404, "not-found"));
    let both = json!({"host": "node1", "profile": "quick", "wipe": true, "non_destructive": true});
    assert_eq!(refused(again(both)).await, refusal(422, "invalid"));
    assert_eq!(refused(lab.operator(Method::DELETE, "hosts/node1")).await, refusal(409, "taken"));
    let release = lab.operator(Method::POST, &format!("runs/{run}/release"));
    assert_eq!(refused(release).await, refusal(409, "not-now"));
    let aborted: RunSummary =
        good(lab.operator(Method::POST, &format!("runs/{run}/abort")).json(&json!({}))).await;
    assert_eq!(aborted.state, RunState::Aborted);
    lab.start_run("node1").await;
    let runs: Vec<RunSummary> = good(lab.operator(Method::GET, "runs?host=node1&limit=1")).await;
    assert_eq!(runs.len(), 1);
}
