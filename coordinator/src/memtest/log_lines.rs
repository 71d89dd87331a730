//! The `MTLOG` lines of memtest86+ after 8.10 (its option `log`): `MTLOG ts=2.7 ev=error addr=0x1000 …`. Counts what it
//! tells. Only `ev=done status=pass` is a pass; a `done` with any other status is none.

use super::watch::Reading;

/// A line is far shorter; a longer one is none of ours.
const LONGEST_LINE: usize = 4096;

/// What its lines told so far.
#[derive(Default)]
pub(super) struct LogLines {
    line: Vec<u8>,
    told: bool,
    passes: u32,
    errors: u64,
    addresses: Vec<u64>,
    done: Option<Done>,
}

/// Its last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Pass,
    Fail,
}

impl LogLines {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    self.take(&String::from_utf8_lossy(&line));
                }
                _ if self.line.len() < LONGEST_LINE => self.line.push(*byte),
                _ => self.line.clear(),
            }
        }
    }

    /// What it told, if anything; an address is told of once.
    pub(super) fn reading(&mut self) -> Option<Reading> {
        self.told.then(|| Reading {
            program: None,
            passes: self.passes,
            errors: self.errors,
            failed: self.done == Some(Done::Fail),
            percent_of_pass: None,
            addresses: std::mem::take(&mut self.addresses),
        })
    }

    pub(super) fn done(&self) -> Option<Done> {
        self.done
    }

    fn take(&mut self, line: &str) {
        let Some(start) = line.find("MTLOG ") else { return };
        let line = line.get(start..).unwrap_or_default();
        let value = |key: &str| {
            line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let Some(event) = value("ev") else { return };
        self.told = true;
        match event {
            "pass_end" => self.passes = self.passes.saturating_add(1),
            "error" => {
                self.errors = self.errors.saturating_add(1);
                let address = value("addr").or_else(|| value("address"));
                self.addresses.extend(address.and_then(hexadecimal));
            }
            "done" if value("status") == Some("pass") => self.done = Some(Done::Pass),
            "done" => self.done = Some(Done::Fail),
            _ => {}
        }
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (Option<Reading>, Option<Done>) {
        let mut lines = LogLines::default();
        lines.feed(text.as_bytes());
        (lines.reading(), lines.done())
    }

    #[test]
    fn events_are_counted() {
        let (seen, done) = read(
            "MTLOG ts=0.1 ev=start ver=9.00\r\nMTLOG ts=2.7 ev=error test=3 addr=0x1800123 exp=0 got=1\r\n\
             MTLOG ts=9.0 ev=pass_end pass=1\r\nMTLOG ts=9.1 ev=done status=fail\r\n",
        );
        let seen = seen.unwrap();
        assert_eq!((seen.passes, seen.errors, seen.failed), (1, 1, true));
        assert_eq!((seen.addresses, done), (vec![0x180_0123], Some(Done::Fail)));
    }

    #[test]
    fn only_a_pass_is_a_pass() {
        assert_eq!(read("MTLOG ts=1 ev=done status=pass\n").1, Some(Done::Pass));
        for line in ["MTLOG ts=1 ev=done", "MTLOG ts=1 ev=done status=passed", "MTLOG ev=done status="] {
            assert_eq!(read(&format!("{line}\n")).1, Some(Done::Fail), "{line}");
        }
        // not a whole line yet, or none of ours
        assert_eq!(read("MTLOG ts=1 ev=done status=pass").1, None);
        assert_eq!(read("ev=done status=pass\n"), (None, None));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "(MTLOG |ev=|error|done|status=|addr=0x|[0-9a-f ]|\\n|.){0,80}") {
            read(&text);
        }
    }
}
