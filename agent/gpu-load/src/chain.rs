//! Long chains of whole-number arithmetic, whose ends the host knows. See `chain.wgsl`.

use crate::Wrong;
use crate::gpu::{Gpu, GpuError, Kernel};
use crate::pace::Pace;
use crate::patterns::hash;
use crate::tally::{self, Tally, WORKGROUP};

/// Steps of a chain.
const LENGTH: u32 = 1024;
/// Chains that differ, in groups of four.
const DIFFERENT: u32 = 256;
/// The chain in whose end a fault is planted.
const PLANTED: u32 = 9;

pub(crate) struct Chain<'g> {
    gpu: &'g Gpu,
    ends: wgpu::Buffer,
    kernel: Kernel,
    tally: Tally,
    workgroups: u32,
}

impl<'g> Chain<'g> {
    /// So many workgroups of them side by side.
    pub(crate) fn new(gpu: &'g Gpu, workgroups: u32) -> Result<Self, GpuError> {
        let tally = Tally::new(gpu)?;
        let ends = gpu.filled(&(0..4 * DIFFERENT).map(end).collect::<Vec<_>>())?;
        let shader = [tally::SHADER, include_str!("shaders/chain.wgsl")].concat();
        let constants = [("LENGTH", f64::from(LENGTH))];
        let kernel = gpu.kernel(&shader, "chain", &constants, &[(0, tally.buffer()), (1, &ends)])?;
        Ok(Self { gpu, ends, kernel, tally, workgroups })
    }

    /// Counts and times [`Self::go_through`].
    pub(crate) fn pace(&self) -> Pace {
        // each invocation has four chains
        Pace::new(u64::from(self.workgroups * WORKGROUP) * 4, LENGTH.into())
    }

    /// Compares with ends of which one is wrong, and looks whether each such chain is found to differ.
    pub(crate) fn prove(&self) -> Result<(), GpuError> {
        self.gpu.tell(&self.ends, PLANTED.into(), &[!end(PLANTED)]);
        let wrong = self.go_through(1)?;
        self.gpu.tell(&self.ends, PLANTED.into(), &[end(PLANTED)]);
        let alike = u64::from(self.workgroups * WORKGROUP / DIFFERENT);
        wrong.proves("chains", alike, |wrong| wrong.expected == !end(PLANTED))
    }

    /// All chains, this often, each end compared.
    pub(crate) fn go_through(&self, times: usize) -> Result<Wrong, GpuError> {
        self.gpu.start(&[(&self.kernel, [self.workgroups, 1, 1])].repeat(times));
        self.tally.take(self.gpu, |_, invocation| invocation.into())
    }
}

/// Where the chain that begins with `start` ends.
fn end(start: u32) -> u32 {
    (0..LENGTH).fold(start, |state, _| hash(state))
}
