//! What a process uses, as the kernel counts it, and processes that end with their owner.

use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Memory and CPU time of one process, all its threads together, without its children.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// User and system time since its start. From its CPU clock: `/proc/PID/stat` counts the same in steps of 10 ms.
    pub(super) cpu: Duration,
    /// `Rss` of `/proc/PID/smaps_rollup`.
    pub(super) rss_kib: u64,
    /// `Pss` of it: pages shared with others count in part.
    pub(super) pss_kib: u64,
}

/// Reads what `pid` uses.
pub(super) fn usage(pid: Pid) -> anyhow::Result<Usage> {
    let cpu = clock_gettime(clock_getcpuclockid(pid)?)?;
    let path = PathBuf::from(format!("/proc/{pid}/smaps_rollup"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    Ok(Usage { cpu: cpu.into(), rss_kib: kib(&text, "Rss")?, pss_kib: kib(&text, "Pss")? })
}

fn kib(rollup: &str, name: &str) -> anyhow::Result<u64> {
    rollup
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok())
        .with_context(|| format!("smaps_rollup has no {name}"))
}

/// A process of ours. Asked to end when dropped, and killed when it does not.
#[derive(Debug)]
pub(super) struct Owned {
    name: &'static str,
    child: Child,
}

impl Owned {
    pub(super) fn new(name: &'static str, child: Child) -> Self {
        Self { name, child }
    }

    pub(super) fn pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(self.child.id().try_into()?))
    }

    /// An error when it has ended by itself.
    pub(super) fn ensure_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended too early: {status}", self.name),
        }
    }

    /// Asks it to end, so that it can end its children, and waits.
    fn end(&mut self, patience: Duration) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill(self.pid()?, Signal::SIGTERM)?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill()?;
        self.child.wait()?;
        bail!("{} did not end when asked and was killed", self.name)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Err(error) = self.end(Duration::from_secs(20)) {
            eprintln!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let before = usage(Pid::this()).unwrap();
        assert!(before.rss_kib > 0 && before.pss_kib > 0 && before.pss_kib <= before.rss_kib, "{before:?}");
        let mut sum = 0_u64;
        while usage(Pid::this()).unwrap().cpu == before.cpu {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }

    #[test]
    fn a_rollup_without_the_line_is_an_error() {
        assert_eq!(kib("Rss:     1856 kB\nPss:  272 kB\n", "Pss").unwrap(), 272);
        assert!(kib("Rss:     1856 kB\n", "Pss").is_err());
        assert!(kib("Pss:     many kB\n", "Pss").is_err());
    }
}
