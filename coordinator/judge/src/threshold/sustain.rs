//! How long samples must be out of a rule before that counts.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::duration::HumanDuration;

/// How long samples must be out of a rule before that counts. What was out for less and came back is a glitch: shown, not
/// counted. What is still out at the end of a stage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sustain {
    /// One sample counts.
    AtOnce,
    /// So many samples of one key in a row.
    Samples(u32),
    /// So many milliseconds from the first to the last of samples in a row.
    ForMs(u64),
}

impl Sustain {
    /// As people write it: `samples: 3`, `for: 30s`, or neither.
    ///
    /// # Errors
    /// Both, or one that means nothing.
    pub(crate) fn of(samples: Option<u32>, lasting: Option<HumanDuration>) -> Result<Self, String> {
        match (samples, lasting.map(HumanDuration::as_ms)) {
            (None, None) => Ok(Self::AtOnce),
            (Some(0 | 1), None) => {
                Err("`samples` must be at least 2; leave it out where one counts".to_owned())
            }
            (Some(samples), None) => Ok(Self::Samples(samples)),
            (None, Some(0)) => {
                Err("`for` must be longer than 0s; leave it out where one sample counts".to_owned())
            }
            (None, Some(ms)) => Ok(Self::ForMs(ms)),
            (Some(_), Some(_)) => Err("`samples` and `for` exclude each other; leave one out".to_owned()),
        }
    }

    /// Absent for one sample: `2 samples in a row`, `30s`.
    pub fn in_words(self) -> Option<String> {
        match self {
            Self::AtOnce => None,
            Self::Samples(samples) => Some(format!("{samples} samples in a row")),
            Self::ForMs(ms) => Some(HumanDuration::from_ms(ms).to_string()),
        }
    }

    pub(super) fn is_at_once(&self) -> bool {
        *self == Self::AtOnce
    }

    /// The stricter one counts sooner. None where samples stand against time.
    pub(super) fn looseness(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::AtOnce, Self::AtOnce) => Some(Ordering::Equal),
            (Self::AtOnce, _) => Some(Ordering::Less),
            (_, Self::AtOnce) => Some(Ordering::Greater),
            (Self::Samples(one), Self::Samples(other)) => Some(one.cmp(&other)),
            (Self::ForMs(one), Self::ForMs(other)) => Some(one.cmp(&other)),
            (Self::Samples(_), Self::ForMs(_)) | (Self::ForMs(_), Self::Samples(_)) => None,
        }
    }
}
