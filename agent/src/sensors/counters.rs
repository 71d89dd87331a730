//! Counters that stand at whatever they stood at when the run began: tells what is new since then.
//!
//! A counter is told when it is first read, and again when it grew, so that thousands of them cost nothing while nothing
//! happens. The value is what came in the whole run so far.

use std::collections::BTreeMap;

use super::Sample;

/// What counters of one kind stand at, by key; `None` where one does not answer.
pub(super) type Readings = BTreeMap<String, Option<u64>>;

/// All counters of one kind.
#[derive(Debug, Default)]
pub(super) struct NewCounts {
    counters: BTreeMap<String, Counter>,
    begun: bool,
}

#[derive(Debug)]
struct Counter {
    /// What it stood at when it last answered.
    stood_at: u64,
    new: u64,
    /// What was told last.
    told: Option<u64>,
    lost: bool,
}

impl NewCounts {
    /// Takes the counters as they stand now, and tells what has to be told.
    pub(super) fn update(&mut self, kind: &str, readings: Readings, ts_ms: i64, sample: &mut Sample) {
        for (key, counter) in &mut self.counters {
            if !readings.contains_key(key) {
                counter.lose(kind, key, ts_ms, sample);
            }
        }
        for (key, reading) in readings {
            match (reading, self.counters.get_mut(&key)) {
                (Some(now), Some(counter)) => counter.grow(kind, &key, now, ts_ms, sample),
                (Some(now), None) => {
                    // what came with a device or a driver that came later began at 0
                    let before = if self.begun { 0 } else { now };
                    let mut counter = Counter { stood_at: before, new: 0, told: None, lost: false };
                    counter.grow(kind, &key, now, ts_ms, sample);
                    self.counters.insert(key, counter);
                }
                (None, Some(counter)) => counter.lose(kind, &key, ts_ms, sample),
                // one that never answered is no counter
                (None, None) => {}
            }
        }
        self.begun = true;
    }
}

impl Counter {
    fn grow(&mut self, kind: &str, key: &str, now: u64, ts_ms: i64, sample: &mut Sample) {
        // fewer than before: the device or its driver was started anew, and the counter with it
        self.new = self.new.saturating_add(now.checked_sub(self.stood_at).unwrap_or(now));
        self.stood_at = now;
        self.lost = false;
        if self.told != Some(self.new) {
            self.told = Some(self.new);
            sample.push(ts_ms, kind, key.to_owned(), Some(self.new as f64), "count");
        }
    }

    fn lose(&mut self, kind: &str, key: &str, ts_ms: i64, sample: &mut Sample) {
        if !self.lost {
            self.lost = true;
            self.told = None;
            sample.lost.push(format!("{kind} {key}: the counter does not answer any more"));
            sample.push(ts_ms, kind, key.to_owned(), None, "count");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(counts: &mut NewCounts, readings: &[(&str, Option<u64>)]) -> (Vec<(String, Option<f64>)>, usize) {
        let mut sample = Sample::default();
        let readings = readings.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect();
        counts.update("aer", readings, 1, &mut sample);
        let told = sample.measurements.into_iter().map(|m| (m.key, m.value)).collect();
        (told, sample.lost.len())
    }

    fn one(key: &str, value: Option<f64>) -> Vec<(String, Option<f64>)> {
        vec![(key.to_owned(), value)]
    }

    #[test]
    fn what_is_new_is_told_once_and_adds_up() {
        let mut counts = NewCounts::default();
        assert_eq!(told(&mut counts, &[("a", Some(7))]), (one("a", Some(0.0)), 0));
        assert_eq!(told(&mut counts, &[("a", Some(7))]), (vec![], 0));
        assert_eq!(told(&mut counts, &[("a", Some(9))]), (one("a", Some(2.0)), 0));
        // its driver was loaded again
        assert_eq!(told(&mut counts, &[("a", Some(1))]), (one("a", Some(3.0)), 0));
        // a device that came later
        assert_eq!(told(&mut counts, &[("a", Some(1)), ("b", Some(4))]), (one("b", Some(4.0)), 0));
    }

    #[test]
    fn a_counter_that_stops_answering_has_no_value_and_is_told_once() {
        let mut counts = NewCounts::default();
        told(&mut counts, &[("a", Some(7)), ("b", Some(0)), ("never", None)]);
        assert_eq!(told(&mut counts, &[("a", None), ("b", Some(0))]), (one("a", None), 1));
        assert_eq!(told(&mut counts, &[("a", None), ("b", Some(0))]), (vec![], 0));
        assert_eq!(told(&mut counts, &[("a", Some(8)), ("b", Some(0))]), (one("a", Some(1.0)), 0));
        assert_eq!(told(&mut counts, &[("a", Some(8))]), (one("b", None), 1));
    }
}
