//! What disks may have behind them: hours and wear, which SMART tells after the machine was compared with its spec. So they
//! become rules of the run.
//!
//! A rule goes by the kernel's name of a disk, which tells NVMe disks from all others, and no more. Refuses a maximum that
//! such names cannot tell apart from another group's.

use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::DiskKind;

use super::document::DiskSpec;
use super::expectation::ExpectedMost;
use crate::host_rules::{HostRule, Quantity};

/// What a spec asks for that no rule can tell.
#[derive(Debug, PartialEq)]
pub(super) struct Mistake {
    /// Dotted path of what is to be changed.
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub what: String,
}

/// A maximum that groups of disks may have.
struct Limit {
    field: &'static str,
    of: fn(&DiskSpec) -> Option<ExpectedMost>,
    /// Only solid state disks have it.
    is_wear: bool,
    name: &'static str,
    unit: &'static str,
    words: &'static str,
}

const LIMITS: [Limit; 2] = [
    Limit {
        field: "disks.power_on_hours",
        of: |disk| disk.power_on_hours,
        is_wear: false,
        name: "power_on_hours",
        unit: "hours",
        words: "the spec's maximum of hours that a disk was switched on",
    },
    Limit {
        field: "disks.wear_percent",
        of: |disk| disk.wear_percent,
        is_wear: true,
        name: "wear_percent",
        unit: "percent",
        words: "the spec's maximum of its life that a disk has used",
    },
];

/// Disks that are not called `nvme…`, and drives that only their controller knows (`megaraid,8`).
const OTHERS: &str = "[!n]*";

/// Whether the kernel calls such disks `nvme…`; absent where the group does not say its kind.
fn is_nvme(disk: &DiskSpec) -> Option<bool> {
    disk.kind.map(|kind| kind.value == DiskKind::Nvme)
}

/// The rules by which disks are judged.
///
/// # Errors
/// A maximum that no rule can hold for the disks of its group alone.
pub(super) fn rules(disks: &[DiskSpec]) -> Result<Vec<HostRule>, Mistake> {
    let mut rules = Vec::new();
    for limit in LIMITS {
        rules.extend(limit.rules(disks)?);
    }
    Ok(rules)
}

impl Limit {
    fn rules(&self, disks: &[DiskSpec]) -> Result<Vec<HostRule>, Mistake> {
        let mistake = |what: &str| Mistake { field: self.field, what: what.to_owned() };
        let asking: Vec<&DiskSpec> = disks.iter().filter(|disk| (self.of)(disk).is_some()).collect();
        let Some(first) = asking.first() else { return Ok(Vec::new()) };
        let is = |disk: &DiskSpec, kind: DiskKind| disk.kind.is_some_and(|known| known.value == kind);
        if asking.iter().any(|disk| is(disk, DiskKind::Virtual)) {
            return Err(mistake("a virtual disk tells nothing of its past; remove it"));
        }
        if self.is_wear && asking.iter().any(|disk| is(disk, DiskKind::Hdd)) {
            return Err(mistake(
                "only solid state disks tell it; keep it in groups with `kind: ssd` or `kind: nvme`",
            ));
        }
        let has_none =
            |disk: &DiskSpec| self.is_wear && (is(disk, DiskKind::Hdd) || is(disk, DiskKind::Virtual));
        let disks: Vec<&DiskSpec> = disks.iter().filter(|disk| !has_none(disk)).collect();
        if disks.iter().all(|disk| (self.of)(disk) == (self.of)(first)) {
            return (self.of)(first).map(|most| self.rule("*", most)).into_iter().collect();
        }
        let mut rules = Vec::new();
        for (nvme, prefix) in [(false, OTHERS), (true, "nvme*")] {
            let mut group =
                disks.iter().filter(|disk| is_nvme(disk) != Some(!nvme)).map(|disk| (self.of)(disk));
            let Some(most) = group.next() else { continue };
            if group.any(|other| other != most) {
                return Err(mistake(
                    "a rule goes by the kernel's name of a disk, which tells only NVMe disks from others: say `kind` of \
                     each group, and the same maximum in all that are NVMe, and in all that are not",
                ));
            }
            rules.extend(most.map(|most| self.rule(prefix, most)).transpose()?);
        }
        Ok(rules)
    }

    fn rule(&self, prefix: &str, most: ExpectedMost) -> Result<HostRule, Mistake> {
        let ExpectedMost { max, severity } = most;
        let what = Quantity { stage: StageName::Smart, kind: "smart_attr", unit: self.unit };
        HostRule::at_most(&what, &format!("{prefix}/{}", self.name), max, severity, self.words)
            .map_err(|what| Mistake { field: self.field, what })
    }
}

