//! Pages of lists, versions of what is edited, and bodies of the wrong kind.

use reqwest::header;
use vetting_protocol::operator_api::HostView;

use super::*;

/// The names or numbers of a page, and the address of the next.
async fn page(lab: &Lab, path: &str, key: &str) -> (Vec<Value>, Option<String>) {
    let answer = lab.https(Method::GET, path).bearer_auth(lab.operator.expose()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    let link = answer.headers().get(header::LINK).map(|link| link.to_str().unwrap().to_owned());
    let next = link.map(|link| {
        let address = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
        address.unwrap_or_else(|| panic!("{link}")).to_owned()
    });
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
