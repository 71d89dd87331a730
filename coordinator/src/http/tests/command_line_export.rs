//! `export …`, `host import`, `run list` as commands against a coordinator: every page, whole files, what NetBox takes.

use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::RunState;

use super::agent::inventory;
use super::command_line::{caught, say};
use super::*;
use crate::store::measurements::{self, MeasurementValues};
use crate::store::{StoreError, hosts, runs};

/// More than a page of the API.
const RUNS: usize = 1_003;
/// More than a page of them, as `export` asks for it.
const SAMPLES: i64 = 10_001;

/// Runs that were aborted, all of one machine.
async fn many_runs(lab: &Lab) {
    lab.add_host("node1", MAC).await;
    let made: Result<(), StoreError> = lab
        .server
        .driver
        .store
        .write(|connection| {
            let host = hosts::require_by_name(connection, "node1")?;
            let values = runs::RunValues {
                host_id: host.id,
                profile: ProfileName::Quick,
                non_destructive: false,
                override_flags: runs::OverrideFlags::NONE,
                next_boot_target: BootTarget::Linux,
            };
            for _ in 0..RUNS {
                let run = runs::create(connection, &values, START_MS)?;
                runs::set_state(connection, run, &runs::RunChange::to(RunState::Aborted, START_MS))?;
            }
            Ok(())
        })
        .await;
    made.unwrap();
}

/// What a command that must work prints.
async fn printed(lab: &Lab, words: &[&str]) -> String {
    let (done, text) = caught(say(lab, words)).await;
    done.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    text
}

/// The rows of a CSV file, each by the names of its header.
fn rows(text: &str) -> Vec<std::collections::HashMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.deserialize().map(Result::unwrap).collect()
}

#[tokio::test]
async fn runs_are_exported_and_listed_beyond_a_page() {
    let lab = Lab::open().await;
    many_runs(&lab).await;
    let file = lab.path("runs.csv");
    let to_file = ["export", "runs", "--output", file.to_str().unwrap()];
    assert_eq!(printed(&lab, &to_file).await, "");
    let all = rows(&std::fs::read_to_string(file).unwrap());
    let ids: Vec<usize> = all.iter().map(|row| row["id"].parse().unwrap()).collect();
    assert_eq!(ids, (1..=RUNS).rev().collect::<Vec<_>>());
    assert_eq!((all[0]["host"].as_str(), all[0]["state"].as_str()), ("node1", "Aborted"));

    let newest = printed(&lab, &["export", "runs", "--limit", "1001", "--format", "jsonl"]).await;
    let ids: Vec<usize> = newest
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap().try_into().unwrap())
        .collect();
    assert_eq!(ids, (RUNS - 1_000..=RUNS).rev().collect::<Vec<_>>());
    let nobody = say(&lab, &["export", "runs", "--host", "nobody"]).await.unwrap_err().to_string();
    assert!(nobody.contains("no host named nobody"), "{nobody}");

    let list = async |words: &[&str]| {
        let text = printed(&lab, &[&["run", "list", "--json"], words].concat()).await;
        let list: Vec<RunSummary> = serde_json::from_str(&text).unwrap();
        list.into_iter().map(|run| run.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list(&["--before", "4"]).await, ["3", "2", "1"]);
    assert_eq!(list(&["--before", "4", "--limit", "1", "--host", "node1"]).await, ["3"]);
    assert_eq!(list(&["--limit", "1002"]).await.len(), 1_002);
    assert_eq!(list(&[]).await.len(), 50);
}

#[tokio::test]
async fn where_there_are_no_rows_a_csv_file_is_its_header() {
    let lab = Lab::open().await;
    let header = "id,host,profile,state,result,failed_stage,started_at,completed_at\n";
    assert_eq!(printed(&lab, &["export", "runs"]).await, header);
    assert_eq!(printed(&lab, &["export", "runs", "--format", "jsonl"]).await, "");
    lab.add_host("node1", MAC).await;
    let run = lab.start_run("node1").await;
    assert!(printed(&lab, &["export", "runs"]).await.starts_with(&format!("{header}{run},node1,quick,")));
    let samples = printed(&lab, &["export", "measurements", &run.to_string()]).await;
    assert_eq!(samples, "id,ts,stage,kind,key,value,unit\n");
}

