//! stress-ng's recorded outputs.

use super::*;
use crate::tools::fixture;

fn parsed(case: &str, stressor: &str) -> Result<StressReport, ToolError> {
    parse(&fixture(TOOL, case), stressor, Duration::from_secs(2))
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

/// Recorded while a signal was sent to one of two workers. Most of these end with exit code 0 and "successful run
/// completed".
#[test]
fn a_pass_whose_worker_died_is_an_error() {
    for version in ["0.15", "0.19"] {
        for (case, stressor, told) in [
            ("memory-worker-killed", "vm", "finished prematurely"),
            ("memory-worker-sigbus", "vm", "SIGBUS"),
            ("memory-worker-sigsegv", "vm", "SIGSEGV"),
            ("cpu-worker-killed", "cpu", "signal"),
        ] {
            let case = format!("{version}-{case}");
            let error = parsed(&case, stressor).unwrap_err();
            assert!(matches!(error, ToolError::Failed { .. }), "{case}: {error:?}");
            let reason = error.reason();
            assert!(reason.contains("a worker died") && reason.contains(told), "{case}: {reason}");
        }
    }
}

/// Without its verbose lines, as a version may word them otherwise.
#[test]
fn finished_prematurely_and_short_time_are_each_enough() {
    let without = |words: &[&str]| {
        let mut finished = fixture(TOOL, "0.15-memory-worker-killed");
        let text = String::from_utf8(finished.stderr).unwrap();
        let kept = text.lines().filter(|line| !words.iter().any(|word| line.contains(word)));
        finished.stderr = kept.flat_map(|line| [line, "\n"]).collect::<String>().into_bytes();
        parse(&finished, "vm", Duration::from_secs(3)).unwrap_err().reason()
    };
    assert!(without(&["debug:"]).contains("finished prematurely"));
    assert!(without(&["debug:", "warn:"]).contains("instead of 3.0 s"));
    assert!(parse(&fixture(TOOL, "0.15-memory-good"), "vm", Duration::from_secs(3)).is_err());
}

/// A killed cpu worker leaves its counters half-written: no CPU computed anything wrong.
#[test]
fn damaged_counters_are_no_wrong_answers() {
    let mut finished = fixture(TOOL, "0.15-cpu-worker-killed");
    let text = String::from_utf8(finished.stderr).unwrap();
    assert!(text.contains("corrupted bogo-ops counter") && text.contains("metrics-check:"));
    let kept = text.lines().filter(|line| !line.contains("debug:"));
    finished.stderr = kept.flat_map(|line| [line, "\n"]).collect::<String>().into_bytes();
    let error = parse(&finished, "cpu", Duration::from_secs(3)).unwrap_err();
    assert!(matches!(error, ToolError::Failed { code: 2, .. }), "{error:?}");
    // but one beside them is
    finished.stderr.extend(b"stress-ng: fail:  [1] cpu: int64 error detected\n");
    let report = parse(&finished, "cpu", Duration::from_secs(3)).unwrap();
    assert_eq!(report.failures, ["cpu: int64 error detected"]);
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
    assert!(matches!(
        parse(&finished, "cpu", Duration::from_secs(2)),
        Err(ToolError::Failed { code: 2, .. })
    ));
}

#[test]
fn both_passes_verify() {
    for invocation in [
        cpu_invocation(8, Duration::from_millis(1500)),
        memory_invocation(8, 1 << 30, Duration::from_hours(1)),
    ] {
        assert!(invocation.args.iter().any(|arg| arg == "--verify"));
        // without it the death of a worker is not told
        assert!(invocation.args.iter().any(|arg| arg == "--verbose"));
    }
    let args = memory_invocation(4, 4096, Duration::from_millis(1500)).args;
    assert_eq!(&args[..7], ["--vm", "4", "--vm-bytes", "4096b", "--vm-keep", "--vm-method", "move-inv"]);
    assert_eq!(args.last().unwrap(), "2s");
}