#[cfg(test)]
mod tests {
    use vetting_protocol::ids::StageName;

    use crate::host_rules;
    use crate::spec::Spec;
    use crate::threshold::{Judged, Rule, RuleSeverity};

    fn rules(disks: &str) -> Vec<Rule> {
        let yaml = format!("disks:\n{disks}");
        Spec::parse(&yaml).unwrap_or_else(|error| panic!("{error}"));
        host_rules::applied([], &host_rules::of_spec(&yaml))
    }

    fn in_words(disks: &str) -> Vec<String> {
        rules(disks).iter().map(|rule| format!("{} {} {}", rule.kind, rule.key, rule.describe())).collect()
    }

    #[test]
    fn a_maximum_becomes_a_rule_that_must_meet_a_disk() {
        let all = "  - {count: 2, kind: ssd, power_on_hours: {max: 100}}\n  - {kind: hdd, power_on_hours: {max: 100}}\n";
        assert_eq!(in_words(all), ["smart_attr */power_on_hours must be <= 100 hours"]);
        let rule = &rules(all)[0];
        assert!(rule.required && rule.severity == RuleSeverity::Critical);
        assert_eq!(
            (rule.judge(100.0), rule.judge(100.5)),
            (Judged::Within, Judged::Breach),
            "at the boundary"
        );
        let some = "  - {kind: nvme, power_on_hours: {max: 9, severity: warning}, wear_percent: {max: 3}}\n  - {kind: hdd}\n";
        assert_eq!(
            in_words(some),
            [
                "smart_attr nvme*/power_on_hours must be <= 9 hours",
                "smart_attr */wear_percent must be <= 3 %"
            ],
            "a hard disk has no wear"
        );
        let wear = "  - {kind: nvme, wear_percent: {max: 3}}\n  - {kind: ssd, wear_percent: {max: 20}}\n";
        assert_eq!(
            in_words(wear),
            ["smart_attr [!n]*/wear_percent must be <= 20 %", "smart_attr nvme*/wear_percent must be <= 3 %"]
        );
        assert_eq!(rules(some)[0].severity, RuleSeverity::Warning);
        let others = "  - {kind: nvme}\n  - {kind: hdd, power_on_hours: {max: 40000}}\n";
        assert_eq!(in_words(others), ["smart_attr [!n]*/power_on_hours must be <= 40000 hours"]);
    }

    #[test]
    fn the_rule_of_disks_that_are_not_nvme_is_also_for_drives_behind_controllers() {
        let rule = &rules("  - {kind: nvme}\n  - {kind: hdd, power_on_hours: {max: 40000}}\n")[0];
        for (key, applies) in
            [("sda", true), ("megaraid,8", true), ("sat+megaraid,8", true), ("vda", true), ("nvme0n1", false)]
        {
            let key = format!("{key}/power_on_hours");
            assert_eq!(rule.applies_to(Some(StageName::Smart), "smart_attr", &key), applies, "{key}");
        }
    }

    #[test]
    fn what_no_rule_can_tell_is_refused_where_it_stands() {
        for (disks, line, part) in [
            ("  - {kind: ssd}\n  - kind: hdd\n    power_on_hours: {max: 5}\n", 4, "the kernel's name"),
            ("  - model: x\n    power_on_hours: {max: 5}\n  - {kind: nvme}\n", 3, "the kernel's name"),
            ("  - kind: virtual\n    power_on_hours: {max: 5}\n", 3, "a virtual disk"),
            ("  - kind: hdd\n    wear_percent: {max: 5}\n", 3, "only solid state"),
            ("  - kind: virtual\n    wear_percent: {max: 5}\n", 3, "a virtual disk"),
            ("  - kind: ssd\n    wear_percent: {max: 5}\n  - {model: x}\n", 3, "the kernel's name"),
            ("  - kind: ssd\n    power_on_hours: 5\n", 3, "{max: …}"),
            ("  - kind: ssd\n    power_on_hours: {min: 5}\n", 3, "min"),
            ("  - kind: ssd\n    power_on_hours: {max: -1}\n", 3, "0 or more"),
            ("  - kind: ssd\n    power_on_hours: {max: 1, severity: info}\n", 3, "info"),
        ] {
            let told = Spec::parse(&format!("disks:\n{disks}")).unwrap_err().to_string();
            assert!(told.contains(part) && told.contains(&format!("line {line}")), "{disks}: {told}");
        }
    }
}
