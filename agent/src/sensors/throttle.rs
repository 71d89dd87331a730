//! How often CPUs were slowed down for heat: `thermal_throttle` of each logical CPU, which Intel's have.
//!
//! | kind | key | unit |
//! |---|---|---|
//! | `throttle` | `cpu/<package>/package`: of the package as a whole, new ones | `count` |
//! | `throttle` | `cpu/<package>/core`: of its cores, added up | `count` |

use std::collections::BTreeMap;

use super::counters::{NewCounts, Readings};
use super::{Moment, Sample};
use crate::host::Host;

const CPUS: &str = "/sys/devices/system/cpu";

/// The CPUs' counters.
#[derive(Debug, Default)]
pub(super) struct Throttling {
    cpus: Option<Vec<Cpu>>,
    counts: NewCounts,
}

#[derive(Debug)]
struct Cpu {
    name: String,
    package: u32,
    /// The first thread of its core, which counts for all of them.
    counts_core: bool,
    /// The first of its package, likewise.
    counts_package: bool,
}

impl Throttling {
    /// Counts on every package.
    pub(super) fn sample(&mut self, host: &Host, moment: Moment, sample: &mut Sample) {
        let cpus = self.cpus.get_or_insert_with(|| discover(host));
        let mut readings = Readings::new();
        let mut add = |key: String, count: Option<u64>| {
            let sum = readings.entry(key).or_insert(Some(0));
            *sum = sum.zip(count).map(|(sum, count)| sum.saturating_add(count));
        };
        for cpu in cpus.iter() {
            let count = |level: &str| {
                host.number::<u64>(&format!("{CPUS}/{}/thermal_throttle/{level}_throttle_count", cpu.name))
                    .ok()
            };
            if cpu.counts_core {
                add(format!("cpu/{}/core", cpu.package), count("core"));
            }
            if cpu.counts_package {
                add(format!("cpu/{}/package", cpu.package), count("package"));
            }
        }
        self.counts.update("throttle", readings, moment.ts_ms, sample);
    }
}

fn discover(host: &Host) -> Vec<Cpu> {
    let mut cpus = Vec::new();
    let mut packages: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for name in host.list(CPUS).unwrap_or_default() {
        if !host.exists(&format!("{CPUS}/{name}/thermal_throttle/core_throttle_count")) {
            continue;
        }
        let number = |file: &str| host.number::<u32>(&format!("{CPUS}/{name}/topology/{file}"));
        let (Ok(package), Ok(core)) = (number("physical_package_id"), number("core_id")) else { continue };
        let counts_package = !packages.contains_key(&package);
        let cores = packages.entry(package).or_default();
        let counts_core = !cores.contains(&core);
        if counts_core {
            cores.push(core);
        }
        cpus.push(Cpu { name, package, counts_core, counts_package });
    }
    cpus
}
