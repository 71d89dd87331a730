//! Which logical sectors of the bad blocks cannot be read: each read again by itself, past the page cache.
//!
//! A bad block of 4096 bytes has up to eight sectors, and its first is often a good one. Bounded in blocks and in
//! time: a sector that fails may keep the disk busy for seconds.

use std::io;
use std::time::Duration;

use nix::errno::Errno;

use super::Disk;
use super::surface::named;
use crate::clock;

/// Bad blocks that are looked into.
const MOST_BLOCKS: usize = 256;
/// Time after which no further block is looked into.
const LONGEST: Duration = Duration::from_mins(5);

/// What reading sector by sector showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Examined {
    /// Logical sectors that cannot be read, ascending.
    pub(super) unreadable: Vec<u64>,
    /// Size of a logical sector.
    pub(super) sector_bytes: u64,
    /// Bad blocks whose sectors were all read.
    pub(super) blocks: usize,
    /// Why the other bad blocks were not looked into.
    pub(super) cut_short: Option<String>,
}

impl Examined {
    /// All sectors of all bad blocks were read.
    pub(super) fn is_complete(&self) -> bool {
        self.cut_short.is_none()
    }

    /// `3 unreadable sectors of 512 bytes: 40960, 40961, 98304`; `None` if there are none to name.
    pub(super) fn words(&self) -> Option<String> {
        let count = self.unreadable.len();
        (count > 0).then(|| {
            format!(
                "{}{count} unreadable {} of {} bytes: {}",
                if self.is_complete() { "" } else { "at least " },
                if count == 1 { "sector" } else { "sectors" },
                self.sector_bytes,
                named(self.unreadable.iter().copied()),
            )
        })
    }
}

impl Disk<'_, '_, '_> {
    /// Reads each sector of the bad blocks by itself.
    pub(super) fn examine(&self, bad_blocks: &[u64], block_bytes: u64) -> Examined {
        let sector_bytes = self.sector_bytes();
        let sectors = self.target.disk.size_bytes / sector_bytes;
        let mut examined = Examined { unreadable: Vec::new(), sector_bytes, blocks: 0, cut_short: None };
        let mut reader = match self.context.host.disk_reader(&self.target.device, sector_bytes) {
            Ok(reader) => reader,
            Err(error) => {
                examined.cut_short = Some(error.reason());
                return examined;
            }
        };
        let begin = clock::monotonic();
        let stop = || {
            if self.context.cancel.is_raised() {
                return Some("it was cancelled".to_owned());
            }
            (begin.elapsed() >= LONGEST).then(|| format!("it took {} min", LONGEST.as_secs() / 60))
        };
        // the last block may be a partial one
        let read = |sector| if sector < sectors { reader.read(sector).map(drop) } else { Ok(()) };
        examine(&mut examined, bad_blocks, block_bytes, stop, read);
        examined
    }
}

/// Reads the sectors of each block until `stop` says why not to go on, or the disk itself is gone.
fn examine(
    examined: &mut Examined,
    bad_blocks: &[u64],
    block_bytes: u64,
    stop: impl Fn() -> Option<String>,
    mut read: impl FnMut(u64) -> io::Result<()>,
) {
    let per_block = (block_bytes / examined.sector_bytes).max(1);
    for (number, block) in bad_blocks.iter().enumerate() {
        if number == MOST_BLOCKS {
            examined.cut_short = Some(format!("only the first {MOST_BLOCKS} blocks were"));
            return;
        }
        if let Some(why) = stop() {
            examined.cut_short = Some(why);
            return;
        }
        let first = block.saturating_mul(per_block);
        for sector in first..first.saturating_add(per_block) {
            match read(sector) {
                Ok(()) => {}
                Err(error) if says_nothing_of_the_sector(&error) => {
                    examined.cut_short = Some(error.to_string());
                    return;
                }
                Err(_) => examined.unreadable.push(sector),
            }
        }
        examined.blocks += 1;
    }
}

/// A disk that is gone, a read beyond its end, or one that the kernel does not take to the disk at all.
fn says_nothing_of_the_sector(error: &io::Error) -> bool {
    let Some(code) = error.raw_os_error() else { return true };
    matches!(
        Errno::from_raw(code),
        Errno::ENXIO
            | Errno::ENODEV
            | Errno::ENOENT
            | Errno::EINVAL
            | Errno::ENOMEM
            | Errno::EBADF
            | Errno::EACCES
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails_with(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno as i32)
    }

    fn examined(sector_bytes: u64) -> Examined {
        Examined { unreadable: Vec::new(), sector_bytes, blocks: 0, cut_short: None }
    }

    /// Blocks of 4096 bytes on a disk with these bad sectors of 512 bytes.
    fn look(bad_blocks: &[u64], bad_sectors: &[u64]) -> Examined {
        let mut found = examined(512);
        examine(
            &mut found,
            bad_blocks,
            4096,
            || None,
            |sector| {
                if bad_sectors.contains(&sector) { Err(fails_with(Errno::EIO)) } else { Ok(()) }
            },
        );
        found
    }

    #[test]
    fn the_sectors_within_bad_blocks_are_named() {
        let found = look(&[5120, 12288], &[40_960, 40_961, 98_304]);
        assert_eq!(found.words().unwrap(), "3 unreadable sectors of 512 bytes: 40960, 40961, 98304");
        assert_eq!((found.blocks, found.cut_short), (2, None));
        assert_eq!(look(&[1], &[15]).words().unwrap(), "1 unreadable sector of 512 bytes: 15");
    }

    #[test]
    fn a_block_that_reads_well_again_has_no_sector_to_name() {
        let found = look(&[5120], &[7]);
        assert_eq!((found.words(), found.is_complete()), (None, true));
    }

    #[test]
    fn a_disk_with_sectors_of_a_block_is_read_block_by_block() {
        let mut found = examined(4096);
        let mut read = Vec::new();
        examine(
            &mut found,
            &[3, 9],
            4096,
            || None,
            |sector| {
                read.push(sector);
                Err(fails_with(Errno::ENODATA))
            },
        );
        assert_eq!(read, [3, 9]);
        assert_eq!(found.words().unwrap(), "2 unreadable sectors of 4096 bytes: 3, 9");
    }

    #[test]
    fn the_work_is_bounded_and_says_so() {
        let blocks: Vec<u64> = (0..300).collect();
        let found = look(&blocks, &[0, 2400 - 1]);
        assert_eq!((found.blocks, found.is_complete()), (MOST_BLOCKS, false));
        assert_eq!(found.words().unwrap(), "at least 1 unreadable sector of 512 bytes: 0");
        assert_eq!(look(&blocks[..MOST_BLOCKS], &[]).cut_short, None);
        let mut found = examined(512);
        examine(&mut found, &blocks, 4096, || Some("too long".to_owned()), |_| panic!("not read"));
        assert_eq!(found.cut_short.as_deref(), Some("too long"));
    }

    #[test]
    fn a_disk_that_goes_meanwhile_is_no_bad_sector() {
        for errno in [Errno::ENXIO, Errno::ENODEV, Errno::EINVAL] {
            let mut found = examined(512);
            examine(
                &mut found,
                &[1],
                4096,
                || None,
                |sector| Err(fails_with(if sector == 8 { Errno::EIO } else { errno })),
            );
            assert_eq!((found.unreadable.as_slice(), found.blocks), (&[8][..], 0));
            assert!(found.cut_short.is_some());
        }
        let mut found = examined(512);
        examine(&mut found, &[1], 4096, || None, |_| Err(io::ErrorKind::UnexpectedEof.into()));
        assert_eq!((found.words(), found.is_complete()), (None, false));
    }
}
