//! What supplies told, over several looks: which there are, what is wrong with each, whether they are redundant. Pure.

use std::collections::{BTreeMap, BTreeSet};

use vetting_protocol::outcome::Outcome;

use super::pmbus::PmbusSupply;
use crate::tools::ipmitool::sdr::SdrRow;

/// Entity id "Power Supply", IPMI 2.0 table 43-13.
const SUPPLY_ENTITY: &str = "10.";
/// States that tell of a fault, as ipmitool writes them: of the sensor type "Power Supply" (IPMI 2.0 table 42-3), and of
/// the generic ones (table 42-2).
const FAULTS: [&str; 9] = [
    "failure detected",
    "predictive failure",
    "ac lost",
    "out-of-range",
    "config error",
    "configuration error",
    "limit exceeded",
    "to critical",
    "to non-recoverable",
];
/// States of a supply that is there.
const PRESENT: [&str; 2] = ["presence detected", "device present"];
/// States of a bay without one, besides no state at all.
const ABSENT: [&str; 4] = ["no reading", "disabled", "device absent", "device removed"];
/// States of a group of redundancy (IPMI 2.0 table 42-2, code 0Bh) in which it is gone.
const LOST: [&str; 4] =
    ["redundancy lost", "redundancy degraded", "insufficient resources", "redundant degraded"];

/// All supplies of a machine.
#[derive(Debug, Default)]
pub(super) struct Supplies {
    /// Everything that was told of each, at any look.
    by_name: BTreeMap<String, Part>,
    groups: BTreeMap<String, BTreeSet<String>>,
    /// Sensors of supplies that give no reading, as those of empty bays do.
    not_read: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Part {
    told: BTreeSet<String>,
    faults: BTreeSet<String>,
}

impl Supplies {
    /// From the BMC's sensors of the type "Power Supply".
    pub(super) fn of_bmc(rows: &[SdrRow]) -> Self {
        let mut found = Self::default();
        for row in rows {
            let name = if rows.iter().filter(|other| other.name == row.name).count() > 1 {
                format!("{} {}", row.name, row.entity)
            } else {
                row.name.clone()
            };
            let told = row.text.to_ascii_lowercase();
            let says = |states: &[&str]| states.iter().any(|state| told.contains(state));
            if told.contains("redundan") || told.contains("insufficient resources") {
                found.groups.entry(name).or_default().insert(row.text.clone());
            } else if !row.entity.starts_with(SUPPLY_ENTITY) {
                // what the whole machine draws, and the like
            } else if row.status == "ns" || told.is_empty() || says(&ABSENT) {
                found.not_read.insert(name);
            } else {
                let faults: Vec<String> =
                    row.text.split(", ").filter(|state| is_fault(state)).map(str::to_owned).collect();
                // anything else is a reading, or a state that says nothing by itself: `State Asserted`
                if !faults.is_empty() || says(&PRESENT) {
                    let part = found.by_name.entry(name).or_default();
                    part.faults.extend(faults);
                    part.told.insert(row.text.clone());
                }
            }
        }
        found
    }

    pub(super) fn add_pmbus(&mut self, supply: PmbusSupply) {
        let part = self.by_name.entry(supply.name).or_default();
        part.told.insert("answers".to_owned());
        part.faults.extend(supply.alarms);
    }

    /// Takes over what a later look showed. A supply that it does not show went away while it was watched.
    pub(super) fn add(&mut self, later: Self) {
        for (name, known) in &mut self.by_name {
            if !later.by_name.contains_key(name) {
                known.faults.insert("it does not answer any more".to_owned());
            }
        }
        for (name, part) in later.by_name {
            let known = self.by_name.entry(name).or_default();
            known.told.extend(part.told);
            known.faults.extend(part.faults);
        }
        for (name, told) in later.groups {
            self.groups.entry(name).or_default().extend(told);
        }
        self.not_read.extend(later.not_read.into_iter().filter(|name| !self.by_name.contains_key(name)));
    }

