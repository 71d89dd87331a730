//! What an observation of memtest86+ means. A pass needs everything: memtest86+ seen, the passes it was to make, no
//! error, and an end that was ours or its own. All else is a fail if it saw errors, and not observed if it did not.

use vetting_protocol::memtest::{MemtestEnd, MemtestObservation};
use vetting_protocol::outcome::Outcome;

/// Addresses that a reason names.
const NAMED: usize = 8;

/// The outcome of memtest86+, of which `passes` passes were wanted.
pub fn outcome(seen: &MemtestObservation, passes: u32) -> Outcome {
    if seen.errors > 0 || !seen.addresses.is_empty() || seen.end == Some(MemtestEnd::DoneFail) {
        return Outcome::fail(format!("memtest86+ found {}", errors_in_words(seen)));
    }
    let done = passes_in_words(seen.passes, passes);
    let not_observed = |what: String| {
        let note = seen.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        Outcome::error(format!("memtest86+ was not observed to its end: {what}{note}"))
    };
    match seen.end {
        Some(MemtestEnd::Stopped | MemtestEnd::DonePass) if passes > 0 && seen.passes >= passes => {
            Outcome::Pass
        }
        Some(MemtestEnd::Stopped | MemtestEnd::DonePass) => not_observed(format!("it ended after {done}")),
        Some(MemtestEnd::DoneFail) => Outcome::fail("memtest86+ reported a failure"),
        Some(MemtestEnd::OutOfTime) => not_observed(format!(
            "its time was over after {done}; give it a larger budget or fewer passes in the profile"
        )),
        Some(MemtestEnd::Left) => not_observed(format!("the machine left it by itself after {done}")),
        Some(MemtestEnd::FellSilent) => not_observed(format!("the serial line fell silent after {done}")),
        Some(MemtestEnd::NeverSeen) => not_observed(
            "nothing of it was seen on the serial line; check the host's serial console".to_owned(),
        ),
        Some(MemtestEnd::NoLine) => not_observed(
            "there is no usable serial line to this machine; `host edit NAME --serial …`".to_owned(),
        ),
        None => not_observed(format!("the watch of it has no end; {done} were seen")),
    }
}

fn passes_in_words(done: u32, wanted: u32) -> String {
    format!("{done} of {wanted} passes")
}

/// `12 errors, at 0x1800123, 0x1800124 and 3 more addresses`.
fn errors_in_words(seen: &MemtestObservation) -> String {
    let count = match seen.errors {
        0 => "a failure".to_owned(),
        1 => "1 error".to_owned(),
        count => format!("{count} errors"),
    };
    if seen.addresses.is_empty() {
        return count;
    }
    let named: Vec<String> =
        seen.addresses.iter().take(NAMED).map(|address| format!("{address:#x}")).collect();
    let more = match seen.addresses.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more addresses"),
    };
    format!("{count}, at {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vetting_protocol::outcome::Outcome;

    use super::*;

    fn seen(passes: u32, end: MemtestEnd) -> MemtestObservation {
        MemtestObservation {
            program: Some("Memtest86+ v7.20".to_owned()),
            passes,
            end: Some(end),
            ..MemtestObservation::nothing()
        }
    }

    #[test]
    fn only_all_passes_and_an_orderly_end_pass() {
        for end in MemtestEnd::ALL {
            let orderly = matches!(end, MemtestEnd::Stopped | MemtestEnd::DonePass);
            assert_eq!(outcome(&seen(2, *end), 2) == Outcome::Pass, orderly, "{end}");
            assert_ne!(outcome(&seen(1, *end), 2), Outcome::Pass, "{end}");
        }
        assert_ne!(outcome(&MemtestObservation::nothing(), 0), Outcome::Pass);
        assert_ne!(outcome(&seen(0, MemtestEnd::Stopped), 0), Outcome::Pass);
    }

    #[test]
    fn errors_fail_whatever_the_end_and_their_addresses_are_named() {
        let bad = MemtestObservation {
            errors: 12,
            addresses: vec![0x180_0123, 0x180_0124],
            ..seen(1, MemtestEnd::FellSilent)
        };
        let Outcome::Fail { reason } = outcome(&bad, 1) else { panic!("{bad:?} is a fail") };
        assert_eq!(reason, "memtest86+ found 12 errors, at 0x1800123, 0x1800124");
    }

    proptest! {
        #[test]
        fn nothing_with_an_error_or_without_its_passes_passes(
            passes in 0..4_u32,
            wanted in 0..4_u32,
            errors in 0..3_u64,
            address in proptest::option::of(any::<u64>()),
            end in proptest::option::of(proptest::sample::select(MemtestEnd::ALL.to_vec())),
        ) {
            let seen = MemtestObservation {
                passes,
                errors,
                addresses: address.into_iter().collect(),
                end,
                ..MemtestObservation::nothing()
            };
            if outcome(&seen, wanted) == Outcome::Pass {
                prop_assert!(errors == 0 && address.is_none() && wanted > 0 && passes >= wanted && end.is_some());
            }
        }
    }
}
