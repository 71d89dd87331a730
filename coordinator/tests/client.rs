//! The program as a client: from another box, by its own configuration, for scripts, shells and readers of manuals.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only by their attribute, not their helpers")]

mod site;

use std::io::Read as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use site::{MAC, Site, json, program};

/// A profile of one's own.
const SOAK: (&str, &str) = (
    "soak.yaml",
    "name: soak\ndescription: only a look\nsampling_interval: 5s\nstages:\n- {stage: Inventory, limit: 2m}\n\
     thresholds:\n- {stage: '*', kind: temp, key: 'cpu/*', op: lt, threshold: 95, unit: celsius, severity: critical, \
     note: below Tjunction}\n",
);

/// A client on a box without a coordinator, whose home is `home`.
fn elsewhere(home: &Path, words: &[&str]) -> Output {
    program(home, words).env("HOME", home).env_remove("XDG_CONFIG_HOME").output().unwrap()
}

fn said(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Where a coordinator listens, and the fingerprint of its authority.
fn announced(lab: &Site) -> (String, String) {
    let text = std::fs::read(lab.folder.path().join("var/coordinator.json")).unwrap();
    let told: Value = serde_json::from_slice(&text).unwrap();
    let word = |key: &str| told[key].as_str().unwrap().to_owned();
    (format!("https://{}", word("https")), format!("sha256:{}", word("ca_fingerprint")))
}

#[test]
fn another_box_needs_only_its_client_file() {
    let lab = Site::open();
    lab.add("node1", MAC);
    let (url, fingerprint) = announced(&lab);
    let home = tempfile::tempdir().unwrap();
    let list = || elsewhere(home.path(), &["host", "list", "--json"]);
    let nothing = said(&list());
    assert!(nothing.contains("vetting.yaml") && nothing.contains("client.yaml"), "{nothing}");

    let folder = home.path().join(".config/vetting");
    std::fs::create_dir_all(&folder).unwrap();
    let write = |text: String| std::fs::write(folder.join("client.yaml"), text).unwrap();
    write(format!("url: {url}\nca: ca.pem\ntoken: secret\n"));
    let mistake = said(&list());
    assert!(mistake.contains("client.yaml") && mistake.contains("line 3, column 1"), "{mistake}");
    write(format!("url: {url}\nca: ca.pem\n"));
    assert!(said(&list()).contains("token create"));
    write(format!("url: {url}\nca: ca.pem\ntoken_file: token\n"));
    std::fs::copy(lab.folder.path().join("var/operator.token"), folder.join("token")).unwrap();
    assert!(said(&list()).contains("ca.pem"));
    std::fs::copy(lab.folder.path().join("var/tls/ca.pem"), folder.join("ca.pem")).unwrap();
    assert_eq!(json(&list())[0]["name"], "node1");
    write(format!("url: {url}\nca: {fingerprint}\ntoken_file: token\n"));
    assert_eq!(json(&list())[0]["name"], "node1");

    // the image of sticks is on the coordinator's box
    assert!(said(&elsewhere(home.path(), &["usb", "image", "stick.img"])).contains("--image"));

    // XDG_CONFIG_HOME names the folder of configurations
    let mut words = program(home.path(), &["host", "list", "--json"]);
    words.env("HOME", "/nonexistent").env("XDG_CONFIG_HOME", home.path().join(".config"));
    assert_eq!(json(&words.output().unwrap())[0]["name"], "node1");

    // what is said comes first
    assert!(said(&elsewhere(home.path(), &["host", "list", "--token-file", "none"])).contains("none"));
    assert!(said(&elsewhere(home.path(), &["host", "list", "--config", "none.yaml"])).contains("none.yaml"));
    let other = elsewhere(home.path(), &["host", "list", "--url", "https://127.0.0.1:1"]);
    assert!(said(&other).contains("127.0.0.1:1"));
}

#[test]
fn only_the_coordinator_that_is_meant_is_talked_to() {
    let lab = Site::open();
    let (url, fingerprint) = announced(&lab);
    let home = tempfile::tempdir().unwrap();
    let say = |words: &[&str]| {
        let words = [&["run", "wait", "1", "--url", &url], words].concat();
        program(home.path(), &words).env("HOME", home.path()).env("VETTING_TOKEN", "secret").output().unwrap()
    };
    assert!(said(&say(&[])).contains("--ca"));
    // at once, not after minutes of trying again
    let stranger = said(&say(&["--ca", &format!("sha256:{}", "0".repeat(64))]));
    assert!(stranger.contains("is not the coordinator that was named") && !stranger.contains("trying again"));
    assert!(!stranger.contains("secret"), "{stranger}");
    assert!(said(&say(&["--ca", "sha256:12"])).contains("64 hex digits"));
    let token = said(&say(&["--ca", &fingerprint]));
    assert!(token.contains("token"), "{token}");
    let words = ["host", "list", "--url", "https://who:what@127.0.0.1:1/path", "--ca", &fingerprint];
    assert!(said(&elsewhere(home.path(), &words)).contains("is not the URL of a coordinator"));
}

#[test]
fn waiting_has_an_end() {
    let lab = Site::open();
    lab.add("node1", MAC);
    lab.text(&["run", "start", "node1"]);
    let in_vain = lab.say(&["run", "wait", "1", "--timeout", "10ms"]);
    assert!(said(&in_vain).contains("not over after 10ms"));
    lab.text(&["run", "abort", "1"]);
    let ended = lab.say(&["run", "wait", "1"]);
    assert!(ended.stdout.is_empty() && said(&ended).contains("broke off: it was aborted"), "{ended:?}");
    let told = lab.say(&["run", "wait", "1", "--json"]);
    assert_eq!(told.status.code(), Some(2));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["state"], &told["result"]), (&"Aborted".into(), &"fail".into()));
    assert!(said(&lab.say(&["run", "wait", "2"])).contains("no run 2"));
}

