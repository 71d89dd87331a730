//! What operators' tools say of models and parts: `/api/v1/models`, `/api/v1/components/{serial}`.

use serde::{Deserialize, Serialize};

use crate::operator_api::RunSummary;

/// A spec that several hosts share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelView {
    /// Unique name.
    pub name: String,
    /// YAML, as it was saved.
    pub expected_spec_yaml: String,
    /// The hosts that take it, by name.
    pub hosts: Vec<String>,
    /// UTC.
    pub created_at: String,
    /// UTC.
    pub updated_at: String,
}

/// A new model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelCreate {
    /// Unique; letters, digits, `.`, `_`, `-`; at most 63.
    pub name: String,
    /// YAML; checked before it is saved.
    pub expected_spec_yaml: String,
}

/// Changes to a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelEdit {
    /// New spec.
    pub expected_spec_yaml: String,
}

/// Where a part was in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ComponentView {
    /// `disk`, `dimm`, `nic`, `psu`, `board` or `system`.
    pub kind: String,
    /// Serial number; of a network card its MAC address.
    pub serial: String,
    /// Model or part number.
    pub model: Option<String>,
    /// Slot or kernel name.
    pub place: String,
    /// The run, with its machine and verdict.
    pub run: RunSummary,
}
