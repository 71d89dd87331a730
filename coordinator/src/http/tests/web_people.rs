//! People and tokens, changed in the web page.

use vetting_protocol::run::RunState;

use super::users::PASSWORD;
use super::web::{Browser, with_people};
use super::*;

const NEW: &str = "another horse battery";

#[tokio::test]
async fn people_change_their_own_password_by_knowing_it() {
    let (lab, _) = with_people().await;
    let mut viewer = Browser::of(&lab);
    viewer.log_in("victor").await;
    assert_eq!(viewer.get("/settings/password").await.status, 200);
    let set = async |current: &str, new: &str, again: &str| {
        let fields = [("current", current), ("password", new), ("again", again)];
        viewer.post("/settings/password", &fields).await
    };
    for (current, new, again, words) in [
        ("wrong horse battery", NEW, NEW, "not your password now"),
        (PASSWORD, NEW, PASSWORD, "are not the same"),
        (PASSWORD, "elevenchars", "elevenchars", "at least 12 characters"),
    ] {
        let page = set(current, new, again).await;
        assert_eq!(page.status, 422, "{words}");
        assert!(
            page.text.contains(words) && page.text.contains("Nothing was done"),
            "{words}: {}",
            page.text
        );
        assert!(!page.text.contains(new), "what was typed is not sent back");
    }
    assert_eq!(viewer.get("/hosts").await.status, 200);
    let done = set(PASSWORD, NEW, NEW).await;
    assert_eq!((done.status, done.location.as_deref()), (303, Some("/login")));
    assert_eq!(viewer.get("/hosts").await.status, 303, "every session of theirs has ended");
    let again = Browser::of(&lab);
    assert_eq!(again.try_log_in("victor", PASSWORD).await.status(), 401);
    assert_eq!(again.try_log_in("victor", NEW).await.status(), 303);
    let events = lab.events().await;
    assert!(events.iter().any(|event| event.message == "victor changed user victor: password"), "{events:?}");
    assert!(events.iter().all(|event| !event.message.contains("horse")));
}

#[tokio::test]
async fn who_guesses_a_password_at_an_open_page_is_stopped() {
    let (_lab, browser) = with_people().await;
    // too long to be hashed: this is about how often
    let guess = "x".repeat(1_025);
    let fields = [("current", guess.as_str()), ("password", NEW), ("again", NEW)];
    // the log-in was the first
    for _ in 1..10 {
        assert_eq!(browser.post("/settings/password", &fields).await.status, 422);
    }
    assert_eq!(browser.post("/settings/password", &fields).await.status, 429);
}

#[tokio::test]
async fn people_are_added_kept_out_and_let_in_again() {
    let (lab, browser) = with_people().await;
    let add = async |name: &str, password: &str, again: &str| {
        let fields = [("name", name), ("role", "viewer"), ("password", password), ("again", again)];
        browser.post("/settings/users/new", &fields).await
    };
    for (name, password, again, words) in [
        ("alice", NEW, NEW, "exists already"),
        ("b/ob", NEW, NEW, "is no name"),
        ("bob", "short", "short", "at least 12"),
        ("bob", NEW, PASSWORD, "are not the same"),
    ] {
        let page = add(name, password, again).await;
        assert_eq!(page.status, 422, "{name}");
        assert!(
            page.text.contains(words) && page.text.contains(&format!("value=\"{name}\"")),
            "{}",
            page.text
        );
    }
    assert_eq!(add("bob", PASSWORD, PASSWORD).await.location.as_deref(), Some("/settings"));
    let mut bob = Browser::of(&lab);
    bob.log_in("bob").await;
    assert!(browser.get("/settings/users/bob/disable").await.text.contains("Disable the user"));
    assert_eq!(browser.post("/settings/users/bob/disable", &[]).await.status, 303);
    assert_eq!(bob.get("/hosts").await.status, 303, "out at once");
    assert_eq!(bob.try_log_in("bob", PASSWORD).await.status(), 401);
    assert!(browser.get("/settings").await.text.contains("/settings/users/bob/enable"));
    assert_eq!(browser.post("/settings/users/bob/enable", &[]).await.status, 303);
    bob.log_in("bob").await;
    assert_eq!(browser.post("/settings/users/alice/disable", &[]).await.status, 422, "not oneself");
    assert_eq!(browser.get("/hosts").await.status, 200);
    assert_eq!(browser.post("/settings/users/nobody/disable", &[]).await.status, 404);
    assert_eq!(browser.post("/settings/users/bob/promote", &[]).await.status, 404);
    let said: Vec<_> = lab.events().await.into_iter().map(|event| event.message).collect();
    for line in ["alice added the user bob as viewer", "alice changed user bob: to disabled"] {
        assert!(said.iter().any(|message| message == line), "{line}: {said:?}");
    }
}

