//! Who may draw power now: pure arithmetic over a budget, those that have their turn, and those that wait, in the order
//! they came.
//!
//! First come, first served: a machine that needs little does not go before one that needs much and came earlier, so
//! that no one waits for ever.

use vetting_protocol::ids::StageName;
use vetting_protocol::queue::WattsFrom;

/// What may be drawn at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Machines; `None`: any number.
    pub machines: Option<u32>,
    /// Watts; `None`: any.
    pub watts: Option<f64>,
    /// Of a machine that nobody measured, watts.
    pub assumed_watts: f64,
    /// The stages that wait for their turn.
    pub stages: Vec<StageName>,
}

/// The largest power that was measured of a machine, watts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// How much.
    pub watts: f64,
    /// Of the whole machine; else of some of its parts, and it draws more than that.
    pub whole: bool,
}

/// What a machine is reckoned to draw, watts, and how that is known.
pub fn reckoned(budget: &Budget, told: Option<u32>, measured: Option<Measured>) -> (f64, WattsFrom) {
    match (told, measured) {
        (Some(told), _) => (f64::from(told), WattsFrom::Told),
        (None, Some(Measured { watts, whole: true })) => (watts, WattsFrom::Measured),
        // fans, disks and losses are not in it: less than what is assumed tells nothing
        (None, Some(Measured { watts, whole: false })) if watts > budget.assumed_watts => {
            (watts, WattsFrom::Measured)
        }
        (None, Some(_) | None) => (budget.assumed_watts, WattsFrom::Assumed),
    }
}

/// How many of those that wait, from the first on, may begin; `at_work` and `waiting` are their watts. One that alone
/// is beyond the budget may where nothing else is at work.
pub fn admitted(budget: &Budget, at_work: &[f64], waiting: &[f64]) -> usize {
    let mut watts: f64 = at_work.iter().sum();
    for (machines, (index, needs)) in (at_work.len()..).zip(waiting.iter().enumerate()) {
        let room = budget.machines.is_none_or(|most| machines < usize::try_from(most).unwrap_or(usize::MAX))
            && budget.watts.is_none_or(|most| watts + needs <= most);
        if !room && machines > 0 {
            return index;
        }
        watts += needs;
    }
    waiting.len()
}

/// The largest power of a machine in one run, from its samples' largest values by key (`bmc/dcmi`, `rapl/package-0`, …).
pub fn peak(largest: &[(String, f64)]) -> Option<Measured> {
    let of_whole = largest.iter().filter(|(key, _)| matches!(key.as_str(), "bmc/dcmi" | "rapl/psys"));
    let whole = of_whole.map(|(_, watts)| *watts).fold(None, larger);
    if let Some(watts) = whole {
        return Some(Measured { watts, whole: true });
    }
    // `rapl/package-0/dram` is beside its package, `rapl/package-0/core` in it
    let is_part = |key: &str| match key.split('/').collect::<Vec<_>>()[..] {
        ["rapl", zone] => zone.starts_with("package"),
        ["rapl", _, zone] => zone == "dram",
        ["gpu", _, what] => what == "board",
        _ => false,
    };
    let parts: Vec<f64> = largest.iter().filter(|(key, _)| is_part(key)).map(|(_, watts)| *watts).collect();
    let watts: f64 = parts.iter().sum();
    (watts.is_finite() && watts > 0.0).then_some(Measured { watts, whole: false })
}

