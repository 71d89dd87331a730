//! Long chains of whole-number arithmetic, whose ends the host knows. See `chain.wgsl`.

use std::time::Duration;

use crate::gpu::{Gpu, GpuError, Kernel};
use crate::pace::Pace;
use crate::patterns::hash;
use crate::tally::{self, Tally, WORKGROUP};
use crate::{Arithmetic, Wrong};

/// Steps of a chain.
const LENGTH: u32 = 1024;
/// Chains that differ, in groups of four.
const DIFFERENT: u32 = 256;
/// The chain in whose end a fault is planted.
const PLANTED: u32 = 9;

pub(crate) struct Chain<'g> {
    links: Links<'g>,
    ends: wgpu::Buffer,
    pace: Pace,
}

/// What goes through all chains.
struct Links<'g> {
    gpu: &'g Gpu,
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
        // each invocation has four chains
        let pace = Pace::new(u64::from(workgroups * WORKGROUP) * 4, LENGTH.into());
        Ok(Self { links: Links { gpu, kernel, tally, workgroups }, ends, pace })
    }

    /// Compares with ends of which one is wrong, and looks whether each such chain is found to differ.
    pub(crate) fn prove(&self) -> Result<(), GpuError> {
        let Links { gpu, workgroups, .. } = self.links;
        gpu.tell(&self.ends, PLANTED.into(), &[!end(PLANTED)]);
        let wrong = self.links.go_through(1)?;
        gpu.tell(&self.ends, PLANTED.into(), &[end(PLANTED)]);
        let alike = u64::from(workgroups * WORKGROUP / DIFFERENT);
        wrong.proves("chains", alike, |wrong| wrong.expected == !end(PLANTED))
    }

    /// Works for this long.
    pub(crate) fn burst(&mut self, duration: Duration) -> Result<(), GpuError> {
        self.pace.keep(duration, |times| self.links.go_through(times))
    }

    pub(crate) fn report(self) -> Arithmetic {
        self.pace.report()
    }
}

impl Links<'_> {
    /// All chains, this often, each end compared.
    fn go_through(&self, times: usize) -> Result<Wrong, GpuError> {
        self.gpu.start(&[(&self.kernel, [self.workgroups, 1, 1])].repeat(times));
        self.tally.take(self.gpu, |_, invocation| invocation.into())
    }
}

/// Where the chain that begins with `start` ends.
fn end(start: u32) -> u32 {
    (0..LENGTH).fold(start, |state, _| hash(state))
}
