//! A run against those of other machines of the same model: what is far from what they showed.
//!
//! By median and median absolute deviation, which one odd machine does not move (Iglewicz and Hoaglin, 1993: a modified
//! z-score beyond 3.5 is an outlier). Only warns: a machine is judged by rules, not by its neighbours.

use serde::{Deserialize, Serialize};

use crate::quantity::in_words;

/// Machines that must have shown a figure before it says anything.
pub const FEWEST: usize = 5;
/// A modified z-score beyond this is an outlier.
const OUTLIER: f64 = 3.5;
/// What makes the median absolute deviation of normal values their standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;
/// Machines that are alike to the digit must not make outliers of a hair's breadth: the least spread, as a share of the
/// median.
const LEAST_SPREAD: f64 = 0.02;

/// On which side a figure is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worse {
    /// Heat, power, latency, errors: the largest value of a stage is its figure.
    More,
    /// Throughput, and how much was verified: the least value is.
    Less,
}

/// The kinds of which some key is compared.
pub const KINDS: [&str; 8] = ["temp", "power", "fio", "nic", "iperf", "memory", "stress", "gpu"];

/// On which side a quantity is bad; absent for one that is not compared: of a key that nobody put here it is not known.
pub fn worse(kind: &str, key: &str) -> Option<Worse> {
    let last = key.rsplit('/').next().unwrap_or(key);
    let ends = |ends: &[&str]| ends.iter().any(|end| last == *end || last.ends_with(&format!("_{end}")));
    let by = |less: &[&str], more: &[&str]| {
        if ends(less) {
            Some(Worse::Less)
        } else if ends(more) {
            Some(Worse::More)
        } else {
            None
        }
    };
    match kind {
        // of `nic`, all are counters of errors
        "temp" | "power" | "nic" => Some(Worse::More),
        "fio" => by(
            &["bandwidth", "iops", "verify_coverage"],
            &["latency_p50", "latency_p99", "latency_p999", "errors"],
        ),
        "iperf" => by(&["bandwidth", "percent_of_link", "tested_part_of_link"], &["retransmits"]),
        "memory" => by(&["bandwidth"], &[]),
        "gpu" => by(&["bandwidth", "operations"], &[]),
        "stress" => by(&["bogo_ops_per_second", "frequency_mean", "frequency_slowest"], &[]),
        _ => None,
    }
}

/// The worst value of a quantity in a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// The stage; `*` between stages.
    pub stage: String,
    /// The quantity.
    pub kind: String,
    /// Which one.
    pub key: String,
    /// The worst value.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

/// A figure that is far from those of the siblings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outlier {
    /// The stage; `*` between stages.
    pub stage: String,
    /// The quantity.
    pub kind: String,
    /// Which one.
    pub key: String,
    /// This machine's.
    pub value: f64,
    /// The siblings' median.
    pub median: f64,
    /// Its unit.
    pub unit: String,
    /// How many siblings.
    pub siblings: u32,
}

impl Outlier {
    /// `temp cpu/0 reached 88 °C in CPUStress; the median of 12 machines of this model is 71 °C.`
    pub fn in_words(&self) -> String {
        let stage = if self.stage == "*" { String::new() } else { format!(" in {}", self.stage) };
        let went = match worse(&self.kind, &self.key) {
            Some(Worse::Less) => "was only",
            Some(Worse::More) | None => "reached",
        };
        format!(
            "{} {} {went} {}{stage}; the median of {} machines of this model is {}.",
            self.kind,
            self.key,
            in_words(self.value, &self.unit),
            self.siblings,
            in_words(self.median, &self.unit)
        )
    }
}

/// The figures of a run that are on the bad side and far from those of its siblings: hotter, hungrier, slower, with more
/// errors. Sensors that fewer than [`FEWEST`] siblings have say nothing.
pub fn outliers(own: &[Metric], siblings: &[Vec<Metric>]) -> Vec<Outlier> {
    own.iter()
        .filter(|metric| metric.value.is_finite())
        .filter_map(|metric| outlier(metric, siblings))
        .collect()
}

