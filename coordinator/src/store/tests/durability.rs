//! What was answered is there after the process is killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use crate::store::{Store, StoreError, settings};

const PATH_VARIABLE: &str = "VETTING_TEST_STORE_CHILD";
const CHILD: &str = "store::tests::durability::child_of_the_killing_test";
const PREFIX: &str = "answered ";

/// Does nothing in an ordinary run of the tests; as a child it writes and tells each answer, until it is killed.
#[test]
fn child_of_the_killing_test() {
    let Some(path) = std::env::var_os(PATH_VARIABLE) else { return };
    let store = Store::open(path).unwrap();
    let mut out = std::io::stdout();
    for number in 1_u64.. {
        let key = number.to_string();
        store.write_blocking(move |connection| settings::set(connection, &key, "x")).unwrap();
        // a closed pipe means that the parent died
        if writeln!(out, "{PREFIX}{number}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "only another process can be killed")]
fn an_answered_write_outlives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vetting.db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture"])
        .env(PATH_VARIABLE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut last_answered = 0_u64;
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // libtest writes its own words on the first line
        let Ok(line) = line else { break };
        let Some((_, number)) = line.split_once(PREFIX) else { continue };
        // the kill may cut the last line short
        let Ok(number) = number.parse::<u64>() else { continue };
        last_answered = last_answered.max(number);
        if last_answered >= 100 && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself");
    let store = Store::open(&path).unwrap();
    let (count, greatest): (u64, u64) = store
        .read_blocking(|connection| -> Result<_, StoreError> {
            let found: (i64, i64) = connection.raw().query_row(
                "SELECT COUNT(*), MAX(CAST(key AS INTEGER)) FROM settings",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            Ok((found.0.unsigned_abs(), found.1.unsigned_abs()))
        })
        .unwrap();
    assert!(greatest >= last_answered, "{last_answered} was answered, {greatest} is the last there");
    assert_eq!(count, greatest, "one before the last is missing");
}
