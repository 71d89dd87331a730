//! GPUs of NVIDIA, as nvml-probe tells of them. Those of other makers are read with the rest of hwmon.
//!
//! | kind | key | unit |
//! |---|---|---|
//! | `temp` | `gpu/<PCI address>/gpu` | `celsius` |
//! | `power` | `gpu/<PCI address>/board` | `watts` |
//! | `gpu_load` | `gpu/<PCI address>` | `percent` |
//! | `throttle` | `gpu/<PCI address>/<reason>`: 1 while it holds, 0 while not | `count` |
//! | `gpu` | `<PCI address>/ecc_corrected`, `/ecc_uncorrected`: since the driver was loaded | `count` |
//!
//! Each look is a process, and without one that keeps the driver awake each look starts the GPUs anew: so they are asked on a
//! thread of their own and less often than the rest, and not at all where the driver is not loaded.

use std::collections::{BTreeMap, BTreeSet};

use vetting_nvml_probe::{DeviceState, Nvml, Reading, Readings};
use vetting_protocol::limit::{Bound, HardwareLimit, LimitGrade};

use super::Sample;
use crate::cancel::Cancel;
use crate::host::Host;
use crate::tools::nvml;
use crate::tools::runner::{ToolError, ToolRunner};

/// Reasons for lower clocks that are none of idling, of settings or of the power limit (nvml.h, `nvmlClocksEventReasons`).
const THROTTLES: [(&str, u64); 4] =
    [("hw_slowdown", 0x8), ("sw_thermal", 0x20), ("hw_thermal", 0x40), ("hw_power_brake", 0x80)];

/// Whether NVIDIA's driver is loaded.
pub(super) fn is_there(host: &Host) -> bool {
    host.exists("/proc/driver/nvidia/version")
}

/// The GPUs and what is known of them.
pub(super) struct Gpus<'r> {
    tools: &'r dyn ToolRunner,
    /// Kind, key and unit of each sensor that told a number once.
    known: BTreeSet<(&'static str, String, &'static str)>,
    /// Those of them that do not any more.
    lost: BTreeSet<(&'static str, String)>,
    limited: BTreeSet<String>,
    /// Why the last look failed was told.
    silent: bool,
}

/// What one look told, by kind and key: unit and value.
type Told = BTreeMap<(&'static str, String), (&'static str, f64)>;

impl<'r> Gpus<'r> {
    pub(super) fn new(tools: &'r dyn ToolRunner) -> Self {
        let (known, lost, limited) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { tools, known, lost, limited, silent: false }
    }

    /// Asks once.
    pub(super) fn sample(&mut self, ts_ms: i64, cancel: &Cancel) -> Sample {
        let mut sample = Sample::default();
        let answer = self.tools.run(&nvml::invocation(), cancel, &mut |_, _| {});
        let mut told = Told::new();
        match answer.and_then(|finished| nvml::parse(&finished)) {
            Ok(Nvml::Answered { devices, .. }) => {
                self.silent = false;
                for device in devices {
                    if let DeviceState::Opened(readings) = device.state
                        && let Some(address) = readings.pci_address.value()
                    {
                        tell(address, &readings, &mut told);
                        if self.limited.insert(address.clone()) {
                            sample.limits.extend(limits(address, &readings));
                        }
                    }
                }
            }
            Ok(Nvml::NoLibrary { message } | Nvml::NoDriver { message }) => {
                self.tell_silence(&message, &mut sample);
            }
            Ok(Nvml::Failed(trouble)) => self.tell_silence(&trouble.message, &mut sample),
            Err(ToolError::Cancelled { .. }) => return sample,
            Err(error) => self.tell_silence(&error.reason(), &mut sample),
        }
        self.record(ts_ms, told, &mut sample);
        sample
    }

    fn tell_silence(&mut self, why: &str, sample: &mut Sample) {
        if !self.silent {
            self.silent = true;
            sample.lost.push(format!("GPUs of NVIDIA: {why}"));
        }
    }

    fn record(&mut self, ts_ms: i64, told: Told, sample: &mut Sample) {
        for (kind, key, unit) in &self.known {
            let name = (*kind, key.clone());
            if !told.contains_key(&name) {
                sample.push(ts_ms, kind, key.clone(), None, unit);
                if self.lost.insert(name) && !self.silent {
                    sample.lost.push(format!("{kind} {key}: the GPU does not tell it any more"));
                }
            }
        }
        for ((kind, key), (unit, value)) in told {
            self.lost.remove(&(kind, key.clone()));
            self.known.insert((kind, key.clone(), unit));
            sample.push(ts_ms, kind, key, Some(value), unit);
        }
    }
}

fn tell(address: &str, readings: &Readings, told: &mut Told) {
    let mut put = |kind, key: String, unit, value: Option<f64>| {
        if let Some(value) = value {
            told.insert((kind, key), (unit, value));
        }
    };
    let number = |reading: &Reading<u32>| reading.value().map(|value| f64::from(*value));
    let count = |reading: &Reading<u64>| reading.value().map(|value| *value as f64);
    put("temp", format!("gpu/{address}/gpu"), "celsius", number(&readings.temperature_celsius));
    let watts = number(&readings.power_milliwatts).map(|milliwatts| milliwatts / 1000.0);
    put("power", format!("gpu/{address}/board"), "watts", watts);
    put("gpu_load", format!("gpu/{address}"), "percent", number(&readings.gpu_utilization_percent));
    put("gpu", format!("{address}/ecc_corrected"), "count", count(&readings.ecc.volatile_corrected));
    put("gpu", format!("{address}/ecc_uncorrected"), "count", count(&readings.ecc.volatile_uncorrected));
    for (reason, bit) in THROTTLES {
        let holds =
            readings.clocks_event_reasons.value().map(|reasons| f64::from(u8::from(reasons & bit != 0)));
        put("throttle", format!("gpu/{address}/{reason}"), "count", holds);
    }
}

