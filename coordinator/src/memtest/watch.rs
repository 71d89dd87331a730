//! Watches one machine in memtest86+: gathers what is seen into an observation and says when to end it.
//!
//! Refuses to call anything an orderly end that it did not see for itself, twice: a screen that is half drawn or half
//! overwritten is looked at again before anything follows from it.

use std::time::Duration;

use vetting_protocol::memtest::{MOST_ADDRESSES, MemtestEnd, MemtestObservation};

use super::log_lines::{Done, LogLines};
use super::screen::Screen;

/// memtest86+ redraws every second or two; one that says nothing for so long has hung, or the line is cut.
const SILENCE: Duration = Duration::from_mins(3);
/// After the first error it goes on for so long, so that more failing addresses are seen.
const AFTER_ERROR: Duration = Duration::from_mins(1);
/// The same while no address is known. memtest86+ draws each error once, and its CPUs draw at the same time, so that
/// one row may be lost to another.
const AFTER_ERROR_WITHOUT_ADDRESS: Duration = Duration::from_mins(10);
/// A number of passes has to stand for so long before it counts.
const STANDS: Duration = Duration::from_millis(1_500);

/// What a screen or its lines say at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) program: Option<String>,
    pub(super) passes: u32,
    pub(super) errors: u64,
    pub(super) failed: bool,
    pub(super) percent_of_pass: Option<u8>,
    pub(super) addresses: Vec<u64>,
}

/// What is wanted of memtest86+.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Passes.
    pub passes: u32,
    /// Time for them, from when it is first seen.
    pub budget: Duration,
    /// Time for it to appear.
    pub appears_within: Duration,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on watching.
    Watch,
    /// Note this end, then send ESC, which makes memtest86+ restart the machine.
    Leave(MemtestEnd),
}

/// One watch. Times are since its begin, by a clock that nobody sets.
pub struct Watch {
    wanted: Wanted,
    seen: MemtestObservation,
    screen: Screen,
    lines: LogLines,
    first_seen: Option<Duration>,
    last_heard: Option<Duration>,
    first_error: Option<Duration>,
    /// The number of passes on the screen, and since when it stands there.
    standing: Option<(u32, Duration)>,
    percent_of_pass: u8,
}

impl Watch {
    /// Goes on from what was noted before, also by an earlier coordinator.
    pub fn new(wanted: Wanted, before: MemtestObservation) -> Self {
        Self {
            wanted,
            seen: before,
            screen: Screen::new(),
            lines: LogLines::default(),
            first_seen: None,
            last_heard: None,
            first_error: None,
            standing: None,
            percent_of_pass: 0,
        }
    }

    /// What was seen so far.
    pub fn seen(&self) -> &MemtestObservation {
        &self.seen
    }

    /// Part of the wanted passes that is done, percent.
    pub fn percent(&self) -> f64 {
        let done = f64::from(self.seen.passes) + f64::from(self.percent_of_pass) / 100.0;
        (100.0 * done / f64::from(self.wanted.passes.max(1))).min(100.0)
    }

    /// The line was opened anew: what stood on the screen may be gone.
    pub fn reconnected(&mut self) {
        self.screen = Screen::new();
        self.standing = None;
    }

    /// Takes what came over the line.
    pub fn heard(&mut self, bytes: &[u8], now: Duration) {
        self.screen.feed(bytes);
        self.lines.feed(bytes);
        let readings = [self.screen.reading(), self.lines.reading()];
        for reading in readings.into_iter().flatten() {
            self.last_heard = Some(now);
            self.first_seen.get_or_insert(now);
            self.take(reading, now);
        }
    }

