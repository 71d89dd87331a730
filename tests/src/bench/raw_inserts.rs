//! The other side of every comparison of ingest: raw inserts of the very rows that the coordinator wrote.
//!
//! Into a copy of its own database from before the first of them: the same schema and the same parent rows. With WAL and
//! `synchronous=FULL`, from memory, on one thread with nothing else to do.

use std::path::Path;

use anyhow::Context as _;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use crate::site::Site;

type Row = Vec<Value>;

/// What was added to the coordinator's database.
pub(super) struct Rows {
    pub(super) samples: Vec<Row>,
    pub(super) evaluations: Vec<Row>,
}

/// The database of raw inserts.
pub(super) struct Raw {
    connection: Connection,
    last_sample: i64,
    last_evaluation: i64,
}

const SAMPLES: &str = "SELECT run_id, stage_id, ts, kind, key, value, unit, id FROM measurements
     WHERE id > ?1 ORDER BY id";
const EVALUATIONS: &str =
    "SELECT run_id, threshold_id, stage_name, kind, key, ts, observed, passed, id FROM threshold_evaluations
     WHERE id > ?1 ORDER BY id";
const INSERT_SAMPLE: &str = "INSERT INTO measurements (run_id, stage_id, ts, kind, key, value, unit)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const INSERT_EVALUATION: &str = "INSERT INTO threshold_evaluations
     (run_id, threshold_id, stage_name, kind, key, ts, observed, passed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

impl Raw {
    /// Of the coordinator's database as it is now.
    pub(super) fn copy_of(site: &Site, path: &Path) -> anyhow::Result<Self> {
        let text = path.to_str().context("the folder's name is text")?;
        database(site)?.execute("VACUUM INTO ?1", [text])?;
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        let newest = |table| {
            connection.query_row(&format!("SELECT coalesce(max(id), 0) FROM {table}"), [], |row| row.get(0))
        };
        let (last_sample, last_evaluation) = (newest("measurements")?, newest("threshold_evaluations")?);
        Ok(Self { connection, last_sample, last_evaluation })
    }

    /// What the coordinator wrote since the copy was made, or the last call.
    pub(super) fn new_rows(&mut self, site: &Site) -> anyhow::Result<Rows> {
        let connection = database(site)?;
        let samples = rows(&connection, SAMPLES, &mut self.last_sample)?;
        let evaluations = rows(&connection, EVALUATIONS, &mut self.last_evaluation)?;
        Ok(Rows { samples, evaluations })
    }

    /// Writes them, so many samples with their evaluations in a transaction.
    pub(super) fn insert(&mut self, rows: &Rows, samples_a_transaction: usize) -> anyhow::Result<()> {
        // every machine has the same sensors, hence as many evaluations as any other
        let transactions = rows.samples.len().div_ceil(samples_a_transaction).max(1);
        let mut evaluations = rows.evaluations.chunks(rows.evaluations.len().div_ceil(transactions).max(1));
        for samples in rows.samples.chunks(samples_a_transaction) {
            let transaction = self.connection.transaction()?;
            for (sql, rows) in
                [(INSERT_SAMPLE, samples), (INSERT_EVALUATION, evaluations.next().unwrap_or_default())]
            {
                let mut statement = transaction.prepare_cached(sql)?;
                for row in rows {
                    statement.execute(params_from_iter(row))?;
                }
            }
            transaction.commit()?;
        }
        Ok(())
    }
}

/// The coordinator's own, to be read.
pub(super) fn database(site: &Site) -> anyhow::Result<Connection> {
    Ok(Connection::open_with_flags(site.database(), OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

/// Rows after `last` without their key, which comes last.
fn rows(connection: &Connection, sql: &str, last: &mut i64) -> anyhow::Result<Vec<Row>> {
    let mut statement = connection.prepare(sql)?;
    let key = statement.column_count() - 1;
    let mut found = statement.query([*last])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push((0..key).map(|column| row.get(column)).collect::<Result<Row, _>>()?);
        *last = row.get(key)?;
    }
    Ok(rows)
}
