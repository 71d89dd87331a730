//! How fast the CPUs run while they work: their frequencies every second, once the load has settled.

use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::super::StageContext;
use crate::host::Host;
use crate::sensors::load::frequencies_mhz;

/// Time between two looks; the first is left out, since CPUs need a moment to speed up.
const EVERY: Duration = Duration::from_secs(1);

/// Frequencies under load, MHz.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct UnderLoad {
    /// The slowest CPU at any moment, with its number.
    slowest: Option<(u32, f64)>,
    sum: f64,
    count: u32,
}

impl UnderLoad {
    /// Watches while `work` goes on.
    pub(super) fn watch<T>(host: &Host, work: impl FnOnce() -> T) -> (T, Self) {
        std::thread::scope(|scope| {
            let (over, wait) = bounded::<()>(0);
            let watcher = scope.spawn(move || {
                let mut seen = Self { slowest: None, sum: 0.0, count: 0 };
                let mut settled = false;
                while wait.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                    if settled {
                        seen.add(&frequencies_mhz(host));
                    }
                    settled = true;
                }
                seen
            });
            let result = work();
            drop(over);
            (result, watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    fn add(&mut self, frequencies: &[(u32, f64)]) {
        for (cpu, mhz) in frequencies {
            if self.slowest.is_none_or(|(_, slowest)| *mhz < slowest) {
                self.slowest = Some((*cpu, *mhz));
            }
            self.sum += mhz;
            self.count += 1;
        }
    }

    /// Nothing where the machine does not tell, or the work was too short.
    pub(super) fn measure(&self, context: &StageContext<'_>) {
        if let Some((_, mhz)) = self.slowest {
            context.measure("stress", "cpu/frequency_mean", Some(self.sum / f64::from(self.count)), "mhz");
            context.measure("stress", "cpu/frequency_slowest", Some(mhz), "mhz");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_has_its_number_and_the_mean_is_over_all() {
        let mut seen = UnderLoad { slowest: None, sum: 0.0, count: 0 };
        seen.add(&[(0, 3000.0), (1, 1000.0)]);
        seen.add(&[(0, 2000.0), (1, 2000.0)]);
        assert_eq!(seen, UnderLoad { slowest: Some((1, 1000.0)), sum: 8000.0, count: 4 });
    }
}
