//! Where kernels count wrong answers: see `tally.wgsl`.

use crate::gpu::{Gpu, GpuError};
use crate::{Mismatch, Wrong};

/// What every shader begins with.
pub(crate) const SHADER: &str = include_str!("shaders/tally.wgsl");
/// Invocations of a workgroup in the shaders of memory and of chains.
pub(crate) const WORKGROUP: u32 = 256;
/// How many are kept.
pub(crate) const KEPT: usize = 8;
/// The count, which has the room of one that is kept, and those.
const WORDS: usize = 4 * (KEPT + 1);

pub(crate) struct Tally {
    buffer: wgpu::Buffer,
    landing: wgpu::Buffer,
}

impl Tally {
    pub(crate) fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        Ok(Self { buffer: gpu.buffer(4 * WORDS as u64)?, landing: gpu.landing(4 * WORDS as u64) })
    }

    pub(crate) fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// Waits for the kernels, and takes what they counted since the last time. `place` makes a place of its two halves.
    pub(crate) fn take(&self, gpu: &Gpu, place: impl Fn(u32, u32) -> u64) -> Result<Wrong, GpuError> {
        gpu.copy(&self.buffer, &self.landing);
        let words = gpu.landed(&self.landing)?;
        gpu.tell(&self.buffer, 0, &[0; WORDS]);
        let count = u64::from(words[0]);
        let kept = usize::try_from(count).unwrap_or(KEPT).min(KEPT);
        let (records, _) = words[4..].as_chunks::<4>();
        let first = records[..kept]
            .iter()
            .map(|&[high, low, expected, found]| Mismatch { place: place(high, low), expected, found })
            .collect();
        Ok(Wrong { count, first })
    }
}

impl Wrong {
    /// Adds what was found later.
    pub(crate) fn add(&mut self, later: Self) {
        self.count = self.count.saturating_add(later.count);
        self.first.extend(later.first);
        self.first.truncate(KEPT);
    }

    /// Whether a fault that was planted `planted` times was found. More may be wrong, which the work will find again.
    pub(crate) fn proves(
        &self,
        what: &'static str,
        planted: u64,
        is_planted: impl Fn(&Mismatch) -> bool,
    ) -> Result<(), GpuError> {
        let all_kept = self.count == self.first.len() as u64;
        if self.count < planted || (all_kept && !self.first.iter().any(is_planted)) {
            return Err(GpuError::Blind { what, found: self.count, planted });
        }
        Ok(())
    }
}
