//! What one GPU says of itself at one moment, whoever made it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vetting_protocol::outcome::Outcome;

use super::cards::Card;
use crate::host::HostError;

/// Counts whose growth while the GPU works is told, too.
pub(super) const GROWING: [&str; 6] =
    ["ecc_corrected", "ecc_uncorrected", "ras_corrected", "ras_uncorrected", "replays", "retired_pages"];

/// What became of asking a GPU.
#[derive(Debug)]
pub(super) enum Look {
    /// It cannot be asked here.
    Skipped(String),
    /// It does not answer and says that this is its own fault.
    Lost(String),
    /// It gave no answer that can be used.
    Unknown(String),
    /// It answered.
    Health(Health),
}

impl Look {
    /// What it said, if it did.
    pub(super) fn health(&self) -> Option<&Health> {
        match self {
            Self::Health(health) => Some(health),
            Self::Skipped(_) | Self::Lost(_) | Self::Unknown(_) => None,
        }
    }
}

/// What it said.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Counts, and states as 0 or 1, by the keys of measurements; none where there should be an answer and is none.
    pub(super) counts: BTreeMap<&'static str, Option<u64>>,
    /// Who it is, and what else it says.
    pub(super) identity: serde_json::Map<String, Value>,
    /// What leaves no doubt that it is broken.
    pub(super) faults: Vec<String>,
    /// What it should have told.
    pub(super) unknown: Vec<String>,
}

impl Health {
    /// Broken over not told over good: whether its counts are good is for the thresholds.
    pub(super) fn outcome(&self) -> Outcome {
        if !self.faults.is_empty() {
            return Outcome::fail(self.faults.join("; "));
        }
        if !self.unknown.is_empty() {
            return Outcome::error(self.unknown.join("; "));
        }
        Outcome::Pass
    }

    /// A file that is there and has to answer.
    pub(super) fn told<T>(&mut self, card: &Card, answer: Result<T, HostError>) -> Option<T> {
        answer.map_err(|error| self.unknown.push(format!("{}: {}", card.name(), error.reason()))).ok()
    }

    pub(super) fn details(&self) -> Value {
        json!({ "identity": self.identity, "counts": self.counts })
    }
}
