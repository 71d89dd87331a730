//! Power from counters of energy: the RAPL zones of `/sys/class/powercap` (Documentation/power/powercap).

use std::collections::BTreeMap;

use super::hwmon::clean;
use super::{Moment, Sample};
use crate::host::Host;

const CLASS: &str = "/sys/class/powercap";

/// Where a counter of energy stood, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct EnergyAt {
    microjoules: u64,
    uptime_ms: u64,
}

impl EnergyAt {
    pub(super) fn new(microjoules: u64, moment: Moment) -> Self {
        Self { microjoules, uptime_ms: moment.uptime_ms }
    }

    /// The mean power since `before`, watts. A counter that stands lower has gone over `range_microjoules` to 0, at most
    /// once; without a known range, or without time in between, nothing can be told.
    pub(super) fn watts_since(self, before: Self, range_microjoules: Option<u64>) -> Option<f64> {
        let used = match self.microjoules.checked_sub(before.microjoules) {
            Some(used) => used,
            None => range_microjoules?.checked_sub(before.microjoules)?.checked_add(self.microjoules)?,
        };
        let ms = self.uptime_ms.checked_sub(before.uptime_ms).filter(|ms| *ms > 0)?;
        // microjoules a millisecond are milliwatts
        Some(used as f64 / ms as f64 / 1_000.0)
    }
}

/// The zones at the last look.
#[derive(Debug, Default)]
pub(super) struct Zones {
    last: BTreeMap<String, EnergyAt>,
}

impl Zones {
    /// Mean power of each zone since the last look: `rapl/package-0`, `rapl/package-0/dram`, `rapl/psys`. The first look
    /// gives none.
    pub(super) fn sample(&mut self, host: &Host, moment: Moment, sample: &mut Sample) {
        let mut now = BTreeMap::new();
        // `intel-rapl-mmio:0` shows the package of `intel-rapl:0` by another way
        for zone in host.list(CLASS).unwrap_or_default() {
            if !zone.starts_with("intel-rapl:") {
                continue;
            }
            let Ok(energy) = host.number::<u64>(&format!("{CLASS}/{zone}/energy_uj")) else { continue };
            let energy = EnergyAt::new(energy, moment);
            let range = host.number::<u64>(&format!("{CLASS}/{zone}/max_energy_range_uj")).ok();
            let watts = self.last.get(&zone).and_then(|before| energy.watts_since(*before, range));
            let key = key(host, &zone);
            if let Some(watts) = watts {
                sample.push(moment.ts_ms, "power", key, Some(watts), "watts");
            }
            now.insert(zone, energy);
        }
        for zone in self.last.keys().filter(|zone| !now.contains_key(*zone)) {
            sample.lost.push(format!("power {zone}: {CLASS}/{zone}/energy_uj does not answer any more"));
        }
        self.last = now;
    }
}

/// `intel-rapl:0:1` is a part of `intel-rapl:0`.
fn key(host: &Host, zone: &str) -> String {
    let name = |zone: &str| {
        host.text(&format!("{CLASS}/{zone}/name")).map_or_else(|_| zone.to_owned(), |name| clean(&name))
    };
    match zone.rsplit_once(':') {
        Some((whole, _)) if whole.contains(':') => format!("rapl/{}/{}", name(whole), name(zone)),
        Some(_) | None => format!("rapl/{}", name(zone)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(microjoules: u64, uptime_ms: u64) -> EnergyAt {
        EnergyAt { microjoules, uptime_ms }
    }

    #[test]
    fn a_counter_that_wrapped_is_carried_over() {
        assert_eq!(at(6_000_000, 6_000).watts_since(at(1_000_000, 1_000), None), Some(1.0));
        let range = Some(262_143_328_850);
        let before = at(262_143_328_850 - 400_000_000, 1_000);
        assert_eq!(at(600_000_000, 6_000).watts_since(before, range), Some(200.0));
        assert_eq!(at(600_000_000, 6_000).watts_since(before, None), None);
        assert_eq!(at(2, 1_000).watts_since(at(1, 1_000), range), None, "no time passed");
        assert_eq!(at(1, 6_000).watts_since(at(9, 1_000), Some(5)), None, "beyond its own range");
    }
}
