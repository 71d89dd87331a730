//! What the writer promises: isolation of jobs, answers after the commit, survival.

use std::sync::mpsc;
use std::time::Duration;

use super::{NOW_MS, Scratch, host_values, options, run_values, scratch, scratch_with};
use crate::store::rival::WriteLock;
use crate::store::{Connection, Store, StoreError, StoreOptions, hosts, runs, settings};

/// The refusal of a caller, apart from what the database says.
#[derive(Debug, PartialEq)]
enum Refusal {
    Gap,
    Store(String),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

fn value(scratch: &Scratch, key: &'static str) -> Option<String> {
    scratch.store.read_blocking(move |connection| settings::get(connection, key)).unwrap()
}

/// A job that holds the writer, alone in its transaction, until the others wait: they then share the next one.
struct Held {
    release: mpsc::Sender<()>,
    job: tokio::task::JoinHandle<Result<(), StoreError>>,
}

async fn hold(store: &Store) -> Held {
    let (release, held) = mpsc::channel::<()>();
    let (started, running) = tokio::sync::oneshot::channel();
    let store = store.clone();
    let job = tokio::spawn(async move {
        store
            .write(move |_| {
                started.send(()).map_err(|()| StoreError::Closed)?;
                held.recv().map_err(|_| StoreError::Closed)
            })
            .await
    });
    running.await.unwrap();
    Held { release, job }
}

impl Held {
    /// To be joined after the jobs that shall wait: a biased join polls in order.
    async fn release(self) {
        self.release.send(()).unwrap();
        self.job.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_job_takes_back_only_itself_and_the_thread_lives_on() {
    let scratch = scratch();
    let (store, path) = (&scratch.store, scratch.path.clone());
    let held = hold(store).await;
    let kept = store.write(|connection| settings::set(connection, "kept", "1"));
    let refused = store.write(|connection| -> Result<(), Refusal> {
        settings::set(connection, "refused", "1")?;
        Err(Refusal::Gap)
    });
    let panicked = store.write(|connection| -> Result<(), Refusal> {
        settings::set(connection, "panicked", "1")?;
        panic!("on purpose");
    });
    let outside = store.write(move |own| -> Result<_, StoreError> {
        let other = Connection::new(rusqlite::Connection::open(path)?);
        Ok((settings::get(own, "kept")?, settings::get(&other, "kept")?))
    });
    let (kept, refused, panicked, outside, ()) =
        tokio::join!(biased; kept, refused, panicked, outside, held.release());
    assert!(kept.is_ok());
    assert_eq!(refused, Err(Refusal::Gap));
    assert_eq!(panicked, Err(Refusal::Store(StoreError::JobPanicked.to_string())));
    // inside the group it was there, outside not yet
    assert_eq!(outside.unwrap(), (Some("1".to_owned()), None));
    assert_eq!(value(&scratch, "kept"), Some("1".to_owned()));
    assert_eq!(value(&scratch, "refused"), None);
    assert_eq!(value(&scratch, "panicked"), None);
}

/// Does `spoil` in one transaction with a job before it; gives what both were answered.
async fn in_one_group(
    scratch: &Scratch,
    spoil: fn(&Connection) -> Result<(), StoreError>,
) -> (Result<(), StoreError>, Result<(), StoreError>) {
    let held = hold(&scratch.store).await;
    let innocent = scratch.store.write(|connection| settings::set(connection, "innocent", "1"));
    let spoiler = scratch.store.write(spoil);
    let after = scratch.store.write(|connection| settings::set(connection, "after", "1"));
    let (innocent, spoiler, after, ()) = tokio::join!(biased; innocent, spoiler, after, held.release());
    // whatever became of the group: who was told of a success has it
    assert_eq!(value(scratch, "after").is_some(), after.is_ok());
    assert_eq!(value(scratch, "innocent").is_some(), innocent.is_ok());
    scratch.store.write(|connection| settings::set(connection, "later", "1")).await.unwrap();
    (innocent, spoiler)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_a_success_that_the_commit_did_not_have() {
    // a foreign key that is only looked at by the commit
    let (innocent, spoiler) = in_one_group(&scratch(), |connection| {
        connection.raw().execute_batch(
            "PRAGMA defer_foreign_keys = ON;
             INSERT INTO runs (host_id, state, agent_token_hash) VALUES (99, 'Queued', '')",
        )?;
        Ok(())
    })
    .await;
    assert!(matches!(innocent, Err(StoreError::Sqlite { .. })), "{innocent:?}");
    assert!(matches!(spoiler, Err(StoreError::Sqlite { .. })), "{spoiler:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_was_rolled_back_from_within_is_told_to_all_in_it() {
    // as SQLite itself does on some failures of the disk
    let (innocent, spoiler) = in_one_group(&scratch(), |connection| {
        connection.raw().execute_batch("ROLLBACK")?;
        Ok(())
    })
    .await;
    assert!(matches!(innocent, Err(StoreError::TransactionLost)), "{innocent:?}");
    assert!(matches!(spoiler, Err(StoreError::TransactionLost)), "{spoiler:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_run_starts_at_once_one_wins() {
    let Scratch { store, .. } = &scratch();
    let host = store
        .write(|connection| hosts::insert(connection, &host_values("r1", "52:54:00:00:00:01"), NOW_MS))
        .await
        .unwrap();
    let start = || store.write(move |connection| runs::create(connection, &run_values(host), NOW_MS));
    let (a, b) = tokio::join!(start(), start());
    let (won, lost) = if a.is_ok() { (a, b) } else { (b, a) };
    let run = won.unwrap();
    let Err(StoreError::Conflict { what }) = lost else { panic!("both started") };
    assert!(what.contains("r1") && what.contains(&run.to_string()), "{what}");
    assert_eq!(store.read(runs::active).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_reader_costs_only_its_connection() {
    let scratch = scratch();
    for _ in 0..8 {
        let read = scratch.store.read(|_| -> Result<(), StoreError> { panic!("on purpose") }).await;
        assert!(matches!(read, Err(StoreError::JobPanicked)));
    }
    assert_eq!(value(&scratch, "nothing"), None);
}

#[test]
fn a_reader_cannot_write() {
    let scratch = scratch();
    let written = scratch.store.read_blocking(|connection| settings::set(connection, "a", "b"));
    assert!(matches!(written, Err(StoreError::Sqlite { .. })));
}

#[test]
fn a_full_disk_is_told_and_takes_nothing_that_was_answered() {
    let scratch = scratch_with(StoreOptions { max_page_count: Some(250), ..options() });
    let mut answered = 0;
    let error = loop {
        let key = format!("key {answered}");
        let large = "x".repeat(20_000);
        match scratch.store.write_blocking(move |connection| settings::set(connection, &key, &large)) {
            Ok(()) => answered += 1,
            Err(error) => break error,
        }
        assert!(answered < 100, "the limit does not hold");
    };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    assert!(error.is_temporary());
    let count = |connection: &Connection| -> Result<i64, StoreError> {
        Ok(connection.raw().query_row("SELECT COUNT(*) FROM settings", [], |row| row.get(0))?)
    };
    assert!(answered > 0);
    assert_eq!(scratch.store.read_blocking(count).unwrap(), answered);
    // room again
    scratch
        .store
        .write_blocking(|connection| -> Result<(), StoreError> {
            settings::remove(connection, "key 0")?;
            settings::set(connection, "small", "x")
        })
        .unwrap();
    assert_eq!(scratch.store.read_blocking(count).unwrap(), answered);
}

#[test]
fn a_lock_of_another_process_is_told_and_passes() {
    let scratch = scratch_with(StoreOptions { busy_timeout: Duration::from_millis(1), ..options() });
    let lock = WriteLock::take(&scratch.path);
    let set = |connection: &Connection| settings::set(connection, "a", "1");
    let error = scratch.store.write_blocking(set).unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
    assert!(error.is_temporary());
    assert_eq!(value(&scratch, "a"), None);
    drop(lock);
    scratch.store.write_blocking(set).unwrap();
    assert_eq!(value(&scratch, "a"), Some("1".to_owned()));
}

#[test]
fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = scratch();
    let folder = scratch.path.parent().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}
