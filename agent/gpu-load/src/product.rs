//! Products of matrices in single precision, each element compared with the host's. See `product.wgsl`.

use crate::Wrong;
use crate::gpu::{Gpu, GpuError, Kernel};
use crate::pace::Pace;
use crate::tally::{self, Tally};

/// Rows and columns that a workgroup makes, as the shader has it.
const SQUARE: u32 = 128;
/// Columns and rows that a workgroup compares.
const COMPARED: [u32; 2] = [64, 16];
/// How many equal products are made side by side, so that the largest GPU has enough to do.
const COPIES: u32 = 16;
/// Elements are whole numbers from -this to this: a sum of 1,024 products stays far below 2^24, up to which single
/// precision is exact.
const LARGEST: i32 = 4;
/// The seed of the matrices.
const SEED: u64 = 0x7e57;

/// The element in whose reference a fault is planted.
const PLANTED: usize = 1029;

pub(crate) struct Product<'g> {
    gpu: &'g Gpu,
    size: u32,
    multiply: Kernel,
    compare: Kernel,
    tally: Tally,
    reference: wgpu::Buffer,
    /// What the reference has where a fault is planted.
    right: u32,
}

impl<'g> Product<'g> {
    /// Of matrices with this many rows and columns, a multiple of 128.
    pub(crate) fn new(gpu: &'g Gpu, size: u32) -> Result<Self, GpuError> {
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut matrix = || (0..size * size).map(|_| random.i32(-LARGEST..=LARGEST)).collect::<Vec<_>>();
        let (left, right) = (matrix(), matrix());
        let known = bits(&multiplied(&left, &right, size as usize));
        let reference = gpu.filled(&known)?;
        let left = gpu.filled(&bits(&transposed(&left, size as usize)))?;
        let right = gpu.filled(&bits(&right))?;
        let product = gpu.buffer(u64::from(size * size * COPIES) * 4)?;
        let tally = Tally::new(gpu)?;
        let shader = [tally::SHADER, include_str!("shaders/product.wgsl")].concat();
        let constants = [("SIZE", f64::from(size))];
        let multiply =
            gpu.kernel(&shader, "multiply", &constants, &[(1, &left), (2, &right), (3, &product)])?;
        let compared = [(0, tally.buffer()), (3, &product), (4, &reference)];
        let compare = gpu.kernel(&shader, "compare", &constants, &compared)?;
        Ok(Self { gpu, size, multiply, compare, tally, reference, right: known[PLANTED] })
    }

    /// Counts and times [`Self::make`].
    pub(crate) fn pace(&self) -> Pace {
        // a multiplication and an addition each
        Pace::new(u64::from(self.size * self.size * COPIES), 2.0 * f64::from(self.size))
    }

    /// Compares with a reference in which one element is wrong, and looks whether each copy is found to differ there.
    pub(crate) fn prove(&self) -> Result<(), GpuError> {
        // no product has a half in it
        let planted = 0.5_f32.to_bits();
        self.gpu.tell(&self.reference, PLANTED as u64, &[planted]);
        let wrong = self.make(1)?;
        self.gpu.tell(&self.reference, PLANTED as u64, &[self.right]);
        wrong.proves("products", COPIES.into(), |wrong| wrong.expected == planted)
    }

    /// The product in all its copies, this often, each compared.
    pub(crate) fn make(&self, times: usize) -> Result<Wrong, GpuError> {
        let squares = [self.size / SQUARE, self.size / SQUARE, COPIES];
        let compared = [self.size / COMPARED[0], self.size / COMPARED[1], COPIES];
        self.gpu.start(&[(&self.multiply, squares), (&self.compare, compared)].repeat(times));
        self.tally.take(self.gpu, |_, element| element.into())
    }
}

fn multiplied(left: &[i32], right: &[i32], size: usize) -> Vec<i32> {
    let mut product = vec![0; size * size];
    for (row, sums) in left.chunks_exact(size).zip(product.chunks_exact_mut(size)) {
        for (factor, line) in row.iter().zip(right.chunks_exact(size)) {
            for (sum, element) in sums.iter_mut().zip(line) {
                *sum += factor * element;
            }
        }
    }
    product
}

fn transposed(matrix: &[i32], size: usize) -> Vec<i32> {
    (0..size * size).map(|place| matrix[place % size * size + place / size]).collect()
}

/// As single precision has them.
#[expect(
    clippy::cast_possible_truncation,
    reason = "all are far below 2^24, where single precision is exact"
)]
fn bits(numbers: &[i32]) -> Vec<u32> {
    numbers.iter().map(|number| (f64::from(*number) as f32).to_bits()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_product_is_the_product() {
        assert_eq!(multiplied(&[1, 2, 3, 4], &[5, 6, 7, 8], 2), [19, 22, 43, 50]);
        assert_eq!(transposed(&[1, 2, 3, 4], 2), [1, 3, 2, 4]);
        assert_eq!(bits(&[0, -3, 16_384]), [0.0_f32.to_bits(), (-3.0_f32).to_bits(), 16_384.0_f32.to_bits()]);
    }
}
