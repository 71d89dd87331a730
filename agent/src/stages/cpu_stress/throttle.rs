//! How often CPUs slowed down for heat: `/sys/devices/system/cpu/cpu*/thermal_throttle` (Intel; other CPUs have no such
//! counters). Counts only what came meanwhile.

use std::collections::BTreeMap;

use crate::host::Host;

const CPUS: &str = "/sys/devices/system/cpu";
const COUNTERS: [(&str, &str); 2] = [("core", "core_throttle_count"), ("package", "package_throttle_count")];

/// The counters at one moment, by kind and CPU; `None` where one did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::stages) struct Throttling(BTreeMap<(&'static str, String), Option<u64>>);

impl Throttling {
    pub(in crate::stages) fn read(host: &Host) -> Self {
        let mut counters = BTreeMap::new();
        for cpu in host.list(CPUS).unwrap_or_default() {
            for (kind, file) in COUNTERS {
                let path = format!("{CPUS}/{cpu}/thermal_throttle/{file}");
                if host.exists(&path) {
                    counters.insert((kind, cpu.clone()), host.number(&path).ok());
                }
            }
        }
        Self(counters)
    }

    /// How often since `before`, of the CPU that did most: those of one core or package count the same events. `None`
    /// where a counter did not answer. A machine without counters has none.
    pub(in crate::stages) fn since(&self, before: &Self) -> Vec<(&'static str, Option<u64>)> {
        let mut most: BTreeMap<&'static str, Option<u64>> = BTreeMap::new();
        for (key, then) in &before.0 {
            let now = self.0.get(key).copied().flatten();
            let new = now.zip(*then).and_then(|(now, then)| now.checked_sub(then));
            let entry = most.entry(key.0).or_insert(Some(0));
            *entry = entry.zip(new).map(|(most, new)| most.max(new));
        }
        most.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(counts: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in counts {
            let path = folder.path().join(CPUS.trim_start_matches('/')).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::recorded(folder.path());
        (folder, host)
    }

    fn news(before: &[(&str, &str)], after: &[(&str, &str)]) -> Vec<(&'static str, Option<u64>)> {
        let (_before, before) = machine(before);
        let (_after, after) = machine(after);
        Throttling::read(&after).since(&Throttling::read(&before))
    }

    #[test]
    fn only_new_events_count_and_siblings_do_not_add_up() {
        let core = |one, other| {
            [
                ("cpu0/thermal_throttle/core_throttle_count", one),
                ("cpu1/thermal_throttle/core_throttle_count", other),
                ("cpu0/thermal_throttle/package_throttle_count", "7\n"),
                ("cpufreq/boost", "1\n"),
            ]
        };
        assert_eq!(news(&core("5\n", "2\n"), &core("8\n", "4\n")), [("core", Some(3)), ("package", Some(0))]);
    }

    #[test]
    fn a_counter_that_is_gone_or_went_back_is_no_zero() {
        let count = |text| [("cpu0/thermal_throttle/core_throttle_count", text)];
        assert_eq!(news(&count("5\n"), &count("many")), [("core", None)]);
        assert_eq!(news(&count("5\n"), &count("4\n")), [("core", None)]);
        assert_eq!(news(&count("5\n"), &[]), [("core", None)]);
        assert_eq!(news(&[], &[]), []);
    }
}
