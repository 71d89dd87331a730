//! fio's recorded outputs.

use super::*;
use crate::tools::fixture;

fn parsed(case: &str) -> Result<ReadReport, ToolError> {
    parse(&fixture(TOOL, case))
}

#[test]
fn a_good_read_has_its_numbers() {
    for case in ["3.33-good", "3.39-good"] {
        let report = parsed(case).unwrap();
        assert!(report.bandwidth_bytes_per_second > 1e6 && report.iops > 1.0 && report.bytes > 1e6, "{case}");
        assert!(report.latency_p99_microseconds.unwrap() > 0.0, "{case}");
        assert_eq!((report.errors, report.first_errno, report.failed_offsets), (0, None, vec![]), "{case}");
    }
}

#[test]
fn read_errors_are_counted_and_placed() {
    for case in ["3.33-read-errors", "3.39-read-errors"] {
        let report = parsed(case).unwrap();
        assert!(report.errors >= 1, "{case}");
        assert_eq!(report.first_errno, Some(5), "{case}");
        assert_eq!(report.failed_offsets, [63 * BLOCK_BYTES], "{case}");
    }
}

#[test]
fn a_disk_that_is_not_there_and_a_wrong_call_are_failures() {
    for case in ["3.33-no-such-disk", "3.39-no-such-disk", "3.33-bad-option", "3.39-bad-option"] {
        assert!(matches!(parsed(case), Err(ToolError::Failed { .. })), "{case}: {:?}", parsed(case));
    }
}

#[test]
fn no_usable_answer_is_an_error() {
    for case in ["bad-no-output", "bad-garbage", "bad-cut-short"] {
        assert!(matches!(parsed(case), Err(ToolError::Garbage { .. })), "{case}");
    }
    assert!(matches!(parsed("bad-killed"), Err(ToolError::Signalled { .. })));
    assert!(matches!(parsed("bad-timed-out"), Err(ToolError::TimedOut { .. })));
}

#[test]
fn having_read_nothing_is_no_success() {
    let mut finished = fixture(TOOL, "3.39-good");
    finished.stdout = br#"{"jobs":[{"error":0,"read":{"io_bytes":0,"bw_bytes":0,"iops":0}}]}"#.to_vec();
    assert!(matches!(parse(&finished), Err(ToolError::Garbage { .. })));
    finished.stdout = br#"{"jobs":[{"read":{"io_bytes":1,"bw_bytes":1,"iops":1}}]}"#.to_vec();
    assert!(matches!(parse(&finished), Err(ToolError::Garbage { .. })));
}

#[test]
fn it_is_called_to_read_only_and_in_our_group() {
    let args = invocation("/dev/cciss/c0d0:1", Duration::from_millis(1500)).args;
    for wanted in
        ["--readonly", "--rw=read", "--thread", "--runtime=1500ms", "--filename=/dev/cciss/c0d0\\:1"]
    {
        assert!(args.iter().any(|arg| arg == wanted), "{wanted}");
    }
}
