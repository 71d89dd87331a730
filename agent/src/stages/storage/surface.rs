//! The surface scan of a disk: which blocks are gone over, and what badblocks found there.

use std::time::Duration;

use serde_json::{Value, json};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::SurfaceScan;

use super::super::disks;
use super::super::sub_steps::Found;
use super::Disk;
use super::consent::{self, Permission};
use super::sectors::Examined;
use crate::clock;
use crate::tools::badblocks::{self, LIMIT, Meter, Mode, Range};

/// Bad blocks that a reason names; the details name all.
const NAMED: usize = 16;
const MIB: u64 = 1024 * 1024;

/// What is scanned, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    block_bytes: u64,
    mode: Mode,
    ranges: Vec<Range>,
    /// The end of the disk where it is no multiple of `block_bytes`.
    tail: Option<Tail>,
}

/// Less than a block at the end of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Scanned in blocks of another size.
    Scanned { block_bytes: u64, range: Range },
    /// Beyond what badblocks can count to: its sectors are read one by one, also where the rest is written.
    ReadBySector { block: u64, bytes: u64 },
}

/// One call of badblocks.
struct Part {
    block_bytes: u64,
    range: Range,
    /// How much it adds to what is scanned.
    bytes: u64,
}

impl Plan {
    fn parts(&self) -> impl Iterator<Item = Part> {
        let ranges = self.ranges.iter().map(|range| Part {
            block_bytes: self.block_bytes,
            range: *range,
            bytes: range.blocks() * self.block_bytes,
        });
        let tail = match self.tail {
            Some(Tail::Scanned { block_bytes, range }) => {
                Some(Part { block_bytes, range, bytes: range.blocks() * block_bytes })
            }
            Some(Tail::ReadBySector { .. }) | None => None,
        };
        ranges.chain(tail)
    }

    fn bytes(&self) -> u64 {
        self.parts().map(|part| part.bytes).sum()
    }

    /// The block of the plan's size in which a part's block ends; the last one of a disk may be a partial one.
    fn block_of(&self, part: &Part, block: u64) -> u64 {
        let end = block.saturating_add(1).saturating_mul(part.block_bytes);
        end.saturating_sub(1) / self.block_bytes
    }
}

/// What the scan has found so far.
#[derive(Default)]
struct Tally {
    bad_blocks: Vec<u64>,
    scanned_bytes: u64,
    /// There may be more: the scan stopped early.
    is_lower_bound: bool,
}

