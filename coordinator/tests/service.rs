//! The program under a service manager: what it tells it, and how its log is written.

mod site;

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use site::program;

const CONFIG: &str = "listen: {https: '127.0.0.1:0', http: '127.0.0.1:0'}\n";

#[test]
fn a_service_manager_hears_that_it_is_ready_alive_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vetting.yaml"), CONFIG).unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let mut child = program(folder.path(), &["serve"])
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "20000")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let told = || {
        let mut buffer = [0; 1024];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let until = |word: &str| {
        loop {
            let said = told();
            if said.lines().any(|line| line == word) {
                return said;
            }
        }
    };
    assert!(until("READY=1").contains("STATUS=https 127.0.0.1:"));
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    until("STOPPING=1");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_log_is_for_people_or_for_programs_and_carries_the_journals_levels() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vetting.yaml"), CONFIG).unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let found = log.as_file().metadata().unwrap();
    let journal = format!("{}:{}", found.dev(), found.ino());
    let first_line = |format: &str, journal: &str| {
        log.as_file().set_len(0).unwrap();
        let stderr = std::fs::OpenOptions::new().append(true).open(log.path()).unwrap();
        let mut child = program(folder.path(), &["serve", "--log-format", format])
            .env("RUST_LOG", "info")
            .env("JOURNAL_STREAM", journal)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        site::kill(&mut child);
        std::fs::remove_file(folder.path().join("var/vetting.db")).unwrap();
        let text = std::fs::read_to_string(log.path()).unwrap();
        text.lines()
            .find(|line| line.contains("migration applied"))
            .unwrap_or_else(|| panic!("{text}"))
            .to_owned()
    };
    let line = first_line("json", "0:0");
    let parsed: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&parsed["level"], &parsed["message"]), (&"INFO".into(), &"migration applied".into()));
    assert!(parsed["timestamp"].is_string() && parsed["name"].is_string(), "{line}");
    let line = first_line("json", &journal);
    assert!(serde_json::from_str::<Value>(line.strip_prefix("<6>").unwrap()).is_ok(), "{line}");
    let line = first_line("text", &journal);
    assert!(line.starts_with("<6> INFO ") || line.starts_with("<6>INFO "), "{line}");
    let line = first_line("text", "0:0");
    assert!(line.starts_with("20") && line.contains(" INFO "), "{line}");
}
