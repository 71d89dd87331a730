//! What is written to memory and read back: patterns as sequences of sweeps over cells.
//!
//! Knows nothing of how a cell is reached ([`Cells`]), so that the tests can plant every classical fault in one. A sweep
//! goes over each cell once, up or down; at each it reads and compares, writes, or first the one and then the other, as
//! the elements of a march test do (van de Goor, "Testing Semiconductor Memories").

use crate::workers::splitmix;

/// Cells of 64 bits.
pub(super) trait Cells {
    /// How many.
    fn len(&self) -> usize;
    /// What a cell holds.
    fn read(&mut self, at: usize) -> u64;
    /// Makes a cell hold `value`, in memory and not only in a cache.
    fn write(&mut self, at: usize, value: u64);
    /// What it holds when it is read from memory once more.
    fn reread(&mut self, at: usize) -> u64;
    /// Waits until all that was written is in memory.
    fn settle(&mut self);
}

/// A cell that did not hold what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub at: usize,
    pub expected: u64,
    pub actual: u64,
    /// What it held when it was read once more.
    pub reread: u64,
}

/// What a cell should hold, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// Its own place, mixed with the seed: finds address lines that are stuck or joined.
    Address { seed: u64 },
    /// Pseudo-random, and the same for the same seed.
    Random { seed: u64 },
    /// The word and its complement in turn.
    Alternating { word: u64 },
    /// The same everywhere.
    Word { word: u64 },
}

impl Data {
    fn at(self, at: usize) -> u64 {
        let at = at as u64;
        match self {
            Self::Address { seed } => (at << 3) ^ seed,
            Self::Random { seed } => splitmix(seed.wrapping_add(at)),
            Self::Alternating { word } => word ^ (at & 1).wrapping_neg(),
            Self::Word { word } => word,
        }
    }

    /// Expected contents of the cells from `from` on; the choice of pattern stays out of the loops over memory.
    fn fill(self, from: usize, inverted: bool, buffer: &mut [u64]) {
        let flip = if inverted { u64::MAX } else { 0 };
        for (offset, word) in buffer.iter_mut().enumerate() {
            *word = self.at(from + offset) ^ flip;
        }
    }
}

/// Plain contents or their complement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Inverted,
}

/// One element of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Write everything.
    Write(Form),
    /// Read each cell, then write its complement before going to the next.
    Flip(Form, Direction),
    /// Read everything.
    Read(Form, Direction),
    /// Leave it alone for a while: cells that lose their charge show.
    Wait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// A pattern: its name, contents and elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern {
    pub name: &'static str,
    data: Data,
    steps: &'static [Step],
}

use Direction::{Down, Up};
use Form::{Inverted, Plain};

const TWO_WAYS: &[Step] = &[Step::Write(Plain), Step::Flip(Plain, Up), Step::Read(Inverted, Down)];
/// March C-: ⇕(w0) ⇑(r0,w1) ⇑(r1,w0) ⇓(r0,w1) ⇓(r1,w0) ⇕(r0).
const MARCH_C_MINUS: &[Step] = &[
    Step::Write(Plain),
    Step::Flip(Plain, Up),
    Step::Flip(Inverted, Up),
    Step::Flip(Plain, Down),
    Step::Flip(Inverted, Down),
    Step::Read(Plain, Up),
];
const MOVING_INVERSIONS: &[Step] =
    &[Step::Write(Plain), Step::Flip(Plain, Up), Step::Flip(Inverted, Down), Step::Read(Plain, Up)];
const FADE: &[Step] =
    &[Step::Write(Plain), Step::Wait, Step::Flip(Plain, Up), Step::Wait, Step::Read(Inverted, Up)];

/// Backgrounds of the march, round by round: solid, then ever wider stripes, so that cells of one word meet too.
const BACKGROUNDS: [u64; 7] = [
    0,
    0x5555_5555_5555_5555,
    0x3333_3333_3333_3333,
    0x0f0f_0f0f_0f0f_0f0f,
    0x00ff_00ff_00ff_00ff,
    0x0000_ffff_0000_ffff,
    0x0000_0000_ffff_ffff,
];

