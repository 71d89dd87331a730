//! badblocks' recorded outputs and arithmetic.

use proptest::prelude::*;

use super::*;
use crate::tools::fixture;
use crate::tools::runner::{OUTPUT_LIMIT_BYTES, read_recording};

fn parsed(case: &str) -> Result<Scan, ToolError> {
    parse(&fixture(TOOL, case))
}

#[test]
fn a_good_range_has_no_bad_blocks() {
    for case in ["1.47.0-read-good", "1.47.2-read-good", "1.47.0-write-good", "1.47.2-write-good"] {
        assert_eq!(parsed(case).unwrap(), Scan { bad_blocks: vec![], stopped_at_limit: false }, "{case}");
    }
}

#[test]
fn a_scan_of_days_is_read_although_its_progress_is_longer_than_what_is_kept() {
    // a recording is bounded as a live run is
    let folder = tempfile::tempdir().unwrap();
    let progress = " 12.50% done, 30:02:11 elapsed. (0/0/0 errors)";
    let erase = "\x08".repeat(progress.len());
    let mut stderr = b"Checking blocks 0 to 5859442687\nTesting with pattern 0xaa: ".to_vec();
    while stderr.len() <= OUTPUT_LIMIT_BYTES {
        stderr.extend_from_slice(progress.as_bytes());
        stderr.extend_from_slice(erase.as_bytes());
    }
    stderr.extend_from_slice(b"done                                                 \nPass completed, 2 bad blocks found. (2/0/0 errors)\n");
    std::fs::write(folder.path().join("stderr"), stderr).unwrap();
    std::fs::write(folder.path().join("stdout"), "7\n9\n").unwrap();
    std::fs::write(folder.path().join("exit"), "code 0\n").unwrap();
    let finished = read_recording(folder.path(), TOOL).unwrap();
    assert!(finished.truncated);
    assert_eq!(parse(&finished).unwrap().bad_blocks, [7, 9]);
}

#[test]
fn bad_blocks_are_named() {
    for case in ["1.47.0-read-3-bad", "1.47.2-read-3-bad"] {
        let expected = Scan { bad_blocks: vec![16381, 16382, 16383], stopped_at_limit: false };
        assert_eq!(parsed(case).unwrap(), expected, "{case}");
    }
}

#[test]
fn a_scan_that_stopped_at_the_limit_says_so() {
    for case in ["1.47.0-read-limit", "1.47.2-read-limit"] {
        let scan = parsed(case).unwrap();
        assert!(scan.stopped_at_limit, "{case}");
        assert_eq!(scan.bad_blocks.len(), 1000, "{case}");
    }
}

#[test]
fn what_did_not_complete_is_an_error() {
    for case in ["bad-no-output", "bad-garbage", "bad-cut-short"] {
        assert!(matches!(parsed(case), Err(ToolError::Garbage { .. })), "{case}");
    }
    assert!(matches!(parsed("1.47.2-no-such-disk"), Err(ToolError::Failed { .. })));
    assert!(matches!(parsed("bad-killed"), Err(ToolError::Signalled { signal: 9, .. })));
    assert!(matches!(parsed("bad-timed-out"), Err(ToolError::TimedOut { .. })));
}

#[test]
fn a_scan_cut_short_still_names_what_it_found() {
    let finished = fixture(TOOL, "bad-killed-after-finding");
    assert!(parse(&finished).is_err());
    assert_eq!(bad_blocks_so_far(&finished).unwrap(), [16381, 16382, 16383]);
}

#[test]
fn a_count_that_does_not_match_the_names_is_garbage() {
    let mut finished = fixture(TOOL, "1.47.2-read-3-bad");
    finished.stdout = b"16381\n16382\n".to_vec();
    assert!(matches!(parse(&finished), Err(ToolError::Garbage { .. })));
}

#[test]
fn the_meter_goes_over_all_rounds_of_a_write_scan() {
    let mut meter = Meter::new(Mode::WriteRead);
    let at = |meter: &mut Meter, line: &str| meter.read(line).map(|part| (part * 800.0).round() / 8.0);
    assert_eq!(
        at(&mut meter, "Testing with pattern 0xaa:   0.00% done, 0:00 elapsed. (0/0/0 errors)"),
        Some(0.0)
    );
    assert_eq!(at(&mut meter, " 50.00% done, 0:02 elapsed. (0/0/0 errors)"), Some(6.25));
    assert_eq!(at(&mut meter, "done"), None);
    assert_eq!(at(&mut meter, "Reading and comparing:   0.00% done, 0:03 elapsed."), Some(12.5));
    assert_eq!(Meter::new(Mode::Read).read(" 25.00% done"), Some(0.25));
    assert_eq!(Meter::new(Mode::Read).read("xx% done"), None);
    assert_eq!(Meter::new(Mode::Read).read(" 250.00% done"), None);
}

#[test]
fn block_size_keeps_the_count_in_32_bits() {
    let tib = 1_u64 << 40;
    assert_eq!(block_bytes(0), 4096);
    assert_eq!(block_bytes(16 * tib - 4096), 4096);
    assert_eq!(block_bytes(16 * tib), 8192);
    assert_eq!(block_bytes(40 * tib), 16384);
}

#[test]
fn only_a_write_scan_is_called_to_write() {
    let range = Range { first: 8, last: 15 };
    let args = |mode| invocation("/dev/sda", 4096, range, mode).args;
    assert_eq!(args(Mode::Read), ["-b", "4096", "-e", "1000", "-s", "-v", "/dev/sda", "15", "8"]);
    assert_eq!(args(Mode::WriteRead), ["-b", "4096", "-e", "1000", "-s", "-v", "-w", "/dev/sda", "15", "8"]);
    assert_eq!(range.blocks(), 8);
}

#[test]
fn the_end_of_a_disk_that_is_no_multiple_of_the_block_is_reached() {
    assert_eq!(tail(1 << 30, 4096, 512), None);
    let end = Range { first: 262_144, last: 262_144 };
    assert_eq!(tail((1 << 30) + 4096, 8192, 4096), Some((4096, end)));
    assert_eq!(tail((1 << 30) + 1536, 4096, 512).unwrap().1.blocks(), 3);
    // 512 bytes are less than a sector of this disk
    assert_eq!(tail((1 << 30) + 512, 4096, 4096), None);
    // sectors of 36 TB do not fit in 32 bits
    assert_eq!(tail(36_000_000_000_000 + 512, 16384, 512), None);
}

proptest! {
    #[test]
    fn a_tail_begins_within_the_disk_and_ends_with_it(sectors in 8_u64..(1 << 37)) {
        let size = sectors * 512;
        let block_bytes = block_bytes(size);
        if let Some((bytes, range)) = tail(size, block_bytes, 512) {
            prop_assert!(range.first <= range.last && range.last < MOST_BLOCKS);
            prop_assert_eq!((range.last + 1) * bytes, size);
            prop_assert_eq!(range.first * bytes, size / block_bytes * block_bytes);
            prop_assert!(bytes.is_power_of_two());
        }
    }

    #[test]
    fn every_disk_is_countable(size: u64) {
        let block_bytes = block_bytes(size);
        prop_assert!(size / block_bytes < MOST_BLOCKS && block_bytes.is_power_of_two());
    }

    #[test]
    fn no_line_breaks_the_meter(lines in prop::collection::vec(".{0,30}(% done)?.{0,5}", 0..20)) {
        let mut meter = Meter::new(Mode::WriteRead);
        for line in lines {
            if let Some(part) = meter.read(&line) {
                prop_assert!((0.0..=1.0).contains(&part));
            }
        }
    }
}
