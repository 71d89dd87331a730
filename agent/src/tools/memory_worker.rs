//! Our own memory test, `vetting-agent memory-worker`: this program once more, as a process of its own.
//!
//! It tells faults and what it did in lines of JSON ([`MemoryEvent`]). Refuses to believe a worker whose last line is
//! missing, and one that says it verified nothing.

use std::time::Duration;

use super::runner::{Exit, Finished, Invocation, ToolError};
use crate::workers::memory::{MemoryDone, MemoryEvent, MemoryFault, MemoryWork};

/// The program that runs: also where nobody installed it under a name.
const SELF: &str = "/proc/self/exe";
const NAME: &str = "vetting-agent memory-worker";

/// Fills and checks memory for at most `limit`.
pub fn invocation(work: &MemoryWork, limit: Duration) -> Invocation {
    let cpus: Vec<String> = work.cpus.iter().map(u32::to_string).collect();
    let mut args = vec!["memory-worker".into(), format!("--cpus={}", cpus.join(",")).into()];
    args.extend(work.node.map(|node| format!("--node={node}").into()));
    args.extend([
        format!("--bytes={}", work.bytes).into(),
        format!("--leave={}", work.leave).into(),
        format!("--duration-ms={}", work.duration_ms).into(),
        format!("--fade-ms={}", work.fade_ms).into(),
        format!("--seed={}", work.seed).into(),
    ]);
    Invocation { tool: SELF, args, timeout: limit }
}

/// What a worker found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryReport {
    /// The first faults, in the order they were found.
    pub faults: Vec<MemoryFault>,
    /// What was done; `None` where memory that is broken ended the worker (SIGBUS).
    pub done: Option<MemoryDone>,
}

/// Reads what a worker told. Faults are a report also where the worker did not come to its end.
pub fn parse(finished: &Finished) -> Result<MemoryReport, ToolError> {
    let garbage = |message: String| ToolError::Garbage { tool: NAME.to_owned(), message };
    let mut faults = Vec::new();
    let mut done = None;
    for line in finished.stdout_text().lines().filter(|line| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(MemoryEvent::Fault(fault)) => faults.push(fault),
            Ok(MemoryEvent::Done(told)) if done.is_none() => done = Some(told),
            Ok(MemoryEvent::Done(_)) => return Err(garbage("it ended twice".to_owned())),
            Err(error) => return Err(garbage(format!("`{line}` is no event: {error}"))),
        }
    }
    let is_poisoned = finished.exit == Exit::Signal(nix::libc::SIGBUS);
    if is_poisoned || !faults.is_empty() {
        return Ok(MemoryReport { faults, done });
    }
    finished.success(NAME)?;
    match done {
        None => Err(garbage("its last line is missing".to_owned())),
        Some(done) if done.verified_bytes == 0 || done.patterns == 0 => {
            Err(ToolError::NothingDone { tool: NAME.to_owned() })
        }
        Some(done) if done.faults > 0 => Err(garbage("it counted faults and named none".to_owned())),
        Some(done) => Ok(MemoryReport { faults, done: Some(done) }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finished(exit: Exit, stdout: &str) -> Finished {
        Finished {
            exit,
            stdout: stdout.as_bytes().to_vec(),
            stderr: Vec::new(),
            truncated: false,
            elapsed: Duration::ZERO,
        }
    }

    const DONE: &str = r#"{"event":"done","verified_bytes":4096,"rounds":0,"patterns":2,"moved_bytes":9,"moving_ms":1,"faults":0}"#;
    const FAULT: &str = r#"{"event":"fault","pattern":"address","virtual_address":4096,"physical_address":8192,"expected":1,"actual":0,"reread":0}"#;

    #[test]
    fn a_worker_that_came_to_its_end_is_believed() {
        let report = parse(&finished(Exit::Code(0), DONE)).unwrap();
        assert_eq!(report.done.unwrap().patterns, 2);
    }

    #[test]
    fn one_that_did_not_or_did_nothing_is_not() {
        let nothing = DONE.replace("4096", "0");
        let no_pattern = DONE.replace("\"patterns\":2", "\"patterns\":0");
        let unnamed = DONE.replace("\"faults\":0", "\"faults\":3");
        let twice = format!("{DONE}\n{DONE}");
        for (exit, stdout) in [
            (Exit::Code(0), ""),
            (Exit::Code(0), "what?"),
            (Exit::Code(0), &DONE[..40]),
            (Exit::Code(0), &nothing),
            (Exit::Code(0), &no_pattern),
            (Exit::Code(0), &unnamed),
            (Exit::Code(0), &twice),
            (Exit::Code(2), DONE),
            (Exit::Signal(9), DONE),
            (Exit::TimedOut, DONE),
            (Exit::Cancelled, DONE),
        ] {
            assert!(parse(&finished(exit, stdout)).is_err(), "{exit:?} {stdout}");
        }
    }

    #[test]
    fn faults_count_also_without_an_end_and_so_does_poison() {
        for exit in [Exit::Code(0), Exit::Code(2), Exit::Signal(9), Exit::TimedOut] {
            let report = parse(&finished(exit, FAULT)).unwrap();
            assert_eq!(report.faults[0].physical_address, Some(8192));
        }
        let poisoned = parse(&finished(Exit::Signal(nix::libc::SIGBUS), "")).unwrap();
        assert_eq!(poisoned, MemoryReport { faults: Vec::new(), done: None });
    }

    proptest! {
        #[test]
        fn nothing_panics(stdout in "(\\{|\\}|\"event\":|\"done\"|\"fault\"|,|:|[0-9a-z\"\\n -]){0,80}") {
            let _ = parse(&finished(Exit::Code(0), &stdout));
        }
    }
}
