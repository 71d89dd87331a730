//! Secrets: bearer tokens and claim secrets. They never print; only their SHA-256 is stored.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Sha256Hex;

/// A secret text. `Debug` shows no part of it, there is no `Display`; `expose` is the one way to the text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that must send or hash it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the database holds of it. 32 random bytes stand behind each secret, so no salt is needed.
    pub fn sha256(&self) -> Sha256Hex {
        Sha256Hex::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        assert!(!format!("{:?}", Secret::new("hunter2".to_owned())).contains("hunter2"));
    }
}
