//! What a worker does to its own process before it works: its name, where it runs, and that the kernel takes it first
//! when memory runs short.

#![expect(clippy::disallowed_methods, reason = "writes the process's own oom_score_adj")]

use std::ffi::CStr;

use nix::errno::Errno;
use nix::sched::CpuSet;
use nix::unistd::Pid;

/// A worker that could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The kernel refuses it the CPUs that it was told to work on.
    #[error("cannot run on CPU {cpus}")]
    Affinity {
        /// Which.
        cpus: String,
        /// Why.
        source: Errno,
    },
    /// The kernel refuses to bind its memory to the node.
    #[error("cannot bind memory to NUMA node {node}")]
    Bind {
        /// Which.
        node: u32,
        /// Why.
        source: Errno,
    },
    /// It gets no address space.
    #[error("cannot map {bytes} bytes")]
    Map {
        /// How much.
        bytes: u64,
        /// Why.
        source: Errno,
    },
    /// Its memory cannot be held in place.
    #[error("cannot lock memory: run as root, or raise `ulimit -l`")]
    Lock(#[source] Errno),
    /// Something of the machine cannot be read.
    #[error(transparent)]
    Host(#[from] crate::host::HostError),
    /// An event is no JSON.
    #[error("the result cannot be written as JSON")]
    Event(#[source] serde_json::Error),
    /// Standard output is gone.
    #[error("the result cannot be printed")]
    Print(#[source] std::io::Error),
}

/// Names the process for the kernel's log, and offers it first when memory runs short. Both are best effort: a worker
/// of an ordinary user may not always.
pub(super) fn settle(name: &CStr) {
    let _ = nix::sys::prctl::set_name(name);
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// Runs this thread, and those it starts from now on, on `cpus` only.
pub(super) fn run_on(cpus: &[u32]) -> Result<(), WorkerError> {
    let failed = |source| WorkerError::Affinity { cpus: format!("{cpus:?}"), source };
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(usize::try_from(*cpu).unwrap_or(usize::MAX)).map_err(failed)?;
    }
    nix::sched::sched_setaffinity(Pid::from_raw(0), &set).map_err(failed)
}