impl Disk<'_, '_, '_> {
    pub(super) fn surface(&self, ordinal: u32, scan: SurfaceScan) -> Found {
        if let Some(obstacle) = self.obstacle() {
            return obstacle;
        }
        let mode = match scan {
            SurfaceScan::ReadZones { .. } | SurfaceScan::ReadWhole => Mode::Read,
            SurfaceScan::WriteWhole => match consent::permission(self.context, self.target) {
                Permission::Write if self.is_flash() => return self.rewrite(ordinal),
                Permission::Write => Mode::WriteRead,
                Permission::ReadOnly => Mode::Read,
                Permission::Refused(reason) => return Found::new(Outcome::skip(reason), json!({})),
            },
        };
        let size_bytes = self.target.disk.size_bytes;
        let seed = fastrand::u64(..);
        let plan = plan(scan, size_bytes, self.sector_bytes(), mode, seed);
        let mut tally = Tally::default();
        let ended = self.scan(ordinal, &plan, &mut tally).or_else(|| self.read_tail(&plan, &mut tally));
        let coverage = tally.scanned_bytes as f64 * 100.0 / size_bytes as f64;
        let examined = self.examine(&tally.bad_blocks, plan.block_bytes);
        let found = tally.bad_blocks.len() as f64;
        let measure = |key: &str, value, unit| {
            self.context.measure("badblocks", format!("{}/{key}", self.name()), value, unit);
        };
        // a scan that did not come to its end and found nothing has not counted anything
        measure("bad_blocks", (ended.is_none() || found > 0.0).then_some(found), "count");
        // likewise: sectors that were not read again are not known to be good
        let counted = examined.is_complete() && ended.is_none();
        let sectors = examined.unreadable.len() as f64;
        measure("bad_sectors", (counted || sectors > 0.0).then_some(sectors), "count");
        measure("coverage", Some(coverage.min(100.0)), "percent");
        let outcome = self.outcome(&plan, &tally, &examined, ended);
        let mut details = self.details(&plan, &tally, &examined, coverage);
        if let (SurfaceScan::ReadZones { .. }, Value::Object(details)) = (scan, &mut details) {
            // with it the same zones can be read again
            details.insert("zones_seed".to_owned(), seed.into());
        }
        Found::new(outcome, details)
    }

    /// Goes over all ranges. `Some` if it did not come to the end, with the outcome that this alone would be.
    fn scan(&self, ordinal: u32, plan: &Plan, tally: &mut Tally) -> Option<Outcome> {
        let begin = clock::monotonic();
        let whole = plan.bytes().max(1) as f64;
        for part in plan.parts() {
            let mut meter = Meter::new(plan.mode);
            let before = tally.scanned_bytes as f64;
            let invocation =
                badblocks::invocation(&self.target.device, part.block_bytes, part.range, plan.mode);
            let finished = self.context.tools.run(&invocation, &self.context.cancel, &mut |_, line| {
                if let Some(read) = meter.read(line) {
                    let done = (before + read * part.bytes as f64) / whole;
                    self.sub_steps.advance(ordinal, done, left(begin.elapsed(), done));
                }
            });
            let error = match finished {
                Ok(finished) => {
                    // also what a scan named that was cut short
                    let named = badblocks::bad_blocks_so_far(&finished);
                    let blocks = named.into_iter().flatten().map(|block| plan.block_of(&part, block));
                    tally.bad_blocks.extend(blocks);
                    tally.bad_blocks.dedup();
                    match badblocks::parse(&finished) {
                        Ok(scan) if scan.stopped_at_limit => {
                            tally.is_lower_bound = true;
                            None
                        }
                        Ok(_) => {
                            tally.scanned_bytes += part.bytes;
                            None
                        }
                        Err(error) => Some(error),
                    }
                }
                Err(error) => Some(error),
            };
            if let Some(vanished) = disks::vanished(self.context, self.target) {
                tally.is_lower_bound = true;
                return Some(vanished);
            }
            if let Some(error) = error {
                tally.is_lower_bound = true;
                return Some(Outcome::error(format!("{}: {}", self.name(), error.reason())));
            }
            if tally.bad_blocks.len() as u64 >= LIMIT {
                tally.is_lower_bound = true;
                return None;
            }
            self.sub_steps.advance(ordinal, tally.scanned_bytes as f64 / whole, None);
        }
        None
    }

    /// Reads the end of the disk that badblocks cannot count to. `Some` if it could not be told what it is like.
    fn read_tail(&self, plan: &Plan, tally: &mut Tally) -> Option<Outcome> {
        let Some(Tail::ReadBySector { block, bytes }) = plan.tail else { return None };
        if tally.is_lower_bound {
            return None;
        }
        let examined = self.examine(&[block], plan.block_bytes);
        if !examined.unreadable.is_empty() {
            tally.bad_blocks.push(block);
        }
        if let Some(why) = examined.cut_short {
            tally.is_lower_bound = true;
            return Some(Outcome::error(format!("{}: its end was not read: {why}", self.name())));
        }
        tally.scanned_bytes += bytes;
        None
    }

    fn outcome(&self, plan: &Plan, tally: &Tally, examined: &Examined, ended: Option<Outcome>) -> Outcome {
        if tally.bad_blocks.is_empty() {
            return ended.unwrap_or(Outcome::Pass);
        }
        let because = ended.as_ref().and_then(Outcome::reason);
        Outcome::fail(format!("{}: {}", self.name(), findings(plan, tally, examined, because)))
    }

    fn details(&self, plan: &Plan, tally: &Tally, examined: &Examined, coverage_percent: f64) -> Value {
        json!({
            "mode": match plan.mode { Mode::Read => "read", Mode::WriteRead => "write and read" },
            "block_bytes": plan.block_bytes,
            "ranges": plan.parts().count(),
            "end_only_read": matches!(plan.tail, Some(Tail::ReadBySector { .. })),
            "scanned_bytes": tally.scanned_bytes,
            "size_bytes": self.target.disk.size_bytes,
            "coverage_percent": coverage_percent,
            "bad_blocks": tally.bad_blocks,
            "bad_blocks_is_lower_bound": tally.is_lower_bound,
            "sector_bytes": examined.sector_bytes,
            "bad_sectors": examined.unreadable,
            "bad_blocks_read_by_sector": examined.blocks,
            "read_by_sector_cut_short": examined.cut_short,
        })
    }
}

/// What a scan with bad blocks found, in words.
fn findings(plan: &Plan, tally: &Tally, examined: &Examined, because: Option<&str>) -> String {
    let count = tally.bad_blocks.len();
    let blocks = format!(
        "{}{count} {} {} of {} bytes",
        if tally.is_lower_bound { "at least " } else { "" },
        match plan.mode {
            Mode::Read => "unreadable",
            Mode::WriteRead => "bad",
        },
        if count == 1 { "block" } else { "blocks" },
        plan.block_bytes,
    );
    let numbers = named(tally.bad_blocks.iter().copied());
    let mut text = match (examined.words(), &examined.cut_short) {
        (Some(sectors), None) => format!("{sectors} (in {blocks})"),
        (Some(sectors), Some(why)) => format!("{sectors} (in {blocks}; not all read by sector: {why})"),
        (None, None) => format!("{blocks}: {numbers} (when read by sector, none failed)"),
        (None, Some(why)) => format!("{blocks}: {numbers} (not read by sector: {why})"),
    };
    if let Some(why) = because {
        text.push_str("; ");
        text.push_str(why);
    }
    text
}

