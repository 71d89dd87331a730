//! Errors on the wire: RFC 9457 problem details, media type `application/problem+json`.

use serde::{Deserialize, Serialize};

/// Body of every 4xx and 5xx answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// `about:blank#…` with a stable word a program can match on, such as `about:blank#sequence-gap`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words, the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence, with what to do next.
    pub detail: String,
}
