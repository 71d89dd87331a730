//! The program itself: what it prints, as text and as JSON, and how it ends.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only by their attribute, not their helpers")]

mod site;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;

use site::machine::Machine;
use site::{MAC, SPEC, Site, json, kill, program, serve};
use vetting_protocol::ids::RunId;

#[test]
fn every_command_speaks_json() {
    let lab = Site::open();
    assert_eq!(lab.add("node1", "5254.00AB.CD01")["mac"], MAC);
    assert_eq!(lab.json(&["host", "list"])[0]["name"], "node1");
    assert_eq!(lab.json(&["host", "show", "node1"])["expected_spec_yaml"], SPEC);
    assert_eq!(lab.json(&["host", "edit", "node1", "--notes", "new"])["notes"], "new");
    assert_eq!(lab.json(&["run", "start", "node1", "--profile", "quick"])["state"], "Waking");
    assert_eq!(lab.json(&["run", "list"])[0]["id"], 1);
    assert_eq!(lab.json(&["run", "show", "1"])["summary"]["host"], "node1");
    assert_eq!(lab.json(&["run", "abort", "1"])["state"], "Aborted");
    let events = lab.json(&["events"]);
    let kinds: Vec<_> =
        events.as_array().unwrap().iter().take(3).map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds, ["host_added", "host_edited", "run_created"]);
    assert_eq!(lab.json(&["events", "--host", "node1", "--kind", "host_*"]).as_array().unwrap().len(), 2);
    assert_eq!(lab.json(&["janitor", "--dry-run", "--orphans"])["removed"], serde_json::json!([]));
    assert_eq!(lab.json(&["notify", "list"])["receivers"], serde_json::json!([]));
    assert_eq!(lab.json(&["notify", "retry"])["retried"], 0);
    let token = lab.json(&["token", "create", "ci"]);
    assert!(token["token"].is_string(), "{token}");
    let id = token["view"]["id"].to_string();
    assert_eq!(lab.json(&["token", "list"]).as_array().unwrap().len(), 2);
    assert_eq!(lab.json(&["token", "revoke", &id])["revoked"], token["view"]["id"]);
    assert_eq!(lab.json(&["host", "remove", "node1", "--with-runs"])["removed"], "node1");
    assert_eq!(lab.json(&["migrate"])["up_to_date"], true);
}

/// A site with two machines of one kind: the first was too hot, the second has half the memory.
fn two_runs() -> Site {
    let lab = Site::open();
    let (gib, other) = (1_u64 << 30, "52:54:00:ab:cd:02");
    for (name, mac, machine) in [
        ("node1", MAC, Machine { mac: MAC, memory_bytes: 2 * gib, celsius: 104.5 }),
        ("node2", other, Machine { mac: other, memory_bytes: gib, celsius: 50.0 }),
    ] {
        lab.add(name, mac);
        let run = lab.json(&["run", "start", name, "--profile", "quick"])["id"].as_i64().unwrap();
        machine.is_vetted(&lab, RunId(run));
    }
    lab
}