    fn take(&mut self, reading: Reading, now: Duration) {
        let Reading { program, passes, errors, failed, percent_of_pass, addresses } = reading;
        self.seen.program =
            program.or_else(|| self.seen.program.take()).or_else(|| Some("memtest86+".to_owned()));
        self.percent_of_pass = percent_of_pass.unwrap_or(0);
        self.seen.errors = self.seen.errors.max(errors);
        for address in addresses {
            if self.seen.addresses.len() < MOST_ADDRESSES && !self.seen.addresses.contains(&address) {
                self.seen.addresses.push(address);
            }
        }
        if failed && self.seen.errors == 0 {
            self.seen.errors = 1;
        }
        if self.has_errors() {
            self.first_error.get_or_insert(now);
        }
        match self.standing {
            Some((standing, since)) if standing == passes => {
                if now.saturating_sub(since) >= STANDS {
                    self.seen.passes = self.seen.passes.max(passes);
                }
            }
            Some(_) | None => self.standing = Some((passes, now)),
        }
    }

    fn has_errors(&self) -> bool {
        self.seen.errors > 0 || !self.seen.addresses.is_empty()
    }

    /// What follows from what was seen.
    pub fn decide(&mut self, now: Duration) -> Decision {
        match self.lines.done() {
            Some(Done::Pass) => return self.leave(MemtestEnd::DonePass),
            Some(Done::Fail) => return self.leave(MemtestEnd::DoneFail),
            None => {}
        }
        let Some(first_seen) = self.first_seen else {
            return if now > self.wanted.appears_within {
                self.leave(MemtestEnd::NeverSeen)
            } else {
                Decision::Watch
            };
        };
        let since = |then: Option<Duration>| then.map_or(Duration::ZERO, |then| now.saturating_sub(then));
        let nowhere = self.seen.addresses.is_empty();
        let after_error = if nowhere { AFTER_ERROR_WITHOUT_ADDRESS } else { AFTER_ERROR };
        if self.seen.passes >= self.wanted.passes || since(self.first_error) > after_error {
            return self.leave(MemtestEnd::Stopped);
        }
        if since(Some(first_seen)) > self.wanted.budget {
            return self.leave(MemtestEnd::OutOfTime);
        }
        if since(self.last_heard) > SILENCE {
            return self.leave(MemtestEnd::FellSilent);
        }
        Decision::Watch
    }

