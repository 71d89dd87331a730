//! Computations whose answers are known: they go through the units of a CPU that silent data corruption was seen in
//! (Hochschild et al., "Cores that don't count"; Dixit et al., "Silent Data Corruptions at Scale"): integer, bit and
//! floating-point arithmetic, vectors with fused multiplication, and the special instructions for checksums, hashes and
//! ciphers, where the CPU has them. Every answer is the same on every sound CPU, with and without these.

use std::hint::black_box;

use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::Digest as _;

use crate::workers::splitmix;

/// Every workload is run with each of these.
pub const SEEDS: [u64; 4] = [1, 0x5eed, 0x5555_5555_5555_5555, u64::MAX];

/// A computation.
#[derive(Debug)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// What it gives for a seed.
    pub answer: fn(u64) -> u64,
    /// What it has to give, seed by seed.
    pub known: [u64; SEEDS.len()],
}

/// An answer that means: what was packed or sealed did not come out again as it went in.
pub const LOST: u64 = 0;

/// All of them.
pub static WORKLOADS: &[Workload] = &[
    Workload {
        name: "crc32c",
        answer: checksum,
        known: [0x0000_0000_54dc_4146, 0x0000_0000_bea4_10a3, 0x0000_0000_5b48_0613, 0x0000_0000_9b5a_48ac],
    },
    Workload {
        name: "sha256",
        answer: hash,
        known: [0x35ea_2c1a_f972_d265, 0x78d6_1139_58f6_e211, 0xfa29_0ff0_d71f_5c6c, 0xfc57_fc8e_ab40_323c],
    },
    Workload {
        name: "aes256_gcm",
        answer: aes,
        known: [0x8e8e_9892_b897_1355, 0xda50_52a6_e756_7d2b, 0x7214_5652_d9b1_202e, 0x9eff_89be_c631_322b],
    },
    Workload {
        name: "chacha20_poly1305",
        answer: chacha,
        known: [0x4f53_82ea_e343_6133, 0xc775_e3f8_c96a_44a9, 0xa34c_1f12_36b8_d320, 0x5fb0_2774_908e_b106],
    },
    Workload {
        name: "deflate",
        answer: deflate,
        known: [0xf084_e6ac_3ab1_ba89, 0xe9aa_19f8_5bad_8093, 0x3750_64cb_3cc9_ce37, 0x56e1_f073_8935_05df],
    },
    Workload {
        name: "integer",
        answer: integer,
        known: [0x9977_8128_af87_f704, 0xe0d7_a66f_4b15_ec58, 0x9272_445b_0a37_bd3f, 0x7c24_c936_6ff7_b332],
    },
    Workload {
        name: "bits",
        answer: bits,
        known: [0xfcd7_f6dc_0d19_f91f, 0xfb4d_fddf_b804_fdcf, 0xbbd7_bcfa_2762_340e, 0xe63e_d73f_65d3_c7c5],
    },
    Workload {
        name: "float",
        answer: float,
        known: [0x7835_7a10_73eb_f271, 0xf42a_3333_a9c9_31d6, 0x6e50_93f7_b942_0c8b, 0x02f4_5676_e7c2_c7fc],
    },
    Workload {
        name: "matrix",
        answer: matrix,
        known: [0xfff1_2b07_9dba_28fd, 0x5f59_7401_64cb_30c1, 0xf1d5_c8e9_2093_07f8, 0x4ec6_7a9d_e43a_e6f0],
    },
    Workload {
        name: "matrix_fused",
        answer: matrix_fused,
        known: [0xe962_570a_e71a_0c63, 0xea87_2ec5_0006_2abb, 0xa144_b3ba_92d5_2204, 0x4f96_5764_ea39_7db4],
    },
];

fn bytes(seed: u64, count: usize) -> Vec<u8> {
    (0..count as u64 / 8).flat_map(|at| splitmix(seed.wrapping_add(at)).to_le_bytes()).collect()
}

/// Mixes words into one.
fn fold(words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(0x6a09_e667_f3bc_c908, |sum, word| splitmix(sum ^ word))
}

