//! `memory-worker`: fills the memory of one NUMA node with patterns and checks that it keeps them.
//!
//! One thread a CPU of the node, each with its own part. Memory is taken piece by piece, and no more when too little is
//! left for everybody else. Everything written goes past the caches and everything read comes from memory. A word that
//! is not as written is told with its virtual and physical address and read once more: what is wrong again is stuck,
//! what is right then was lost on the way.

mod patterns;
mod region;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::process::{WorkerError, run_on, settle};
use super::tell;
use crate::clock;
use crate::host::Host;
use patterns::{Attendant, Cells as _, Mismatch};
use region::Region;

/// Memory is taken in pieces of at most this, and at least [`HUGE_PAGE_BYTES`].
const PIECE_BYTES: usize = 32 * 1024 * 1024;
const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;
/// Parts of the memory begin and end with pages.
const PAGE_BYTES: usize = 4096;
/// Most faults that are told one by one; all are counted.
const TOLD_FAULTS: u64 = 100;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct MemoryWork {
    /// NUMA node to take memory of; without it, anywhere
    #[arg(long)]
    pub node: Option<u32>,
    /// Logical CPUs to work on, one thread each
    #[arg(long, value_delimiter = ',', required = true)]
    pub cpus: Vec<u32>,
    /// Memory to take, bytes
    #[arg(long)]
    pub bytes: u64,
    /// Available memory of the machine to leave at least, bytes
    #[arg(long)]
    pub leave: u64,
    /// Time after which no further pattern begins; the first one always goes to its end
    #[arg(long)]
    pub duration_ms: u64,
    /// How long bits are left alone to fade; 0 leaves that out
    #[arg(long)]
    pub fade_ms: u64,
    /// Seed of the pseudo-random contents
    #[arg(long)]
    pub seed: u64,
}

/// What it tells, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum MemoryEvent {
    /// A word that was not as written. The first ones of many.
    Fault(MemoryFault),
    /// The end, with all its threads added up.
    Done(MemoryDone),
}

/// A word of memory that was not as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryFault {
    /// The pattern that found it.
    pub pattern: String,
    /// Of the word, in the worker.
    pub virtual_address: u64,
    /// Of the word, in the machine; absent where the kernel does not tell.
    pub physical_address: Option<u64>,
    /// What was written.
    pub expected: u64,
    /// What was read.
    pub actual: u64,
    /// What was read when it was read from memory once more.
    pub reread: u64,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryDone {
    /// Memory that kept at least one whole pattern or was found not to.
    pub verified_bytes: u64,
    /// Rounds of all patterns that every thread finished.
    pub rounds: u64,
    /// Patterns that every thread finished.
    pub patterns: u64,
    /// Bytes read and written.
    pub moved_bytes: u64,
    /// Time that the threads were reading and writing, the mean over them.
    pub moving_ms: u64,
    /// Words that were not as written, each time they were read.
    pub faults: u64,
}

/// What the threads share.
struct Shared<'w> {
    work: &'w MemoryWork,
    host: Host,
    deadline: Instant,
    faults: AtomicU64,
    broken: AtomicBool,
}

/// What one thread did.
struct Part {
    verified_bytes: u64,
    patterns: u64,
    rounds: u64,
    moved_bytes: u64,
    moving: Duration,
}