/// The patterns of a round. The first one is the one that a pass does not do without.
pub(super) fn round(round: u64, seed: u64, fade: bool) -> Vec<Pattern> {
    let seed = splitmix(seed ^ round.rotate_left(32));
    let background = usize::try_from(round).unwrap_or_default() % BACKGROUNDS.len();
    let walking = 0x0101_0101_0101_0101_u64 << (round % 8);
    let pattern = |name, data, steps| Pattern { name, data, steps };
    let mut patterns = vec![
        pattern("address", Data::Address { seed }, TWO_WAYS),
        pattern("march_c_minus", Data::Word { word: BACKGROUNDS[background] }, MARCH_C_MINUS),
        pattern("random", Data::Random { seed }, TWO_WAYS),
        pattern("moving_inversions", Data::Word { word: walking }, MOVING_INVERSIONS),
        pattern("checkerboard", Data::Alternating { word: 0x5555_5555_5555_5555 }, TWO_WAYS),
    ];
    if fade {
        patterns.push(pattern("bit_fade", Data::Word { word: 0 }, FADE));
    }
    patterns
}

/// What goes on around a pattern.
pub(super) trait Attendant {
    /// A cell did not hold what was written.
    fn mismatch(&mut self, mismatch: Mismatch);
    /// So many bytes were read or written; says whether to go on.
    fn moved(&mut self, bytes: u64) -> bool;
    /// Waits for the length of a fade; says whether to go on.
    fn wait(&mut self) -> bool;
}

/// Cells between two questions to the attendant: 4 KiB.
const CHUNK: usize = 512;
const CELL_BYTES: u64 = 8;

impl Pattern {
    /// Runs it to its end and says so, or stops where the attendant says.
    pub(super) fn run(&self, cells: &mut impl Cells, attendant: &mut impl Attendant) -> bool {
        for step in self.steps {
            let goes_on = match *step {
                Step::Wait => attendant.wait(),
                Step::Write(form) => self.sweep(cells, attendant, Up, None, Some(form)),
                Step::Read(form, direction) => self.sweep(cells, attendant, direction, Some(form), None),
                Step::Flip(form, direction) => {
                    let other = if form == Plain { Inverted } else { Plain };
                    self.sweep(cells, attendant, direction, Some(form), Some(other))
                }
            };
            cells.settle();
            if !goes_on {
                return false;
            }
        }
        true
    }

    fn sweep(
        &self,
        cells: &mut impl Cells,
        attendant: &mut impl Attendant,
        direction: Direction,
        read: Option<Form>,
        write: Option<Form>,
    ) -> bool {
        let mut buffer = [0_u64; CHUNK];
        let chunks = cells.len().div_ceil(CHUNK);
        let passes = u64::from(read.is_some()) + u64::from(write.is_some());
        for number in 0..chunks {
            let from = CHUNK * if direction == Up { number } else { chunks - 1 - number };
            let buffer = &mut buffer[..CHUNK.min(cells.len() - from)];
            self.data.fill(from, read.or(write) == Some(Inverted), buffer);
            let mut visit = |offset: usize| {
                let at = from + offset;
                let word = buffer[offset];
                if read.is_some() {
                    let actual = cells.read(at);
                    if actual != word {
                        attendant.mismatch(Mismatch { at, expected: word, actual, reread: cells.reread(at) });
                    }
                }
                if write.is_some() {
                    // after a read its complement
                    cells.write(at, if read.is_some() { !word } else { word });
                }
            };
            let count = buffer.len();
            match direction {
                Up => (0..count).for_each(&mut visit),
                Down => (0..count).rev().for_each(&mut visit),
            }
            if !attendant.moved(count as u64 * CELL_BYTES * passes) {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
