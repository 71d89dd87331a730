//! What the migrations do and refuse.

use std::path::Path;

use rusqlite::Connection;

use super::super::migrations::{MIGRATIONS, Migration, apply};
use super::{NOW_MS, Scratch, options, scratch};
use crate::clock::Clock;
use crate::store::{Store, StoreError};

#[test]
fn the_embedded_files_are_those_of_the_folder_in_name_order() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let embedded: Vec<&str> = MIGRATIONS.iter().map(|migration| migration.name).collect();
    assert_eq!(embedded, files);
}

#[test]
fn a_second_start_changes_nothing() {
    let Scratch { store, path, _folder } = scratch();
    assert_eq!(store.applied_migrations().len(), MIGRATIONS.len());
    let schema = |store: &Store| -> Vec<(String, String)> {
        store
            .read_blocking(|connection| -> Result<_, StoreError> {
                Ok(connection
                    .raw()
                    .prepare("SELECT name, sha256 || applied_at FROM schema_migrations ORDER BY name")?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<Result<_, _>>()?)
            })
            .unwrap()
    };
    let before = schema(&store);
    assert!(before[0].1.ends_with("2023-11-14 22:13:20.000"), "{before:?}");
    drop(store);
    let later = Store::open_with(
        &path,
        crate::store::StoreOptions { clock: Clock::settable(NOW_MS + 1_000_000), ..options() },
    )
    .unwrap();
    assert!(later.applied_migrations().is_empty());
    assert_eq!(schema(&later), before);
}

#[test]
fn an_older_database_gets_what_it_lacks_and_keeps_its_rows() {
    let mut connection = Connection::open_in_memory().unwrap();
    let clock = Clock::settable(NOW_MS);
    apply(&mut connection, &MIGRATIONS[..1], &clock).unwrap();
    connection
        .execute_batch(
            "INSERT INTO hosts (name, mac, wol_broadcast_ip, expected_spec_yaml) VALUES ('a', 'b', 'c', 'd');
             INSERT INTO runs (host_id, state, agent_token_hash) VALUES (1, 'Completed', ''), (1, 'Completed', '');
             INSERT INTO measurements (run_id, ts, kind, key) VALUES (1, 't', 'temp', 'a'), (1, 't', 'temp', 'b');",
        )
        .unwrap();
    let applied = apply(&mut connection, MIGRATIONS, &clock).unwrap();
    assert_eq!(applied.len(), MIGRATIONS.len() - 1);
    let found: (String, i64, Option<String>) = connection
        .query_row(
            "SELECT profile, non_destructive, last_seen_at FROM runs JOIN hosts ON hosts.id = host_id",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!(found, ("quick".to_owned(), 0, None));
    let counted: String = connection
        .query_row("SELECT group_concat(run_id || ': ' || samples) FROM run_sample_counts", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(counted, "1: 2", "samples from before are counted");
}

#[test]
fn a_changed_newer_or_gapped_database_is_refused_by_name() {
    let clock = Clock::settable(NOW_MS);
    let fresh = || {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection, MIGRATIONS, &clock).unwrap();
        connection
    };
    let changed = [Migration { name: MIGRATIONS[0].name, sql: "SELECT 1" }];
    let mut connection = Connection::open_in_memory().unwrap();
    apply(&mut connection, &MIGRATIONS[..1], &clock).unwrap();
    assert!(matches!(
        apply(&mut connection, &changed, &clock),
        Err(StoreError::MigrationChanged { name }) if name == MIGRATIONS[0].name
    ));
    assert!(matches!(
        apply(&mut fresh(), &MIGRATIONS[..5], &clock),
        Err(StoreError::NewerDatabase { name }) if name == MIGRATIONS[5].name
    ));
    let connection = &mut fresh();
    connection.execute("DELETE FROM schema_migrations WHERE name LIKE '0003%'", []).unwrap();
    assert!(matches!(
        apply(connection, MIGRATIONS, &clock),
        Err(StoreError::MigrationMissing { name }) if name == MIGRATIONS[2].name
    ));
}

#[test]
fn a_migration_that_fails_leaves_nothing_behind() {
    let clock = Clock::settable(NOW_MS);
    let mut connection = Connection::open_in_memory().unwrap();
    let broken = [Migration { name: "0001_broken.sql", sql: "CREATE TABLE half (id); CREATE NONSENSE;" }];
    assert!(matches!(apply(&mut connection, &broken, &clock), Err(StoreError::Sqlite { .. })));
    let left: i64 = connection
        .query_row(
            "SELECT (SELECT COUNT(*) FROM sqlite_master WHERE name = 'half')
                  + (SELECT COUNT(*) FROM schema_migrations)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0);
}
