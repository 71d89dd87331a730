//! The course of a run's measurements for a chart that is looked at again and again: of each piece of time the least and the
//! greatest value. What was read before is kept by the caller, and only what came since is read.
//!
//! A piece is what times have in common at their beginning, since they are stored as text that sorts: a second, ten
//! seconds, a minute, ten minutes, an hour. So no date is computed for a sample.

use std::collections::BTreeMap;

use rusqlite::params;
use vetting_protocol::ids::RunId;

use super::measurements::{SPAN, Series, SeriesPoint};
use super::{Connection, StoreError};
use crate::clock::{timestamp_ms, timestamp_text};

/// Letters that times of one piece have in common, and its length, ms.
const PIECES: [(usize, i64); 5] = [(19, 1_000), (18, 10_000), (16, 60_000), (15, 600_000), (13, 3_600_000)];
/// An agent that could not reach us sends what it kept: so far back is read again. To see a sample twice changes nothing.
const OVERLAP_MS: i64 = 600_000;

const SINCE: &str = "SELECT ts, key, value, unit FROM measurements
     WHERE run_id = ?1 AND kind = ?2 AND ts >= ?3 AND value IS NOT NULL ORDER BY ts";

/// What was read of one kind.
#[derive(Debug, Clone, Default)]
pub struct Reduced {
    letters: usize,
    read_to_ms: Option<i64>,
    lines: BTreeMap<String, Line>,
}

#[derive(Debug, Clone)]
struct Line {
    unit: String,
    pieces: BTreeMap<String, SeriesPoint>,
}

fn stored(text: &str) -> Result<i64, StoreError> {
    timestamp_ms(text).map_err(|_| StoreError::UnknownText {
        table: "measurements",
        column: "ts",
        found: text.to_owned(),
    })
}

impl Reduced {
    /// Reads what came since; all of it where the pieces have become too many (more than `points` a line, about).
    pub fn read(
        &mut self,
        connection: &Connection,
        run: RunId,
        kind: &str,
        points: u32,
    ) -> Result<(), StoreError> {
        let ends: (Option<String>, Option<String>) = connection
            .prepare_cached(SPAN)?
            .query_row(params![run.0, kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (Some(first), Some(last)) = ends else { return Ok(()) };
        let (first_ms, last_ms) = (stored(&first)?, stored(&last)?);
        let fits = |(_, piece_ms): &(usize, i64)| (last_ms - first_ms) / piece_ms <= i64::from(points);
        let (letters, _) = PIECES.into_iter().find(fits).unwrap_or(PIECES[PIECES.len() - 1]);
        if letters != self.letters {
            *self = Self { letters, ..Self::default() };
        }
        let since_ms = self.read_to_ms.map_or(first_ms, |ms| ms.saturating_sub(OVERLAP_MS).max(first_ms));
        let mut statement = connection.prepare_cached(SINCE)?;
        let mut rows = statement.query(params![run.0, kind, timestamp_text(since_ms)?])?;
        while let Some(row) = rows.next()? {
            let unreadable =
                |error: rusqlite::types::FromSqlError| StoreError::from(rusqlite::Error::from(error));
            let ts = row.get_ref("ts")?.as_str().map_err(unreadable)?;
            let key = row.get_ref("key")?.as_str().map_err(unreadable)?;
            let value: f64 = row.get("value")?;
            let piece = ts.get(..letters).unwrap_or(ts);
            if !self.lines.contains_key(key) {
                let unit = row.get::<_, Option<String>>("unit")?.unwrap_or_default();
                self.lines.insert(key.to_owned(), Line { unit, pieces: BTreeMap::new() });
            }
            let Some(line) = self.lines.get_mut(key) else { continue };
            if let Some(point) = line.pieces.get_mut(piece) {
                point.min = point.min.min(value);
                point.max = point.max.max(value);
            } else {
                line.pieces
                    .insert(piece.to_owned(), SeriesPoint { ts_ms: stored(ts)?, min: value, max: value });
            }
        }
        self.read_to_ms = Some(last_ms);
        Ok(())
    }

    /// Each line, by key.
    pub fn series(&self) -> Vec<Series> {
        self.lines
            .iter()
            .map(|(key, line)| Series {
                key: key.clone(),
                unit: line.unit.clone(),
                points: line.pieces.values().copied().collect(),
            })
            .collect()
    }
}
