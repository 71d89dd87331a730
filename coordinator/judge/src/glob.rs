//! Globs over measurement keys, models and versions: `sda/*`, `*/5_*`, `INTEL SSD*`.
//!
//! `*` and `?` also match `/`, since a key's parts are no path; `\` is a letter like any other. Case matters. Refuses an empty glob, which would
//! silently match nothing.
//!
//! A compiled glob takes kilobytes, and every run has the hundred rules of its profile: globs of the same text share one,
//! as long as anybody has it.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

/// A text that is no glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Nothing there.
    #[error("an empty glob matches nothing; write `*` to match everything")]
    Empty,
    /// Not well formed.
    #[error(
        "`{glob}` is not a glob: {why}; put `[` `]` `{{` `}}` in brackets, as in `[[]`, to mean themselves"
    )]
    Malformed {
        /// As given.
        glob: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A glob, compiled once. Two are equal when their text is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TextGlob {
    matcher: Arc<GlobMatcher>,
}

/// Compiled globs by their text.
static COMPILED: LazyLock<Mutex<Compiled>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Compiled {
    by_text: HashMap<String, Weak<GlobMatcher>>,
    /// As many as this, and those that nobody has any more are removed.
    full: usize,
}

impl Compiled {
    fn get(&self, text: &str) -> Option<Arc<GlobMatcher>> {
        self.by_text.get(text)?.upgrade()
    }

    fn add(&mut self, text: &str, matcher: &Arc<GlobMatcher>) {
        if self.by_text.len() >= self.full {
            self.by_text.retain(|_, matcher| matcher.strong_count() > 0);
            self.full = self.by_text.len() * 2 + 64;
        }
        self.by_text.insert(text.to_owned(), Arc::downgrade(matcher));
    }
}

impl TextGlob {
    /// The glob that matches exactly `text`, whatever is in it.
    pub fn literal(text: &str) -> Result<Self, GlobError> {
        globset::escape(text).parse()
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.matcher.is_match(text)
    }

    /// The glob's text.
    pub fn as_str(&self) -> &str {
        self.matcher.glob().glob()
    }

    /// Whether it can match one text only.
    pub fn is_literal(&self) -> bool {
        !self.as_str().contains(['*', '?', '[', '{'])
    }
}

impl FromStr for TextGlob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matcher) = compiled.get(text) {
            return Ok(Self { matcher });
        }
        let malformed = |error: globset::Error| GlobError::Malformed {
            glob: text.to_owned(),
            why: error.kind().to_string(),
        };
        let glob = GlobBuilder::new(text).backslash_escape(false).build().map_err(malformed)?;
        let matcher = Arc::new(glob.compile_matcher());
        compiled.add(text, &matcher);
        Ok(Self { matcher })
    }
}

impl TryFrom<String> for TextGlob {
    type Error = GlobError;

    fn try_from(text: String) -> Result<Self, GlobError> {
        text.parse()
    }
}

impl From<TextGlob> for String {
    fn from(glob: TextGlob) -> Self {
        glob.as_str().to_owned()
    }
}

impl fmt::Debug for TextGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextGlob({:?})", self.as_str())
    }
}

impl PartialEq for TextGlob {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for TextGlob {}

impl fmt::Display for TextGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(text: &str) -> TextGlob {
        text.parse().unwrap()
    }

    #[test]
    fn stars_cross_slashes_and_the_whole_text_must_match() {
        assert!(glob("*/5_*").matches("sda/5_reallocated_sector_ct"));
        assert!(!glob("*/5_*").matches("sda/195_hardware_ecc_recovered"));
        assert!(glob("sda/*").matches("sda/a/b"));
        assert!(!glob("sda/*").matches("nsda/a"));
        assert!(glob("cpu/?").matches("cpu/0") && !glob("cpu/?").matches("cpu/10"));
        assert!(!glob("cpu/0").matches("CPU/0"));
    }

    #[test]
    fn globs_of_one_text_share_what_was_compiled_and_none_is_kept_for_nobody() {
        let text = "shared/*/by_two";
        let one = glob(text);
        assert!(Arc::ptr_eq(&one.matcher, &glob(text).matcher));
        drop(one);
        let gone = |compiled: &Compiled| compiled.get(text).is_none();
        assert!(gone(&COMPILED.lock().unwrap()));

        let mut compiled = Compiled::default();
        let kept = glob("kept/*").matcher;
        for number in 0..1_000 {
            compiled.add(&format!("{number}/*"), &glob(&format!("{number}/*")).matcher);
            compiled.add("kept/*", &kept);
        }
        assert!(compiled.by_text.len() < 200 && compiled.get("kept/*").is_some());
    }

    #[test]
    fn what_is_no_glob_is_refused() {
        assert_eq!("".parse::<TextGlob>(), Err(GlobError::Empty));
        assert!(matches!("a[".parse::<TextGlob>(), Err(GlobError::Malformed { .. })));
        assert!(matches!("{a".parse::<TextGlob>(), Err(GlobError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn a_literal_matches_itself_and_nothing_longer(text in "[ -~]{1,30}") {
            let literal = TextGlob::literal(&text).unwrap();
            prop_assert!(literal.matches(&text));
            let longer = format!("{text}x");
            prop_assert!(!literal.matches(&longer));
        }

        #[test]
        fn parsing_and_matching_never_panic(pattern in ".{0,40}", text in ".{0,40}") {
            if let Ok(glob) = pattern.parse::<TextGlob>() {
                let _ = glob.matches(&text);
            }
        }
    }
}
