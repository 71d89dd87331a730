use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use vetting_protocol::ids::{RunId, Sha256Hex};

use super::*;
use crate::config::Config;
use crate::state_lock::StateLock;
use crate::storage_check::{self, StorageError};
use crate::store::artifacts::{self, ArtifactValues};
use crate::store::{Connection, Store, rival, settings};

fn on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn config(state: &TempDir) -> Config {
    let mut config = Config { state_dir: state.path().to_owned(), ..Config::default() };
    config.database.path = state.path().join("vetting.db");
    config
}

/// A state folder as a coordinator leaves it, with one run that has one file.
fn box_with(word: &'static str) -> (TempDir, Config) {
    let state = tempfile::tempdir().unwrap();
    let config = config(&state);
    let store = Store::open(&config.database.path).unwrap();
    let report = config.artifacts_dir().join("run-1/report.json");
    let values = ArtifactValues {
        stage_id: None,
        kind: "report".to_owned(),
        path: report.to_str().unwrap().to_owned(),
        sha256: Sha256Hex::of(word.as_bytes()),
        size_bytes: word.len() as u64,
    };
    drop(store);
    rival::execute(
        &config.database.path,
        "INSERT INTO hosts (name, mac, wol_broadcast_ip, expected_spec_yaml) VALUES ('a', 'b', 'c', 'd');
         INSERT INTO runs (host_id, state, agent_token_hash) VALUES (1, 'Completed', '');",
    );
    let store = Store::open(&config.database.path).unwrap();
    let written = store.write_blocking(move |connection| {
        settings::set(connection, "word", word)?;
        artifacts::insert(connection, RunId(1), &values)
    });
    let _: i64 = written.unwrap();
    for (path, mode) in [("tls/ca.pem", 0o644), ("tls/ca.key", 0o600), ("signing/report.key", 0o600)] {
        let path = config.state_dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, word).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::fs::create_dir_all(report.parent().unwrap()).unwrap();
    std::fs::write(report, word).unwrap();
    std::fs::write(config.state_dir.join("operator.token"), word).unwrap();
    std::fs::write(config.announcement_path(), word).unwrap();
    (state, config)
}

fn word_in(config: &Config) -> Option<String> {
    let store = Store::open(&config.database.path).unwrap();
    store.read_blocking(|connection: &Connection| settings::get(connection, "word")).unwrap()
}

/// Everything below a folder but the lock: names and contents.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else if !path.ends_with("coordinator.lock") {
            let bytes = std::fs::read(&path).unwrap();
            all.push((path, bytes));
        }
    }
    all.sort();
    all
}

#[test]
fn a_backup_comes_back_on_another_box_with_its_keys_and_files() {
    let (state, here) = box_with("one");
    let file = state.path().join("backup.tar");
    // of a machine that is held just now
    std::fs::write(here.artifacts_dir().join("run-1/hold_key"), "secret").unwrap();
    let packed = pack(&here, &file, true, false, &mut on).unwrap();
    assert_eq!((packed.files, packed.with_artifacts), (5, true));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let (_other_state, there) = box_with("two");
    let restored = restore(&there, &file, &mut on).unwrap();
    assert_eq!(word_in(&there).as_deref(), Some("one"));
    for path in
        ["tls/ca.key", "tls/ca.pem", "signing/report.key", "operator.token", "artifacts/run-1/report.json"]
    {
        let path = there.state_dir.join(path);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one", "{}", path.display());
        let secret = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777 == 0o600;
        assert_eq!(secret, path.ends_with("ca.key") || path.ends_with("report.key"), "{}", path.display());
    }
    // the file of a run is found where it is now
    let store = Store::open(&there.database.path).unwrap();
    let rows = store.read_blocking(|connection| artifacts::list(connection, RunId(1))).unwrap();
    assert_eq!(Path::new(&rows[0].values.path), there.artifacts_dir().join("run-1/report.json"));
    // and what was there is beside it, this box's announcement untouched
    let kept: Vec<_> = restored.kept.iter().filter(|path| path.is_file()).collect();
    assert!(
        kept.iter().any(|path| path.to_str().unwrap().contains("vetting.db.before-restore-")),
        "{kept:?}"
    );
    let token = kept.iter().find(|path| path.to_str().unwrap().contains("operator.token")).unwrap();
    assert_eq!(std::fs::read_to_string(token).unwrap(), "two");
    assert_eq!(std::fs::read_to_string(there.announcement_path()).unwrap(), "two");
    assert!(!there.state_dir.join("restore.part").exists());
}

