//! What a fleet's coordinator acknowledged, and how long that took.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use rusqlite::Connection;
use vetting_protocol::ids::RunId;

/// Counts acknowledged samples.
#[derive(Debug, Default)]
pub struct Tally {
    samples: AtomicU64,
    of_runs: Mutex<BTreeMap<i64, u64>>,
    latencies: Mutex<Vec<Duration>>,
}

/// Quantiles of the times from a batch's way out to its acknowledgement.
#[derive(Debug, Clone, Copy)]
pub struct Latencies {
    /// Batches.
    pub count: usize,
    /// Median.
    pub p50: Duration,
    /// 99th percentile.
    pub p99: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Tally {
    pub(super) fn acknowledged(&self, run: RunId, samples: u64, latency: Duration) {
        self.samples.fetch_add(samples, Ordering::Relaxed);
        let mut of_runs = self.of_runs.lock().unwrap_or_else(PoisonError::into_inner);
        *of_runs.entry(run.0).or_default() += samples;
        drop(of_runs);
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(latency);
    }

    /// Acknowledged so far.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// The times since the last call.
    ///
    /// # Errors
    /// There are none.
    pub fn take_latencies(&self) -> anyhow::Result<Latencies> {
        let mut all = std::mem::take(&mut *self.latencies.lock().unwrap_or_else(PoisonError::into_inner));
        all.sort_unstable();
        let quantile = |hundredths: usize| all.get((all.len() * hundredths / 100).min(all.len().max(1) - 1));
        let (Some(p50), Some(p99), Some(longest)) = (quantile(50), quantile(99), all.last()) else {
            anyhow::bail!("nothing was acknowledged");
        };
        Ok(Latencies { count: all.len(), p50: *p50, p99: *p99, longest: *longest })
    }

    /// Every acknowledged sample is in the database, once.
    pub fn ensure_stored(&self, database: &Connection) -> anyhow::Result<()> {
        let of_runs = self.of_runs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = database.prepare("SELECT count(*) FROM measurements WHERE run_id = ?1")?;
        for (run, acknowledged) in &*of_runs {
            let stored: i64 = count.query_row([run], |row| row.get(0))?;
            ensure!(
                u64::try_from(stored)? == *acknowledged,
                "run {run}: {acknowledged} samples were acknowledged, {stored} are stored"
            );
        }
        Ok(())
    }
}