#[tokio::test]
async fn a_token_is_shown_once_does_what_its_role_may_and_is_revoked() {
    let (lab, browser) = with_people().await;
    lab.add_host("node1", MAC).await;
    let make = async |name: &str, days: &str| {
        browser.post("/settings/tokens/new", &[("name", name), ("role", "viewer"), ("days", days)]).await
    };
    for (name, days, words) in
        [("gra fana", "", "is no name"), ("grafana", "0", "no number of days"), ("test", "1", "test")]
    {
        let page = make(name, days).await;
        assert_eq!(page.status, 422, "{name} {days}");
        assert!(page.text.contains(words), "{}", page.text);
    }
    let answer = browser.posting(
        "/settings/tokens/new",
        &[("csrf", browser.csrf()), ("name", "grafana"), ("role", "viewer"), ("days", "30")],
    );
    let answer = answer.send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["cache-control"]),
        (200, &"no-store".parse().unwrap())
    );
    let page = answer.text().await.unwrap();
    let (_, rest) =
        page.split_once("<pre class=\"token\" tabindex=\"0\">").unwrap_or_else(|| panic!("{page}"));
    let token = rest.split('<').next().unwrap().to_owned();
    let ask = |method: Method, path: &str| lab.https(method, path).bearer_auth(&token);
    let hosts: Vec<Value> = good(ask(Method::GET, "/api/v1/hosts")).await;
    assert_eq!(hosts.len(), 1);
    let refusal_of_role = refused(ask(Method::DELETE, "/api/v1/hosts/node1")).await;
    assert_eq!(refusal_of_role, refusal(403, "role-missing"));
    let settings = browser.get("/settings").await.text;
    assert!(settings.contains("grafana") && !settings.contains(&token));
    let revoke = settings.split('"').find(|text| text.ends_with("/revoke") && text.contains("/2/")).unwrap();
    assert!(browser.get(revoke).await.text.contains("grafana"));
    assert_eq!(browser.post(revoke, &[]).await.status, 303);
    assert_eq!(refused(ask(Method::GET, "/api/v1/hosts")).await, refusal(401, "token-unknown"));
    assert!(!browser.get("/settings").await.text.contains("/settings/tokens/2/revoke"));
}

#[tokio::test]
async fn viewers_and_foreign_forms_change_nobody() {
    let (lab, browser) = with_people().await;
    let run = lab.claimed().await.run;
    let mut viewer = Browser::of(&lab);
    viewer.log_in("victor").await;
    let settings = viewer.get("/settings").await.text;
    assert!(!settings.contains("/settings/users/") && !settings.contains("/settings/tokens/"), "{settings}");
    let user = [("name", "eve"), ("role", "operator"), ("password", NEW), ("again", NEW)];
    let token = [("name", "eve"), ("role", "operator"), ("days", "")];
    let orders: [(&str, &[(&str, &str)]); 4] = [
        ("/settings/users/new", &user),
        ("/settings/users/alice/disable", &[]),
        ("/settings/tokens/new", &token),
        ("/settings/tokens/1/revoke", &[]),
    ];
    for (path, fields) in orders {
        assert_eq!(viewer.get(path).await.status, 403, "{path}");
        assert_eq!(viewer.post(path, fields).await.status, 403, "{path}");
        let foreign = [&[("csrf", "nonsense")], fields].concat();
        assert_eq!(browser.posting(path, &foreign).send().await.unwrap().status(), 403, "{path}");
    }
    let own = [("csrf", "nonsense"), ("current", PASSWORD), ("password", NEW), ("again", NEW)];
    assert_eq!(browser.posting("/settings/password", &own).send().await.unwrap().status(), 403);
    let users: Vec<Value> = good(lab.operator(Method::GET, "users")).await;
    assert_eq!(users.len(), 2);
    assert_eq!(lab.detail(run).await.summary.state, RunState::Running);
}
