//! Operators' tokens.

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::users::Role;

/// Asks for a new operator token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// What it is for; unique.
    pub name: String,
    /// What it may do; absent: everything.
    #[serde(default = "Role::operator")]
    pub role: Role,
    /// How long it is good, ms; absent: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_ms: Option<u64>,
}

/// The one time a token's text is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenCreated {
    /// Its entry in the list.
    pub view: TokenView,
    /// The text.
    pub token: Secret,
}

/// A token in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenView {
    /// Key.
    pub id: i64,
    /// What it is for.
    pub name: String,
    /// UTC.
    pub created_at: String,
    /// What it may do.
    #[serde(default = "Role::operator")]
    pub role: Role,
    /// UTC; absent while never used.
    pub last_used_at: Option<String>,
    /// When it ends by itself, UTC; absent: never.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// UTC; absent while it was not revoked.
    pub revoked_at: Option<String>,
}
