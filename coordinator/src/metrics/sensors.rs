//! The last value of each sensor of each machine under test, in memory: a scrape must not search the samples.
//!
//! Empty after a start; agents sample every few seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use vetting_protocol::agent_api::Record;
use vetting_protocol::ids::RunId;

/// Kinds of measurements that are readings of sensors: what else is measured is a result of a test.
pub const SENSOR_KINDS: [&str; 8] =
    ["temp", "fan", "volt", "current", "power", "gpu_load", "cpu_load", "throttle"];
/// Sensors that are kept of one run: a machine with more has a broken agent.
const MOST_SENSORS: usize = 2_000;

/// A reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// One of [`SENSOR_KINDS`].
    pub kind: String,
    /// Which one.
    pub key: String,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

type Readings = HashMap<(String, String), (f64, String)>;

/// Readings by run. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Sensors(Arc<Mutex<HashMap<RunId, Readings>>>);

impl Sensors {
    /// Keeps samples of a run in place of earlier ones of the same sensors.
    pub fn take(&self, run: RunId, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let readings = runs.entry(run).or_default();
        for Sample { kind, key, value, unit } in samples {
            let known = readings.len();
            match readings.entry((kind, key)) {
                std::collections::hash_map::Entry::Occupied(mut entry) => *entry.get_mut() = (value, unit),
                std::collections::hash_map::Entry::Vacant(entry) if known < MOST_SENSORS => {
                    entry.insert((value, unit));
                }
                std::collections::hash_map::Entry::Vacant(_) => {}
            }
        }
    }

    /// The readings of the runs in `under_way`; those of all others are forgotten.
    pub fn of(&self, under_way: &HashMap<RunId, String>) -> Vec<(RunId, Vec<Sample>)> {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|run, _| under_way.contains_key(run));
        runs.iter()
            .map(|(run, readings)| {
                let sample = |((kind, key), (value, unit)): (&(String, String), &(f64, String))| Sample {
                    kind: kind.clone(),
                    key: key.clone(),
                    value: *value,
                    unit: unit.clone(),
                };
                (*run, readings.iter().map(sample).collect())
            })
            .collect()
    }
}

/// The newest sample of each sensor among these records.
pub(super) fn newest(records: &[Record]) -> Vec<Sample> {
    let mut found: HashMap<(&str, &str), (f64, &str)> = HashMap::new();
    for record in records {
        if let Record::Measurement(sample) = record
            && let Some(value) = sample.value
            && SENSOR_KINDS.contains(&sample.kind.as_str())
        {
            found.insert((&sample.kind, &sample.key), (value, &sample.unit));
        }
    }
    let sample = |((kind, key), (value, unit)): ((&str, &str), (f64, &str))| Sample {
        kind: kind.to_owned(),
        key: key.to_owned(),
        value,
        unit: unit.to_owned(),
    };
    found.into_iter().map(sample).collect()
}

#[cfg(test)]
mod tests {
    use vetting_protocol::measurement::Measurement;

    use super::*;

    fn record(kind: &str, key: &str, value: Option<f64>) -> Record {
        let (kind, key, unit) = (kind.to_owned(), key.to_owned(), "celsius".to_owned());
        Record::Measurement(Measurement { ts_ms: 0, stage: None, kind, key, value, unit })
    }

    #[test]
    fn the_last_value_of_each_sensor_stays_until_its_run_is_over() {
        let sensors = Sensors::default();
        let batch = [
            record("temp", "cpu/0", Some(40.0)),
            record("temp", "cpu/0", Some(50.0)),
            record("temp", "cpu/1", None),
            record("bad_blocks", "disk/sda", Some(0.0)),
        ];
        sensors.take(RunId(1), newest(&batch));
        sensors.take(RunId(2), newest(&[record("fan", "bmc/FAN1", Some(900.0))]));
        let only = |run: i64| HashMap::from([(RunId(run), "node".to_owned())]);
        let of_one = sensors.of(&only(1));
        assert_eq!(of_one.len(), 1);
        assert_eq!((of_one[0].1[0].key.as_str(), of_one[0].1[0].value), ("cpu/0", 50.0));
        assert_eq!(of_one[0].1.len(), 1);
        // the second was forgotten when it was not asked for
        assert!(sensors.of(&only(2)).is_empty());
    }

    #[test]
    fn a_machine_cannot_fill_the_memory_with_sensors() {
        let sensors = Sensors::default();
        for name in 0..MOST_SENSORS + 5 {
            sensors.take(RunId(1), newest(&[record("temp", &name.to_string(), Some(1.0))]));
        }
        let found = sensors.of(&HashMap::from([(RunId(1), String::new())]));
        assert_eq!(found[0].1.len(), MOST_SENSORS);
    }
}
