//! What the kernel saw while the machine was worked: machine checks, pages of memory given up, workers killed for
//! memory. Judges only what leaves no doubt; counts are for thresholds.

use vetting_protocol::outcome::Outcome;

use super::StageContext;
use crate::host::{Host, HostError, KernelLog};
use crate::inventory::dimm_map::DimmMap;
use crate::sensors::kernel_log::{Class, classify};

/// The kernel from some moment on: machine check exceptions (`MCE` of `/proc/interrupts`) and its log.
pub(super) struct KernelWatch<'h> {
    host: &'h Host,
    log: KernelLog,
    exceptions: u64,
}

/// What it saw.
struct Seen {
    exceptions: u64,
    /// Reports of machine checks in the log, such as corrected errors that were found by polling.
    logged: u64,
    /// Lines of its memory failure handling.
    memory_failures: Vec<String>,
    /// Lines of workers being killed for memory.
    out_of_memory: Vec<String>,
}

impl<'h> KernelWatch<'h> {
    pub(super) fn from_now(host: &'h Host) -> Result<Self, HostError> {
        Ok(Self { host, log: host.kernel_log_from_now()?, exceptions: exceptions(host)? })
    }

    /// Counts what came since, and judges what leaves no doubt; the count is told, too. Where it could not be watched the
    /// measurement has no value, so that no rule takes it for a good one.
    pub(super) fn conclude(
        watch: Result<Self, HostError>,
        context: &StageContext<'_>,
        dimms: &DimmMap,
    ) -> (Outcome, Option<f64>) {
        let seen = watch.and_then(Self::seen);
        let count = seen.as_ref().ok().map(|seen| seen.machine_checks() as f64);
        context.measure("stress", "mce/new", count, "count");
        let outcome = match seen {
            Ok(seen) => seen.outcome(dimms),
            Err(error) => Outcome::error(format!("machine checks cannot be counted: {}", error.reason())),
        };
        (outcome, count)
    }

    fn seen(mut self) -> Result<Seen, HostError> {
        let messages = self.log.new_messages()?;
        let those = |wanted: fn(&str) -> bool| -> Vec<String> {
            messages.iter().filter(|message| wanted(message)).cloned().collect()
        };
        Ok(Seen {
            exceptions: exceptions(self.host)?.saturating_sub(self.exceptions),
            logged: those(is_machine_check).len() as u64,
            memory_failures: those(is_memory_failure),
            out_of_memory: those(is_out_of_memory),
        })
    }
}

impl Seen {
    /// How many, at least.
    fn machine_checks(&self) -> u64 {
        self.exceptions.max(self.logged)
    }

    /// Machine checks that were only logged may have been corrected: those are for a threshold to judge.
    /// `dimms` tells the slot of memory that the kernel found broken.
    fn outcome(&self, dimms: &DimmMap) -> Outcome {
        let exceptions = match self.exceptions {
            0 => Outcome::Pass,
            count => Outcome::fail(format!("{count} machine check exceptions under load")),
        };
        let memory_failure = self.memory_failures.first().map_or(Outcome::Pass, |line| {
            let slots = broken_page(line)
                .map_or_else(String::new, |at| format!(" ({at:#x}: {})", dimms.slots_of(at)));
            Outcome::fail(format!("the kernel found memory that is broken{slots}: {line}"))
        });
        let out_of_memory = self.out_of_memory.first().map_or(Outcome::Pass, |line| {
            Outcome::error(format!("the kernel killed a worker for memory, so it verified nothing: {line}"))
        });
        Outcome::worst_of([exceptions, memory_failure, out_of_memory], "")
    }
}

/// The line that begins the report of one or more; the lines of its parts are left out.
fn is_machine_check(message: &str) -> bool {
    is_of(message, Class::MachineCheck)
}

fn is_of(message: &str, class: Class) -> bool {
    classify(message).is_some_and(|found| found.class == class)
}

/// mm/memory-failure.c: `Memory failure: 0x1f2e3: Sending SIGBUS to stress-ng-vm:412 due to hardware memory corruption`.
fn is_memory_failure(message: &str) -> bool {
    is_of(message, Class::HardwareError)
        && (message.contains("Memory failure:") || message.contains("Sending SIGBUS"))
}

/// The physical address of the page in such a line, which has its frame number.
fn broken_page(line: &str) -> Option<u64> {
    const PAGE_BYTES: u64 = 4096;
    let (_, rest) = line.split_once("Memory failure: 0x")?;
    let digits = rest.split(|character: char| !character.is_ascii_hexdigit()).next()?;
    u64::from_str_radix(digits, 16).ok()?.checked_mul(PAGE_BYTES)
}

/// mm/oom_kill.c: `Out of memory: Killed process 412 (stress-ng-vm) total-vm:…`; of a cgroup in lower case.
fn is_out_of_memory(message: &str) -> bool {
    const WORKERS: [&str; 3] = ["(stress-ng", "(memory-worker)", "(cpu-worker)"];
    is_of(message, Class::OutOfMemory) && WORKERS.iter().any(|worker| message.contains(worker))
}

/// Sum over the CPUs; a machine without that line has none of them.
fn exceptions(host: &Host) -> Result<u64, HostError> {
    let text = host.text("/proc/interrupts")?;
    let row = text.lines().find_map(|line| line.trim_start().strip_prefix("MCE:"));
    Ok(row.into_iter().flat_map(str::split_whitespace).map_while(|word| word.parse::<u64>().ok()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_page_has_its_address_in_the_line() {
        let line =
            "Memory failure: 0x1f2e3: Sending SIGBUS to memory-worker:412 due to hardware memory corruption";
        assert!(is_memory_failure(line));
        assert_eq!(broken_page(line), Some(0x1f2_e3000));
        assert_eq!(broken_page("MCE: Killing stress-ng:9 due to hardware memory corruption"), None);
        assert_eq!(broken_page("Memory failure: 0x"), None);
        assert_eq!(broken_page("Memory failure: 0xffffffffffffffff: x"), None);
    }

    #[test]
    fn our_own_workers_killed_for_memory_are_seen() {
        for worker in ["stress-ng-vm", "memory-worker", "cpu-worker"] {
            assert!(is_out_of_memory(&format!("Out of memory: Killed process 412 ({worker}) total-vm:1kB")));
        }
        assert!(!is_out_of_memory("Out of memory: Killed process 412 (sshd) total-vm:1kB"));
    }
}