fn fold_bytes(bytes: &[u8]) -> u64 {
    fold(bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    }))
}

fn checksum(seed: u64) -> u64 {
    let data = bytes(black_box(seed), 64 * 1024);
    u64::from(crc32c::crc32c(&data))
}

fn hash(seed: u64) -> u64 {
    fold_bytes(&sha2::Sha256::digest(bytes(black_box(seed), 32 * 1024)))
}

fn aes(seed: u64) -> u64 {
    cipher(&AES_256_GCM, seed).unwrap_or(LOST)
}

fn chacha(seed: u64) -> u64 {
    cipher(&CHACHA20_POLY1305, seed).unwrap_or(LOST)
}

/// Ciphertext and tag, if they open again to what was sealed.
fn cipher(algorithm: &'static Algorithm, seed: u64) -> Option<u64> {
    let seed = black_box(seed);
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &bytes(!seed, 32)).ok()?);
    // the same for every run: the answer has to be the same, and nothing is secret
    let nonce = || Nonce::assume_unique_for_key([7; 12]);
    let plain = bytes(seed, 16 * 1024);
    let mut sealed = plain.clone();
    key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed).ok()?;
    let answer = fold_bytes(&sealed);
    let opened = key.open_in_place(nonce(), Aad::empty(), &mut sealed).ok()?;
    (*opened == *plain).then_some(answer)
}

/// Compressed data, if it gives back what was compressed.
fn deflate(seed: u64) -> u64 {
    // few different bytes, so that there is something to find
    let plain: Vec<u8> = bytes(black_box(seed), 8 * 1024).into_iter().map(|byte| byte & 0x11).collect();
    let packed = miniz_oxide::deflate::compress_to_vec(&plain, 6);
    let unpacked = miniz_oxide::inflate::decompress_to_vec(&packed);
    if unpacked.is_ok_and(|unpacked| unpacked == plain) { fold_bytes(&packed) } else { LOST }
}

/// Wide multiplication, division and remainder.
#[expect(clippy::cast_possible_truncation, reason = "the two halves of a product")]
fn integer(seed: u64) -> u64 {
    let mut sum = black_box(seed);
    for at in 0..20_000_u64 {
        let word = splitmix(seed.wrapping_add(at)) | 1;
        let product = u128::from(sum).wrapping_mul(u128::from(word));
        let [low, high] = [product as u64, (product >> 64) as u64];
        sum = low ^ high.rotate_left(17) ^ (u64::MAX / word).wrapping_add(sum % word);
    }
    sum
}

/// Counting, shifting and swapping of bits, with and without carry.
fn bits(seed: u64) -> u64 {
    let mut sum = black_box(seed);
    for at in 0..20_000_u64 {
        let word = splitmix(seed ^ at);
        let shift = word.count_ones();
        sum = sum.rotate_left(shift) ^ word.reverse_bits().wrapping_sub(sum);
        sum = sum.wrapping_add(u64::from(sum.leading_zeros() * 31 + word.trailing_zeros())).swap_bytes();
        sum = (sum << (shift & 63)) | (sum >> (64 - shift.clamp(1, 63)) ^ word);
    }
    sum
}

/// A number in [1, 2).
fn fraction(word: u64) -> f64 {
    f64::from_bits((word >> 12) | 0x3ff0_0000_0000_0000)
}

/// Divisions and square roots: IEEE 754 says to the last bit what they give.
#[expect(clippy::cast_possible_truncation, reason = "single precision has units of its own")]
fn float(seed: u64) -> u64 {
    let mut sum = fraction(splitmix(black_box(seed)));
    let mut words = Vec::with_capacity(5_000);
    for at in 0..5_000_u64 {
        let number = fraction(splitmix(seed.wrapping_add(at)));
        sum = (sum * number + 1.0 / number).sqrt() + (number - sum) / (sum + 3.0);
        words.push(sum.to_bits() ^ u64::from((sum as f32 / number as f32).sqrt().to_bits()));
    }
    fold(words)
}

