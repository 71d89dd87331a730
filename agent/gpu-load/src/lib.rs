//! Work for one GPU with every answer checked, and the document that `gpu-load` prints of it.
//!
//! Owns the form of the document, and behind the feature `load` the work itself: patterns through the GPU's memory, products
//! of matrices and chains of whole numbers whose results the host knows, and copies over the link. It speaks Vulkan, so that
//! any GPU can be worked whose driver does. Refuses: software that stands in for a GPU, and answers that nobody checked.

use serde::{Deserialize, Serialize};

#[cfg(feature = "load")]
mod chain;
#[cfg(feature = "load")]
mod clock;
#[cfg(feature = "load")]
pub mod gpu;
#[cfg(feature = "load")]
mod link;
#[cfg(feature = "load")]
mod memory;
#[cfg(feature = "load")]
mod pace;
#[cfg(feature = "load")]
mod patterns;
#[cfg(feature = "load")]
mod product;
#[cfg(feature = "load")]
mod tally;
#[cfg(feature = "load")]
pub mod work;

/// The form of the document; another number is another form.
pub const FORMAT: u32 = 1;

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// [`FORMAT`].
    pub format: u32,
    /// What became of the load.
    pub load: Load,
}

/// What became of the load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Load {
    /// Vulkan has no GPU at this address: no loader (`libvulkan.so.1`), no driver, or another GPU.
    NoGpu {
        /// The GPUs that it has.
        others: Vec<Gpu>,
    },
    /// The GPU was there and is not any more: it hangs, or its driver gave it up.
    Lost {
        /// Which.
        gpu: Gpu,
        /// The driver's words.
        message: String,
    },
    /// The work could not be done, and that says nothing of the hardware.
    Failed {
        /// Why.
        message: String,
    },
    /// It was worked.
    Worked(Box<Work>),
}

/// A GPU as Vulkan knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// PCI address (`0000:3b:00.0`); empty where it has none.
    pub address: String,
    /// Its name.
    pub name: String,
    /// The driver's name and version.
    pub driver: String,
}

/// What was done, and what was wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Which GPU.
    pub gpu: Gpu,
    /// How long it was worked, seconds.
    pub seconds: f64,
    /// Patterns through its memory.
    pub memory: Memory,
    /// Products of matrices, in single precision.
    pub products: Arithmetic,
    /// Chains of whole numbers of 32 bits.
    pub chains: Arithmetic,
    /// Copies over its link.
    pub link: Link,
}

/// Memory, written and read with patterns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// How much was held and tested, bytes.
    pub tested_bytes: u64,
    /// How often all of it was gone through: written, read and inverted, read.
    pub rounds: u32,
    /// Read and written meanwhile, bytes a second.
    pub bytes_per_second: f64,
    /// Words of 32 bits that were not what was written.
    pub wrong: Wrong,
}

/// Arithmetic whose results are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arithmetic {
    /// How many results were compared.
    pub results: u64,
    /// Operations a second: additions and multiplications of products, hashes of chains.
    pub operations_per_second: f64,
    /// Results that were wrong.
    pub wrong: Wrong,
}

/// Copies between the host's memory and the GPU's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Copied each way, bytes.
    pub bytes: u64,
    /// To the GPU, a copy within the host's memory included, bytes a second.
    pub to_gpu_bytes_per_second: f64,
    /// From the GPU, bytes a second.
    pub from_gpu_bytes_per_second: f64,
    /// Words of 32 bits that came over wrong.
    pub wrong: Wrong,
}

/// What was wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrong {
    /// How many.
    pub count: u64,
    /// The first of them that were noted.
    pub first: Vec<Mismatch>,
}

/// One wrong word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mismatch {
    /// Where: in memory and over the link the word's number from the first that was tested; else the number of the result.
    pub place: u64,
    /// The bits that it should have.
    pub expected: u32,
    /// The bits that it had.
    pub found: u32,
}
