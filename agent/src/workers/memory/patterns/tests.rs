//! Every classical fault, planted in cells, is found by a round; sound cells are never blamed.

use std::cell::Cell;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// Faults of memory cells, in the words of the march test literature.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// The masked bits always read as in `value`.
    StuckAt {
        at: usize,
        mask: u64,
        value: u64,
    },
    /// The masked bits cannot go up from 0 to 1, or down from 1 to 0.
    Transition {
        at: usize,
        mask: u64,
        up: bool,
    },
    /// A change of the aggressor's masked bits turns over the victim's.
    Coupling {
        aggressor: usize,
        victim: usize,
        mask: u64,
    },
    /// Two addresses reach the same cell.
    SameCell {
        one: usize,
        other: usize,
    },
    /// The masked bits go to 0 while nobody looks.
    Fading {
        at: usize,
        mask: u64,
    },
}

struct Faulty {
    words: Vec<u64>,
    fault: Fault,
    waited: Rc<Cell<bool>>,
}

impl Faulty {
    fn new(length: usize, fault: Fault) -> Self {
        Self { words: vec![0; length], fault, waited: Rc::default() }
    }

    fn place(&self, at: usize) -> usize {
        match self.fault {
            Fault::SameCell { one, other } if at == other => one,
            _ => at,
        }
    }
}

impl Cells for Faulty {
    fn len(&self) -> usize {
        self.words.len()
    }

    fn read(&mut self, at: usize) -> u64 {
        if let (true, Fault::Fading { at, mask }) = (self.waited.take(), self.fault) {
            self.words[at] &= !mask;
        }
        let word = self.words[self.place(at)];
        match self.fault {
            Fault::StuckAt { at: bad, mask, value } if at == bad => (word & !mask) | (value & mask),
            _ => word,
        }
    }

    fn write(&mut self, at: usize, value: u64) {
        let place = self.place(at);
        let before = self.words[place];
        self.words[place] = match self.fault {
            Fault::Transition { at: bad, mask, up } if at == bad => {
                let blocked = mask & if up { !before & value } else { before & !value };
                value ^ blocked
            }
            _ => value,
        };
        if let Fault::Coupling { aggressor, victim, mask } = self.fault
            && at == aggressor
        {
            self.words[victim] ^= (before ^ value) & mask;
        }
    }

    fn reread(&mut self, at: usize) -> u64 {
        self.read(at)
    }

    fn settle(&mut self) {}
}

#[derive(Default)]
struct Watcher {
    found: Vec<Mismatch>,
    moved: u64,
    waited: Rc<Cell<bool>>,
}

impl Attendant for Watcher {
    fn mismatch(&mut self, mismatch: Mismatch) {
        self.found.push(mismatch);
    }

    fn moved(&mut self, bytes: u64) -> bool {
        self.moved += bytes;
        true
    }

    fn wait(&mut self) -> bool {
        self.waited.set(true);
        true
    }
}

/// Patterns that found something, and where.
fn found(length: usize, fault: Fault) -> Vec<(&'static str, usize)> {
    let mut cells = Faulty::new(length, fault);
    let mut all = Vec::new();
    for pattern in round(0, 7, true) {
        let mut watcher = Watcher { waited: Rc::clone(&cells.waited), ..Watcher::default() };
        assert!(pattern.run(&mut cells, &mut watcher));
        all.extend(watcher.found.iter().map(|mismatch| (pattern.name, mismatch.at)));
    }
    all
}

fn finders(length: usize, fault: Fault) -> Vec<&'static str> {
    let mut names: Vec<&str> = found(length, fault).into_iter().map(|(name, _)| name).collect();
    names.dedup();
    names
}

/// Lengths that are no multiple of a chunk.
const LENGTH: usize = 3 * CHUNK + 17;

#[test]
fn sound_cells_are_never_blamed() {
    for length in [0, 1, CHUNK, LENGTH] {
        assert_eq!(found(length, Fault::None), []);
    }
}

#[test]
fn a_stuck_bit_is_found_by_every_pattern_but_a_fade() {
    for value in [0, u64::MAX] {
        let found = finders(LENGTH, Fault::StuckAt { at: CHUNK + 5, mask: 1 << 40, value });
        assert!(found.len() >= 5, "{found:?}");
    }
}

#[test]
fn a_place_is_named_exactly() {
    let fault = Fault::StuckAt { at: LENGTH - 1, mask: 0xff, value: 0x5a };
    assert!(found(LENGTH, fault).iter().all(|(_, at)| *at == LENGTH - 1));
}

#[test]
fn joined_addresses_are_found_by_the_first_pattern() {
    let found = finders(LENGTH, Fault::SameCell { one: 3, other: 2 * CHUNK });
    assert_eq!(found[0], "address");
}

#[test]
fn a_fading_bit_is_found_by_the_fade_alone() {
    assert_eq!(finders(LENGTH, Fault::Fading { at: 9, mask: 0x10 }), ["bit_fade"]);
}

#[test]
fn moved_bytes_count_each_read_and_each_write() {
    let mut watcher = Watcher::default();
    let march = round(0, 7, false)[1];
    assert_eq!(march.name, "march_c_minus");
    march.run(&mut Faulty::new(LENGTH, Fault::None), &mut watcher);
    // March C- is 10n
    assert_eq!(watcher.moved, 10 * 8 * LENGTH as u64);
}

proptest! {
    /// March C- detects all of these (van de Goor).
    #[test]
    fn the_march_finds_every_transition_and_coupling_fault(
        one in 0..LENGTH, other in 0..LENGTH, bit in 0_u32..64, up: bool
    ) {
        let mask = 1_u64 << bit;
        let transition = Fault::Transition { at: one, mask, up };
        prop_assert!(finders(LENGTH, transition).contains(&"march_c_minus"));
        if one != other {
            let coupling = Fault::Coupling { aggressor: one, victim: other, mask };
            prop_assert!(finders(LENGTH, coupling).contains(&"march_c_minus"));
        }
    }
}