const ROWS: usize = 32;
type Matrix = [[f64; ROWS]; ROWS];

fn random_matrix(seed: u64) -> Matrix {
    let mut matrix = [[0.0; ROWS]; ROWS];
    for (row, cells) in matrix.iter_mut().enumerate() {
        for (column, cell) in cells.iter_mut().enumerate() {
            *cell = fraction(splitmix(seed.wrapping_add((row * ROWS + column) as u64))) - 1.5;
        }
    }
    matrix
}

fn fold_matrix(matrix: &Matrix) -> u64 {
    fold(matrix.iter().flatten().map(|cell| cell.to_bits()))
}

/// A product of matrices, each sum in the same order.
fn matrix(seed: u64) -> u64 {
    let (left, right) = (random_matrix(black_box(seed)), random_matrix(!seed));
    fold_matrix(&product(&left, &right, |left, right, sum| sum + left * right))
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "has to be compiled for the instructions of its caller")]
fn product(left: &Matrix, right: &Matrix, step: impl Fn(f64, f64, f64) -> f64) -> Matrix {
    let mut product = [[0.0; ROWS]; ROWS];
    for (sums, row) in product.iter_mut().zip(left) {
        for (factor, other) in row.iter().zip(right) {
            for (sum, cell) in sums.iter_mut().zip(other) {
                *sum = step(*factor, *cell, *sum);
            }
        }
    }
    product
}

/// The same with fused multiplication and addition, in the widest vectors that the CPU has.
fn matrix_fused(seed: u64) -> u64 {
    let (left, right) = (random_matrix(black_box(seed)), random_matrix(!seed));
    let product = if is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has AVX-512F
        unsafe { product_avx512(&left, &right) }
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the CPU has AVX2 and FMA
        unsafe { product_avx2(&left, &right) }
    } else {
        product_fused(&left, &right)
    };
    fold_matrix(&product)
}

#[target_feature(enable = "avx512f")]
fn product_avx512(left: &Matrix, right: &Matrix) -> Matrix {
    product(left, right, f64::mul_add)
}

#[target_feature(enable = "avx2,fma")]
fn product_avx2(left: &Matrix, right: &Matrix) -> Matrix {
    product(left, right, f64::mul_add)
}

/// In software where the CPU cannot: slower, and the same to the last bit.
fn product_fused(left: &Matrix, right: &Matrix) -> Matrix {
    product(left, right, f64::mul_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_cpu_gives_the_known_answers() {
        let answers = |workload: &Workload| SEEDS.map(|seed| (workload.answer)(seed));
        let given: Vec<_> = WORKLOADS.iter().map(|workload| (workload.name, answers(workload))).collect();
        let known: Vec<_> = WORKLOADS.iter().map(|workload| (workload.name, workload.known)).collect();
        assert_eq!(given, known, "{given:x?}");
    }

    #[test]
    fn different_seeds_have_different_answers_and_none_is_the_mark_of_loss() {
        for workload in WORKLOADS {
            let different: std::collections::BTreeSet<u64> = workload.known.into_iter().collect();
            assert_eq!(different.len(), SEEDS.len(), "{}", workload.name);
            assert!(!different.contains(&LOST), "{}", workload.name);
        }
    }

    /// The answers against other ways to them: what is known must not be what one implementation got wrong.
    #[test]
    fn other_implementations_agree() {
        let data = bytes(SEEDS[1], 64 * 1024);
        let crc = data.iter().fold(u32::MAX, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
        });
        assert_eq!(checksum(SEEDS[1]), u64::from(!crc));
        let other = ring::digest::digest(&ring::digest::SHA256, &bytes(SEEDS[1], 32 * 1024));
        assert_eq!(hash(SEEDS[1]), fold_bytes(other.as_ref()));
        for seed in SEEDS {
            let in_software = product_fused(&random_matrix(seed), &random_matrix(!seed));
            assert_eq!(matrix_fused(seed), fold_matrix(&in_software));
        }
    }
}
