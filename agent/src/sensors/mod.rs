//! What the machine's sensors say, and the sidecar that asks them while stages run.
//!
//! | kind | key | unit |
//! |---|---|---|
//! | `temp` | `cpu/<package>`, `disk/<kernel name>`, `hwmon/<chip>/<label>` | `celsius` |
//! | `fan` | `hwmon/<chip>/<label>` | `rpm` |
//! | `volt` | `hwmon/<chip>/<label>` | `volts` |
//! | `power` | `hwmon/<chip>/<label>` | `watts` |
//! | `cpu_freq` | `cpu/<logical CPU>` | `mhz` |
//! | `cpu_load` | `cpu/all` | `percent` |
//! | `load_avg` | `1m` | `count` |
//!
//! Memory errors are counted by [`edac`], for a stage rather than in time.
//!
//! Yields measurements; judges none of them. A sensor that stops answering gives samples without a value and is told
//! once as lost; one that never answered is no sensor.

pub mod edac;
mod hwmon;
pub(crate) mod load;
mod sidecar;

use vetting_protocol::measurement::Measurement;

use crate::host::Host;

pub use sidecar::{Sidecar, SidecarDied, StageCell};

/// What sampling needs to remember from one time to the next.
#[derive(Debug, Default)]
pub struct SensorState {
    hwmon: hwmon::Chips,
    load: load::LastTimes,
}

/// One round over every sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What they said. `stage` is empty: the sidecar fills it in.
    pub measurements: Vec<Measurement>,
    /// Sensors that answered before and do not any more, each told once: `temp disk/sda: /sys/…: Input/output error`.
    pub lost: Vec<String>,
}

impl Sample {
    fn push(&mut self, ts_ms: i64, kind: &str, key: String, value: Option<f64>, unit: &str) {
        self.measurements.push(Measurement {
            ts_ms,
            stage: None,
            kind: kind.to_owned(),
            key,
            value,
            unit: unit.to_owned(),
        });
    }
}

/// Asks every sensor once.
pub fn sample(host: &Host, state: &mut SensorState, ts_ms: i64) -> Sample {
    let mut sample = Sample { measurements: Vec::new(), lost: Vec::new() };
    state.hwmon.sample(host, ts_ms, &mut sample);
    load::frequencies(host, ts_ms, &mut sample);
    state.load.sample(host, ts_ms, &mut sample);
    load::average(host, ts_ms, &mut sample);
    sample
}

#[cfg(test)]
mod tests;