fn outlier(own: &Metric, siblings: &[Vec<Metric>]) -> Option<Outlier> {
    let worse = worse(&own.kind, &own.key)?;
    let same = |other: &&Metric| {
        (&other.stage, &other.kind, &other.key, &other.unit) == (&own.stage, &own.kind, &own.key, &own.unit)
    };
    let mut values: Vec<f64> = siblings
        .iter()
        .filter_map(|run| run.iter().find(same))
        .map(|metric| metric.value)
        .filter(|value| value.is_finite())
        .collect();
    if values.len() < FEWEST {
        return None;
    }
    let middle = median(&mut values)?;
    let mut distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    let spread = (median(&mut distances)? * MAD_TO_SIGMA).max(middle.abs() * LEAST_SPREAD);
    let excess = match worse {
        Worse::Less => middle - own.value,
        Worse::More => own.value - middle,
    };
    // where all siblings count 0, one is far from them
    let is_far = if spread > 0.0 { excess / spread > OUTLIER } else { excess > 0.0 };
    is_far.then(|| Outlier {
        stage: own.stage.clone(),
        kind: own.kind.clone(),
        key: own.key.clone(),
        value: own.value,
        median: middle,
        unit: own.unit.clone(),
        siblings: u32::try_from(values.len()).unwrap_or(u32::MAX),
    })
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get(values.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metric(kind: &str, key: &str, value: f64) -> Metric {
        let unit = if kind == "temp" { "celsius" } else { "bytes_per_second" };
        Metric {
            stage: "CPUStress".to_owned(),
            kind: kind.to_owned(),
            key: key.to_owned(),
            value,
            unit: unit.to_owned(),
        }
    }

    fn siblings(kind: &str, key: &str, values: &[f64]) -> Vec<Vec<Metric>> {
        values.iter().map(|value| vec![metric(kind, key, *value)]).collect()
    }

    #[test]
    fn one_that_is_far_on_the_bad_side_is_told() {
        let usual = siblings("temp", "cpu/0", &[70.0, 71.0, 69.0, 72.0, 70.0, 95.0]);
        let found = outliers(&[metric("temp", "cpu/0", 88.0)], &usual);
        assert_eq!(
            found[0].in_words(),
            "temp cpu/0 reached 88 °C in CPUStress; the median of 6 machines of this model is 70.5 °C."
        );
        assert!(outliers(&[metric("temp", "cpu/0", 74.0)], &usual).is_empty());
        // cooler than all others harms nothing
        assert!(outliers(&[metric("temp", "cpu/0", 30.0)], &usual).is_empty());
        let fast = siblings("fio", "sda/read_bandwidth", &[5e8, 5.1e8, 5.05e8, 4.9e8, 5e8]);
        assert_eq!(outliers(&[metric("fio", "sda/read_bandwidth", 3e8)], &fast).len(), 1);
        assert!(outliers(&[metric("fio", "sda/read_bandwidth", 9e8)], &fast).is_empty());
        let slow = outliers(
            &[metric("memory", "node0/bandwidth", 3e9)],
            &siblings("memory", "node0/bandwidth", &[9e9; 5]),
        );
        assert!(slow[0].in_words().contains("was only 3"), "{}", slow[0].in_words());
    }

    #[test]
    fn each_quantity_that_is_compared_is_bad_on_its_own_side() {
        for (kind, key, expected) in [
            ("temp", "disk/sda", Some(Worse::More)),
            ("power", "rapl/package-0", Some(Worse::More)),
            ("nic", "eth0/rx_crc_errors", Some(Worse::More)),
            ("nic", "eth0/carrier_changes", Some(Worse::More)),
            ("fio", "sda/sequential_bandwidth", Some(Worse::Less)),
            ("fio", "sda/random_iops", Some(Worse::Less)),
            ("fio", "sda/verify_coverage", Some(Worse::Less)),
            ("fio", "sda/verify_errors", Some(Worse::More)),
            ("fio", "sda/random_errors", Some(Worse::More)),
            ("fio", "sda/random_latency_p999", Some(Worse::More)),
            ("iperf", "eth0/send_bandwidth", Some(Worse::Less)),
            ("iperf", "together/eth0/receive_bandwidth", Some(Worse::Less)),
            ("iperf", "eth0/send_percent_of_link", Some(Worse::Less)),
            ("iperf", "eth0/tested_part_of_link", Some(Worse::Less)),
            ("iperf", "eth0/receive_retransmits", Some(Worse::More)),
            ("memory", "bandwidth", Some(Worse::Less)),
            ("memory", "node1/bandwidth", Some(Worse::Less)),
            ("memory", "coverage", None),
            ("memory", "faults", None),
            ("stress", "cpu/bogo_ops_per_second", Some(Worse::Less)),
            ("stress", "cpu/frequency_slowest", Some(Worse::Less)),
            ("stress", "cpu/verify_failures", None),
            ("gpu", "0000:3b:00.0/memory_bandwidth", Some(Worse::Less)),
            ("gpu", "0000:3b:00.0/product_operations", Some(Worse::Less)),
            ("gpu", "0000:3b:00.0/ecc_corrected", None),
            ("fan", "fan1", None),
            // nobody knows
            ("fio", "sda/new_figure", None),
            ("iperf", "eth0/parts", None),
        ] {
            assert_eq!(worse(kind, key), expected, "{kind} {key}");
            assert!(expected.is_none() || KINDS.contains(&kind), "{kind} is never asked for");
        }
    }

    #[test]
    fn few_siblings_or_other_sensors_say_nothing() {
        let few = siblings("temp", "cpu/0", &[70.0; 4]);
        assert!(outliers(&[metric("temp", "cpu/0", 99.0)], &few).is_empty());
        let others = siblings("temp", "cpu/1", &[70.0; 9]);
        assert!(outliers(&[metric("temp", "cpu/0", 99.0)], &others).is_empty());
    }

    #[test]
    fn where_all_count_none_one_is_far_and_where_all_are_alike_a_hair_is_not() {
        let none = siblings("nic", "eth0/rx_errors", &[0.0; 6]);
        assert_eq!(outliers(&[metric("nic", "eth0/rx_errors", 1.0)], &none).len(), 1);
        assert!(outliers(&[metric("nic", "eth0/rx_errors", 0.0)], &none).is_empty());
        let alike = siblings("temp", "cpu/0", &[70.0; 6]);
        assert!(outliers(&[metric("temp", "cpu/0", 71.0)], &alike).is_empty());
        assert_eq!(outliers(&[metric("temp", "cpu/0", 76.0)], &alike).len(), 1);
    }

    proptest! {
        #[test]
        fn the_median_is_never_an_outlier(values in prop::collection::vec(-1e6..1e6_f64, 5..30)) {
            let middle = median(&mut values.clone()).unwrap();
            let run = siblings("temp", "cpu/0", &values);
            prop_assert!(outliers(&[metric("temp", "cpu/0", middle)], &run).is_empty());
        }

        #[test]
        fn no_number_makes_it_panic(own: f64, values in prop::collection::vec(any::<f64>(), 0..12)) {
            let run = siblings("temp", "cpu/0", &values);
            let _ = outliers(&[metric("temp", "cpu/0", own)], &run);
        }
    }
}