/// The temperatures at which the GPU slows itself down and switches itself off.
fn limits(address: &str, readings: &Readings) -> Vec<HardwareLimit> {
    let limit = |reading: &Reading<u32>, grade, words: &str| {
        Some(HardwareLimit {
            kind: "temp".to_owned(),
            key: format!("gpu/{address}/gpu"),
            bound: Bound::Upper,
            grade,
            value: f64::from(*reading.value()?),
            unit: "celsius".to_owned(),
            origin: format!("NVML, {words} temperature"),
            observed: readings.temperature_celsius.value().map(|celsius| f64::from(*celsius)),
            asserted: None,
        })
    };
    let slowdown = limit(&readings.slowdown_celsius, LimitGrade::Warning, "slowdown");
    slowdown.into_iter().chain(limit(&readings.shutdown_celsius, LimitGrade::Critical, "shutdown")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::tools::fixture;
    use crate::tools::runner::{Finished, Invocation, Stream};

    /// A probe that answers by these cases, one a look.
    struct Probe(Vec<&'static str>, AtomicUsize);

    impl ToolRunner for Probe {
        fn run(
            &self,
            invocation: &Invocation,
            _: &Cancel,
            _: &mut dyn FnMut(Stream, &str),
        ) -> Result<Finished, ToolError> {
            assert_eq!(*invocation, nvml::invocation());
            Ok(fixture(nvml::TOOL, self.0[self.1.fetch_add(1, Ordering::SeqCst)]))
        }
    }

    fn looks(cases: &[&'static str]) -> Vec<Sample> {
        let probe = Probe(cases.to_vec(), AtomicUsize::new(0));
        let mut gpus = Gpus::new(&probe);
        cases.iter().map(|_| gpus.sample(1, &Cancel::new())).collect()
    }

    fn value(sample: &Sample, kind: &str, key: &str) -> Option<f64> {
        let mut found = sample.measurements.iter().filter(|found| found.kind == kind && found.key == key);
        let value = found.next().unwrap_or_else(|| panic!("no {kind} {key}")).value;
        assert!(found.next().is_none());
        value
    }

    #[test]
    fn temperature_power_ecc_and_throttling_are_told_and_limits_once() {
        let [first, second] = looks(&["0.1-good", "0.1-good"]).try_into().unwrap();
        assert_eq!(value(&first, "temp", "gpu/0000:3b:00.0/gpu"), Some(41.0));
        assert_eq!(value(&first, "power", "gpu/0000:3b:00.0/board"), Some(52.1));
        assert_eq!(value(&first, "gpu", "0000:3b:00.0/ecc_uncorrected"), Some(0.0));
        // idle is no throttling
        assert_eq!(value(&first, "throttle", "gpu/0000:3b:00.0/hw_thermal"), Some(0.0));
        // a card for desks has no ECC
        assert!(!first.measurements.iter().any(|found| found.key == "0000:5e:00.0/ecc_uncorrected"));
        let limits: Vec<_> = first.limits.iter().map(|limit| (limit.grade, limit.value)).collect();
        let both = [(LimitGrade::Warning, 92.0), (LimitGrade::Critical, 95.0)];
        assert_eq!(limits, [both, both].concat());
        assert!(second.limits.is_empty() && second.lost.is_empty());
    }

    #[test]
    fn heat_and_errors_are_told_and_a_gpu_that_is_gone_has_no_value_and_is_told_once() {
        let [_, faulty, again] = looks(&["0.1-good", "0.1-faulty", "0.1-faulty"]).try_into().unwrap();
        assert_eq!(value(&faulty, "throttle", "gpu/0000:3b:00.0/hw_thermal"), Some(1.0));
        assert_eq!(value(&faulty, "gpu", "0000:3b:00.0/ecc_uncorrected"), Some(2.0));
        assert_eq!(value(&faulty, "temp", "gpu/0000:5e:00.0/gpu"), None);
        assert!(faulty.lost.iter().any(|lost| lost.starts_with("temp gpu/0000:5e:00.0/gpu")));
        assert_eq!(value(&again, "temp", "gpu/0000:5e:00.0/gpu"), None);
        assert!(again.lost.is_empty());
    }

    #[test]
    fn a_probe_that_fails_is_told_once_and_leaves_no_values() {
        let cases = ["0.1-good", "0.1-version-mismatch", "0.1-version-mismatch", "0.1-good"];
        let [_, silent, again, back] = looks(&cases).try_into().unwrap();
        assert_eq!(silent.lost.len(), 1);
        assert_eq!(value(&silent, "power", "gpu/0000:3b:00.0/board"), None);
        assert!(again.lost.is_empty());
        assert_eq!(value(&back, "power", "gpu/0000:3b:00.0/board"), Some(52.1));
    }
}