/// The first ones, and how many more.
pub(super) fn named(numbers: impl ExactSizeIterator<Item = u64>) -> String {
    let more = numbers.len().saturating_sub(NAMED);
    let first: Vec<String> = numbers.take(NAMED).map(|number| number.to_string()).collect();
    let first = first.join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

/// Time left at the pace so far.
fn left(elapsed: Duration, done: f64) -> Option<Duration> {
    (done > 0.01).then(|| elapsed.mul_f64(((1.0 - done) / done).clamp(0.0, 1000.0)))
}

fn plan(scan: SurfaceScan, size_bytes: u64, sector_bytes: u64, mode: Mode, seed: u64) -> Plan {
    let block_bytes = badblocks::block_bytes(size_bytes);
    let blocks = size_bytes / block_bytes;
    let ranges = match scan {
        SurfaceScan::ReadZones { zones, zone_mib } => {
            let zone_blocks = (zone_mib.saturating_mul(MIB) / block_bytes).max(1);
            zone_ranges(blocks, u64::from(zones), zone_blocks, seed)
        }
        SurfaceScan::ReadWhole | SurfaceScan::WriteWhole => whole(blocks),
    };
    let left_over = size_bytes % block_bytes;
    let tail = (left_over >= sector_bytes && ranges == whole(blocks)).then(|| {
        match badblocks::tail(size_bytes, block_bytes, sector_bytes) {
            Some((block_bytes, range)) => Tail::Scanned { block_bytes, range },
            None => Tail::ReadBySector { block: blocks, bytes: left_over },
        }
    });
    Plan { block_bytes, mode, ranges, tail }
}

fn whole(blocks: u64) -> Vec<Range> {
    blocks.checked_sub(1).map(|last| Range { first: 0, last }).into_iter().collect()
}

/// The first zone at the beginning of the disk, the last at its end, and each of the others at random within its
/// share of what lies between, so that two runs read different places.
fn zone_ranges(blocks: u64, zones: u64, zone_blocks: u64, seed: u64) -> Vec<Range> {
    let zones = zones.max(2);
    if zones.saturating_mul(zone_blocks) >= blocks {
        return whole(blocks);
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let share = (blocks - 2 * zone_blocks) / (zones - 2).max(1);
    let inner = (1..zones - 1).map(|zone| {
        let begin = zone_blocks + (zone - 1) * share;
        begin + random.u64(0..=share.saturating_sub(zone_blocks))
    });
    let starts = std::iter::once(0).chain(inner).chain(std::iter::once(blocks - zone_blocks));
    starts.map(|first| Range { first, last: first + zone_blocks - 1 }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn many_bad_blocks_are_cut_short_in_words() {
        assert_eq!(named([7, 9].into_iter()), "7, 9");
        assert!(named((0..20_u64).collect::<Vec<_>>().into_iter()).ends_with(", 15 and 4 more"));
    }

    #[test]
    fn a_small_disk_is_read_whole() {
        let scan = SurfaceScan::ReadZones { zones: 16, zone_mib: 16 };
        let plan = plan(scan, 64 * MIB + 100, 512, Mode::Read, 1);
        assert_eq!((plan.ranges, plan.tail), (vec![Range { first: 0, last: 16383 }], None));
    }

    #[test]
    fn an_end_beyond_what_badblocks_counts_is_read_by_sector() {
        let size = (36 << 40) + 8192;
        let plan = plan(SurfaceScan::WriteWhole, size, 512, Mode::WriteRead, 1);
        let block = (36 << 40) / plan.block_bytes;
        assert_eq!(plan.tail, Some(Tail::ReadBySector { block, bytes: 8192 }));
        assert_eq!(plan.bytes(), size - 8192);
    }

    #[test]
    fn a_bad_sector_in_the_tail_is_in_the_last_partial_block() {
        let plan = plan(SurfaceScan::ReadWhole, 64 * MIB + 1024, 512, Mode::Read, 1);
        let tail = plan.parts().last().unwrap();
        assert_eq!((tail.block_bytes, tail.range), (1024, Range { first: 65536, last: 65536 }));
        assert_eq!((plan.block_of(&tail, tail.range.last), plan.bytes()), (16384, 64 * MIB + 1024));
    }

    #[test]
    fn two_runs_read_different_places_and_a_seed_the_same() {
        let ranges = |seed| {
            let scan = SurfaceScan::ReadZones { zones: 32, zone_mib: 32 };
            plan(scan, 1 << 40, 512, Mode::Read, seed).ranges
        };
        assert_eq!(ranges(7), ranges(7));
        assert_ne!(ranges(7), ranges(8));
        assert_eq!(ranges(7).len(), 32);
    }

    proptest! {
        #[test]
        fn zones_lie_on_the_disk_apart_and_reach_both_ends(
            size in 4096_u64..(40 << 40), zones in 0_u32..500, zone_mib in 0_u64..5000, seed: u64,
        ) {
            let plan = plan(SurfaceScan::ReadZones { zones, zone_mib }, size, 512, Mode::Read, seed);
            let blocks = size / plan.block_bytes;
            prop_assert_eq!(plan.ranges[0].first, 0);
            prop_assert_eq!(plan.ranges.last().unwrap().last, blocks - 1);
            prop_assert!(plan.bytes() <= size);
            prop_assert!(plan.ranges.windows(2).all(|pair| pair[0].last < pair[1].first));
        }
    }
}