    fn leave(&mut self, end: MemtestEnd) -> Decision {
        self.seen.end = Some(end);
        Decision::Leave(end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vetting_judge::memtest::outcome;
    use vetting_protocol::outcome::Outcome;

    use super::*;

    const GOOD: &[u8] = include_bytes!("recorded/7.20-good.raw");
    const BAD: &[u8] = include_bytes!("recorded/7.20-bad.raw");
    const WANTED: Wanted =
        Wanted { passes: 1, budget: Duration::from_mins(10), appears_within: Duration::from_mins(5) };

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// Feeds a recording in pieces, one each tenth of a second, and then its last screen for as long as it takes.
    fn replay(recording: &[u8], wanted: Wanted) -> (MemtestObservation, Decision) {
        let mut watch = Watch::new(wanted, MemtestObservation::nothing());
        let mut now = Duration::ZERO;
        for piece in recording.chunks(200) {
            watch.heard(piece, now);
            now += at(0.1);
            if let Decision::Leave(end) = watch.decide(now) {
                return (watch.seen().clone(), Decision::Leave(end));
            }
        }
        while now < at(3_600.0) {
            watch.heard(b"\x1b[H", now);
            now += at(0.5);
            if let Decision::Leave(end) = watch.decide(now) {
                return (watch.seen().clone(), Decision::Leave(end));
            }
        }
        (watch.seen().clone(), Decision::Watch)
    }

    #[test]
    fn a_recorded_pass_is_stopped_and_passes() {
        let (seen, decision) = replay(GOOD, WANTED);
        assert_eq!(decision, Decision::Leave(MemtestEnd::Stopped));
        assert_eq!((seen.passes, seen.errors), (1, 0));
        assert_eq!(outcome(&seen, 1), Outcome::Pass);
    }

    #[test]
    fn recorded_errors_fail_with_their_address() {
        let (seen, decision) = replay(BAD, WANTED);
        assert_eq!(decision, Decision::Leave(MemtestEnd::Stopped));
        let Outcome::Fail { reason } = outcome(&seen, 1) else { panic!("{seen:?}") };
        assert!(reason.contains("0x1800120"), "{reason}");
    }

    #[test]
    fn a_pass_that_is_not_finished_ends_with_the_budget_and_passes_never() {
        let (seen, decision) = replay(&GOOD[..GOOD.len() / 3], WANTED);
        assert_eq!(decision, Decision::Leave(MemtestEnd::OutOfTime));
        assert!(matches!(outcome(&seen, 1), Outcome::Error { .. }));
        let (seen, _) = replay(GOOD, Wanted { passes: 2, ..WANTED });
        assert_eq!(seen.end, Some(MemtestEnd::OutOfTime));
        assert!(matches!(outcome(&seen, 2), Outcome::Error { .. }));
    }

    #[test]
    fn a_line_that_falls_silent_or_never_speaks_is_no_result() {
        let mut watch = Watch::new(WANTED, MemtestObservation::nothing());
        watch.heard(b"[    0.000000] Linux version\r\n", at(1.0));
        assert_eq!(watch.decide(at(299.0)), Decision::Watch);
        assert_eq!(watch.decide(at(301.0)), Decision::Leave(MemtestEnd::NeverSeen));
        let mut watch = Watch::new(WANTED, MemtestObservation::nothing());
        watch.heard(&GOOD[..GOOD.len() / 3], at(1.0));
        assert_eq!(watch.decide(at(100.0)), Decision::Watch);
        assert_eq!(watch.decide(at(182.0)), Decision::Leave(MemtestEnd::FellSilent));
    }

    #[test]
    fn an_error_whose_row_was_drawn_over_is_watched_until_another_tells_where() {
        let drawn_over = String::from_utf8_lossy(BAD).replace("000001800120", "00000Pass120");
        let mut watch = Watch::new(WANTED, MemtestObservation::nothing());
        watch.heard(drawn_over.as_bytes(), at(1.0));
        assert!(watch.seen().errors > 0 && watch.seen().addresses.is_empty(), "{:?}", watch.seen());
        assert_eq!(watch.decide(at(100.0)), Decision::Watch);
        watch.heard(BAD, at(101.0));
        assert_eq!(watch.decide(at(102.0)), Decision::Leave(MemtestEnd::Stopped));
        assert_eq!(watch.seen().addresses, [0x180_0120]);
    }

    #[test]
    fn one_glimpse_of_a_number_of_passes_is_not_believed() {
        let mut watch = Watch::new(WANTED, MemtestObservation::nothing());
        watch.heard(GOOD, at(1.0));
        assert_eq!((watch.decide(at(1.1)), watch.seen().passes), (Decision::Watch, 0));
        watch.reconnected();
        watch.heard(b"\x1b[H", at(9.0));
        assert_eq!(watch.decide(at(9.0)), Decision::Watch);
    }

    #[test]
    fn a_watch_goes_on_from_what_was_noted() {
        let before = MemtestObservation { errors: 3, addresses: vec![7], ..MemtestObservation::nothing() };
        let mut watch = Watch::new(WANTED, before);
        watch.heard(GOOD, at(1.0));
        assert_eq!((watch.seen().errors, watch.seen().addresses.len()), (3, 1));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_pass_out_of_errors(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..12),
            from in 0..BAD.len(),
        ) {
            let mut watch = Watch::new(WANTED, MemtestObservation::nothing());
            watch.heard(BAD, at(0.0));
            let mut now = at(1.0);
            for piece in pieces {
                watch.heard(&piece, now);
                watch.heard(&BAD[from..], now);
                now += at(2.0);
                watch.decide(now);
            }
            prop_assert_ne!(outcome(watch.seen(), 1), Outcome::Pass);
        }
    }
}
