//! Times, durations and sizes as a person reads them.

use jiff::Timestamp;

use crate::quantity::scaled;

/// `2026-11-24 02:37:28 UTC`.
pub fn time(ms: i64) -> String {
    at(ms, "%Y-%m-%d %H:%M:%S UTC")
}

/// `02:37:28`, for where the day is known.
pub fn clock(ms: i64) -> String {
    at(ms, "%H:%M:%S")
}

/// `2026-11-24 02:37 UTC`, where the second does not matter.
pub fn day(ms: i64) -> String {
    at(ms, "%Y-%m-%d %H:%M UTC")
}

fn at(ms: i64, form: &str) -> String {
    Timestamp::from_millisecond(ms)
        .map_or_else(|_| format!("{ms} ms since 1970"), |time| time.strftime(form).to_string())
}

/// `350 ms`, `4.2 s`, `2 min 5 s`, `1 h 30 min`, `2 d 4 h`: two units at most.
pub fn duration(ms: i64) -> String {
    let seconds = ms / 1_000;
    let pair = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large} {large_unit}")
        } else {
            format!("{large} {large_unit} {small} {small_unit}")
        }
    };
    match seconds {
        ..0 => "unknown".to_owned(),
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1_000 / 100),
        60..3_600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// From one time to another, where both are known.
pub fn span(from_ms: Option<i64>, to_ms: Option<i64>) -> Option<String> {
    Some(duration(to_ms?.checked_sub(from_ms?)?))
}

/// Memory in binary units: `32 GiB`.
pub fn memory(bytes: u64) -> String {
    scaled(bytes as f64, 1_024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Disks and files in decimal units, as on a disk's label: `480 GB`.
pub fn size(bytes: u64) -> String {
    scaled(bytes as f64, 1_000.0, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// `1 sample`, `2 samples`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_can_read_them() {
        assert_eq!(time(1_795_487_848_123), "2026-11-24 02:37:28 UTC");
        assert_eq!(time(i64::MAX), format!("{} ms since 1970", i64::MAX));
        for (ms, text) in [
            (-1_500, "unknown"),
            (350, "350 ms"),
            (4_250, "4.2 s"),
            (125_000, "2 min 5 s"),
            (5_400_000, "1 h 30 min"),
            (187_200_000, "2 d 4 h"),
        ] {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(memory(34_359_738_368), "32 GiB");
        assert_eq!(size(480_103_981_056), "480 GB");
        assert_eq!(size(7_681_501_126_656), "7.7 TB");
        assert_eq!(span(Some(i64::MIN), Some(i64::MAX)), None);
    }
}
