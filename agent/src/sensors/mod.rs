//! What the machine's sensors say, and the sidecar that asks them while stages run.
//!
//! | kind | key | unit |
//! |---|---|---|
//! | `temp` | `cpu/<package>`, `disk/<kernel name>`, `gpu/<PCI address>/<label>`, `hwmon/<chip>/<label>`, `bmc/<sensor>` | `celsius` |
//! | `fan` | `hwmon/<chip>/<label>`, `bmc/<sensor>` | `rpm` |
//! | `volt` | `hwmon/<chip>/<label>`, `bmc/<sensor>` | `volts` |
//! | `current` | `hwmon/<chip>/<label>`, `bmc/<sensor>` | `amperes` |
//! | `power` | `hwmon/<chip>/<label>`, `gpu/<PCI address>/<label>`, `rapl/<zone>`, `bmc/<sensor>`, `bmc/dcmi` | `watts` |
//! | `cpu_freq` | `cpu/<logical CPU>` | `mhz` |
//! | `cpu_load` | `cpu/all` | `percent` |
//! | `load_avg` | `1m` | `count` |
//!
//! and counters: [`edac`], [`pcie`], [`network`], [`throttle`], [`kernel_log`], [`gpu`], and the BMC's event log ([`bmc`]).
//!
//! Yields measurements, the limits that the hardware gives, and notices for the event log; judges none of them. A sensor
//! that stops answering gives samples without a value and is told once as lost; one that never answered is no sensor. A
//! source that fails does not keep the others from being asked.

mod bmc;
mod counters;
pub mod edac;
mod gpu;
mod hwmon;
pub mod kernel_log;
pub(crate) mod load;
pub(crate) mod network;
pub(crate) mod pcie;
mod power;
mod sidecar;
mod throttle;

use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::limit::HardwareLimit;
use vetting_protocol::measurement::Measurement;

use crate::clock;
use crate::host::Host;

pub use sidecar::{Sidecar, SidecarDied, StageCell};

/// When a sample is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since the Unix epoch.
    pub ts_ms: i64,
    /// Milliseconds since the kernel started: unlike the other it never jumps.
    pub uptime_ms: u64,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self { ts_ms: clock::now_ms(), uptime_ms: clock::uptime_ms() }
    }
}

/// What sampling needs to remember from one time to the next.
#[derive(Debug, Default)]
pub struct SensorState {
    hwmon: hwmon::Chips,
    load: load::LastTimes,
    zones: power::Zones,
    edac: counters::NewCounts,
    functions: pcie::Functions,
    interfaces: network::Interfaces,
    throttling: throttle::Throttling,
}

/// One round over every sensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Limits that the hardware gives for sensors that answered for the first time.
    pub limits: Vec<HardwareLimit>,
    /// What they said. `stage` is empty: the sidecar fills it in.
    pub measurements: Vec<Measurement>,
    /// Sensors that answered before and do not any more, each told once: `temp disk/sda: /sys/…: Input/output error`.
    pub lost: Vec<String>,
    /// What else is worth a line in the event log.
    pub notices: Vec<Notice>,
}

/// A line for the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How grave.
    pub level: EventLevel,
    /// A stable word.
    pub kind: &'static str,
    /// In words.
    pub message: String,
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

/// Asks every sensor of `/sys` and `/proc` once.
pub fn sample(host: &Host, state: &mut SensorState, moment: Moment) -> Sample {
    let (mut sample, ts_ms) = (Sample::default(), moment.ts_ms);
    state.hwmon.sample(host, moment, &mut sample);
    load::frequencies(host, ts_ms, &mut sample);
    state.load.sample(host, ts_ms, &mut sample);
    load::average(host, ts_ms, &mut sample);
    state.zones.sample(host, moment, &mut sample);
    state.edac.update("edac", edac::Counters::read(host).into_readings(), ts_ms, &mut sample);
    state.functions.sample(host, moment, &mut sample);
    state.interfaces.sample(host, moment, &mut sample);
    state.throttling.sample(host, moment, &mut sample);
    sample
}

/// What can be told only when the run is over.
pub fn finish(state: &SensorState, moment: Moment) -> Sample {
    let mut sample = Sample::default();
    state.functions.finish(moment, &mut sample);
    sample
}

#[cfg(test)]
mod tests;
