//! Our own CPU test, `vetting-agent cpu-worker`: this program once more, as a process of its own on one CPU.
//!
//! It tells the answers that it computed in lines of JSON ([`CpuEvent`]). Refuses to believe a worker that did not come
//! to its end or left out a question. Whether the answers are right is for who asked.

use std::time::Duration;

use super::runner::{Finished, Invocation, ToolError};
use crate::workers::cpu::workloads::{SEEDS, WORKLOADS};
use crate::workers::cpu::{CpuAnswers, CpuEvent, CpuWork};

/// The program that runs: also where nobody installed it under a name.
const SELF: &str = "/proc/self/exe";
const NAME: &str = "vetting-agent cpu-worker";

/// Computes on one CPU for at least one round, at most for `limit`.
pub fn invocation(work: &CpuWork, limit: Duration) -> Invocation {
    let args = vec![
        "cpu-worker".into(),
        format!("--cpu={}", work.cpu).into(),
        format!("--duration-ms={}", work.duration_ms).into(),
    ];
    Invocation { tool: SELF, args, timeout: limit }
}

/// What a worker computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuReport {
    /// Every question with its answers.
    pub answers: Vec<CpuAnswers>,
    /// Rounds over all questions.
    pub rounds: u64,
}

/// Reads what a worker told.
pub fn parse(finished: &Finished) -> Result<CpuReport, ToolError> {
    let garbage = |message: String| ToolError::Garbage { tool: NAME.to_owned(), message };
    finished.success(NAME)?;
    let mut answers: Vec<CpuAnswers> = Vec::new();
    let mut told_rounds = None;
    for line in finished.stdout_text().lines().filter(|line| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(CpuEvent::Answers(told)) => answers.push(told),
            Ok(CpuEvent::Done { rounds }) if told_rounds.is_none() => told_rounds = Some(rounds),
            Ok(CpuEvent::Done { .. }) => return Err(garbage("it ended twice".to_owned())),
            Err(error) => return Err(garbage(format!("`{line}` is no event: {error}"))),
        }
    }
    let rounds = told_rounds.ok_or_else(|| garbage("its last line is missing".to_owned()))?;
    if rounds == 0 {
        return Err(ToolError::NothingDone { tool: NAME.to_owned() });
    }
    for workload in WORKLOADS {
        for seed in SEEDS {
            let answered =
                answers.iter().filter(|told| told.workload == workload.name && told.seed == seed).count();
            if answered != 1 {
                return Err(garbage(format!("{answered} answers to {} of seed {seed:#x}", workload.name)));
            }
        }
    }
    if let Some(none) = answers.iter().find(|told| told.answers.is_empty()) {
        return Err(garbage(format!("no answer to {} of seed {:#x}", none.workload, none.seed)));
    }
    Ok(CpuReport { answers, rounds })
}