#[test]
fn without_the_files_of_runs_those_that_are_there_stay() {
    let (state, here) = box_with("one");
    let file = state.path().join("backup.tar");
    assert_eq!(pack(&here, &file, false, false, &mut on).unwrap().files, 4);
    std::fs::write(here.artifacts_dir().join("run-1/report.json"), "new").unwrap();
    restore(&here, &file, &mut on).unwrap();
    assert_eq!(std::fs::read_to_string(here.artifacts_dir().join("run-1/report.json")).unwrap(), "new");
}

#[test]
fn a_file_that_is_there_is_replaced_only_when_asked() {
    let (state, here) = box_with("one");
    let file = state.path().join("backup.tar");
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(pack(&here, &file, false, false, &mut on), Err(BackupError::Exists { .. })));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    pack(&here, &file, false, true, &mut on).unwrap();
    assert!(std::fs::metadata(&file).unwrap().len() > 1_000);
    let nothing = Config { state_dir: state.path().join("none"), ..Config::default() };
    assert!(matches!(pack(&nothing, &file, false, true, &mut on), Err(BackupError::NoDatabase { .. })));
}

#[test]
fn what_is_stopped_leaves_nothing() {
    let (_state, here) = box_with("one");
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("backup.tar");
    for stop_at in [Work::Copying, Work::Checking, Work::Packing] {
        let stop = &mut |progress: Progress| {
            if progress.work == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        assert!(matches!(pack(&here, &file, false, false, stop), Err(BackupError::Stopped)), "{stop_at:?}");
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0, "{stop_at:?}");
    }
}

#[test]
fn a_damaged_or_foreign_file_changes_nothing() {
    let (_source, from) = box_with("one");
    let (_state, here) = box_with("two");
    let elsewhere = tempfile::tempdir().unwrap();
    let good = elsewhere.path().join("good.tar");
    pack(&from, &good, true, false, &mut on).unwrap();
    let bytes = std::fs::read(&good).unwrap();
    let before = contents(&here.state_dir);
    let file = elsewhere.path().join("bad.tar");
    let refused = |what: &str, bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let error = restore(&here, &file, &mut on).unwrap_err();
        assert!(matches!(error, BackupError::NotWhole { .. }), "{what}: {error:?}");
        assert_eq!(contents(&here.state_dir), before, "{what}");
    };
    for part in 0..10 {
        refused("cut short", &bytes[..bytes.len() * part / 10]);
    }
    // the middle of the database, and the key that comes after it
    let key = bytes.windows(18).position(|window| window == b"signing/report.key").unwrap() + 512;
    for at in [3_000, 40_000, key] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        refused("flipped", &flipped);
    }
    refused("no tar", b"SQLite format 3\0 but not a tar");
    for name in ["../operator.token", "/etc/passwd", "coordinator.json", "tls/../../x", "other.db"] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        // tar itself would not write such a name
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(1);
        header.set_mode(0o600);
        header.set_cksum();
        tar.append(&header, &b"x"[..]).unwrap();
        refused(name, &tar.into_inner().unwrap());
    }
    assert_eq!(word_in(&here).as_deref(), Some("two"));
}

#[test]
fn a_backup_of_a_newer_version_is_refused_and_one_from_before_a_migration_is_not() {
    let (_state, here) = box_with("one");
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("backup.tar");
    let newer = "INSERT INTO schema_migrations (name, sha256, applied_at) VALUES ('9999_later.sql', '', '')";
    rival::execute(&here.database.path, newer);
    pack(&here, &file, false, false, &mut on).unwrap();
    let error = restore(&here, &file, &mut on).unwrap_err();
    assert!(crate::error_chain(&error).contains("9999_later.sql"), "{error:?}");
    rival::execute(&here.database.path, "DELETE FROM schema_migrations WHERE name > '0001_init.sql'");
    pack(&here, &file, false, true, &mut on).unwrap();
    restore(&here, &file, &mut on).unwrap();
}

