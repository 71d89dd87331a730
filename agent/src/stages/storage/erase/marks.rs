//! Marks: blocks of bytes that only this run can have written, spread over a disk. One that is still there after an
//! erasing shows that nothing was erased.

use std::collections::BTreeSet;
use std::io;

use vetting_protocol::erasure::ErasureSample;

use super::super::consent::is_blank;
use crate::host::Host;

/// Size of a mark; no disk has larger logical sectors.
const BLOCK_BYTES: u32 = 4096;
/// Marks between the first and the last block.
const BETWEEN: u32 = 62;

/// Marks of one disk.
pub(super) struct Marks {
    seed: u64,
    /// Block numbers, ascending.
    places: Vec<u64>,
}

impl Marks {
    /// The first block, the last whole one, and others at random between.
    pub(super) fn new(size_bytes: u64, seed: u64) -> Self {
        let blocks = size_bytes / u64::from(BLOCK_BYTES);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut places = BTreeSet::new();
        if let Some(last) = blocks.checked_sub(1) {
            places.extend([0, last]);
            places.extend((0..BETWEEN).map(|_| random.u64(0..=last)));
        }
        Self { seed, places: places.into_iter().collect() }
    }

    /// What is written at a place.
    fn content(&self, place: u64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(self.seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut content = vec![0; BLOCK_BYTES as usize];
        random.fill(&mut content);
        content
    }

    /// Writes the marks, and reads each back: what cannot be read now would prove nothing later.
    pub(super) fn write(&self, host: &Host, device: &str) -> Result<(), String> {
        let mut disk = host.disk_writer(device, u64::from(BLOCK_BYTES)).map_err(|error| error.reason())?;
        let in_words = |place: &u64, error: io::Error| format!("block {place} of 4096 bytes: {error}");
        for place in &self.places {
            let content = self.content(*place);
            disk.write(*place, &content).map_err(|error| in_words(place, error))?;
            if disk.read(*place).map_err(|error| in_words(place, error))? != content {
                return Err(format!("block {place} of 4096 bytes: reads back as something else"));
            }
        }
        Ok(())
    }

    /// Looks what is at the places now. A disk that cannot be opened has no block that could be read.
    pub(super) fn read(&self, host: &Host, device: &str) -> ErasureSample {
        let mut sample = ErasureSample {
            blocks: u32::try_from(self.places.len()).unwrap_or(u32::MAX),
            block_bytes: BLOCK_BYTES,
            seed: self.seed,
            ..ErasureSample::default()
        };
        let mut disk = host.disk_reader(device, u64::from(BLOCK_BYTES));
        for place in &self.places {
            let read = match &mut disk {
                Ok(disk) => disk.read(*place).ok(),
                Err(_) => None,
            };
            let count = match read {
                None => &mut sample.unreadable,
                Some(bytes) if bytes == self.content(*place) => &mut sample.surviving,
                Some(bytes) if is_blank(bytes) => &mut sample.blank,
                Some(_) => &mut sample.other,
            };
            *count += 1;
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn marks_lie_on_the_disk_and_reach_both_ends(size in 0_u64..(40 << 40), seed: u64) {
            let marks = Marks::new(size, seed);
            let blocks = size / 4096;
            prop_assert!(marks.places.iter().all(|place| *place < blocks));
            prop_assert_eq!(marks.places.is_empty(), blocks == 0);
            if blocks > 0 {
                prop_assert_eq!(marks.places[0], 0);
                prop_assert_eq!(*marks.places.last().unwrap(), blocks - 1);
            }
        }
    }

    #[test]
    fn no_mark_is_blank_or_like_another() {
        let marks = Marks::new(1 << 30, 7);
        let contents: BTreeSet<Vec<u8>> = marks.places.iter().map(|place| marks.content(*place)).collect();
        assert_eq!(contents.len(), marks.places.len());
        assert!(contents.iter().all(|content| !is_blank(content)));
        assert_ne!(marks.content(3), Marks::new(1 << 30, 8).content(3));
    }
}
