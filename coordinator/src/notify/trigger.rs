//! Which events a receiver is told of: verdicts by their word, events by a glob of their kind, or by their level.

use globset::{Glob, GlobMatcher};
use serde::Deserialize;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::run::{RunResult, RunState};

use super::message::Message;

/// What is said of notifications themselves is told to nobody: a dead receiver would make ever more of it.
const OWN: &str = "notification_";

/// One of `on`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Trigger {
    text: String,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Pass,
    Fail,
    Abort,
    Level(EventLevel),
    Kind(GlobMatcher),
}

impl PartialEq for Trigger {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Trigger {}

impl TryFrom<String> for Trigger {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let what = match text.as_str() {
            "pass" => What::Pass,
            "fail" => What::Fail,
            "abort" => What::Abort,
            "warning" => What::Level(EventLevel::Warning),
            "error" => What::Level(EventLevel::Error),
            _ => match text.strip_prefix("event:").map(Glob::new) {
                Some(Ok(glob)) => What::Kind(glob.compile_matcher()),
                Some(Err(error)) => return Err(format!("`{text}`: {error}")),
                None => {
                    return Err(format!(
                        "`{text}` is nothing to be told of; write pass, fail, abort, warning, error, or event: and a \
                         kind, such as event:hold_*"
                    ));
                }
            },
        };
        Ok(Self { text, what })
    }
}

impl Trigger {
    /// What receivers are told of unless they say otherwise.
    pub fn defaults() -> Vec<Self> {
        ["pass", "fail", "abort", "event:hold_ending", "event:machine_waiting", "event:disk_low"]
            .into_iter()
            .filter_map(|text| Self::try_from(text.to_owned()).ok())
            .collect()
    }

    /// Whether it wants this told.
    pub fn wants(&self, message: &Message) -> bool {
        if message.event.starts_with(OWN) {
            return false;
        }
        let run = message.run.as_ref().filter(|_| message.event == "run_state");
        let reached = run.map(|run| (run.state, run.result));
        match &self.what {
            What::Pass => matches!(reached, Some((RunState::Completed, Some(RunResult::Pass)))),
            What::Fail => matches!(
                reached,
                Some((RunState::FailedHolding, _) | (RunState::Completed, Some(RunResult::Fail)))
            ),
            What::Abort => matches!(reached, Some((RunState::Aborted, _))),
            What::Level(level) => message.level >= *level,
            What::Kind(glob) => glob.is_match(&message.event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(trigger: &str, message: &Message) -> bool {
        Trigger::try_from(trigger.to_owned()).unwrap().wants(message)
    }

    #[test]
    fn verdicts_levels_and_kinds_are_told_apart() {
        let held = Message::example();
        for (trigger, wanted) in [
            ("fail", true),
            ("pass", false),
            ("abort", false),
            ("warning", true),
            ("error", false),
            ("event:run_*", true),
            ("event:hold_*", false),
        ] {
            assert_eq!(wants(trigger, &held), wanted, "{trigger}");
        }
        let mut passed = held.clone();
        let run = passed.run.as_mut().unwrap();
        (run.state, run.result) = (RunState::Completed, Some(RunResult::Pass));
        assert!(wants("pass", &passed) && !wants("fail", &passed));
        // a held machine that was released failed before, not now
        run_state(&mut passed, RunState::Released, Some(RunResult::Fail));
        assert!(!wants("fail", &passed) && !wants("pass", &passed));
        // what else happens to a run with a result is no verdict
        let other = Message { event: "hold_open".to_owned(), ..held.clone() };
        assert!(!wants("fail", &other) && wants("event:hold_*", &other));
        let own = Message { event: "notification_failed".to_owned(), ..held };
        assert!(!wants("event:*", &own) && !wants("warning", &own));
        for text in ["", "failed", "event:[", "level:error"] {
            assert!(Trigger::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(Trigger::defaults().len(), 6);
    }

    fn run_state(message: &mut Message, state: RunState, result: Option<RunResult>) {
        let run = message.run.as_mut().unwrap();
        (run.state, run.result) = (state, result);
    }
}
