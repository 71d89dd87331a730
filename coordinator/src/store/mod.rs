//! The database: the only place that names rusqlite. One file a table family: row structs, SQL constants, plain
//! functions on a connection that callers put together into jobs.
//!
//! [`Store::write`] answers when the job is durable; [`Store::read`] sees one consistent state. Refuses to know what
//! the rows mean: no state machine, no verdict, no HTTP.

#![expect(clippy::disallowed_types, reason = "the door: SQL is spoken here and nowhere else")]

mod connection;
mod error;
mod migrations;
mod row;
mod writer;

pub mod artifacts;
pub mod attempts;
pub mod bmcs;
pub mod components;
pub mod crashes;
pub mod diffs;
pub mod enrolment;
pub mod events;
pub mod firmware;
pub mod holds;
pub mod host_agents;
pub mod hosts;
pub mod identities;
pub mod imports;
pub mod limits;
pub mod measurements;
pub mod models;
pub mod outbox;
pub mod overview;
pub mod plans;
pub mod reboots;
pub mod reduced;
pub mod removals;
pub mod runs;
pub mod serial_consoles;
pub mod sessions;
pub mod settings;
pub mod snapshot;
pub mod stages;
pub mod thresholds;
pub mod tokens;
pub mod totals;
pub mod turns;
pub mod user_sessions;
pub mod users;
pub mod waivers;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use connection::Connection;
pub use error::StoreError;
use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::clock::Clock;
use writer::{Job, TypedJob};

/// Jobs that read at the same time.
const READERS: usize = 4;

/// Statements that a connection keeps prepared.
const CACHED_STATEMENTS: usize = 128;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// How long to wait for another process that holds the database.
    pub busy_timeout: Duration,
    /// The size that the file may grow to, in pages of 4096 bytes; absent for what the disk has.
    pub max_page_count: Option<u32>,
    /// For the times in `schema_migrations`.
    pub clock: Clock,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(5), max_page_count: None, clock: Clock::system() }
    }
}

/// Sizes of the database's files, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatabaseSize {
    /// The database.
    pub main: u64,
    /// What is not in it yet.
    pub wal: u64,
}

/// A handle to the database; clones share it. When the last one is dropped, waiting jobs are finished first.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    options: StoreOptions,
    applied: Vec<&'static str>,
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    readers: Arc<Semaphore>,
    idle_readers: Mutex<Vec<Connection>>,
    commits: watch::Receiver<u64>,
}

impl Store {
    /// Opens the database at `path`, makes it if there is none, and brings it to this version's schema. Blocks.
    ///
    /// # Errors
    /// The file cannot be made or read, is locked, or belongs to another version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, StoreOptions::default())
    }

    /// The same, with limits of one's own.
    pub fn open_with(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        create_file(&path)?;
        let mut connection = connect(&path, &options)?;
        let applied = migrations::apply(&mut connection, migrations::MIGRATIONS, &options.clock)?;
        let (queue, jobs) = mpsc::channel(writer::MAX_WAITING_JOBS);
        let (committed, commits) = watch::channel(0);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::serve(&Connection::new(connection), jobs, &committed))
            .map_err(|source| StoreError::Create { path: path.clone(), source: Arc::new(source) })?;
        Ok(Self {
            shared: Arc::new(Shared {
                path,
                options,
                applied,
                queue: Some(queue),
                thread: Some(thread),
                readers: Arc::new(Semaphore::new(READERS)),
                idle_readers: Mutex::new(Vec::new()),
                commits,
            }),
        })
    }

    /// The migrations that opening the database applied; empty when it had them all.
    pub fn applied_migrations(&self) -> &[&'static str] {
        &self.shared.applied
    }

    /// How many jobs wait for the writer, and how many may.
    pub fn waiting_jobs(&self) -> (usize, usize) {
        let most = writer::MAX_WAITING_JOBS;
        (self.shared.queue.as_ref().map_or(0, |queue| most - queue.capacity()), most)
    }

    /// Sizes of the database's files; 0 for one that is not there.
    pub fn size(&self) -> DatabaseSize {
        let mut wal = self.shared.path.clone().into_os_string();
        wal.push("-wal");
        let size = |path: &Path| path.metadata().map_or(0, |found| found.len());
        DatabaseSize { main: size(&self.shared.path), wal: size(Path::new(&wal)) }
    }

    /// Runs `job` on the writer's connection and answers when it is durable. An error of the job takes back what the
    /// job wrote, and nothing else. Jobs run one after the other, in the order they came.
    ///
    /// # Errors
    /// Those of the job; and [`StoreError`] turned into `E` when the database failed.
    pub async fn write<T, E>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (job, answer) = TypedJob::new(job);
        self.queue()?.send(Box::new(job)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// [`Store::write`] for the command line and plain threads. Not to be called from async code: it blocks.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_blocking<T, E>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (job, answer) = TypedJob::new(job);
        self.queue()?.blocking_send(Box::new(job)).map_err(|_| StoreError::Closed)?;
        answer.blocking_recv().map_err(|_| StoreError::Closed)?
    }

    /// Runs `job` on a connection that cannot write, in a transaction: all it reads is of one moment.
    ///
    /// # Errors
    /// Those of the job; and [`StoreError`] turned into `E` when the database failed.
    pub async fn read<T, E>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let permit =
            Arc::clone(&self.shared.readers).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let store = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let result = store.read_blocking(job);
            drop(permit);
            result
        });
        match read.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => Err(StoreError::JobPanicked.into()),
            Err(_) => Err(StoreError::Closed.into()),
        }
    }

    /// [`Store::read`] for the command line and plain threads. Not to be called from async code: it blocks.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read_blocking<T, E>(&self, job: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        let idle = self.shared.idle_readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect_reader(&self.shared.path, &self.shared.options)?,
        };
        // a panic in the job drops the connection with its transaction; the next reader opens a new one
        let transaction = connection.transaction().map_err(StoreError::from)?;
        let result = job(&connection);
        transaction.finish().map_err(StoreError::from)?;
        let mut idle = self.shared.idle_readers.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < READERS {
            idle.push(connection);
        }
        result
    }

    /// Changes with every commit: for those who show what is in there.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.shared.commits.clone()
    }

    fn queue(&self) -> Result<&mpsc::Sender<Box<dyn Job>>, StoreError> {
        self.shared.queue.as_ref().ok_or(StoreError::Closed)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // the last handle may have been inside a job
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("the database's writer thread panicked");
            }
        }
    }
}

/// Makes folder and file, readable for the owner alone. `SQLite` gives its side files the same permissions.
fn create_file(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Create { path: path.to_owned(), source: Arc::new(source) };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    Ok(())
}

fn connect(path: &Path, options: &StoreOptions) -> Result<rusqlite::Connection, StoreError> {
    // no URI flag: a path is a path; no mutex: each connection is used by one thread at a time
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(options.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    // without it the bundled SQLite, which knows STAT4, plans a cached statement anew for each value it is given
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    if let Some(pages) = options.max_page_count {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    Ok(connection)
}

fn connect_reader(path: &Path, options: &StoreOptions) -> Result<Connection, StoreError> {
    let connection = connect(path, options)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(Connection::new(connection))
}

#[cfg(test)]
pub(crate) mod rival;
#[cfg(test)]
mod tests;
