//! Backups as an operator makes them: beside a running coordinator, and back after it was stopped.

mod site;

use site::{MAC, Site, json, kill, program, serve};

#[test]
fn a_backup_of_a_running_coordinator_comes_back() {
    let mut site = Site::open();
    site.add("node1", MAC);
    let made = site.json(&["backup", "saved.tar"]);
    assert!(made["database_bytes"].as_u64().unwrap() > 0 && made["with_artifacts"] == false, "{made}");
    assert!(site.refused(&["backup", "saved.tar"]).contains("--force"));
    assert!(site.text(&["backup", "saved.tar", "--force"]).contains("(sound)"));
    assert_eq!(site.json(&["events"]).as_array().unwrap().last().unwrap()["kind"], "backup_made");
    assert!(site.refused(&["restore", "saved.tar"]).contains("stop it first"));

    site.json(&["host", "remove", "node1"]);
    kill(&mut site.serving);
    let folder = site.folder.path();
    let restored = program(folder, &["restore", "saved.tar", "--json"]).output().unwrap();
    let restored = json(&restored);
    assert!(!restored["kept"].as_array().unwrap().is_empty(), "{restored}");
    site.serving = serve(folder);
    // the token and the authority of before let the same client in
    assert_eq!(site.json(&["host", "show", "node1"])["mac"], MAC);
    assert_eq!(site.json(&["events"]).as_array().unwrap().last().unwrap()["kind"], "backup_restored");
}

#[test]
fn a_damaged_database_keeps_the_coordinator_from_starting_and_says_what_to_do() {
    let mut site = Site::open();
    site.text(&["backup", "saved.tar"]);
    kill(&mut site.serving);
    let folder = site.folder.path();
    for side in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.join(format!("var/vetting.db{side}")));
    }
    std::fs::write(folder.join("var/vetting.db"), "x".repeat(100_000)).unwrap();
    let output = program(folder, &["serve"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("damaged") && said.contains("vetting-coordinator restore FILE"), "{said}");
    json(&program(folder, &["restore", "saved.tar", "--json"]).output().unwrap());
    site.serving = serve(folder);
    assert!(site.json(&["host", "list"]).as_array().unwrap().is_empty());
}

#[test]
fn two_coordinators_do_not_share_a_state_folder() {
    let site = Site::open();
    let output = program(site.folder.path(), &["serve"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("process {}", site.serving.id())), "{said}");
}