#[test]
fn what_comes_after_a_run() {
    let lab = two_runs();
    let at = |name: &str| lab.folder.path().join(name);
    let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();

    // reports, in each form, and whether they are what was signed
    for format in ["html", "json", "junit", "ocp"] {
        let file = format!("run-1.{format}");
        assert_eq!(lab.json(&["run", "report", "1", "--format", format, "-o", &file])["file"], file);
        // those that are made of the signed one here have no signature of their own
        assert_eq!(at(&format!("{file}.minisig")).exists(), matches!(format, "html" | "json"), "{format}");
    }
    assert!(read("run-1.html").contains("FAIL"));
    let report: serde_json::Value = serde_json::from_str(&read("run-1.json")).unwrap();
    assert_eq!(
        (&report["verdict"]["result"], &report["facts"]["host"]["name"]),
        (&"fail".into(), &"node1".into())
    );
    assert!(read("run-1.junit").contains("<failure"), "{}", read("run-1.junit"));
    let lines = read("run-1.ocp");
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap().is_object()));
    assert_eq!(lab.text(&["run", "report", "1", "--format", "json"]), read("run-1.json"));
    let verify = ["report", "verify", "run-1.html", "--key", "var/signing/report.pub"];
    assert_eq!(lab.json(&verify)["valid"], true);
    std::fs::write(at("run-1.html"), read("run-1.html").replace("FAIL", "PASS")).unwrap();
    assert!(lab.refused(&verify).contains("NOT as it was signed"));

    // a finding is waived, and the waiver taken back
    let verdict = lab.json(&["run", "verdict", "1"]);
    let finding =
        verdict["reasons"].as_array().unwrap().iter().find_map(|reason| reason["finding"].as_str()).unwrap();
    let waive = ["run", "waive", "1", finding, "--reason", "the sensor is wrong", "--by", "ada"];
    let waived = lab.json(&waive);
    assert_eq!((&waived["summary"]["result"], &waived["waivers"][0]["by"]), (&"pass".into(), &"ada".into()));
    assert!(lab.refused(&waive).contains("ada"), "it is waived already");
    let back = lab.json(&["run", "unwaive", "1", "1", "--reason", "it was not", "--by", "bob"]);
    assert_eq!(
        (&back["summary"]["result"], &back["waivers"][0]["withdrawn"]["by"]),
        (&"fail".into(), &"bob".into())
    );

    // both machines name the same disk
    let serial = report["facts"]["inventory"]["disks"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|disk| disk["serial"].as_str());
    let places = lab.json(&["component", "show", serial.unwrap()]);
    let hosts: Vec<_> = places.as_array().unwrap().iter().map(|place| place["run"]["host"].clone()).collect();
    assert_eq!(hosts, ["node2", "node1"]);

    // a spec from a good machine, and what another has otherwise
    std::fs::write(at("good.yaml"), lab.text(&["spec", "from-run", "1"])).unwrap();
    assert_eq!(lab.json(&["spec", "check", "good.yaml"])["good"], true);
    assert!(lab.text(&["spec", "diff", "good.yaml", "1"]).contains("no difference"));
    for expected in ["good.yaml", "1"] {
        let diffs = lab.json(&["spec", "diff", expected, "2"]);
        let fields: Vec<_> = diffs.as_array().unwrap().iter().map(|diff| diff["field"].clone()).collect();
        assert_eq!(fields, ["memory.total_gib"], "{diffs}");
    }
}

