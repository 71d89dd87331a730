//! Copies of the database while it is in use, and whether a database file is sound.
//!
//! A copy is of one moment: the source is read in one transaction, so that a busy coordinator neither waits for it nor
//! makes it begin anew. Until it is done the WAL cannot shrink.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{StoreError, events, migrations};

/// Pages a step: between two of them somebody is told how far it is, and may stop it.
const STEP_PAGES: i32 = 2_000;
/// After a step that found the database locked.
const LOCKED_PAUSE: Duration = Duration::from_millis(50);
/// How long a lock is waited for.
const BUSY: Duration = Duration::from_secs(5);
/// Faults that are told.
const MOST_FAULTS: usize = 10;

const MOVE_ARTIFACTS: &str = "UPDATE artifacts SET path = ?2 || substr(path, length(?1) + 1)
     WHERE substr(path, 1, length(?1) + 1) = ?1 || '/'";
const MOVE_REPORTS: &str = "UPDATE runs SET report_path = ?2 || substr(report_path, length(?1) + 1)
     WHERE substr(report_path, 1, length(?1) + 1) = ?1 || '/'";

/// What an examination found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Soundness {
    /// Nothing is wrong.
    Sound,
    /// There was no time to look at all of it; nothing was wrong so far.
    Unfinished,
    /// What is wrong.
    Broken(Vec<String>),
}

/// How thoroughly a database is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Pages and references, but not whether indexes agree with their tables; not longer than this.
    Quick(Duration),
    /// All of it.
    Full,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Bytes that are copied.
    pub done_bytes: u64,
    /// Bytes there are.
    pub total_bytes: u64,
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// Copies the database at `source` to `target`, a file that is not there yet. Stops where `told` says so, with false.
/// Blocks.
///
/// # Errors
/// One of the files cannot be used, or the disk is full.
pub fn copy(
    source: &Path,
    target: &Path,
    mut told: impl FnMut(Copied) -> ControlFlow<()>,
) -> Result<bool, StoreError> {
    let source = open(source, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    source.pragma_update(None, "query_only", true)?;
    let moment = source.unchecked_transaction()?;
    // the moment is that of the first look
    let _: i64 = moment.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let page_bytes: u32 = moment.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let mut copy = open(target, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    {
        let backup = Backup::new(&source, &mut copy)?;
        loop {
            let step = backup.step(STEP_PAGES)?;
            let progress = backup.progress();
            let bytes = |pages: i32| u64::try_from(pages).unwrap_or(0) * u64::from(page_bytes);
            let total_bytes = bytes(progress.pagecount);
            let copied = Copied { done_bytes: total_bytes - bytes(progress.remaining), total_bytes };
            if told(copied).is_break() {
                return Ok(false);
            }
            match step {
                StepResult::Done => break,
                StepResult::Busy | StepResult::Locked => std::thread::sleep(LOCKED_PAUSE),
                _ => {}
            }
        }
    }
    // one file without side files
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    Ok(true)
}

/// Looks for faults in a database that nobody migrates meanwhile. Blocks.
///
/// # Errors
/// It cannot be opened or is locked; one that is no database is `Broken`.
pub fn examine(path: &Path, depth: Depth) -> Result<Soundness, StoreError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let found = match depth {
        Depth::Full => faults(&connection, "PRAGMA integrity_check(10)"),
        Depth::Quick(limit) => {
            let (done, wait) = channel::<()>();
            let stopper = connection.get_interrupt_handle();
            let waiting = std::thread::spawn(move || {
                if wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                    stopper.interrupt();
                }
            });
            let found = faults(&connection, "PRAGMA quick_check(10)");
            drop(done);
            // it only waits
            let _ = waiting.join();
            found
        }
    };
    match found {
        Ok(faults) if faults.is_empty() => Ok(Soundness::Sound),
        Ok(faults) => Ok(Soundness::Broken(faults)),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Ok(Soundness::Unfinished),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Ok(Soundness::Broken(vec![error.to_string()]))
            }
            _ => Err(error.into()),
        },
    }
}

fn faults(connection: &Connection, check: &'static str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(check)?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut faults: Vec<String> = lines.collect::<Result<_, _>>()?;
    faults.retain(|line| line != "ok");
    if faults.is_empty() {
        let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()?
            && faults.len() < MOST_FAULTS
        {
            let (table, row_id, parent): (String, Option<i64>, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let which = row_id.map_or_else(String::new, |id| format!(" {id}"));
            faults.push(format!("row{which} of {table} belongs to a row of {parent} that is not there"));
        }
    }
    Ok(faults)
}

/// The migrations that a database has, none of which this version does not know.
///
/// # Errors
/// It was made by a newer or another version, or is none of ours.
pub fn known_migrations(path: &Path) -> Result<Vec<String>, StoreError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    migrations::recorded(&connection, migrations::MIGRATIONS)
}

/// Rewrites the paths of artifacts below `from`, as another box had them, to lie below `to`.
///
/// # Errors
/// The database failed.
pub fn move_artifacts(path: &Path, from: &str, to: &str) -> Result<(), StoreError> {
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let transaction = connection.transaction()?;
    for sql in [MOVE_ARTIFACTS, MOVE_REPORTS] {
        transaction.execute(sql, [from, to])?;
    }
    Ok(transaction.commit()?)
}

/// Adds a line to the event log of a database that this process has not opened otherwise.
///
/// # Errors
/// The database is locked, or the disk is full.
pub fn note(path: &Path, ts_ms: i64, kind: &str, message: String) -> Result<(), StoreError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    events::note(&super::Connection::new(connection), ts_ms, kind, message)
}
