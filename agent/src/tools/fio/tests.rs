//! fio's recorded outputs.

use super::*;
use crate::tools::fixture;

fn parsed(case: &str) -> Result<Report, ToolError> {
    parse(&fixture(TOOL, case))
}

#[test]
fn a_good_read_has_its_numbers() {
    for case in ["3.33-good", "3.39-good"] {
        let report = parsed(case).unwrap();
        let read = report.read;
        assert!(read.bandwidth_bytes_per_second > 1e6 && read.iops > 1.0 && read.bytes > 1e6, "{case}");
        assert!(read.latency_microseconds.iter().all(|latency| latency.unwrap() > 0.0), "{case}");
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
    let nothing =
        r#""read":{"io_bytes":0,"bw_bytes":0,"iops":0},"write":{"io_bytes":0,"bw_bytes":0,"iops":0}"#;
    finished.stdout = format!(r#"{{"jobs":[{{"error":0,{nothing}}}]}}"#).into_bytes();
    assert!(matches!(parse(&finished), Err(ToolError::Garbage { .. })));
    finished.stdout = br#"{"jobs":[{"read":{"io_bytes":1,"bw_bytes":1,"iops":1}}]}"#.to_vec();
    assert!(matches!(parse(&finished), Err(ToolError::Garbage { .. })));
}

#[test]
fn a_verified_disk_was_written_and_read_back_whole() {
    for case in ["3.33-verify-good", "3.39-verify-good"] {
        let report = parsed(case).unwrap();
        assert_eq!(report.errors, 0);
        let whole = f64::from(64 << 20);
        assert!(
            (report.written.bytes - whole).abs() < 1.0 && (report.read.bytes - whole).abs() < 1.0,
            "{case}"
        );
    }
}

#[test]
fn another_content_than_was_written_is_counted_and_placed_although_fio_ends_well() {
    for case in ["3.33-verify-bad", "3.39-verify-bad"] {
        assert_eq!(fixture(TOOL, case).code(TOOL).unwrap(), 0, "{case}");
        let report = parsed(case).unwrap();
        assert_eq!((report.errors, report.first_errno), (2, Some(84)), "{case}");
        assert_eq!(report.failed_offsets, [5 * BLOCK_BYTES, 9 * BLOCK_BYTES], "{case}");
    }
}

#[test]
fn random_reads_have_their_percentiles() {
    for case in ["3.33-random-good", "3.39-random-good"] {
        let [median, p99, p999] = parsed(case).unwrap().read.latency_microseconds.map(Option::unwrap);
        assert!(0.0 < median && median <= p99 && p99 <= p999, "{case}");
    }
}

#[test]
fn it_is_called_to_read_only_and_in_our_group() {
    let args = invocation("/dev/cciss/c0d0:1", Job::SequentialRead(Duration::from_millis(1500))).args;
    for wanted in
        ["--readonly", "--rw=read", "--thread", "--runtime=1500ms", "--filename=/dev/cciss/c0d0\\:1"]
    {
        assert!(args.iter().any(|arg| arg == wanted), "{wanted}");
    }
    let random = invocation("/dev/sda", Job::RandomRead(Duration::from_millis(1500)));
    assert!(random.args.contains(&"--readonly".into()) && random.args.contains(&"--bs=4096".into()));
    let write = Job::WriteAndVerify { offset_bytes: 0, length_bytes: 1 << 40, block_bytes: BLOCK_BYTES };
    let write = invocation("/dev/sda", write);
    assert!(!write.args.contains(&"--readonly".into()) && write.args.contains(&"--thread".into()));
    assert!(write.timeout > Duration::from_hours(48), "twice over a terabyte on slow flash");
}
