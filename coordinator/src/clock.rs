//! The one reader of the system's clocks, and the two text forms of a time in the database.
//!
//! Times are milliseconds since the Unix epoch, UTC. Refuses years that do not have four digits: their texts would
//! not sort by time.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};

/// A time that has no text, or a text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Before the year 0 or after 9999.
    #[error("{ms} ms since 1970 is outside the years 0 to 9999")]
    OutOfRange {
        /// Milliseconds since the epoch.
        ms: i64,
    },
    /// Not `YYYY-MM-DD HH:MM:SS` with or without a fraction.
    #[error("`{found}` is not a time such as 2026-01-31 08:00:00.000")]
    NotATime {
        /// What was given.
        found: String,
    },
}

/// Where the time comes from. Clones share it.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    System { since: Instant },
    Set(Arc<Hands>),
}

#[derive(Debug)]
struct Hands {
    wall_ms: AtomicI64,
    steady_ms: AtomicI64,
}

impl Clock {
    /// The machine's clock.
    #[expect(clippy::disallowed_methods, reason = "the door: the one place that reads the clock")]
    pub fn system() -> Self {
        Self { source: Source::System { since: Instant::now() } }
    }

    /// A clock that stands still at `ms` until [`Clock::set`] moves it. For tests and simulations.
    pub fn settable(ms: i64) -> Self {
        let hands = Hands { wall_ms: AtomicI64::new(ms), steady_ms: AtomicI64::new(0) };
        Self { source: Source::Set(Arc::new(hands)) }
    }

    /// Now, milliseconds since the epoch. A system clock before 1970 reads as 0.
    #[expect(clippy::disallowed_methods, reason = "the door: the one place that reads the clock")]
    pub fn now_ms(&self) -> i64 {
        match &self.source {
            Source::System { .. } => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Source::Set(hands) => hands.wall_ms.load(Ordering::SeqCst),
        }
    }

    /// Milliseconds since some moment before this clock was first asked. Goes on evenly when someone sets the time, and
    /// means nothing to another process: to be measured with, not to be stored.
    pub fn steady_ms(&self) -> i64 {
        self.steady_us() / 1_000
    }

    /// [`Clock::steady_ms`] in microseconds.
    pub fn steady_us(&self) -> i64 {
        match &self.source {
            Source::System { since } => i64::try_from(since.elapsed().as_micros()).unwrap_or(i64::MAX),
            Source::Set(hands) => hands.steady_ms.load(Ordering::SeqCst).saturating_mul(1_000),
        }
    }

    /// Lets time pass on a settable clock until it is `ms`; the system's stays as it is.
    pub fn set(&self, ms: i64) {
        match &self.source {
            Source::System { .. } => {}
            Source::Set(hands) => {
                let before_ms = hands.wall_ms.swap(ms, Ordering::SeqCst);
                hands.steady_ms.fetch_add(ms.saturating_sub(before_ms).max(0), Ordering::SeqCst);
            }
        }
    }

    /// Someone corrects a settable clock to `ms`: no time passes.
    pub fn jump(&self, ms: i64) {
        match &self.source {
            Source::System { .. } => {}
            Source::Set(hands) => hands.wall_ms.store(ms, Ordering::SeqCst),
        }
    }
}

fn civil(ms: i64) -> Result<DateTime, TimeError> {
    let out_of_range = || TimeError::OutOfRange { ms };
    let civil = TimeZone::UTC.to_datetime(Timestamp::from_millisecond(ms).map_err(|_| out_of_range())?);
    if civil.year() < 0 { Err(out_of_range()) } else { Ok(civil) }
}

fn write_seconds(civil: DateTime) -> String {
    let mut text = String::with_capacity(23);
    // writing to a String cannot fail
    let _ = write!(
        text,
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second()
    );
    text
}

/// `YYYY-MM-DD HH:MM:SS.sss`, UTC: how the database holds times.
///
/// # Errors
/// [`TimeError::OutOfRange`].
pub fn timestamp_text(ms: i64) -> Result<String, TimeError> {
    let civil = civil(ms)?;
    let mut text = write_seconds(civil);
    let _ = write!(text, ".{:03}", civil.millisecond());
    Ok(text)
}

