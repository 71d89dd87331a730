//! Durations as people write them: `500ms`, `5s`, `10m`, `24h`, `3d`, `1h30m`. Refuses a number without a unit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not a duration; write a whole number and a unit, such as 500ms, 5s, 10m, 24h, 3d or 1h30m"
)]
pub struct DurationError {
    /// As given.
    pub found: String,
}

/// A duration in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HumanDuration {
    ms: u64,
}

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl HumanDuration {
    /// So many milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self { ms }
    }

    /// In milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.ms
    }
}

impl FromStr for HumanDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let refused = || DurationError { found: text.to_owned() };
        let mut rest = text;
        let mut total: u64 = 0;
        let mut last_unit = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at(letters);
            let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
            if *unit_ms >= last_unit {
                return Err(refused());
            }
            let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit_ms));
            total = part.and_then(|part| total.checked_add(part)).ok_or_else(refused)?;
            last_unit = *unit_ms;
            rest = after;
        }
        if text.is_empty() { Err(refused()) } else { Ok(Self { ms: total }) }
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ms == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.ms;
        for (name, unit_ms) in UNITS {
            let count = rest / unit_ms;
            rest %= unit_ms;
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for HumanDuration {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, DurationError> {
        text.parse()
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> Self {
        duration.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn people_write_it_in_many_ways() {
        for (text, ms) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("3d", 259_200_000),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(HumanDuration::from_ms(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_not_sure_is_refused() {
        for text in ["", "5", "s", "5 s", "-5s", "1.5h", "5S", "5m1h", "5s5s", "99999999999999999999s", "5é"]
        {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_round_trips(ms in 0..u64::MAX) {
            let duration = HumanDuration::from_ms(ms);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,30}") {
            let _ = text.parse::<HumanDuration>();
        }
    }
}