#[tokio::test]
async fn every_sample_is_exported() {
    let lab = Lab::open().await;
    let run = lab.claimed().await.run;
    let written: Result<_, StoreError> = lab
        .server
        .driver
        .store
        .write(move |connection| {
            let sample = |number: i64| MeasurementValues {
                stage_id: None,
                ts_ms: START_MS + number,
                kind: "temp".to_owned(),
                key: "cpu/0, \"left\"".to_owned(),
                value: (number > 0).then_some(number as f64),
                unit: "celsius".to_owned(),
            };
            measurements::insert(connection, run, &(0..SAMPLES).map(sample).collect::<Vec<_>>())
        })
        .await;
    written.unwrap();
    let all = rows(&printed(&lab, &["export", "measurements", &run.to_string()]).await);
    assert_eq!(all.len(), usize::try_from(SAMPLES).unwrap());
    // a sample without a value is an empty field, no zero
    assert_eq!((all[0]["value"].as_str(), all[1]["value"].as_str()), ("", "1.0"));
    assert!(all.iter().enumerate().skip(1).all(|(at, row)| row["value"] == format!("{at}.0")));
    assert_eq!((all[7]["key"].as_str(), all[7]["unit"].as_str()), ("cpu/0, \"left\"", "celsius"));
}

#[tokio::test]
async fn a_vetted_machine_is_exported_for_netbox() {
    let lab = Lab::open().await;
    lab.add_host("empty", "52:54:00:ab:cd:09").await;
    let nothing = say(&lab, &["export", "netbox", "empty"]).await.unwrap_err().to_string();
    assert!(nothing.contains("empty has no run yet"), "{nothing}");
    let claimed = lab.claimed().await;
    lab.send(&claimed, 1, vec![inventory("SN42")]).await;
    for of in ["node1", &claimed.run.to_string()] {
        let text = printed(&lab, &["export", "netbox", of, "--site", "rack hall", "--role", "vm"]).await;
        let netbox: Value = serde_json::from_str(&text).unwrap();
        let device = &netbox["dcim/devices"][0];
        assert_eq!((&device["name"], &device["serial"]), (&json!("node1"), &json!("SN42")));
        assert_eq!(device["site"]["slug"], "rack hall");
        assert!(netbox["dcim/interfaces"][0]["mac_address"].is_string(), "{netbox}");
    }
}

#[tokio::test]
async fn lists_of_machines_are_imported_whole_or_not_at_all() {
    let lab = Lab::open().await;
    let file = lab.path("rack.csv");
    let mut words = vec!["host", "import", file.to_str().unwrap()];
    let head = "name,mac,spec\nr1,52:54:00:ab:cd:02,memory: {total_gib: 1}\n";
    std::fs::write(&file, format!("{head}r2,52:54:00:ab:cd,memory: {{total_gib: 1}}\n")).unwrap();
    let mistake = say(&lab, &words).await.unwrap_err().to_string();
    assert!(mistake.contains("line 3, column 2"), "{mistake}");
    std::fs::write(&file, head).unwrap();
    words.push("--dry-run");
    assert_eq!(printed(&lab, &words).await, "r1 would be registered\n1 hosts, 0 there before\n");
    words.pop();
    assert_eq!(printed(&lab, &words).await, "r1 is registered\n1 hosts, 0 there before\n");
    let again = say(&lab, &words).await.unwrap_err().to_string();
    assert!(again.contains("a host named r1 exists already"), "{again}");
    words.push("--skip-existing");
    assert_eq!(printed(&lab, &words).await, "r1 is registered already\n0 hosts, 1 there before\n");
    // JSON is YAML, too, by a name that says neither
    let other = lab.path("rack");
    std::fs::write(&other, "[{name: r3, mac: '52:54:00:ab:cd:03', spec: {memory: {total_gib: 1}}}]").unwrap();
    printed(&lab, &["host", "import", other.to_str().unwrap()]).await;
    let hosts: Vec<Value> = good(lab.operator(Method::GET, "hosts")).await;
    assert_eq!(hosts.iter().map(|host| host["name"].as_str().unwrap()).collect::<Vec<_>>(), ["r1", "r3"]);
}
