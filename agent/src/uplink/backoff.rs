//! How long to wait before the next try: doubling, bounded, and a little random, so that a rack that lost its
//! coordinator does not come back as one.

use std::time::Duration;

/// Waits that grow from `first` to `longest`.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0 }
    }

    /// The wait before the next try: between three and five quarters of `first` doubled at each call, at most
    /// `longest`.
    pub fn next(&mut self) -> Duration {
        let quarters = 3.0 + f64::from(random_byte()) / 127.5;
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(self.tries.min(20)));
        self.tries = self.tries.saturating_add(1);
        doubled.min(self.longest).mul_f64(quarters / 4.0).min(self.longest)
    }
}

/// The middle when the kernel has no random number to give: waiting works without.
fn random_byte() -> u8 {
    let mut byte = [128_u8];
    match getrandom::fill(&mut byte) {
        Ok(()) | Err(_) => byte[0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
        let first = backoff.next();
        assert!(first >= Duration::from_millis(375) && first <= Duration::from_millis(625), "{first:?}");
        let mut last = first;
        for _ in 0..100 {
            last = backoff.next();
            assert!(last <= Duration::from_secs(15));
        }
        assert!(last >= Duration::from_millis(11_250), "{last:?}");
    }
}
