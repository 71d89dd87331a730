//! When a run's patience ends: pure arithmetic over stored times.

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

/// What is known of a run's times; all in ms since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The state began.
    pub entered_ms: i64,
    /// The agent's last word.
    pub last_contact_ms: Option<i64>,
    /// This coordinator began to listen. Before that, nobody could have been heard.
    pub listening_since_ms: i64,
}

/// When a run in `state` has waited long enough, and what happens then; `None` where nothing is waited for.
pub fn deadline(state: RunState, times: Times, limits: Limits) -> Option<(i64, RunEvent)> {
    let heard_from =
        |since_ms: i64, limit_ms: i64| since_ms.max(times.listening_since_ms).saturating_add(limit_ms);
    match state {
        RunState::Queued | RunState::Waking => {
            Some((heard_from(times.entered_ms, limits.wake_ms), RunEvent::NeverAppeared))
        }
        RunState::Booting => Some((heard_from(times.entered_ms, limits.boot_ms), RunEvent::NeverAppeared)),
        RunState::Running => {
            let last_word = times.last_contact_ms.unwrap_or(times.entered_ms).max(times.entered_ms);
            Some((heard_from(last_word, limits.silence_ms), RunEvent::WentSilent))
        }
        RunState::Rebooting => Some((heard_from(times.entered_ms, limits.reboot_ms), RunEvent::WentSilent)),
        // a held machine is let go in time also when the coordinator was away
        RunState::FailedHolding => {
            Some((times.entered_ms.saturating_add(limits.hold_ms), RunEvent::HoldExpired))
        }
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
    fn the_coordinators_absence_is_not_the_machines_silence() {
        let times = Times { entered_ms: 0, last_contact_ms: Some(5), listening_since_ms: 0 };
        assert_eq!(deadline(RunState::Running, times, LIMITS), Some((15, RunEvent::WentSilent)));
        let restarted = Times { listening_since_ms: 500, ..times };
        assert_eq!(deadline(RunState::Running, restarted, LIMITS), Some((510, RunEvent::WentSilent)));
        assert_eq!(deadline(RunState::Booting, restarted, LIMITS), Some((600, RunEvent::NeverAppeared)));
        assert_eq!(deadline(RunState::Waking, restarted, LIMITS), Some((570, RunEvent::NeverAppeared)));
        assert_eq!(
            deadline(RunState::FailedHolding, restarted, LIMITS),
            Some((1_000, RunEvent::HoldExpired))
        );
    }

    proptest! {
        #[test]
        fn what_a_deadline_brings_always_moves_the_run(
            state in proptest::sample::select(RunState::ALL.to_vec()),
            entered_ms: i64,
            last_contact_ms: Option<i64>,
            listening_since_ms: i64,
        ) {
            let times = Times { entered_ms, last_contact_ms, listening_since_ms };
            if let Some((_, event)) = deadline(state, times, LIMITS) {
                let moves = matches!(step(state, event), Step::Move { .. });
                prop_assert!(moves);
            }
        }
    }
}
