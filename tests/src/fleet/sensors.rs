//! The sensors of a server: what they read at rest, and where they go under load.

use vetting_agent::clock;
use vetting_protocol::agent_api::Record;
use vetting_protocol::ids::StageName;
use vetting_protocol::measurement::Measurement;

/// Kind, key prefix, how many, at rest, under load, unit. Sixty in all.
const SERVER: [(&str, &str, u16, f64, f64, &str); 11] = [
    ("temp", "cpu/", 2, 38.0, 71.0, "celsius"),
    ("temp", "disk/sd", 4, 31.0, 38.0, "celsius"),
    ("temp", "disk/nvme", 4, 33.0, 49.0, "celsius"),
    ("temp", "hwmon/jc42-", 8, 34.0, 52.0, "celsius"),
    ("temp", "hwmon/nct6798/", 6, 30.0, 41.0, "celsius"),
    ("fan", "hwmon/nct6798/fan", 8, 3_100.0, 7_400.0, "rpm"),
    ("volt", "hwmon/nct6798/in", 6, 1.1, 1.09, "volts"),
    ("power", "hwmon/power_meter/", 4, 140.0, 412.0, "watts"),
    ("cpu_freq", "cpu/", 16, 800.0, 2_900.0, "mhz"),
    ("cpu_load", "cpu/all", 1, 1.0, 99.0, "percent"),
    ("load_avg", "1m", 1, 0.1, 32.0, "count"),
];

/// Where the further ones are, of a fleet with more than [`SERVER`] has.
const FURTHER: &str = "hwmon/riser/";
/// Sampling rounds after which a value has come two thirds of its way.
const SLOWNESS: f64 = 6.0;
/// Largest deviation of a reading, part of its value.
const NOISE: f64 = 0.01;

/// Where each sensor of one machine stands.
#[derive(Debug, Clone)]
pub struct Sensors {
    sensors: Vec<Sensor>,
    noise: fastrand::Rng,
}

#[derive(Debug, Clone)]
struct Sensor {
    kind: &'static str,
    key: String,
    unit: &'static str,
    rest: f64,
    load: f64,
    now: f64,
}

impl Sensors {
    /// So many of them, at rest. `seed` tells machines apart.
    pub fn new(count: usize, seed: u32) -> Self {
        let listed = SERVER.into_iter().flat_map(|(kind, prefix, count, rest, load, unit)| {
            (0..count).map(move |number| {
                let key = if count == 1 { prefix.to_owned() } else { format!("{prefix}{number}") };
                Sensor { kind, key, unit, rest, load, now: rest }
            })
        });
        let further = (0_u32..).map(|number| Sensor {
            kind: "temp",
            key: format!("{FURTHER}{number}"),
            unit: "celsius",
            rest: 29.0,
            load: 44.0,
            now: 29.0,
        });
        Self {
            sensors: listed.chain(further).take(count).collect(),
            noise: fastrand::Rng::with_seed(seed.into()),
        }
    }

    /// One sampling round, in a stage that works the machine or lets it rest.
    pub fn sample(&mut self, stage: StageName, works: bool) -> Vec<Record> {
        self.sample_at(stage, works, clock::now_ms())
    }

    /// The same at another time, ms since the epoch.
    pub fn sample_at(&mut self, stage: StageName, works: bool, ts_ms: i64) -> Vec<Record> {
        let noise = &mut self.noise;
        let read = |sensor: &mut Sensor| {
            let target = if works { sensor.load } else { sensor.rest };
            sensor.now += (target - sensor.now) / SLOWNESS;
            let value = sensor.now * (1.0 + NOISE * (noise.f64() * 2.0 - 1.0));
            Record::Measurement(Measurement {
                ts_ms,
                stage: Some(stage),
                kind: sensor.kind.to_owned(),
                key: sensor.key.clone(),
                // as the kernel's drivers give them: thousandths
                value: Some((value * 1_000.0).round() / 1_000.0),
                unit: sensor.unit.to_owned(),
            })
        };
        self.sensors.iter_mut().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(records: &[Record]) -> Vec<(String, String)> {
        records
            .iter()
            .map(|record| match record {
                Record::Measurement(sample) => (sample.kind.clone(), sample.key.clone()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_round_has_each_sensor_once() {
        for count in [1, 60, 75] {
            let mut all = keys(&Sensors::new(count, 1).sample(StageName::CpuStress, true));
            assert_eq!(all.len(), count);
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }

    #[test]
    fn load_warms_a_machine_up_and_rest_cools_it_down() {
        let mut sensors = Sensors::new(1, 1);
        let mut last = |works| {
            let mut value = None;
            for _ in 0..60 {
                if let [Record::Measurement(sample)] = &sensors.sample(StageName::CpuStress, works)[..] {
                    value = sample.value;
                }
            }
            value.unwrap()
        };
        assert!((last(true) - 71.0).abs() < 1.0);
        assert!((last(false) - 38.0).abs() < 1.0);
    }
}
