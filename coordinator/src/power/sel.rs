//! A BMC's System Event Log (IPMI 2.0 section 32) in ipmitool's words: its clock and its entries. Pure.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// How many entries are asked for, the newest.
pub(super) const MOST: &str = "100";

/// Reads `sel time get`: ms since the epoch, or since the BMC began where nobody set its clock.
pub(super) fn parse_clock(text: &str) -> Result<i64, String> {
    let text = text.trim();
    let words: Vec<&str> = text.split_whitespace().collect();
    let read = match words[..] {
        // since it began
        ["S+", time] => seconds_of_day(time).map(|seconds| seconds * 1_000),
        [date, time] | [date, time, "UTC"] => moment(date, time),
        _ => None,
    };
    read.ok_or_else(|| format!("its event log's clock is not understood: `{text}`"))
}

/// Reads `sel list`: when each entry came, by the BMC's clock, and what it says. An entry without a time has none.
pub(super) fn parse_list(text: &str) -> Result<Vec<(Option<i64>, String)>, String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(entry).collect()
}

/// `3 | 11/26/26 | 05:03:39 UTC | Watchdog2 #0x08 | Hard reset | Asserted`, or `3 |  Pre-Init  |0000047430| Watchdog2 …`.
fn entry(line: &str) -> Result<(Option<i64>, String), String> {
    let garbage = || format!("an entry of its event log is not understood: `{line}`");
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let (number, fields) = fields.split_first().ok_or_else(garbage)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(garbage());
    }
    let (at_ms, words) = match fields {
        ["Pre-Init", seconds, words @ ..] => {
            let seconds: i64 = seconds.parse().map_err(|_| garbage())?;
            (Some(seconds * 1_000), words)
        }
        [date, time, words @ ..] if date.contains('/') => {
            let time = time.strip_suffix(" UTC").unwrap_or(time);
            (Some(moment(date, time).ok_or_else(garbage)?), words)
        }
        // OEM records without a time: `5 | OEM record e0 | 000000 | …`
        words if words.first().is_some_and(|word| word.starts_with("OEM ")) => (None, words),
        _ => return Err(garbage()),
    };
    if words.is_empty() {
        return Err(garbage());
    }
    Ok((at_ms, words.join(" | ")))
}

/// `11/26/26` or `11/26/2026`, and `05:03:39`.
fn moment(date: &str, time: &str) -> Option<i64> {
    let mut parts = date.split('/').map(|part| part.parse::<i16>().ok());
    let (month, day, year) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    let year = if year < 100 { year + 2_000 } else { year };
    let midnight =
        DateTime::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?, 0, 0, 0, 0).ok()?;
    let midnight = TimeZone::UTC.to_timestamp(midnight).ok()?;
    Some(midnight.as_millisecond() + seconds_of_day(time)? * 1_000)
}

fn seconds_of_day(time: &str) -> Option<i64> {
    let mut parts = time.split(':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let fits = (0..24).contains(&hours) && (0..60).contains(&minutes) && (0..=60).contains(&seconds);
    (fits && parts.next().is_none()).then_some(hours * 3_600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// ipmitool 1.8.19 with ipmi_sim 2.0.33, and 1.8.18's form of a date.
    const SET: &str = "   3 | 11/26/26 | 05:03:39 UTC | Watchdog2 #0x08 | Hard reset | Asserted
   4 | 11/26/26 | 05:03:40 UTC | Processor #0x60 | Thermal Trip | Asserted
   a | 11/26/2026 | 05:03:41 | Critical Interrupt #0x07 | Bus Fatal Error | Asserted
";
    const NEVER_SET: &str =
        "   1 |  Pre-Init  |0000047430| Power Supply #0x64 | Power Supply AC lost | Asserted
";

    #[test]
    fn entries_and_clock_are_of_the_same_time() {
        let set = parse_list(SET).unwrap();
        let clock = parse_clock("11/26/26 05:03:42 UTC\n").unwrap();
        assert_eq!(set.iter().map(|(at, _)| clock - at.unwrap()).collect::<Vec<_>>(), [3_000, 2_000, 1_000]);
        assert_eq!(set[1].1, "Processor #0x60 | Thermal Trip | Asserted");
        assert_eq!(clock, 1_795_669_422_000);
        assert_eq!(parse_clock("11/26/2026 05:03:42"), Ok(clock));
        let never = parse_list(NEVER_SET).unwrap();
        assert_eq!(parse_clock("S+ 13:11:41").unwrap() - never[0].0.unwrap(), 71_000);
        assert_eq!(parse_list("\n"), Ok(Vec::new()));
        let oem = parse_list(" 7 | OEM record e0 | 000137 | 0102030405\n").unwrap();
        assert_eq!(oem, [(None, "OEM record e0 | 000137 | 0102030405".to_owned())]);
    }

    #[test]
    fn what_is_not_understood_is_no_log() {
        for text in ["", "S+ 3 days 13:11:41", "11/26/26 05:03:42 CET", "13/26/26 05:03:42", "yesterday 5:03"]
        {
            assert!(parse_clock(text).is_err(), "{text}");
        }
        for text in [
            "Get SEL Info command failed",
            "3 | 11/26/26",
            "3 | 31/31/26 | 05:03:39 | x",
            "x | Pre-Init | 5 | y",
        ] {
            assert!(parse_list(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(text in "\\PC{0,80}", line in "[0-9a-f |/:PreInitUTC-]{0,60}") {
            let _ = (parse_clock(&text), parse_list(&text), parse_clock(&line), parse_list(&line));
        }
    }
}