/// Watches run 1 on a terminal that calls itself `kind`, and aborts the run once something is shown; gives all that came.
fn watched(lab: &Site, kind: &str) -> String {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut watch = program(lab.folder.path(), &["run", "watch", "1"])
        .env("TERM", kind)
        .stdout(Stdio::from(terminal.slave))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut screen = std::fs::File::from(terminal.master);
    let mut shown = String::new();
    let mut part = [0; 4096];
    // the end of a pseudo terminal whose other side is closed is an error
    while let Ok(read @ 1..) = screen.read(&mut part) {
        if shown.is_empty() {
            lab.say(&["run", "abort", "1"]);
        }
        shown.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
    assert_eq!(watch.wait().unwrap().code(), Some(2));
    shown
}

#[test]
fn a_watch_is_live_on_a_terminal_and_plain_elsewhere() {
    let lab = Site::open();
    lab.add("node1", MAC);
    lab.text(&["run", "start", "node1"]);
    let live = watched(&lab, "xterm");
    assert!(live.starts_with("run 1 of node1: Waking\r\n"), "{live:?}");
    assert!(live.contains("A\r\x1b[Jrun 1 of node1: Aborted, fail\r\n"), "{live:?}");
    let plain = watched(&lab, "dumb");
    assert!(plain.contains("Aborted, fail") && !plain.contains('\x1b'), "{plain:?}");
}

#[test]
fn another_box_asks_the_coordinator_for_profiles_and_where_machines_boot_from() {
    let lab = Site::open_with("public_address: '192.0.2.10:8443'\nprofiles: {soak: soak.yaml}\n", &[SOAK]);
    let (url, ca) = announced(&lab);
    let token = lab.folder.path().join("var/operator.token");
    let home = tempfile::tempdir().unwrap();
    let whom = ["--url", &url, "--ca", &ca, "--token-file", token.to_str().unwrap()];
    let say = |words: &[&str]| elsewhere(home.path(), &[words, &whom].concat());
    let text = |words: &[&str]| {
        let output = say(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // what it loaded at its start, not what the file says by now
    std::fs::remove_file(lab.folder.path().join("soak.yaml")).unwrap();
    assert_eq!(text(&["profile", "show", "soak", "--yaml"]).trim_end(), SOAK.1.trim_end());
    let list = json(&say(&["profile", "list", "--json"]));
    let whose: Vec<_> = list.as_array().unwrap().iter().map(|one| (&one["name"], &one["own"])).collect();
    assert_eq!(whose[1..], [(&"deep".into(), &false.into()), (&"soak".into(), &true.into())]);
    let soak = text(&["profile", "show", "soak"]);
    for part in ["soak: only a look", "temp cpu/*", "must be < 95", "critical", "Tjunction"] {
        assert!(soak.contains(part), "{part}: {soak}");
    }

    let config = text(&["netboot", "config", "dnsmasq"]);
    let told = std::fs::read(lab.folder.path().join("var/coordinator.json")).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    let port = told["http"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    assert!(config.contains(&format!("http://192.0.2.10:{port}/boot/ipxe")), "{config}");
    let named = text(&["netboot", "config", "dnsmasq", "--address", "192.0.2.11"]);
    assert!(named.contains(&format!("http://192.0.2.11:{port}/boot/ipxe")), "{named}");
    assert!(said(&say(&["netboot", "config", "dnsmasq", "--ipv6"])).contains("--address"));
}

#[test]
fn another_coordinator_is_not_named_in_vain() {
    let home = tempfile::tempdir().unwrap();
    let url = "https://192.0.2.10:8443";
    let here = ["init", "migrate", "serve", "backup b.tar", "restore b.tar"];
    for words in here.map(|words| words.split(' ').collect::<Vec<_>>()) {
        let refused = said(&elsewhere(home.path(), &[words.as_slice(), &["--url", url]].concat()));
        assert!(
            refused.contains(&format!("`{}` works on the coordinator of this box", words[0])),
            "{refused}"
        );
        let by_variable = program(home.path(), &words).env("VETTING_URL", url).output().unwrap();
        assert!(said(&by_variable).contains("VETTING_URL"), "{words:?}");
    }
    assert!(std::fs::read_dir(home.path()).unwrap().next().is_none(), "something was done");

    std::fs::write(home.path().join("spec.yaml"), "memory: {total_gib: 1}\n").unwrap();
    let check = ["spec", "check", "spec.yaml"];
    let refused = said(&elsewhere(home.path(), &[&check[..], &["--url", url]].concat()));
    assert!(refused.contains("asks no coordinator"), "{refused}");
    // said for all commands, it is no mistake
    let good = program(home.path(), &check).env("VETTING_URL", url).output().unwrap();
    assert!(good.status.success(), "{good:?}");
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
            output.status.success() && script.contains(word) && script.contains("destructive"),
            "{shell}"
        );
    }
    let output = program(folder.path(), &["man", "new/man1"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let page =
        std::fs::read_to_string(folder.path().join("new/man1/vetting-coordinator-run-wait.1")).unwrap();
    assert!(page.contains("Exit code 0") && page.contains(".TH"), "{page}");
    assert!(folder.path().join("new/man1/vetting-coordinator.1").exists());
    let output = program(folder.path(), &["man", "/dev/null/x"]).output().unwrap();
    assert!(said(&output).contains("/dev/null/x"));
}
