//! What is written into memory: three kinds of patterns, and which comes when. `memory.wgsl` makes the same words.

/// A pattern as the shaders are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) kind: u32,
    pub(crate) seed: u32,
}

/// Each word is a hash of its place: finds lines of addresses that are stuck or crossed.
const HASH: u32 = 0;
/// The same word everywhere.
const SOLID: u32 = 1;
/// One bit that walks from word to word.
const WALKING: u32 = 2;

impl Pattern {
    /// Hashes whose seed differs from round to round, by turns with the worst cases for cells and lines of data.
    pub(crate) fn of_round(round: u32) -> Self {
        let fixed = [(SOLID, 0), (SOLID, 0x5555_5555), (WALKING, 0), (SOLID, 0x3333_3333), (WALKING, 16)];
        if round.is_multiple_of(2) {
            return Self::hashed(round);
        }
        let (kind, seed) = fixed[(round / 2) as usize % fixed.len()];
        Self { kind, seed }
    }

    pub(crate) fn hashed(seed: u32) -> Self {
        Self { kind: HASH, seed: hash(seed) }
    }

    /// The same for another part of the memory, so that no two parts hold the same words.
    pub(crate) fn of_part(self, part: u32) -> Self {
        if self.kind == HASH { Self { seed: hash(self.seed ^ part), ..self } } else { self }
    }

    pub(crate) fn word(self, place: u32) -> u32 {
        match self.kind {
            HASH => hash(place ^ self.seed),
            SOLID => self.seed,
            _ => 1 << ((place.wrapping_add(self.seed)) & 31),
        }
    }
}

/// PCG-RXS-M-XS (Jarzynski and Olano, Hash Functions for GPU Rendering, 2020), as `tally.wgsl` has it.
pub(crate) fn hash(word: u32) -> u32 {
    let state = word.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let mixed = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (mixed >> 22) ^ mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_two_parts_and_two_rounds_differ() {
        let words = |pattern: Pattern| (0..64).map(|place| pattern.word(place)).collect::<Vec<_>>();
        let first = Pattern::of_round(0);
        assert_ne!(words(first.of_part(0)), words(first.of_part(1)));
        assert_ne!(words(first), words(Pattern::of_round(2)));
    }

    #[test]
    fn every_bit_is_written_both_ways() {
        // each round writes its pattern and its complement; solid ones alone must not be all there is
        for round in 0..10 {
            let pattern = Pattern::of_round(round);
            let words: Vec<u32> = (0..64).map(|place| pattern.word(place)).collect();
            let ones = words
                .iter()
                .chain(&words.iter().map(|word| !word).collect::<Vec<_>>())
                .fold(0, |all, word| all | word);
            assert_eq!(ones, u32::MAX, "{pattern:?}");
        }
    }
}