    /// Nothing tells of a supply.
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.groups.is_empty() && self.not_read.is_empty()
    }

    pub(super) fn supply_names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    pub(super) fn not_read(&self) -> Vec<String> {
        self.not_read.iter().cloned().collect()
    }

    /// What is judged by itself: each supply, each group of redundancy; where none of them answers, all together.
    pub(super) fn parts(&self) -> Vec<String> {
        let parts: Vec<String> = self.by_name.keys().chain(self.groups.keys()).cloned().collect();
        if self.by_name.is_empty() { [parts, vec!["supplies".to_owned()]].concat() } else { parts }
    }

    pub(super) fn told(&self, part: &str) -> Vec<String> {
        let told = self.by_name.get(part).map(|part| &part.told).or_else(|| self.groups.get(part));
        told.into_iter().flatten().cloned().collect()
    }

    pub(super) fn faults(&self, supply: &str) -> Vec<String> {
        self.by_name.get(supply).into_iter().flat_map(|part| part.faults.iter().cloned()).collect()
    }

    pub(super) fn judge(&self, part: &str) -> Outcome {
        if self.by_name.contains_key(part) {
            let faults = self.faults(part);
            if faults.is_empty() {
                return Outcome::Pass;
            }
            return Outcome::fail(format!("power supply {part}: {}", faults.join(", ")));
        }
        if let Some(told) = self.groups.get(part) {
            return self.redundancy(part, told);
        }
        Outcome::error(format!(
            "the machine runs, but none of its supplies answers the BMC: {}",
            self.not_read().join(", ")
        ))
    }

    fn redundancy(&self, group: &str, told: &BTreeSet<String>) -> Outcome {
        let lost = |text: &&String| {
            let text = text.to_ascii_lowercase();
            // a machine with one supply is made that way
            let without = text.contains("non-redundant") && self.by_name.len() > 1;
            without || LOST.iter().any(|state| text.contains(state))
        };
        match told.iter().find(lost) {
            Some(text) => Outcome::fail(format!("power supplies, {group}: {text}")),
            None => Outcome::Pass,
        }
    }
}

