//! When a run's patience ends: pure arithmetic over times.

use vetting_protocol::run::RunState;

use super::state::RunEvent;

/// How long each kind of waiting may last, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In Queued and in Waking, each from its begin.
    pub wake_ms: i64,
    /// In Booting.
    pub boot_ms: i64,
    /// Without a word from the agent.
    pub silence_ms: i64,
    /// From the announcement of a reboot to the next claim.
    pub reboot_ms: i64,
    /// From the verdict to the release of a held machine.
    pub hold_ms: i64,
}

/// What is known of a run's times, by [`crate::clock::Clock::steady_ms`]. Both at the earliest when this coordinator began
/// to listen, but for a hold: before that, nobody could have been heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The state began.
    pub entered_ms: i64,
    /// The agent's last word.
    pub last_contact_ms: Option<i64>,
    /// What the machine does in a planned reboot may take so long, beyond the restart.
    pub away_ms: i64,
}

/// When a run in `state` has waited long enough, and what happens then; `None` where nothing is waited for.
pub fn deadline(state: RunState, times: Times, limits: Limits) -> Option<(i64, RunEvent)> {
    let after = |since_ms: i64, limit_ms: i64| since_ms.saturating_add(limit_ms);
    match state {
        RunState::Queued | RunState::Waking => {
            Some((after(times.entered_ms, limits.wake_ms), RunEvent::NeverAppeared))
        }
        RunState::Booting => Some((after(times.entered_ms, limits.boot_ms), RunEvent::NeverAppeared)),
        RunState::Running => {
            let last_word = times.last_contact_ms.unwrap_or(times.entered_ms).max(times.entered_ms);
            Some((after(last_word, limits.silence_ms), RunEvent::WentSilent))
        }
        RunState::Rebooting => {
            let limit_ms = limits.reboot_ms.saturating_add(times.away_ms);
            Some((after(times.entered_ms, limit_ms), RunEvent::WentSilent))
        }
        RunState::FailedHolding => Some((after(times.entered_ms, limits.hold_ms), RunEvent::HoldExpired)),
        RunState::Reporting | RunState::Completed | RunState::Released | RunState::Aborted => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::run::state::{Step, step};

    const LIMITS: Limits =
        Limits { wake_ms: 70, boot_ms: 100, silence_ms: 10, reboot_ms: 50, hold_ms: 1_000 };

    #[test]
    fn each_waiting_has_its_own_limit() {
        let times = Times { entered_ms: 0, last_contact_ms: Some(5), away_ms: 30 };
        for (state, expected) in [
            (RunState::Queued, (70, RunEvent::NeverAppeared)),
            (RunState::Waking, (70, RunEvent::NeverAppeared)),
            (RunState::Booting, (100, RunEvent::NeverAppeared)),
            (RunState::Running, (15, RunEvent::WentSilent)),
            (RunState::Rebooting, (80, RunEvent::WentSilent)),
            (RunState::FailedHolding, (1_000, RunEvent::HoldExpired)),
        ] {
            assert_eq!(deadline(state, times, LIMITS), Some(expected), "{state}");
        }
        // a word from before the state began is none
        let back = Times { entered_ms: 40, ..times };
        assert_eq!(deadline(RunState::Running, back, LIMITS), Some((50, RunEvent::WentSilent)));
    }

    proptest! {
        #[test]
        fn what_a_deadline_brings_always_moves_the_run(
            state in proptest::sample::select(RunState::ALL.to_vec()),
            entered_ms: i64,
            last_contact_ms: Option<i64>,
            away_ms: i64,
        ) {
            let times = Times { entered_ms, last_contact_ms, away_ms };
            if let Some((_, event)) = deadline(state, times, LIMITS) {
                let moves = matches!(step(state, event), Step::Move { .. });
                prop_assert!(moves);
            }
        }
    }
}
