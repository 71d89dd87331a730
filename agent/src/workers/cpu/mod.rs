//! `cpu-worker`: one logical CPU alone computes answers that are known, again and again, and tells what it got.
//!
//! It does not compare: a CPU that computes wrongly may compare wrongly as well. Who started it does, with what is known
//! and with what the other CPUs got.

pub mod workloads;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::process::{WorkerError, run_on, settle};
use super::tell;
use crate::clock;
use workloads::{SEEDS, WORKLOADS};

/// Most different answers that are kept of one question.
const KEPT_ANSWERS: usize = 8;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct CpuWork {
    /// Logical CPU to compute on
    #[arg(long)]
    pub cpu: u32,
    /// Time after which no further round of all workloads begins
    #[arg(long)]
    pub duration_ms: u64,
}

/// What it tells, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum CpuEvent {
    /// The answers to one question.
    Answers(CpuAnswers),
    /// The end.
    Done {
        /// Rounds of all workloads with all seeds.
        rounds: u64,
    },
}

/// What one workload gave for one seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuAnswers {
    /// The workload.
    pub workload: String,
    /// The seed.
    pub seed: u64,
    /// Each answer and how often it was given. One, on a sound CPU.
    pub answers: Vec<(u64, u64)>,
}

/// Does it and tells it.
pub fn run(work: &CpuWork) -> Result<(), WorkerError> {
    settle(c"cpu-worker");
    run_on(&[work.cpu])?;
    let begin = clock::monotonic();
    let mut answers: BTreeMap<(&str, u64), BTreeMap<u64, u64>> = BTreeMap::new();
    let mut rounds = 0;
    while rounds == 0 || begin.elapsed() < Duration::from_millis(work.duration_ms) {
        for workload in WORKLOADS {
            for seed in SEEDS {
                let answer = (workload.answer)(seed);
                let given = answers.entry((workload.name, seed)).or_default();
                if given.len() < KEPT_ANSWERS || given.contains_key(&answer) {
                    *given.entry(answer).or_default() += 1;
                }
            }
        }
        rounds += 1;
    }
    for ((workload, seed), given) in answers {
        let answers = given.into_iter().collect();
        tell(&CpuEvent::Answers(CpuAnswers { workload: workload.to_owned(), seed, answers }))?;
    }
    tell(&CpuEvent::Done { rounds })
}
