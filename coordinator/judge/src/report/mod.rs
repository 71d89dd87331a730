//! The report of a run: what a person or a program reads after it, as JSON and as one HTML file.
//!
//! The JSON is stable: `schema_version` rises with any change that a reader could trip over. The HTML needs nothing
//! beside it: no script, no network, no font.

mod certificate;
pub mod chart;
pub mod format;
mod hardware;
mod html;
mod judgement;
mod junit;
mod ocp;
#[cfg(test)]
mod schema_tests;
mod stages;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use certificate::Certificate;
pub use html::scroll;

use crate::facts::RunFacts;
use crate::verdict::{Verdict, judge};

/// Version of the JSON form.
pub const SCHEMA_VERSION: u32 = 1;

/// The JSON Schema of the JSON form, as published.
pub const SCHEMA: &str = include_str!("../../../../docs/api/report.schema.json");

/// A run with its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// Pass or fail, and why.
    pub verdict: Verdict,
    /// What it was judged by.
    pub facts: RunFacts,
}

impl Report {
    /// Judges the run.
    pub fn new(facts: RunFacts) -> Self {
        Self { schema_version: SCHEMA_VERSION, verdict: judge(&facts), facts }
    }

    /// `report.json`, indented, with a line break at its end.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// A wipe certificate for each disk that was erased.
    pub fn certificates(&self) -> Vec<Certificate> {
        certificate::certificates(self)
    }

    /// JUnit XML.
    ///
    /// # Errors
    /// The XML cannot be written.
    pub fn to_junit(&self) -> Result<String, quick_junit::SerializeError> {
        junit::document(self)
    }

    /// OCP Test and Validation output, JSON lines.
    pub fn to_ocp(&self) -> String {
        ocp::lines(self)
    }

    /// `report.html`, self-contained.
    pub fn to_html(&self) -> String {
        html::page(self).into_string()
    }
}