/// Does it and tells it.
pub fn run(work: &MemoryWork) -> Result<(), WorkerError> {
    settle(c"memory-worker");
    run_on(&work.cpus)?;
    if let Some(node) = work.node {
        region::bind_to(node)?;
    }
    let shared = Shared {
        work,
        host: Host::live(),
        deadline: clock::monotonic() + Duration::from_millis(work.duration_ms),
        faults: AtomicU64::new(0),
        broken: AtomicBool::new(false),
    };
    let threads = work.cpus.len();
    let bytes = usize::try_from(work.bytes).unwrap_or(usize::MAX) / threads / PAGE_BYTES * PAGE_BYTES;
    let parts: Result<Vec<Part>, WorkerError> = std::thread::scope(|scope| {
        let running: Vec<_> = work
            .cpus
            .iter()
            .map(|cpu| {
                let shared = &shared;
                scope.spawn(move || {
                    let done = run_on(&[*cpu]).and_then(|()| thread(shared, bytes));
                    if done.is_err() {
                        shared.broken.store(true, Ordering::Relaxed);
                    }
                    done
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let parts = parts?;
    let least = |of: fn(&Part) -> u64| parts.iter().map(of).min().unwrap_or(0);
    let sum = |of: fn(&Part) -> u64| parts.iter().map(of).sum();
    let moving =
        parts.iter().map(|part| part.moving).sum::<Duration>() / u32::try_from(threads).unwrap_or(u32::MAX);
    tell(&MemoryEvent::Done(MemoryDone {
        verified_bytes: sum(|part| part.verified_bytes),
        rounds: least(|part| part.rounds),
        patterns: least(|part| part.patterns),
        moved_bytes: sum(|part| part.moved_bytes),
        moving_ms: u64::try_from(moving.as_millis()).unwrap_or(u64::MAX),
        faults: shared.faults.load(Ordering::Relaxed),
    }))
}

fn thread(shared: &Shared<'_>, bytes: usize) -> Result<Part, WorkerError> {
    let mut region = Region::map(bytes)?;
    take(shared, &mut region, bytes)?;
    let mut part = Part { verified_bytes: 0, patterns: 0, rounds: 0, moved_bytes: 0, moving: Duration::ZERO };
    if region.len() == 0 {
        return Ok(part);
    }
    for round in 0.. {
        for pattern in patterns::round(round, shared.work.seed, shared.work.fade_ms > 0) {
            let begin = clock::monotonic();
            let mut overseer = Overseer {
                shared,
                pattern: pattern.name,
                must_end: part.patterns == 0,
                start_address: region.start_address(),
                moved_bytes: 0,
                waited: Duration::ZERO,
            };
            let ended = pattern.run(&mut region, &mut overseer);
            part.moved_bytes += overseer.moved_bytes;
            part.moving += begin.elapsed().saturating_sub(overseer.waited);
            if !ended {
                return Ok(part);
            }
            part.patterns += 1;
            part.verified_bytes = region.locked_bytes() as u64;
        }
        part.rounds += 1;
    }
    Ok(part)
}

/// Takes memory piece by piece, as long as enough is left also when every thread takes a piece at once. Where memory is
/// scarce the pieces get smaller, so that what is left is no more than has to be.
fn take(shared: &Shared<'_>, region: &mut Region, bytes: usize) -> Result<(), WorkerError> {
    let share = usize::try_from(shared.work.leave).unwrap_or(usize::MAX) / shared.work.cpus.len();
    let largest = share.clamp(HUGE_PAGE_BYTES, PIECE_BYTES) / PAGE_BYTES * PAGE_BYTES;
    while region.locked_bytes() < bytes && !shared.broken.load(Ordering::Relaxed) {
        let wanted = largest.min(bytes - region.locked_bytes());
        let left = shared.host.meminfo()?.available_bytes.saturating_sub(shared.work.leave);
        let piece = wanted.min(usize::try_from(left).unwrap_or(usize::MAX)) / PAGE_BYTES * PAGE_BYTES;
        if piece < wanted.min(HUGE_PAGE_BYTES) {
            break;
        }
        region.take(piece)?;
    }
    Ok(())
}

/// What a thread does beside its patterns.
struct Overseer<'s, 'w> {
    shared: &'s Shared<'w>,
    pattern: &'static str,
    /// Also when the time is over.
    must_end: bool,
    start_address: u64,
    moved_bytes: u64,
    waited: Duration,
}

impl Overseer<'_, '_> {
    fn goes_on(&self) -> bool {
        !self.shared.broken.load(Ordering::Relaxed)
            && (self.must_end || clock::monotonic() < self.shared.deadline)
    }
}

impl Attendant for Overseer<'_, '_> {
    fn mismatch(&mut self, mismatch: Mismatch) {
        if self.shared.faults.fetch_add(1, Ordering::Relaxed) >= TOLD_FAULTS {
            return;
        }
        let virtual_address = self.start_address + mismatch.at as u64 * 8;
        let fault = MemoryFault {
            pattern: self.pattern.to_owned(),
            virtual_address,
            physical_address: self.shared.host.physical_address(virtual_address).ok().flatten(),
            expected: mismatch.expected,
            actual: mismatch.actual,
            reread: mismatch.reread,
        };
        // a fault that cannot be told must not be lost: without its last line the worker is not believed
        if tell(&MemoryEvent::Fault(fault)).is_err() {
            self.shared.broken.store(true, Ordering::Relaxed);
        }
    }

    fn moved(&mut self, bytes: u64) -> bool {
        self.moved_bytes += bytes;
        self.goes_on()
    }

    fn wait(&mut self) -> bool {
        let fade = Duration::from_millis(self.shared.work.fade_ms);
        let begin = clock::monotonic();
        let left = self.shared.deadline.saturating_duration_since(begin);
        // no fade that could not be looked at in time
        if fade > left {
            return false;
        }
        std::thread::sleep(fade);
        self.waited += begin.elapsed();
        self.goes_on()
    }
}