#[test]
fn nothing_is_restored_under_a_running_coordinator() {
    let (state, here) = box_with("one");
    let file = state.path().join("backup.tar");
    pack(&here, &file, false, false, &mut on).unwrap();
    let _running = StateLock::take(&here.state_dir).unwrap();
    let error = restore(&here, &file, &mut on).unwrap_err();
    assert!(error.to_string().contains("stop it first"), "{error}");
}

#[test]
fn a_copy_is_of_one_moment_however_busy_the_database_is() {
    let (state, here) = box_with("one");
    let store = Store::open(&here.database.path).unwrap();
    let ballast = "x".repeat(20_000_000);
    store.write_blocking(move |connection| settings::set(connection, "ballast", &ballast)).unwrap();
    let stop = AtomicBool::new(false);
    let (file, mut steps) = (state.path().join("backup.tar"), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::SeqCst) {
                number += 1;
                let text = number.to_string();
                let both = store.write_blocking(move |connection| {
                    settings::set(connection, "left", &text)?;
                    settings::set(connection, "right", &text)
                });
                both.unwrap();
            }
        });
        let mut watched = |progress: Progress| {
            steps += usize::from(progress.work == Work::Copying);
            // one change at least between two steps
            let number = |key: &'static str| {
                store.read_blocking(move |connection| settings::get(connection, key)).unwrap()
            };
            let before = number("left");
            while progress.work == Work::Copying && number("left") == before {}
            ControlFlow::Continue(())
        };
        let packed = pack(&here, &file, false, false, &mut watched);
        stop.store(true, Ordering::SeqCst);
        packed.unwrap();
    });
    assert!(steps > 2, "{steps}");
    drop(store);
    restore(&here, &file, &mut on).unwrap();
    let store = Store::open(&here.database.path).unwrap();
    let (left, right) = store
        .read_blocking(|connection| -> Result<_, StoreError> {
            Ok((settings::get(connection, "left")?, settings::get(connection, "right")?))
        })
        .unwrap();
    assert_eq!(left, right);
}

#[test]
fn a_damaged_database_and_a_full_disk_are_told_before_anything_is_written() {
    let (_state, mut here) = box_with("one");
    storage_check::at_start(&here).unwrap();
    here.free_space.refuse = crate::byte_size::ByteSize(u64::MAX);
    let said = storage_check::at_start(&here).unwrap_err().to_string();
    assert!(said.contains("free_space.refuse") && said.contains("make room"), "{said}");
    here.free_space.refuse = crate::byte_size::ByteSize(0);

    let orphan =
        "PRAGMA foreign_keys = OFF; INSERT INTO run_plan_stages (run_id, stage_name, ordinal, required)
         VALUES (7, 'SMART', 0, 1);";
    rival::execute(&here.database.path, orphan);
    let said = storage_check::at_start(&here).unwrap_err().to_string();
    assert!(said.contains("run_plan_stages") && said.contains("restore"), "{said}");
    rival::execute(&here.database.path, "DELETE FROM run_plan_stages; PRAGMA wal_checkpoint(TRUNCATE);");
    storage_check::at_start(&here).unwrap();

    let mut bytes = std::fs::read(&here.database.path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8_192].fill(0xa5);
    std::fs::write(&here.database.path, &bytes).unwrap();
    let damaged = storage_check::at_start(&here).unwrap_err();
    assert!(matches!(damaged, StorageError::Damaged { .. }), "{damaged:?}");
    let elsewhere = tempfile::tempdir().unwrap();
    let packed = pack(&here, &elsewhere.path().join("backup.tar"), false, false, &mut on);
    assert!(matches!(packed, Err(BackupError::Damaged { .. })), "{packed:?}");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    std::fs::write(&here.database.path, "no database at all").unwrap();
    assert!(matches!(storage_check::at_start(&here), Err(StorageError::Damaged { .. })));
}
