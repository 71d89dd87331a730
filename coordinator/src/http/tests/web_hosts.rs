//! Machines are added in the web page, with what is wrong beside each field.

use reqwest::Method;
use vetting_protocol::run::RunState;

use super::web::{Browser, HOSTILE, is_without_inline_code, with_people};
use super::*;

const FORM: [(&str, &str); 6] = [
    ("name", "node1"),
    ("mac", " 52-54-00-AB-CD-01 "),
    ("model", ""),
    ("spec", "memory:\r\n  total_gib: 1\r\n"),
    ("notes", "from Oslo\r\nrow B"),
    ("first_run", "none"),
];

/// The form with other values.
fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    FORM.into_iter()
        .map(|(name, value)| changes.iter().find(|(of, _)| *of == name).copied().unwrap_or((name, value)))
        .collect()
}

#[tokio::test]
async fn a_machine_is_added_with_its_first_run() {
    let (lab, browser) = with_people().await;
    let added = browser.post("/new-host", &FORM).await;
    assert_eq!((added.status, added.location.as_deref()), (303, Some("/hosts/node1")), "{}", added.text);
    let host: Value = good(lab.operator(Method::GET, "hosts/node1")).await;
    assert_eq!(host["mac"], MAC);
    assert_eq!(host["expected_spec_yaml"], "memory:\n  total_gib: 1\n");
    assert_eq!(host["notes"], "from Oslo\nrow B");
    assert!(lab.events().await.into_iter().any(|event| event.message == "alice added host node1"));

    let model = json!({"name": "r640", "expected_spec_yaml": SPEC});
    let _: Value = good(lab.operator(Method::POST, "models").json(&model)).await;
    let form = browser.get("/new-host?mac=52:54:00:ab:cd:02&name=node2").await.text;
    assert!(
        form.contains("value=\"52:54:00:ab:cd:02\"") && form.contains("<option value=\"r640\">"),
        "{form}"
    );
    let changes = [
        ("name", "node2"),
        ("mac", "52:54:00:ab:cd:02"),
        ("model", "r640"),
        ("spec", ""),
        ("first_run", "deep"),
    ];
    let added = browser.post("/new-host", &with(&changes)).await;
    assert_eq!(added.location.as_deref(), Some("/runs/1"), "{}", added.text);
    let run = lab.detail(RunId(1)).await;
    assert_eq!((run.summary.host.as_str(), run.summary.profile.as_str()), ("node2", "deep"));
    assert!(!run.wipe && !run.erase && run.summary.state != RunState::Aborted);
    let host: Value = good(lab.operator(Method::GET, "hosts/node2")).await;
    assert_eq!(host["expected_spec_yaml"], "model: \"r640\"\n");
}

/// What is changed in the form, and what the answer must have in it.
type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);

#[tokio::test]
async fn what_is_wrong_with_a_new_machine_stands_beside_its_field() {
    let (lab, browser) = with_people().await;
    lab.add_host("taken", "52:54:00:ab:cd:09").await;
    let cases: [Case; 8] = [
        (&[("name", "a b")], &["id=\"wrong-name\"", "is no name"]),
        (&[("name", "")], &["id=\"wrong-name\""]),
        (&[("name", "taken")], &["id=\"wrong-name\"", "exists already"]),
        (&[("mac", "52:54:00")], &["id=\"wrong-mac\"", "aria-describedby=\"wrong-mac\""]),
        (&[("mac", "5254.00ab.cd09")], &["id=\"wrong-mac\"", "host taken has that address"]),
        (&[("spec", "memory:\r\n  total: 1\r\n")], &["line 2, column 3", "data-line=\"2\""]),
        (&[("spec", ""), ("model", "gone")], &["id=\"wrong-model\"", "no model gone"]),
        (&[("first_run", "nonsense")], &["id=\"wrong-run\""]),
    ];
    for (changes, words) in cases {
        let page = browser.post("/new-host", &with(changes)).await;
        assert_eq!(page.status, 422, "{changes:?}");
        for word in words.iter().chain(&["Not saved", "from Oslo"]) {
            assert!(page.text.contains(word), "{changes:?} {word}: {}", page.text);
        }
    }
    // all that is wrong at once, and nothing of it becomes part of the page
    let hostile = with(&[("name", HOSTILE), ("mac", HOSTILE), ("spec", HOSTILE), ("notes", HOSTILE)]);
    let page = browser.post("/new-host", &hostile).await;
    assert_eq!(page.text.matches("id=\"wrong-").count(), 2, "{}", page.text);
    assert!(!page.text.contains("<script>") && !page.text.contains("<img"));
    is_without_inline_code("/new-host", &page.text);
    let hosts: Vec<Value> = good(lab.operator(Method::GET, "hosts")).await;
    assert_eq!(hosts.len(), 1, "nothing was saved");
}

#[tokio::test]
async fn only_operators_add_machines_and_only_by_a_form_of_theirs() {
    let (lab, browser) = with_people().await;
    let mut viewer = Browser::of(&lab);
    viewer.log_in("victor").await;
    assert_eq!(viewer.get("/new-host").await.status, 403);
    assert_eq!(viewer.post("/new-host", &FORM).await.status, 403);
    assert!(!viewer.get("/hosts").await.text.contains("/new-host"));
    assert!(browser.get("/hosts").await.text.contains("/new-host"));
    let foreign = [&[("csrf", "nonsense")], &FORM[..]].concat();
    assert_eq!(browser.posting("/new-host", &foreign).send().await.unwrap().status(), 403);
    let hosts: Vec<Value> = good(lab.operator(Method::GET, "hosts")).await;
    assert!(hosts.is_empty());
}
