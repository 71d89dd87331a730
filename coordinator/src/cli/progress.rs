//! How far something is, on stderr: on a terminal in one line, else a line now and then.

use std::io::IsTerminal as _;

use crate::clock::Clock;
use crate::usb::block_device::Size;

/// See the module.
pub(super) struct Progress {
    clock: Clock,
    terminal: bool,
    phase: Option<(&'static str, i64)>,
    shown_percent: u64,
}

impl Progress {
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { clock: Clock::system(), terminal, phase: None, shown_percent: 0 }
    }

    /// `done_bytes` of `what` are done. A new word begins anew.
    pub fn show(&mut self, what: &'static str, done_bytes: u64, total_bytes: u64) {
        const COARSE_PERCENT: u64 = 25;
        let now_ms = self.clock.steady_ms();
        let since_ms = match self.phase {
            Some((before, since_ms)) if before == what => since_ms,
            Some(_) | None => {
                self.phase = Some((what, now_ms));
                self.shown_percent = 0;
                now_ms
            }
        };
        let percent = done_bytes.saturating_mul(100) / total_bytes.max(1);
        let finished = done_bytes >= total_bytes;
        let step = if self.terminal { 1 } else { COARSE_PERCENT };
        if percent < self.shown_percent + step && !finished {
            return;
        }
        self.shown_percent = percent;
        let left_s = eta_s(now_ms - since_ms, done_bytes, total_bytes);
        let (begin, end) = match (self.terminal, finished) {
            (true, true) => ("\r\x1b[K", "\n"),
            (true, false) => ("\r\x1b[K", ""),
            (false, _) => ("", "\n"),
        };
        eprint!("{begin}{what}: {percent} % of {}, {left_s} s left{end}", Size(total_bytes));
    }
}

/// Seconds to go if it goes on as it went.
fn eta_s(elapsed_ms: i64, done_bytes: u64, total_bytes: u64) -> u64 {
    let (elapsed_ms, done) = (u64::try_from(elapsed_ms).unwrap_or(0), done_bytes.max(1));
    let left = total_bytes.saturating_sub(done_bytes);
    u64::try_from(u128::from(elapsed_ms) * u128::from(left) / u128::from(done) / 1000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_pace() {
        assert_eq!(eta_s(10_000, 50, 200), 30);
        assert_eq!(eta_s(0, 0, 200), 0);
        assert_eq!(eta_s(5_000, 200, 200), 0);
        assert_eq!(eta_s(-1, 1, 200), 0);
    }
}
