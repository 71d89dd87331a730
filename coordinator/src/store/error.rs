//! What can go wrong in the store, told apart by what the caller can do about it.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::clock::TimeError;

/// Why the store did not do what it was asked. Nothing of the failed job is in the database.
///
/// Clonable, because a failed commit fails every job of its group.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the database. Try again.
    #[error("the database is locked by another process")]
    Busy {
        /// `SQLite`'s words.
        source: Arc<rusqlite::Error>,
    },
    /// No space left. Try again once there is.
    #[error("the disk of the database is full")]
    DiskFull {
        /// `SQLite`'s words.
        source: Arc<rusqlite::Error>,
    },
    /// There is no such row.
    #[error("there is no {what}")]
    NotFound {
        /// What was looked for, with its key.
        what: String,
    },
    /// Something that is there forbids it.
    #[error("{what}")]
    Conflict {
        /// What is there, in words for whoever asked.
        what: String,
    },
    /// A column holds a text that this version does not know.
    #[error("{table}.{column} holds `{found}`, which this version does not understand")]
    UnknownText {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// What it holds.
        found: String,
    },
    /// A value that the database cannot hold.
    #[error("a value does not fit into {column}: {found}")]
    OutOfRange {
        /// Table and column.
        column: &'static str,
        /// The value.
        found: String,
    },
    /// A time that the database cannot hold.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// The file cannot be made.
    #[error("cannot create the database {path}")]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// A migration was changed after this database had it.
    #[error(
        "migration {name} differs from the one this database was made with; \
         run the version of the coordinator that made it, or restore its backup"
    )]
    MigrationChanged {
        /// File name.
        name: String,
    },
    /// The database was made by a newer version.
    #[error(
        "the database has migration {name}, which this version does not know; \
         install the newer coordinator that applied it, or restore a backup from before"
    )]
    NewerDatabase {
        /// File name.
        name: String,
    },
    /// A migration before one that the database has is missing in it.
    #[error("the database lacks migration {name} but has a later one; restore its backup")]
    MigrationMissing {
        /// File name.
        name: String,
    },
    /// `SQLite` took back a whole transaction because another job of it hit an error of that kind. Try again.
    #[error("the database took the change back together with another that failed")]
    TransactionLost,
    /// The job panicked; it was rolled back.
    #[error("a database job panicked; see the log")]
    JobPanicked,
    /// The store is being closed.
    #[error("the database is closed")]
    Closed,
    /// Anything else.
    #[error("the database failed")]
    Sqlite {
        /// `SQLite`'s words.
        source: Arc<rusqlite::Error>,
    },
}

impl StoreError {
    /// A row that is not there.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    /// A row that is in the way.
    pub fn conflict(what: impl Into<String>) -> Self {
        Self::Conflict { what: what.into() }
    }

    /// Whether the same call may succeed later, so that HTTP answers 503.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::DiskFull { .. } | Self::TransactionLost | Self::Closed)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        let source = Arc::new(error);
        match code {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { source },
            Some(ErrorCode::DiskFull) => Self::DiskFull { source },
            _ => Self::Sqlite { source },
        }
    }
}
