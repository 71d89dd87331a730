//! Measured values with their units, as a person reads them.

/// A value with its unit: bytes a second are scaled, a count stands alone, the rest is as it is.
pub fn in_words(number: f64, unit: &str) -> String {
    match unit {
        "bytes_per_second" => scaled(number, 1_000.0, &["B/s", "kB/s", "MB/s", "GB/s"]),
        "bits_per_second" => scaled(number, 1_000.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]),
        "celsius" => format!("{} °C", trimmed(number)),
        "percent" => format!("{} %", trimmed(number)),
        "" | "count" => trimmed(number),
        _ => format!("{} {unit}", trimmed(number)),
    }
}

/// Whether values of this unit are told in larger ones, so that a number alone says nothing.
pub fn is_scaled(unit: &str) -> bool {
    matches!(unit, "bytes_per_second" | "bits_per_second")
}

/// At most two digits after the point; four significant ones below 1.
pub fn trimmed(number: f64) -> String {
    if number != 0.0 && number.abs() < 1.0 {
        let text = format!("{number:.4}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    ((number * 100.0).round() / 100.0).to_string()
}

/// In the largest of the units, each `step` of the one before, in which it is at least 1.
pub(crate) fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let mut number = number;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or("");
    while number >= step
        && let Some(next) = units.next()
    {
        number /= step;
        unit = next;
    }
    let text = format!("{number:.1}");
    let short = text.strip_suffix(".0").unwrap_or(&text);
    if number >= 100.0 { format!("{number:.0} {unit}") } else { format!("{short} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_can_read_them() {
        for (number, unit, text) in [
            (80_000_000.0, "bytes_per_second", "80 MB/s"),
            (3.12e9, "bytes_per_second", "3.1 GB/s"),
            (9.41e9, "bits_per_second", "9.4 Gbit/s"),
            (95.0, "celsius", "95 °C"),
            (81.937, "celsius", "81.94 °C"),
            (3.0, "count", "3"),
            (0.0315, "volts", "0.0315 volts"),
            (-0.5, "percent", "-0.5 %"),
            (1e15, "count", "1000000000000000"),
        ] {
            assert_eq!(in_words(number, unit), text);
        }
    }
}
