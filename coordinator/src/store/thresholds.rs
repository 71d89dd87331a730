//! Tables `thresholds` and `fallback_thresholds`: the rules of a run. Written once, at its creation, and never changed.

use std::fmt;
use std::str::FromStr;

use rusqlite::{Row, params};
use vetting_protocol::diff::Severity;
use vetting_protocol::ids::RunId;

use super::{Connection, StoreError, row};

/// A text that is no operator or no source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such word")]
pub struct UnknownWord;

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// As the database has it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(UnknownWord),
                }
            }
        }
    };
}

words! {
    /// `thresholds.op`: what the observed value must be.
    ThresholdOp {
        /// Less than the threshold.
        Lt = "lt",
        /// At most the threshold.
        Lte = "lte",
        /// More than the threshold.
        Gt = "gt",
        /// At least the threshold.
        Gte = "gte",
        /// Not farther from `nominal` than the threshold, percent.
        WithinPct = "within_pct",
    }
}

words! {
    /// `thresholds.source`.
    ThresholdSource {
        /// The profile registry.
        Profile = "profile",
        /// The host's own rules.
        HostOverride = "host_override",
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct ThresholdValues {
    /// `*` is any.
    pub stage_name: String,
    /// The quantity.
    pub kind: String,
    /// A glob.
    pub key: String,
    /// What the value must be.
    pub op: ThresholdOp,
    /// The limit.
    pub threshold: f64,
    /// For `within_pct`.
    pub nominal: f64,
    /// Of the quantity.
    pub unit: String,
    /// `Critical` or `Warning`.
    pub severity: Severity,
    /// Where it is from.
    pub source: ThresholdSource,
    /// It stands back where the hardware gives a limit of its own.
    pub fallback: bool,
    /// What else there is to it.
    pub terms: TermsValues,
}

/// What a rule has beyond the columns of `thresholds`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TermsValues {
    /// Samples in a row that must be out of it before that counts; absent where one counts, or a time.
    pub sustain_samples: Option<u32>,
    /// Time that samples in a row must be out of it before that counts, ms; absent likewise.
    pub sustain_ms: Option<u64>,
    /// A breach that counts ends its stage at once.
    pub ends_stage: bool,
    /// It must meet a sample.
    pub required: bool,
    /// What the host's own rules made of it, as a word; absent where nothing.
    pub change: Option<String>,
    /// The profile's rule in words, where the host's changed it.
    pub was: Option<String>,
    /// Why the host's own rules changed it.
    pub note: Option<String>,
}

/// A rule of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct ThresholdRow {
    /// Key.
    pub id: i64,
    /// The rule.
    pub values: ThresholdValues,
}

const INSERT: &str =
    "INSERT INTO thresholds (run_id, stage_name, kind, key, op, threshold, nominal, unit, severity, source)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
const INSERT_FALLBACK: &str = "INSERT INTO fallback_thresholds (threshold_id) VALUES (?1)";
const INSERT_TERMS: &str =
    "INSERT INTO threshold_terms (threshold_id, sustain_samples, sustain_ms, ends_stage, required, change, was, note)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const LIST: &str = "SELECT t.*, f.threshold_id IS NOT NULL AS fallback, m.sustain_samples, m.sustain_ms,
       COALESCE(m.ends_stage, 0) AS ends_stage, COALESCE(m.required, 0) AS required, m.change, m.was, m.note
     FROM thresholds AS t LEFT JOIN fallback_thresholds AS f ON f.threshold_id = t.id
     LEFT JOIN threshold_terms AS m ON m.threshold_id = t.id
     WHERE t.run_id = ?1 ORDER BY t.id";

fn threshold(row: &Row<'_>) -> Result<ThresholdRow, StoreError> {
    Ok(ThresholdRow {
        id: row.get("id")?,
        values: ThresholdValues {
            stage_name: row.get("stage_name")?,
            kind: row.get("kind")?,
            key: row.get("key")?,
            op: row::parsed(row, ("thresholds", "op"))?,
            threshold: row.get("threshold")?,
            nominal: row.get("nominal")?,
            unit: row.get("unit")?,
            severity: row::parsed(row, ("thresholds", "severity"))?,
            source: row::parsed(row, ("thresholds", "source"))?,
            fallback: row.get("fallback")?,
            terms: TermsValues {
                sustain_samples: row::integer_or_null(row, ("threshold_terms", "sustain_samples"))?,
                sustain_ms: row::integer_or_null(row, ("threshold_terms", "sustain_ms"))?,
                ends_stage: row.get("ends_stage")?,
                required: row.get("required")?,
                change: row.get("change")?,
                was: row.get("was")?,
                note: row.get("note")?,
            },
        },
    })
}

/// Writes the rules of a new run.
pub fn seed(connection: &Connection, run: RunId, rules: &[ThresholdValues]) -> Result<(), StoreError> {
    let mut insert = connection.prepare_cached(INSERT)?;
    for rule in rules {
        let id = insert.insert(params![
            run.0,
            rule.stage_name,
            rule.kind,
            rule.key,
            rule.op.as_str(),
            rule.threshold,
            rule.nominal,
            rule.unit,
            rule.severity.as_str(),
            rule.source.as_str()
        ])?;
        if rule.fallback {
            connection.prepare_cached(INSERT_FALLBACK)?.execute([id])?;
        }
        if rule.terms != TermsValues::default() {
            insert_terms(connection, id, &rule.terms)?;
        }
    }
    Ok(())
}

fn insert_terms(connection: &Connection, id: i64, terms: &TermsValues) -> Result<(), StoreError> {
    let sustain_ms = terms.sustain_ms.map(|ms| row::signed(ms, "threshold_terms.sustain_ms")).transpose()?;
    connection.prepare_cached(INSERT_TERMS)?.execute(params![
        id,
        terms.sustain_samples,
        sustain_ms,
        terms.ends_stage,
        terms.required,
        terms.change,
        terms.was,
        terms.note
    ])?;
    Ok(())
}

/// The rules of a run, in the order they were seeded.
pub fn list(connection: &Connection, run: RunId) -> Result<Vec<ThresholdRow>, StoreError> {
    connection.prepare_cached(LIST)?.query_and_then([run.0], threshold)?.collect()
}
