//! Reads YAML that people write, and says where a mistake is: line, column and dotted path.
//!
//! Refuses an empty document, unknown and repeated keys, and more than one document.

use std::fmt;

use serde::de::DeserializeOwned;

/// A mistake in a document, with the place a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistake {
    /// 1-based; 1 when the document as a whole is at fault.
    pub line: usize,
    /// 1-based.
    pub column: usize,
    /// Dotted: `disks[0].model`; empty for the document as a whole.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)
    }
}

/// Reads one document. `purpose` says what it should hold, for the message about an empty one.
pub fn parse<T: DeserializeOwned>(text: &str, purpose: &str) -> Result<T, Mistake> {
    let whole: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| mistake(&error, ""))?;
    if whole.is_null() {
        return Err(Mistake {
            line: 1,
            column: 1,
            path: String::new(),
            what: format!("the document is empty; {purpose}"),
        });
    }
    let document = serde_yaml::Deserializer::from_str(text);
    serde_path_to_error::deserialize(document).map_err(|error| {
        let path = match error.path().to_string() {
            root if root == "." => String::new(),
            path => path,
        };
        mistake(error.inner(), &path)
    })
}

/// A mistake found after reading, at the place of a dotted path as far as it can be told.
pub fn mistake_at_document(path: &str, what: String) -> Mistake {
    Mistake { line: 1, column: 1, path: path.to_owned(), what }
}

fn mistake(error: &serde_yaml::Error, path: &str) -> Mistake {
    let (line, column) = error.location().map_or((1, 1), |place| (place.line(), place.column()));
    let full = error.to_string();
    let without_place = full.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&full);
    // serde_yaml writes its own path first; ours reaches deeper
    let what = without_place.split_once(": ").map_or(without_place, |(first, rest)| {
        if !first.is_empty() && !first.contains(' ') && path.starts_with(first) {
            rest
        } else {
            without_place
        }
    });
    Mistake { line, column, path: path.to_owned(), what: what.to_owned() }
}
