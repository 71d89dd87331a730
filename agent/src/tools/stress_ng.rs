//! stress-ng (0.15 to 0.19): works CPUs or memory and checks the answers (`--verify`).
//!
//! Its YAML metrics come on stdout (`--yaml /proc/self/fd/1`), failures of the verification as `fail:` lines. Refuses to
//! call a pass good that verified nothing, or in which a worker died: stress-ng itself reports success when it could
//! not get its memory, and when the kernel killed its workers.

use std::ffi::OsString;
use std::time::Duration;

use serde::Deserialize;

use super::runner::{Finished, Invocation, ToolError};

const TOOL: &str = "stress-ng";
/// From this length on the memory pass goes through every method; a shorter one would not finish them.
const ALL_METHODS_FROM: Duration = Duration::from_mins(30);
/// Least part of the asked duration that the workers must have worked, on average.
const LEAST_WORKED: f64 = 0.95;
/// Exit code when a stressor failed or its verification did; stress-ng(1) "EXIT STATUS".
const STRESSOR_FAILED: i32 = 2;

/// Works `workers` logical CPUs for `duration` with every method of the cpu stressor, checking results.
pub fn cpu_invocation(workers: u32, duration: Duration) -> Invocation {
    let args = vec!["--cpu".into(), workers.to_string().into(), "--cpu-method".into(), "all".into()];
    invocation(args, duration)
}

/// Fills `bytes` over all `workers` together and checks them for `duration`, keeping the memory mapped. Moving
/// inversions for a short pass, every method for a long one.
pub fn memory_invocation(workers: u32, bytes: u64, duration: Duration) -> Invocation {
    let method = if duration >= ALL_METHODS_FROM { "all" } else { "move-inv" };
    let args = vec![
        "--vm".into(),
        workers.to_string().into(),
        "--vm-bytes".into(),
        format!("{bytes}b").into(),
        "--vm-keep".into(),
        "--vm-method".into(),
        method.into(),
        // a worker that the kernel kills for memory must be seen, not quietly started again
        "--oomable".into(),
    ];
    invocation(args, duration)
}

fn invocation(mut args: Vec<OsString>, duration: Duration) -> Invocation {
    let seconds = duration.as_millis().div_ceil(1000).max(1);
    // /dev/stdout is a link that udev makes, and the live image has no udev
    // a worker that died and was started again, or died in silence, is told of only in verbose lines
    args.extend([
        "--verbose".into(),
        "--verify".into(),
        "--metrics".into(),
        "--yaml".into(),
        "/proc/self/fd/1".into(),
    ]);
    args.extend(["--timeout".into(), format!("{seconds}s").into()]);
    // a worker ends only between two operations, and large memory takes long to unmap
    Invocation { tool: TOOL, args, timeout: duration * 2 + Duration::from_mins(2) }
}

