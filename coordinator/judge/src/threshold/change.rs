//! What a host's own rule is beside the profile's: stricter, looser, or neither.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use vetting_protocol::named_enum;

use super::{Op, Rule};

named_enum! {
    /// What the host's own rule is beside the profile's.
    Change, "what a host's rule changes (added, stricter, looser, changed, off)" {
        /// The profile has none such.
        Added = "added",
        /// It bears less.
        Stricter = "stricter",
        /// It bears more.
        Looser = "looser",
        /// Neither can be said.
        Changed = "changed",
        /// It judges nothing.
        Off = "off",
    }
}

/// How a rule came to be other than the profile has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleChange {
    /// What it is beside the profile's.
    pub kind: Change,
    /// The profile's, in words; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// Why.
    pub note: String,
}

/// What `new` is beside `old`, a rule for the same samples by the same comparison.
pub(crate) fn compare_strictness(new: &Rule, old: &Rule) -> Change {
    let bound = match new.op {
        Op::Lt | Op::Lte | Op::WithinPct => new.threshold.partial_cmp(&old.threshold),
        Op::Gt | Op::Gte => old.threshold.partial_cmp(&new.threshold),
    };
    let is_comparable = new.unit == old.unit && new.nominal.total_cmp(&old.nominal) == Ordering::Equal;
    let (Some(bound), Some(sustain), true) = (bound, new.sustain.looseness(old.sustain), is_comparable)
    else {
        return Change::Changed;
    };
    match (bound, sustain) {
        (Ordering::Less, Ordering::Less | Ordering::Equal) | (Ordering::Equal, Ordering::Less) => {
            Change::Stricter
        }
        (Ordering::Greater, Ordering::Greater | Ordering::Equal) | (Ordering::Equal, Ordering::Greater) => {
            Change::Looser
        }
        (Ordering::Equal, Ordering::Equal)
        | (Ordering::Less, Ordering::Greater)
        | (Ordering::Greater, Ordering::Less) => Change::Changed,
    }
}
