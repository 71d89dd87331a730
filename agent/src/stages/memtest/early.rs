//! What the kernel's early memory test left (`mm/memtest.c`): its lines in the kernel's log, and `EarlyMemtestBad` of
//! /proc/meminfo. A log without its lines is no pass: the ring may have lost them, or the test never ran.

use vetting_protocol::outcome::Outcome;

use crate::host::{Host, HostError};

/// Ranges that a reason names.
const NAMED: usize = 8;

/// What was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EarlyMemtest {
    /// Patterns, as its first line says; absent without that line.
    pub(super) patterns: Option<u64>,
    /// Runs over a range of memory that its lines tell of.
    pub(super) ranges_tested: usize,
    /// Physical addresses, from and to, as it wrote them; each once.
    pub(super) bad_ranges: Vec<(u64, u64)>,
    /// `EarlyMemtestBad`, KiB; absent where the kernel does not tell.
    pub(super) bad_kib: Option<u64>,
}

/// Reads it from this boot's kernel log and /proc/meminfo.
pub(super) fn read(host: &Host) -> Result<EarlyMemtest, HostError> {
    let messages = host.kernel_log_from_boot()?.new_messages()?;
    Ok(parse(messages.iter().map(String::as_str), &host.text("/proc/meminfo")?))
}

fn parse<'a>(messages: impl Iterator<Item = &'a str>, meminfo: &str) -> EarlyMemtest {
    let mut found = EarlyMemtest { patterns: None, ranges_tested: 0, bad_ranges: Vec::new(), bad_kib: None };
    for message in messages {
        let message = message.trim();
        if let Some(count) = message.strip_prefix("early_memtest: # of tests:") {
            found.patterns = count.trim().parse().ok();
        } else if found.patterns.is_some() && tested_range(message) {
            found.ranges_tested += 1;
        } else if let Some(range) = bad_range(message)
            && !found.bad_ranges.contains(&range)
        {
            found.bad_ranges.push(range);
        }
    }
    found.bad_kib = meminfo.lines().find_map(|line| {
        line.strip_prefix("EarlyMemtestBad:")?.trim().strip_suffix("kB")?.trim().parse().ok()
    });
    found
}

/// `0x0000000000100000 - 0x0000000000200000 pattern 4c494e5558726c7a`.
fn tested_range(message: &str) -> bool {
    message.starts_with("0x") && message.contains(" pattern ")
}

/// `4c494e5558726c7a bad mem addr 0x0000000020000000 - 0x0000000020000008 reserved`.
fn bad_range(message: &str) -> Option<(u64, u64)> {
    let (_, addresses) = message.split_once("bad mem addr ")?;
    let (from, to) = addresses.strip_suffix("reserved")?.trim().split_once(" - ")?;
    Some((hexadecimal(from)?, hexadecimal(to)?))
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

impl EarlyMemtest {
    /// Passes only if the test ran as asked, told of its ranges, and both places say that nothing is bad.
    pub(super) fn outcome(&self, patterns: u8) -> Outcome {
        if !self.bad_ranges.is_empty() || self.bad_kib.is_some_and(|kib| kib > 0) {
            return Outcome::fail(format!("the kernel's memory test found bad memory: {}", self.bad_words()));
        }
        let Some(ran) = self.patterns else {
            return Outcome::error("the kernel's log has no line of its memory test");
        };
        if ran != u64::from(patterns) || self.ranges_tested == 0 {
            let ranges = self.ranges_tested;
            return Outcome::error(format!(
                "the kernel's memory test ran {ran} of {patterns} patterns, and its log tells of {ranges} ranges"
            ));
        }
        match self.bad_kib {
            Some(_) => Outcome::Pass,
            None => Outcome::error("/proc/meminfo has no EarlyMemtestBad"),
        }
    }

    fn bad_words(&self) -> String {
        let named: Vec<String> =
            self.bad_ranges.iter().take(NAMED).map(|(from, to)| format!("{from:#x} to {to:#x}")).collect();
        match (named.is_empty(), self.bad_ranges.len().saturating_sub(NAMED)) {
            (true, _) => format!("{} KiB", self.bad_kib.unwrap_or_default()),
            (false, 0) => named.join(", "),
            (false, more) => format!("{} and {more} more ranges", named.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "early_memtest: # of tests: 2
  0x0000000000100000 - 0x0000000001000000 pattern aaaaaaaaaaaaaaaa
  0x0000000000100000 - 0x0000000001000000 pattern 5555555555555555";
    const BAD: &str = "early_memtest: # of tests: 2
  0x0000000000100000 - 0x0000000040000000 pattern aaaaaaaaaaaaaaaa
  aaaaaaaaaaaaaaaa bad mem addr 0x0000000020000000 - 0x0000000020000008 reserved
  0x0000000000100000 - 0x0000000020000000 pattern 5555555555555555
  5555555555555555 bad mem addr 0x0000000020000000 - 0x0000000020000008 reserved";

    fn outcome(log: &str, meminfo: &str) -> Outcome {
        parse(log.lines(), meminfo).outcome(2)
    }

    #[test]
    fn good_memory_passes_and_bad_is_named() {
        let zero = "MemTotal: 10 kB\nEarlyMemtestBad:       0 kB\n";
        assert_eq!(outcome(GOOD, zero), Outcome::Pass);
        let Outcome::Fail { reason } = outcome(BAD, "EarlyMemtestBad:       1 kB\n") else { panic!() };
        assert!(reason.contains("0x20000000 to 0x20000008") && !reason.contains(','), "{reason}");
        assert!(
            matches!(outcome(GOOD, "EarlyMemtestBad: 4 kB"), Outcome::Fail { reason } if reason.contains("4 KiB"))
        );
        assert!(matches!(outcome(BAD, zero), Outcome::Fail { .. }));
    }

    #[test]
    fn what_is_missing_is_an_error() {
        let zero = "EarlyMemtestBad:       0 kB\n";
        for (log, meminfo) in [
            ("", zero),
            ("early_memtest: # of tests: 2", zero),
            (GOOD, "MemTotal: 10 kB"),
            (&*GOOD.replace(": 2", ": 1"), zero),
            (&*GOOD.replace(": 2", ": many"), zero),
        ] {
            assert!(matches!(outcome(log, meminfo), Outcome::Error { .. }), "{log}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(log in "(early_memtest: # of tests: |bad mem addr 0x| - |reserved|[0-9a-f]{0,20}|\\n|.){0,40}", meminfo in ".{0,60}") {
            let _ = outcome(&log, &meminfo);
        }
    }
}
