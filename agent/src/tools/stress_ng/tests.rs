//! stress-ng's recorded outputs.

use super::*;
use crate::tools::fixture;

fn parsed(case: &str, stressor: &str) -> Result<StressReport, ToolError> {
    parse(&fixture(TOOL, case), stressor)
}

#[test]
fn a_good_pass_worked_and_found_nothing() {
    for (case, stressor) in [
        ("0.15-cpu-good", "cpu"),
        ("0.19-cpu-good", "cpu"),
        ("0.15-memory-good", "vm"),
        ("0.19-memory-good", "vm"),
    ] {
        let report = parsed(case, stressor).unwrap();
        assert_eq!(report.verify_failures, 0, "{case}");
        assert!(report.bogo_ops > 0.0 && report.bogo_ops_per_second > 0.0, "{case}");
        assert!(report.max_rss_bytes.unwrap() > 1_000_000, "{case}");
    }
}

/// Recorded while the memory of a worker was really changed under it.
#[test]
fn bits_that_flipped_are_failures_not_errors() {
    for case in ["0.15-memory-bit-errors", "0.19-memory-bit-errors"] {
        let report = parsed(case, "vm").unwrap();
        assert!(report.verify_failures >= 1, "{case}");
        assert!(report.failures.iter().any(|line| line.starts_with("moving inversion: detected")), "{case}");
    }
}

/// stress-ng ends with success when it could not get its memory.
#[test]
fn a_pass_that_did_nothing_is_no_pass() {
    for case in ["0.15-memory-did-nothing", "0.19-memory-did-nothing"] {
        assert!(parsed(case, "vm").is_err(), "{case}");
    }
}

#[test]
fn no_usable_answer_is_an_error() {
    for case in ["bad-no-output", "bad-garbage", "bad-cut-short"] {
        assert!(matches!(parsed(case, "cpu"), Err(ToolError::Garbage { .. })), "{case}");
    }
    assert!(matches!(parsed("bad-killed", "cpu"), Err(ToolError::Signalled { .. })));
    assert!(matches!(parsed("bad-timed-out", "cpu"), Err(ToolError::TimedOut { .. })));
    assert!(matches!(parsed("0.19-cpu-good", "vm"), Err(ToolError::Garbage { .. })));
    for case in ["0.15-bad-option", "0.19-bad-option"] {
        assert!(matches!(parsed(case, "cpu"), Err(ToolError::Failed { .. })), "{case}");
    }
}

#[test]
fn exit_code_2_without_a_failure_told_is_an_error() {
    let mut finished = fixture(TOOL, "0.19-cpu-good");
    finished.exit = crate::tools::runner::Exit::Code(2);
    assert!(matches!(parse(&finished, "cpu"), Err(ToolError::Failed { code: 2, .. })));
}

#[test]
fn both_passes_verify() {
    for invocation in [
        cpu_invocation(8, Duration::from_millis(1500)),
        memory_invocation(8, 1 << 30, Duration::from_hours(1)),
    ] {
        assert!(invocation.args.iter().any(|arg| arg == "--verify"));
    }
    let args = memory_invocation(4, 4096, Duration::from_millis(1500)).args;
    assert_eq!(&args[..7], ["--vm", "4", "--vm-bytes", "4096b", "--vm-keep", "--vm-method", "move-inv"]);
    assert_eq!(args.last().unwrap(), "2s");
}