fn larger(before: Option<f64>, watts: f64) -> Option<f64> {
    if !watts.is_finite() || watts <= 0.0 {
        return before;
    }
    Some(before.map_or(watts, |before| before.max(watts)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn budget(machines: Option<u32>, watts: Option<f64>) -> Budget {
        Budget { machines, watts, assumed_watts: 500.0, stages: vec![StageName::Burn] }
    }

    #[test]
    fn the_first_that_has_no_room_keeps_the_others_waiting() {
        let two = budget(Some(2), None);
        assert_eq!(admitted(&two, &[], &[500.0; 3]), 2);
        assert_eq!(admitted(&two, &[500.0], &[500.0; 3]), 1);
        assert_eq!(admitted(&two, &[500.0; 2], &[500.0]), 0);
        let kilowatt = budget(None, Some(1_000.0));
        assert_eq!(admitted(&kilowatt, &[], &[500.0, 500.0, 1.0]), 2, "to the last watt");
        assert_eq!(admitted(&kilowatt, &[500.0], &[600.0, 100.0]), 0, "no one goes before the large one");
        assert_eq!(admitted(&kilowatt, &[], &[1_600.0, 100.0]), 1, "it is alone, and stays so");
        assert_eq!(admitted(&kilowatt, &[1_600.0], &[100.0]), 0);
        assert_eq!(admitted(&budget(None, None), &[500.0; 9], &[500.0; 9]), 9);
    }

    #[test]
    fn power_is_what_an_operator_said_or_else_measured_or_else_assumed() {
        let budget = budget(None, Some(4_000.0));
        let whole = Some(Measured { watts: 320.0, whole: true });
        let parts = |watts| Some(Measured { watts, whole: false });
        assert_eq!(reckoned(&budget, Some(90), whole), (90.0, WattsFrom::Told));
        assert_eq!(reckoned(&budget, None, whole), (320.0, WattsFrom::Measured));
        assert_eq!(reckoned(&budget, None, parts(320.0)), (500.0, WattsFrom::Assumed));
        assert_eq!(reckoned(&budget, None, parts(720.0)), (720.0, WattsFrom::Measured));
        assert_eq!(reckoned(&budget, None, None), (500.0, WattsFrom::Assumed));
    }

    #[test]
    fn the_whole_machine_counts_before_the_sum_of_its_parts() {
        let samples = |rows: &[(&str, f64)]| {
            rows.iter().map(|(key, watts)| ((*key).to_owned(), *watts)).collect::<Vec<_>>()
        };
        let parts = samples(&[
            ("rapl/package-0", 120.0),
            ("rapl/package-1", 110.0),
            ("rapl/package-0/core", 90.0),
            ("rapl/package-0/dram", 20.0),
            ("gpu/0000:3b:00.0/board", 250.0),
            ("hwmon/psu/pin", 999.0),
        ]);
        assert_eq!(peak(&parts), Some(Measured { watts: 500.0, whole: false }));
        let whole = [parts, samples(&[("bmc/dcmi", 640.0), ("bmc/dcmi", 610.0)])].concat();
        assert_eq!(peak(&whole), Some(Measured { watts: 640.0, whole: true }));
        assert_eq!(peak(&samples(&[("bmc/dcmi", 0.0), ("rapl/package-0", f64::NAN)])), None);
        assert_eq!(peak(&[]), None);
    }

    /// What may happen to a lab.
    #[derive(Debug, Clone)]
    enum Step {
        /// A machine asks for its turn.
        Asks(f64),
        /// One of those at work ends, is aborted, crashes, falls silent or is removed.
        Leaves(usize),
        /// One of those that wait does.
        GivesUp(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1.0..2_000.0_f64).prop_map(Step::Asks),
            any::<usize>().prop_map(Step::Leaves),
            any::<usize>().prop_map(Step::GivesUp),
        ]
    }

    proptest! {
        #[test]
        fn never_over_the_budget_never_out_of_order_and_always_on(
            machines in proptest::option::of(1_u32..5),
            watts in proptest::option::of(100.0..3_000.0_f64),
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let budget = budget(machines, watts);
            let (mut at_work, mut waiting) = (Vec::<(u32, f64)>::new(), Vec::<(u32, f64)>::new());
            let (mut asked, mut last_granted) = (0_u32, None);
            let mut look = |at_work: &mut Vec<(u32, f64)>, waiting: &mut Vec<(u32, f64)>| {
                let of = |queue: &[(u32, f64)]| queue.iter().map(|(_, watts)| *watts).collect::<Vec<_>>();
                let count = admitted(&budget, &of(at_work), &of(waiting));
                for granted in waiting.drain(..count) {
                    prop_assert!(last_granted < Some(granted.0), "out of order");
                    last_granted = Some(granted.0);
                    at_work.push(granted);
                }
                let drawn: f64 = at_work.iter().map(|(_, watts)| *watts).sum();
                prop_assert!(machines.is_none_or(|most| at_work.len() <= most as usize), "{at_work:?}");
                prop_assert!(watts.is_none_or(|most| drawn <= most) || at_work.len() == 1, "{at_work:?}");
                prop_assert!(waiting.is_empty() || !at_work.is_empty(), "nobody works and somebody waits");
                Ok(())
            };
            for step in steps {
                match step {
                    Step::Asks(watts) => {
                        asked += 1;
                        waiting.push((asked, watts));
                    }
                    Step::Leaves(which) if !at_work.is_empty() => {
                        at_work.remove(which % at_work.len());
                    }
                    Step::GivesUp(which) if !waiting.is_empty() => {
                        waiting.remove(which % waiting.len());
                    }
                    Step::Leaves(_) | Step::GivesUp(_) => {}
                }
                look(&mut at_work, &mut waiting)?;
            }
            // whoever still waits has a turn once those before are gone
            while !at_work.is_empty() {
                at_work.remove(0);
                look(&mut at_work, &mut waiting)?;
            }
            prop_assert!(waiting.is_empty(), "{waiting:?}");
        }
    }
}