#[test]
fn people_get_their_password_from_stdin() {
    let lab = Site::open();
    let typing = |folder: &Path, words: &[&str], text: &str| {
        let mut command = program(folder, words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let folder = lab.folder.path();
    let words = ["user", "add", "alice", "--role", "viewer", "--json"];
    let alice = json(&typing(folder, &words, "correct horse battery\n"));
    assert_eq!((&alice["name"], &alice["role"]), (&"alice".into(), &"viewer".into()));
    let short = typing(folder, &["user", "add", "bob"], "short\n");
    assert_eq!(short.status.code(), Some(2));
    assert!(String::from_utf8(short.stderr).unwrap().contains("at least 12 characters"));
    assert_eq!(lab.json(&["user", "role", "alice", "operator"])["role"], "operator");
    assert!(lab.json(&["user", "disable", "alice"])["disabled_at"].is_string());
    assert!(typing(folder, &["user", "passwd", "alice"], "battery horse correct\n").status.success());
    assert_eq!(lab.text(&["user", "enable", "alice"]), "alice (operator) can log in\n");
    assert_eq!(lab.json(&["user", "list"]).as_array().unwrap().len(), 1);
    assert!(lab.refused(&["user", "disable", "carol"]).contains("no user named carol"));
    let token = lab.json(&["token", "create", "grafana", "--role", "viewer", "--valid", "90d"]);
    assert!(token["view"]["role"] == "viewer" && token["view"]["expires_at"].is_string(), "{token}");

    // the first one may come with the set-up
    let other = tempfile::tempdir().unwrap();
    let made = json(&typing(other.path(), &["init", "--user", "alice", "--json"], "correct horse battery\n"));
    assert_eq!(made["user"], "alice");
}

#[test]
fn refusals_end_with_2_and_say_what_to_do() {
    let lab = Site::open();
    assert!(lab.refused(&["host", "show", "node1"]).contains("no host named node1"));
    lab.add("node1", MAC);
    std::fs::write(lab.folder.path().join("bad.yaml"), "memory:\n  total: 1\n").unwrap();
    let said = lab.refused(&["host", "edit", "node1", "--spec", "bad.yaml"]);
    assert!(said.contains("line 2"), "{said}");
    assert!(lab.refused(&["host", "edit", "node1", "--spec", "none.yaml"]).contains("none.yaml"));
    lab.text(&["run", "start", "node1"]);
    assert!(lab.refused(&["host", "remove", "node1"]).contains("--with-runs"));
    assert!(lab.refused(&["host", "remove", "node1", "--with-runs"]).contains("abort it first"));
    assert!(lab.refused(&["run", "start", "node1"]).contains("run 1 of host node1 is active"));
    assert!(lab.refused(&["run", "release", "1"]).contains("abort it instead"));
    lab.text(&["run", "abort", "1"]);
    assert_eq!(lab.text(&["host", "remove", "node1", "--with-runs"]), "node1 is removed\n");
    assert!(lab.refused(&["run", "watch", "1"]).contains("no run 1"));
    assert!(lab.refused(&["init", "--keep-config"]).contains("is there already"));
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let lab = Site::open();
    lab.add("node1", MAC);
    for words in [&["host", "list"][..], &["host", "list", "--json"], &["host", "show", "node1"]] {
        let mut child =
            program(lab.folder.path(), words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{words:?}: {output:?}");
    }
}

#[test]
fn a_watch_outlives_a_killed_coordinator_and_ends_with_2_when_the_run_was_aborted() {
    let mut lab = Site::open();
    lab.add("node1", MAC);
    lab.text(&["run", "start", "node1"]);
    let mut watch = program(lab.folder.path(), &["run", "watch", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(watch.stdout.take().unwrap());
    let mut errors = BufReader::new(watch.stderr.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "run 1 of node1: Waking\n");
    kill(&mut lab.serving);
    let mut trouble = String::new();
    errors.read_line(&mut trouble).unwrap();
    assert!(trouble.contains("does not answer") && trouble.contains("trying again"), "{trouble}");
    // another port, since the first was a free one
    lab.serving = serve(lab.folder.path());
    trouble.clear();
    errors.read_line(&mut trouble).unwrap();
    assert_eq!(trouble, "the coordinator answers again\n");
    lab.text(&["run", "abort", "1"]);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("Aborted, fail"), "{rest}");
    assert_eq!(watch.wait().unwrap().code(), Some(2));
}

#[test]
fn events_are_followed_over_a_killed_coordinator_and_filtered() {
    let mut lab = Site::open();
    let words = ["events", "--follow", "--json", "--kind", "host_*"];
    let mut follow =
        program(lab.folder.path(), &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(follow.stdout.take().unwrap());
    let mut errors = BufReader::new(follow.stderr.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    lab.add("node1", MAC);
    assert_eq!(next()["message"], "operator added host node1");
    kill(&mut lab.serving);
    let mut trouble = String::new();
    errors.read_line(&mut trouble).unwrap();
    assert!(trouble.contains("trying again"), "{trouble}");
    lab.serving = serve(lab.folder.path());
    // no host event, so not shown
    lab.text(&["token", "create", "ci"]);
    lab.text(&["host", "edit", "node1", "--notes", "new"]);
    let event = next();
    assert_eq!((&event["kind"], &event["data"]["by"]), (&"host_edited".into(), &"operator".into()));
    kill(&mut follow);
}

#[test]
fn the_schema_of_reports_is_printed_without_a_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let output = program(folder.path(), &["report", "schema"]).output().unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["properties"]["schema_version"]["const"], 1);
}
