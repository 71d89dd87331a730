//! A connection to the database, as it is handed around: outside `store` it can be passed on to this module's functions,
//! and nothing else. So the wall stands without a check of each file.

use rusqlite::{CachedStatement, Result, Transaction};

/// See the module.
#[derive(Debug)]
pub struct Connection(rusqlite::Connection);

impl Connection {
    /// Of an open one.
    pub(super) fn new(connection: rusqlite::Connection) -> Self {
        Self(connection)
    }

    /// A statement, compiled at its first use.
    pub(super) fn prepare_cached(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.0.prepare_cached(sql)
    }

    /// The key of the row that was inserted last.
    pub(super) fn last_insert_rowid(&self) -> i64 {
        self.0.last_insert_rowid()
    }

    /// Whether no transaction is open.
    pub(super) fn is_autocommit(&self) -> bool {
        self.0.is_autocommit()
    }

    /// A transaction that is rolled back when dropped.
    pub(super) fn transaction(&self) -> Result<Transaction<'_>> {
        self.0.unchecked_transaction()
    }

    /// What is in there, for SQL of a test's own.
    #[cfg(test)]
    pub(super) fn raw(&self) -> &rusqlite::Connection {
        &self.0
    }
}