/// `YYYY-MM-DD HH:MM:SS`, UTC, the milliseconds cut off: how people read them.
///
/// # Errors
/// [`TimeError::OutOfRange`].
pub fn seconds_text(ms: i64) -> Result<String, TimeError> {
    Ok(write_seconds(civil(ms)?))
}

/// Milliseconds since the epoch of a text of [`timestamp_text`], or of `SQLite`'s `CURRENT_TIMESTAMP`, which ends
/// with the seconds.
///
/// # Errors
/// [`TimeError::NotATime`].
pub fn timestamp_ms(text: &str) -> Result<i64, TimeError> {
    let refused = || TimeError::NotATime { found: text.to_owned() };
    let bytes = text.as_bytes();
    // jiff reads more than is ever stored: shorter times, other separators, offsets
    let shape = bytes.len() == 19 || (bytes.len() == 23 && bytes[19] == b'.');
    let separators = shape && bytes[4] == b'-' && bytes[7] == b'-' && bytes[10] == b' ' && bytes[13] == b':';
    if !separators || !bytes[0].is_ascii_digit() {
        return Err(refused());
    }
    let civil: DateTime = text.parse().map_err(|_| refused())?;
    let instant = TimeZone::UTC.to_timestamp(civil).map_err(|_| refused())?;
    // a fraction of three digits has no finer part; rounding only states that
    instant.round(Unit::Millisecond).map(Timestamp::as_millisecond).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times_have_their_known_texts() {
        assert_eq!(timestamp_text(0).unwrap(), "1970-01-01 00:00:00.000");
        assert_eq!(timestamp_text(-1).unwrap(), "1969-12-31 23:59:59.999");
        assert_eq!(timestamp_text(1_700_000_000_123).unwrap(), "2023-11-14 22:13:20.123");
        assert_eq!(seconds_text(1_700_000_000_999).unwrap(), "2023-11-14 22:13:20");
        assert_eq!(timestamp_ms("2023-11-14 22:13:20").unwrap(), 1_700_000_000_000);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-13-14 22:13:20",
            "2023-11-14 22:13:20Z",
            "2023-11-14 22:13:20.12",
            "2023-11-14 22:13:20.123456",
            "2023-11-14 22:13:20+01:",
            "2023-02-29 00:00:00.000",
        ] {
            assert!(timestamp_ms(text).is_err(), "{text}");
        }
        assert!(timestamp_text(i64::MAX).is_err());
        assert!(timestamp_text(i64::MIN).is_err());
    }

    #[test]
    fn a_settable_clock_moves_for_all_who_share_it() {
        let clock = Clock::settable(5);
        let other = clock.clone();
        clock.set(9);
        assert_eq!((other.now_ms(), other.steady_ms()), (9, 4));
        clock.jump(1_000);
        assert_eq!((other.now_ms(), other.steady_ms()), (1_000, 4));
        clock.set(0);
        assert_eq!((other.now_ms(), other.steady_ms()), (0, 4));
        assert!(Clock::system().now_ms() > 1_700_000_000_000);
    }

    proptest! {
        #[test]
        fn times_round_trip_and_sort(a in -62_167_219_200_000_i64..253_402_207_200_000, b in 0_i64..253_402_207_200_000) {
            let (text_a, text_b) = (timestamp_text(a).unwrap(), timestamp_text(b).unwrap());
            prop_assert_eq!(timestamp_ms(&text_a), Ok(a));
            prop_assert_eq!(a.cmp(&b), text_a.cmp(&text_b));
            prop_assert_eq!(timestamp_ms(&seconds_text(a).unwrap()), Ok(a.div_euclid(1000) * 1000));
        }

        #[test]
        fn no_text_or_number_panics(text in ".{0,30}", ms: i64) {
            let _ = timestamp_ms(&text);
            let _ = timestamp_text(ms);
        }
    }
}
