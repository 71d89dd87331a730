//! Which CPUs computed wrongly: each one's answers against what is known and against what the others got. Pure.

use std::collections::BTreeMap;
use std::fmt;

use vetting_protocol::outcome::Outcome;

use crate::tools::cpu_worker::CpuReport;
use crate::workers::cpu::workloads::{LOST, SEEDS, WORKLOADS};

/// A wrong answer of one CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrongAnswer {
    pub cpu: u32,
    pub workload: String,
    pub seed: u64,
    pub known: u64,
    pub given: u64,
    /// How often it was given, of how many times.
    pub times: u64,
    pub of: u64,
}

impl fmt::Display for WrongAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, seed, known, given, times, of, .. } = self;
        write!(f, "{workload} of seed {seed:#x} gave ")?;
        match *given {
            LOST => write!(f, "something else back than went in")?,
            given => write!(f, "{given:#018x} instead of {known:#018x}")?,
        }
        write!(f, ", {times} of {of} times")
    }
}

/// Every wrong answer, by CPU.
pub(super) fn wrong_answers(reports: &BTreeMap<u32, CpuReport>) -> Vec<WrongAnswer> {
    let mut wrong = Vec::new();
    for (cpu, report) in reports {
        for told in &report.answers {
            let of = told.answers.iter().map(|(_, times)| times).sum();
            let known = known(&told.workload, told.seed);
            for (given, times) in &told.answers {
                // a question that nobody asked has no known answer, and every answer to it is wrong
                if Some(*given) != known {
                    wrong.push(WrongAnswer {
                        cpu: *cpu,
                        workload: told.workload.clone(),
                        seed: told.seed,
                        known: known.unwrap_or(LOST),
                        given: *given,
                        times: *times,
                        of,
                    });
                }
            }
        }
    }
    wrong
}

fn known(workload: &str, seed: u64) -> Option<u64> {
    let workload = WORKLOADS.iter().find(|known| known.name == workload)?;
    let at = SEEDS.iter().position(|known| *known == seed)?;
    workload.known.get(at).copied()
}

/// What the answers say of the CPUs. `place` names one for a person.
///
/// Where all of several CPUs agree on the same wrong answer, always, it is not a core that is bad: then either all are, or
/// this program is wrong on this kind of CPU, and which of them cannot be told.
pub(super) fn verdict(reports: &BTreeMap<u32, CpuReport>, place: impl Fn(u32) -> String) -> Outcome {
    let wrong = wrong_answers(reports);
    let Some(first) = wrong.first() else { return Outcome::Pass };
    let all_agree = reports.len() > 1 && wrong.iter().all(|one| is_unanimous(one, &wrong, reports.len()));
    if all_agree {
        return Outcome::error(format!(
            "all {} CPUs agree on an answer that is not the known one ({first}): either all are bad, or this program \
             is wrong on this kind of CPU; report it",
            reports.len()
        ));
    }
    let mut bad: BTreeMap<u32, &WrongAnswer> = BTreeMap::new();
    for one in &wrong {
        bad.entry(one.cpu).or_insert(one);
    }
    let words: Vec<String> =
        bad.iter().map(|(cpu, one)| format!("{} computes wrongly: {one}", place(*cpu))).collect();
    Outcome::fail(words.join("; "))
}

fn is_unanimous(one: &WrongAnswer, wrong: &[WrongAnswer], cpus: usize) -> bool {
    let same = |other: &&WrongAnswer| {
        (&other.workload, other.seed, other.given) == (&one.workload, one.seed, one.given)
            && other.times == other.of
    };
    wrong.iter().filter(same).count() == cpus
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::cpu::CpuAnswers;

    pub(crate) fn good(rounds: u64) -> CpuReport {
        let answers = WORKLOADS
            .iter()
            .flat_map(|workload| {
                SEEDS.iter().zip(workload.known).map(move |(seed, known)| CpuAnswers {
                    workload: workload.name.to_owned(),
                    seed: *seed,
                    answers: vec![(known, rounds)],
                })
            })
            .collect();
        CpuReport { answers, rounds }
    }

    fn machine() -> BTreeMap<u32, CpuReport> {
        (0..4).map(|cpu| (cpu, good(9))).collect()
    }

    fn place(cpu: u32) -> String {
        format!("CPU {cpu}")
    }

    #[test]
    fn known_answers_pass() {
        assert_eq!(verdict(&machine(), place), Outcome::Pass);
    }

    #[test]
    fn one_wrong_answer_of_many_names_the_cpu_the_workload_and_the_seed() {
        let mut machine = machine();
        let told = &mut machine.get_mut(&2).unwrap().answers[1 + SEEDS.len()];
        assert_eq!(told.workload, "sha256");
        let known = told.answers[0].0;
        told.answers = vec![(known, 8), (known ^ 0x10, 1)];
        let Outcome::Fail { reason } = verdict(&machine, place) else { panic!() };
        assert!(reason.starts_with("CPU 2 computes wrongly: sha256 of seed 0x5eed gave 0x"), "{reason}");
        assert!(reason.ends_with("1 of 9 times"), "{reason}");
        assert!(!reason.contains("CPU 1"));
    }

    #[test]
    fn what_went_in_and_did_not_come_out_is_wrong() {
        let mut machine = machine();
        machine.get_mut(&0).unwrap().answers[0].answers = vec![(LOST, 9)];
        let Outcome::Fail { reason } = verdict(&machine, place) else { panic!() };
        assert!(reason.contains("something else back than went in"), "{reason}");
    }

    #[test]
    fn all_alike_and_wrong_cannot_be_judged_but_a_single_cpu_can() {
        let mut machine = machine();
        for report in machine.values_mut() {
            report.answers[0].answers[0].0 ^= 1;
        }
        assert!(matches!(verdict(&machine, place), Outcome::Error { .. }));
        machine.retain(|cpu, _| *cpu == 3);
        assert!(matches!(verdict(&machine, place), Outcome::Fail { .. }));
    }

    #[test]
    fn a_bad_core_is_named_also_where_another_question_is_unanimous() {
        let mut machine = machine();
        for report in machine.values_mut() {
            report.answers[0].answers[0].0 ^= 1;
        }
        machine.get_mut(&1).unwrap().answers[5].answers[0].0 ^= 1;
        assert!(matches!(verdict(&machine, place), Outcome::Fail { .. }));
    }
}
