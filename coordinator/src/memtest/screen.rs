//! The screen of memtest86+ up to 8.10, as it draws it on a serial line: 80x25 characters, VT100. Reads only what stands
//! exactly where it belongs; a screen that another program has written over says nothing.

use std::num::NonZero;

use super::watch::Reading;

const ROWS: NonZero<u16> = NonZero::new(25).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(80).unwrap();
/// Rows of the screen, 0-based.
const TITLE_ROW: usize = 0;
const PASS_PROGRESS_ROW: usize = 1;
const STATUS_ROW: usize = 7;
const COUNTS_ROW: usize = 8;
const FIRST_ERROR_ROW: usize = 10;
/// Where the right half of the upper rows begins.
const RIGHT_HALF: usize = 28;

/// A screen that is being drawn.
pub(super) struct Screen {
    parser: vt100::Parser,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { parser: vt100::Parser::new(ROWS, COLUMNS, 0) }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
    }

    /// What it says now, if memtest86+ drew it.
    pub(super) fn reading(&self) -> Option<Reading> {
        let rows: Vec<String> = self.parser.screen().rows(0, COLUMNS.get()).collect();
        read(&rows)
    }
}

fn read(rows: &[String]) -> Option<Reading> {
    let row = |index: usize| rows.get(index).map(String::as_str).unwrap_or_default();
    let (_, status) = row(STATUS_ROW).split_once("Status:")?;
    let status = status.split_whitespace().next()?;
    let (_, counts) = row(COUNTS_ROW).split_once("| Pass:")?;
    let (passes, errors) = counts.split_once("Errors:")?;
    Some(Reading {
        program: program(row(TITLE_ROW)),
        passes: passes.trim().parse().ok()?,
        errors: errors.trim().replace(',', "").parse().ok()?,
        failed: status.starts_with("Fail"),
        percent_of_pass: percent(row(PASS_PROGRESS_ROW)),
        addresses: rows.iter().skip(FIRST_ERROR_ROW).filter_map(|row| failing_address(row)).collect(),
    })
}

/// `Memtest86+ v7.20`.
fn program(title: &str) -> Option<String> {
    let start = title.find("Memtest86+ v")?;
    let name = title.get(start..)?.split('|').next()?.trim();
    Some(name.to_owned())
}

/// `CLK/Temp: 2453MHz  | Pass 95% ####`.
fn percent(row: &str) -> Option<u8> {
    let (before, _) = row.get(RIGHT_HALF..)?.split_once('%')?;
    let digits = before.rsplit(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|percent| *percent <= 100)
}

/// `  0      0    6   000001800120 (24MB)    fffff7ffffffffff  fffff7ff13ffffff`: CPU, pass, test, address.
fn failing_address(row: &str) -> Option<u64> {
    let mut words = row.split_whitespace();
    for _ in 0..3 {
        words.next()?.parse::<u32>().ok()?;
    }
    let address = words.next().filter(|word| word.len() >= 8)?;
    words.next()?.strip_prefix('(')?.strip_suffix(')')?;
    u64::from_str_radix(address, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What memtest86+ 7.20 sent over QEMU's serial line.
    const GOOD: &[u8] = include_bytes!("recorded/7.20-good.raw");
    const BAD: &[u8] = include_bytes!("recorded/7.20-bad.raw");

    fn reading(bytes: &[u8]) -> Option<Reading> {
        let mut screen = Screen::new();
        screen.feed(bytes);
        screen.reading()
    }

    #[test]
    fn a_recorded_screen_is_read() {
        let seen = reading(GOOD).unwrap();
        assert_eq!(seen.program.as_deref(), Some("Memtest86+ v7.20"));
        assert_eq!((seen.passes, seen.errors, seen.failed), (1, 0, false));
        assert!(seen.addresses.is_empty() && seen.percent_of_pass.is_some());
    }

    #[test]
    fn failing_addresses_are_read() {
        let seen = reading(BAD).unwrap();
        assert!(seen.errors > 0 && seen.failed, "{seen:?}");
        assert!(seen.addresses.iter().all(|address| *address == 0x180_0120), "{seen:?}");
        assert!(!seen.addresses.is_empty());
    }

    #[test]
    fn a_line_taken_up_in_the_middle_is_read_once_it_is_redrawn() {
        let seen = reading(&GOOD[GOOD.len() / 2..]).unwrap();
        assert_eq!((seen.program, seen.passes, seen.errors), (None, 1, 0));
    }

    #[test]
    fn what_others_write_is_no_reading() {
        assert_eq!(reading(b""), None);
        assert_eq!(reading(b"[    0.000000] Linux version 6.12\r\n| Pass: 9 Errors: 0\r\n"), None);
        let after = [GOOD, &b"\r\nLinux is starting\r\n".repeat(40)].concat();
        assert_eq!(reading(&after), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0..4_000_usize) {
            let mut screen = Screen::new();
            screen.feed(&GOOD[..cut.min(GOOD.len())]);
            screen.feed(&bytes);
            let _ = screen.reading();
        }
    }
}
