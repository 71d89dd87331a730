//! The program as a client: from another box, by its own configuration, and what its exit codes tell.

mod site;

use std::process::Output;

use site::{MAC, Site, json, program};

/// A client on a box without a coordinator, whose home is `home`.
fn elsewhere(home: &std::path::Path, words: &[&str]) -> Output {
    program(home, words).env("HOME", home).env_remove("XDG_CONFIG_HOME").output().unwrap()
}

fn said(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn another_box_needs_only_its_client_file() {
    let lab = Site::open();
    lab.add("node1", MAC);
    let told: serde_json::Value =
        serde_json::from_slice(&std::fs::read(lab.folder.path().join("var/coordinator.json")).unwrap())
            .unwrap();
    let url = format!("https://{}", told["https"].as_str().unwrap());
    let home = tempfile::tempdir().unwrap();
    let list = || elsewhere(home.path(), &["host", "list", "--json"]);
    let nothing = said(&list());
    assert!(nothing.contains("vetting.yaml") && nothing.contains("client.yaml"), "{nothing}");

    let folder = home.path().join(".config/vetting");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("client.yaml"), format!("url: {url}\nca: ca.pem\ntoken: secret\n")).unwrap();
    let mistake = said(&list());
    assert!(mistake.contains("client.yaml") && mistake.contains("line 3"), "{mistake}");
    std::fs::write(folder.join("client.yaml"), format!("url: {url}\nca: ca.pem\ntoken_file: token\n"))
        .unwrap();
    assert!(said(&list()).contains("ca.pem"));
    std::fs::copy(lab.folder.path().join("var/tls/ca.pem"), folder.join("ca.pem")).unwrap();
    std::fs::copy(lab.folder.path().join("var/operator.token"), folder.join("token")).unwrap();
    assert_eq!(json(&list())[0]["name"], "node1");

    // what is said comes first
    let wrong = elsewhere(home.path(), &["host", "list", "--token-file", "none"]);
    assert!(said(&wrong).contains("none"));
    let other = elsewhere(home.path(), &["host", "list", "--url", "https://127.0.0.1:1"]);
    assert!(said(&other).contains("127.0.0.1:1"));
    std::fs::remove_dir_all(&folder).unwrap();
    let unknown = elsewhere(home.path(), &["host", "list", "--url", &url]);
    assert!(said(&unknown).contains("--ca"));
}

#[test]
fn waiting_tells_by_its_exit_code() {
    let lab = Site::open();
    lab.add("node1", MAC);
    lab.text(&["run", "start", "node1"]);
    let in_vain = lab.say(&["run", "wait", "1", "--timeout", "10ms"]);
    assert!(said(&in_vain).contains("not over after 10ms"));
    lab.text(&["run", "abort", "1"]);
    let ended = lab.say(&["run", "wait", "1"]);
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0), "{ended:?}");
    let told = lab.say(&["run", "wait", "1", "--json"]);
    assert_eq!(told.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["state"], &told["result"]), (&"Aborted".into(), &"fail".into()));
    assert!(said(&lab.say(&["run", "wait", "2"])).contains("no run 2"));
}

#[test]
fn shells_and_readers_get_what_they_need() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef vetting-coordinator"), ("fish", "complete -c")]
    {
        let output = program(folder.path(), &["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && script.contains(word) && script.contains("--non-destructive"),
            "{shell}"
        );
    }
    let output = program(folder.path(), &["man", "."]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let page = std::fs::read_to_string(folder.path().join("vetting-coordinator-run-wait.1")).unwrap();
    assert!(page.contains("Exit code 0") && page.contains(".TH"), "{page}");
    assert!(folder.path().join("vetting-coordinator.1").exists());
    let output = program(folder.path(), &["man", "missing"]).output().unwrap();
    assert!(said(&output).contains("missing"));
}
