//! Who may do what: people and their roles. `/api/v1/users` GET POST · `users/{name}` PATCH.

use serde::{Deserialize, Serialize};

use crate::ids::named_enum;
use crate::secret::Secret;

named_enum! {
    /// What a person or a token may do.
    Role, "viewer or operator" {
        /// Read everything but the keys of held machines.
        Viewer = "viewer",
        /// Everything.
        Operator = "operator",
    }
}

impl Role {
    /// What tokens are unless told otherwise.
    pub fn operator() -> Self {
        Self::Operator
    }
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UserView {
    /// Unique, and for ever.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// UTC.
    pub created_at: String,
    /// UTC.
    pub password_set_at: String,
    /// UTC; absent while never.
    pub last_login_at: Option<String>,
    /// UTC; absent while they may log in.
    pub disabled_at: Option<String>,
}

/// A new person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UserCreate {
    /// Unique; letters, digits, `.`, `_`, `-`; at most 63.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// At least 12 characters.
    pub password: Secret,
}

/// Changes to a person: what is absent stays. A new password and a disabling end every session of theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UserEdit {
    /// What they may do from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Another password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Whether they are kept out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}