/// What a pass did.
#[derive(Debug, Clone, PartialEq)]
pub struct StressReport {
    /// Verification failures: `fail:` lines, each the failure of one worker or one round of it.
    pub verify_failures: u64,
    /// Those lines, for a person.
    pub failures: Vec<String>,
    /// Bogus operations done; only comparable within one version and machine model.
    pub bogo_ops: f64,
    /// The same a second of real time.
    pub bogo_ops_per_second: f64,
    /// Largest resident set of a worker, bytes; absent in versions that do not tell.
    pub max_rss_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct Yaml {
    metrics: Vec<Metrics>,
}

#[derive(Deserialize)]
struct Metrics {
    stressor: String,
    #[serde(rename = "bogo-ops")]
    bogo_ops: f64,
    #[serde(rename = "bogo-ops-per-second-real-time")]
    bogo_ops_per_second: f64,
    /// Seconds, the mean over the workers.
    #[serde(rename = "wall-clock-time")]
    wall_clock_seconds: f64,
    /// KiB.
    #[serde(rename = "max-rss")]
    max_rss_kib: Option<u64>,
}

fn garbage(message: impl Into<String>) -> ToolError {
    ToolError::Garbage { tool: TOOL.to_owned(), message: message.into() }
}

/// Reads what a pass of `stressor` (`cpu` or `vm`) did that was asked to work for `asked`. Failed verification is a
/// report, also when workers died of it; a pass without one that was not worked to its end is an error.
pub fn parse(finished: &Finished, stressor: &str, asked: Duration) -> Result<StressReport, ToolError> {
    let code = finished.code(TOOL)?;
    let (stdout, stderr) = (finished.stdout_text(), String::from_utf8_lossy(&finished.stderr));
    let lines = || stdout.lines().chain(stderr.lines());
    let failures: Vec<String> = lines().filter_map(failure_of).map(ToOwned::to_owned).collect();
    let failed = |message: String| ToolError::Failed { tool: TOOL.to_owned(), code, message };
    if failures.is_empty() {
        if let Some(death) = lines().find_map(death_of) {
            return Err(failed(format!("a worker died: {death}")));
        }
        if let Some(damage) = lines().find_map(bookkeeping_of) {
            return Err(failed(format!("its own counters are damaged: {damage}")));
        }
    }
    let verification_failed = code == STRESSOR_FAILED && !failures.is_empty();
    if code != 0 && !verification_failed {
        return Err(failed(error_of(&stderr, finished)));
    }
    let metrics = metrics_of(&stdout, stressor)?;
    if failures.is_empty() {
        worked_to_the_end(&metrics, asked)?;
    }
    Ok(StressReport {
        verify_failures: failures.len() as u64,
        failures,
        bogo_ops: metrics.bogo_ops,
        bogo_ops_per_second: metrics.bogo_ops_per_second,
        max_rss_bytes: metrics.max_rss_kib.map(|kib| kib.saturating_mul(1024)),
    })
}

fn metrics_of(stdout: &str, stressor: &str) -> Result<Metrics, ToolError> {
    // only this part: 0.19 writes a build-info before it that is no valid YAML
    let yaml: String = stdout
        .lines()
        .skip_while(|line| *line != "metrics:")
        .take_while(|line| *line != "...")
        .filter(|line| !is_log_line(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    if yaml.is_empty() {
        return Err(garbage("there are no metrics in it"));
    }
    let yaml: Yaml = serde_yaml::from_str(&yaml)
        .map_err(|error| garbage(format!("its YAML metrics cannot be read: {error}")))?;
    yaml.metrics
        .into_iter()
        .find(|metrics| metrics.stressor == stressor)
        .ok_or_else(|| garbage(format!("there are no metrics of the stressor {stressor}")))
}

fn worked_to_the_end(metrics: &Metrics, asked: Duration) -> Result<(), ToolError> {
    let stressor = &metrics.stressor;
    // NaN is neither
    let worked = metrics.bogo_ops > 0.0;
    if !worked {
        return Err(ToolError::NothingDone { tool: format!("{TOOL} ({stressor})") });
    }
    let (seconds, asked) = (metrics.wall_clock_seconds, asked.as_secs_f64());
    let long_enough = seconds >= asked * LEAST_WORKED;
    if long_enough {
        return Ok(());
    }
    Err(garbage(format!("the stressor {stressor} worked {seconds:.1} s on average instead of {asked:.1} s")))
}

fn is_log_line(line: &str) -> bool {
    line.starts_with("stress-ng: ") || line.starts_with("info: ")
}

/// What follows level and process in a line of `level`:
/// `stress-ng: fail:  [28296] moving inversion: detected 45 memory errors` → from `moving` on.
fn text_of<'l>(line: &'l str, level: &str) -> Option<&'l str> {
    let text = line.strip_prefix("stress-ng: ")?.strip_prefix(level)?.strip_prefix(':')?.trim_start();
    Some(text.split_once("] ").map_or(text, |(_pid, text)| text))
}

/// A wrong answer; what stress-ng finds wrong with its own counters is none.
fn failure_of(line: &str) -> Option<&str> {
    text_of(line, "fail").filter(|text| !is_bookkeeping(text))
}

fn bookkeeping_of(line: &str) -> Option<&str> {
    text_of(line, "fail").filter(|text| is_bookkeeping(text))
}

/// The counters of a worker that died are left half-written.
fn is_bookkeeping(text: &str) -> bool {
    text.starts_with("metrics-check:") || text.contains("bogo-ops counter")
}

/// A worker that did not end by itself, in the words of 0.15 and of 0.19.
fn death_of(line: &str) -> Option<&str> {
    let told = |level, words: &[&str]| {
        text_of(line, level).filter(|text| words.iter().any(|word| text.contains(word)))
    };
    told("warn", &["finished prematurely"])
        .or_else(|| {
            told("debug", &["child died: ", "terminated on signal"]).filter(|text| !is_late_kill(text))
        })
        .or_else(|| told("info", &["terminated with unexpected signal"]))
}

/// stress-ng itself kills memory workers that are slow to end; one that was killed before finished prematurely.
fn is_late_kill(text: &str) -> bool {
    text.contains("child died: signal 9 ")
}

/// The first `error:` line, or else the last words.
fn error_of(stderr: &str, finished: &Finished) -> String {
    stderr
        .lines()
        .find_map(|line| line.strip_prefix("stress-ng: error:"))
        .map_or_else(|| finished.last_words(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests;