fn is_fault(state: &str) -> bool {
    let state = state.to_ascii_lowercase();
    !state.contains("deasserted") && FAULTS.iter().any(|fault| state.contains(fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PS1 Status | 07h | ok | 10.1 | Presence detected`, as machines of people wrote them.
    fn rows(text: &str) -> Vec<SdrRow> {
        let row = |line: &str| {
            let fields: Vec<&str> = line.splitn(5, '|').map(str::trim).collect();
            let [name, number, status, entity, text] = fields.as_slice() else { panic!("{line}") };
            let owned = |text: &&str| (**text).to_owned();
            SdrRow {
                name: owned(name),
                number: owned(number),
                status: owned(status),
                entity: owned(entity),
                text: owned(text),
            }
        };
        text.lines().map(row).collect()
    }

    fn judged(text: &str) -> Vec<(String, Outcome)> {
        let supplies = Supplies::of_bmc(&rows(text));
        supplies.parts().into_iter().map(|part| (part.clone(), supplies.judge(&part))).collect()
    }

    fn fails(text: &str) -> Vec<String> {
        judged(text).into_iter().filter_map(|(_, outcome)| outcome.reason().map(str::to_owned)).collect()
    }

    #[test]
    fn a_machine_with_good_supplies_passes() {
        // Dell PowerEdge R740xd
        let dell = "PS Redundancy | 77h | ok | 7.1 | Fully Redundant\n\
            Status | 85h | ok | 10.1 | Presence detected\nStatus | 86h | ok | 10.2 | Presence detected";
        let names: Vec<String> = judged(dell).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Status 10.1", "Status 10.2", "PS Redundancy"]);
        assert_eq!(fails(dell), [""; 0]);
        // one supply, the other bay empty
        let single = "PSU1_STATUS | 26h | ok | 10.1 | Presence detected\n\
            PSU1_PWRGD | 28h | ok | 10.1 | State Asserted\nPSU1_POUT | 2Bh | ok | 10.1 | 120 Watts\n\
            PSU2_STATUS | 2Ch | ok | 10.2 |\nPSU2_PWRGD | 2Eh | ns | 10.2 | No Reading\n\
            PS_RDNDNT_MODE | ADh | ok | 20.0 | Non-Redundant: Sufficient from Redundant\n\
            POWER_USAGE | AEh | ok | 7.0 | 128 Watts";
        assert_eq!(fails(single), [""; 0]);
        assert_eq!(Supplies::of_bmc(&rows(single)).supply_names(), ["PSU1_STATUS"]);
    }

    #[test]
    fn each_fault_names_its_supply() {
        // Nvidia DGX-1
        let dgx = "PSU Redundancy | E8h | ok | 21.1 | Non-Redundant: Insufficient Resources\n\
            PSU1 Status | E0h | ok | 10.1 | Presence detected, Power Supply AC lost\n\
            PSU3 Status | E2h | ok | 10.3 | Presence detected";
        assert_eq!(
            fails(dgx),
            [
                "power supply PSU1 Status: Power Supply AC lost",
                "power supplies, PSU Redundancy: Non-Redundant: Insufficient Resources"
            ]
        );
        for fault in [
            "Failure detected",
            "Predictive failure",
            "Config Error: Vendor Mismatch",
            "Power Supply AC lost or out-of-range",
            "Transition to Critical from less severe",
        ] {
            let text = format!("PS1 | 1h | ok | 10.1 | Presence detected, {fault}");
            assert_eq!(fails(&text), [format!("power supply PS1: {fault}")]);
        }
        let mains = "PS1 | 1h | ok | 10.1 | Presence detected, Power Supply AC out-of-range, but present";
        assert_eq!(fails(mains), ["power supply PS1: Power Supply AC out-of-range"]);
        assert_eq!(fails("PS1 | 1h | ok | 10.1 | Device Present, Predictive Failure Deasserted"), [""; 0]);
        // ipmitool of a failed one that does not tell that it is there
        assert_eq!(fails("PSU2 Status | 75h | cr | 10.2 | Failure detected").len(), 1);
        assert_eq!(
            fails(
                "PS Redundancy | 74h | ok | 7.1 | Redundancy Degraded\nS | 1h | ok | 10.1 | Presence detected"
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_fault_at_one_look_is_enough_and_a_supply_may_not_go_away() {
        let mut seen = Supplies::of_bmc(&rows("PS1 | 1h | ok | 10.1 | Presence detected"));
        seen.add(Supplies::of_bmc(&rows("PS1 | 1h | ok | 10.1 | Presence detected, Power Supply AC lost")));
        seen.add(Supplies::of_bmc(&rows("PS1 | 1h | ok | 10.1 | Presence detected")));
        assert_eq!(seen.judge("PS1"), Outcome::fail("power supply PS1: Power Supply AC lost"));
        let mut seen = Supplies::of_bmc(&rows("PS1 | 1h | ok | 10.1 | Presence detected"));
        seen.add(Supplies::of_bmc(&rows("PS1 | 1h | ns | 10.1 | No Reading")));
        assert_eq!(seen.judge("PS1"), Outcome::fail("power supply PS1: it does not answer any more"));
    }

    #[test]
    fn supplies_that_all_say_nothing_are_an_error() {
        let silent = judged("PS1 | 1h | ns | 10.1 | No Reading\nPS2 | 2h | ok | 10.2 |");
        assert!(matches!(&silent[..], [(_, Outcome::Error { .. })]), "{silent:?}");
        assert!(Supplies::of_bmc(&[]).is_empty());
    }
}
