//! The work on one GPU, in turns: all of its memory, its link, products, chains; until the time is over.

use std::time::Duration;

use crate::Work;
use crate::chain::Chain;
use crate::clock;
use crate::gpu::{Gpu, GpuError};
use crate::link::Link;
use crate::memory::Memory;
use crate::product::Product;

/// How long arithmetic goes on at a time, at least: shorter, and the GPU would not grow warm of it.
const BURST: Duration = Duration::from_secs(2);

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// For how long. Each part of the work is done once, whatever the time.
    pub duration: Duration,
    /// Memory that is tested at most, bytes.
    pub memory_bytes: u64,
    /// Rows and columns of the matrices, a multiple of 128.
    pub matrix: u32,
    /// Workgroups of chains.
    pub workgroups: u32,
    /// Size of the copies over the link, bytes.
    pub copy_bytes: u32,
}

impl Extent {
    /// What works a GPU of any size: all of its memory, and enough for the largest to do.
    pub fn full(duration: Duration) -> Self {
        Self { duration, memory_bytes: u64::MAX, matrix: 1024, workgroups: 4096, copy_bytes: 64 << 20 }
    }
}

/// Works a GPU.
///
/// # Errors
/// It is lost, hangs, has no free memory, or its driver refuses; or a fault that was planted to try the checks was not found.
pub fn work(gpu: &Gpu, extent: &Extent) -> Result<Work, GpuError> {
    let begun = clock::now();
    let products = Product::new(gpu, extent.matrix)?;
    let chains = Chain::new(gpu, extent.workgroups)?;
    let mut link = Link::new(gpu, extent.copy_bytes)?;
    let mut memory = Memory::take(gpu, extent.memory_bytes)?;
    products.prove()?;
    chains.prove()?;
    link.prove()?;
    memory.prove()?;
    let (mut product_pace, mut chain_pace) = (products.pace(), chains.pace());
    loop {
        let turn = clock::now();
        memory.round()?;
        link.round()?;
        let left = extent.duration.saturating_sub(begun.elapsed());
        let burst = turn.elapsed().max(BURST).min(left) / 2;
        product_pace.keep(burst, |times| products.make(times))?;
        chain_pace.keep(burst, |times| chains.go_through(times))?;
        if begun.elapsed() >= extent.duration {
            break;
        }
    }
    Ok(Work {
        gpu: gpu.identity().clone(),
        seconds: begun.elapsed().as_secs_f64(),
        memory: memory.report(),
        products: product_pace.report(),
        chains: chain_pace.report(),
        link: link.report(),
    })
}
