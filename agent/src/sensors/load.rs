//! How fast and how busy the CPUs are: cpufreq or `/proc/cpuinfo`, `/proc/stat`, `/proc/loadavg`.

use super::Sample;
use crate::host::Host;

const POLICIES: &str = "/sys/devices/system/cpu/cpufreq";

/// Frequency of each CPU (of each cpufreq policy, named by its first CPU), MHz.
pub(super) fn frequencies(host: &Host, ts_ms: i64, sample: &mut Sample) {
    for (cpu, mhz) in frequencies_mhz(host) {
        sample.push(ts_ms, "cpu_freq", format!("cpu/{cpu}"), Some(mhz), "mhz");
    }
}

/// The same, by number; none where the machine does not tell.
pub(crate) fn frequencies_mhz(host: &Host) -> Vec<(u32, f64)> {
    let policies = host.list(POLICIES).unwrap_or_default();
    let of_policy = |name: &String| {
        let cpu = name.strip_prefix("policy")?.parse().ok()?;
        let khz = host.number::<u32>(&format!("{POLICIES}/{name}/scaling_cur_freq")).ok()?;
        Some((cpu, f64::from(khz) / 1000.0))
    };
    let of_policies: Vec<(u32, f64)> = policies.iter().filter_map(of_policy).collect();
    if of_policies.is_empty() {
        return cpuinfo_frequencies(&host.text("/proc/cpuinfo").unwrap_or_default());
    }
    of_policies
}

/// `processor` and `cpu MHz` lines, in the order they come.
fn cpuinfo_frequencies(text: &str) -> Vec<(u32, f64)> {
    let mut cpu = None;
    let mut found = Vec::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        match key.trim() {
            "processor" => cpu = value.trim().parse().ok(),
            "cpu MHz" => {
                let mhz = value.trim().parse().ok().filter(|mhz: &f64| mhz.is_finite() && *mhz > 0.0);
                found.extend(cpu.take().zip(mhz));
            }
            _ => {}
        }
    }
    found
}

/// Load of the last minute, as `/proc/loadavg` counts it: runnable and waiting tasks.
pub(super) fn average(host: &Host, ts_ms: i64, sample: &mut Sample) {
    let text = host.text("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    if let Some(load) = first.filter(|load| load.is_finite()) {
        sample.push(ts_ms, "load_avg", "1m".to_owned(), Some(load), "count");
    }
}

/// CPU times at the last sample.
#[derive(Debug, Default)]
pub(super) struct LastTimes(Option<Times>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    busy: u64,
    total: u64,
}

impl LastTimes {
    /// Part of all CPUs' time since the last sample that was not idle, percent. The first sample has none.
    pub(super) fn sample(&mut self, host: &Host, ts_ms: i64, sample: &mut Sample) {
        let now = host.text("/proc/stat").ok().and_then(|text| times(&text));
        let last = std::mem::replace(&mut self.0, now);
        let percent = last.zip(now).and_then(|(last, now)| {
            let busy = now.busy.checked_sub(last.busy)?;
            let total = now.total.checked_sub(last.total).filter(|total| *total > 0)?;
            (busy <= total).then(|| 100.0 * busy as f64 / total as f64)
        });
        if let Some(percent) = percent {
            sample.push(ts_ms, "cpu_load", "cpu/all".to_owned(), Some(percent), "percent");
        }
    }
}

/// The `cpu` line of `/proc/stat` (proc_stat(5)): user nice system idle iowait irq softirq steal; guest times are
/// counted in user already.
fn times(text: &str) -> Option<Times> {
    const IDLE: usize = 3;
    const IOWAIT: usize = 4;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let total = fields.iter().try_fold(0_u64, |sum, field| sum.checked_add(*field))?;
    let idle = fields.get(IDLE)?.checked_add(*fields.get(IOWAIT).unwrap_or(&0))?;
    Some(Times { busy: total.checked_sub(idle)?, total })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_count_waiting_as_idle() {
        let text = "cpu  10 1 5 80 4 0 0 0 3 0\ncpu0 10 1 5 80 4 0 0 0 3 0\n";
        assert_eq!(times(text), Some(Times { busy: 16, total: 100 }));
        for wrong in ["", "cpu0 1 2 3 4", "cpu  1 2", "cpu  1 2 x 4", "cpu  18446744073709551615 1 1 1"] {
            assert_eq!(times(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn frequencies_go_to_their_cpu() {
        let text =
            "processor : 0\ncpu MHz : 2000.5\n\nprocessor : 1\nmodel : x\n\nprocessor : 7\ncpu MHz : 3000\n";
        assert_eq!(cpuinfo_frequencies(text), [(0, 2000.5), (7, 3000.0)]);
        assert!(cpuinfo_frequencies("cpu MHz : 2000\nprocessor : 0\ncpu MHz : nan\n").is_empty());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "(cpu|processor|cpu MHz| |:|\\n|[0-9x.-]){0,60}") {
            let _ = times(&text);
            let _ = cpuinfo_frequencies(&text);
        }
    }
}
