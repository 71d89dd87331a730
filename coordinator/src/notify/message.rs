//! What a receiver is told of one event: everything in it, so that nothing has to be looked up when it is sent.

use serde::{Deserialize, Serialize};
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::RunId;
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::{RunResult, RunState};

/// Longest text of a message, characters: ntfy takes 4096 bytes.
const MOST_CHARS: usize = 1_000;
/// Longest first line, characters.
const MOST_TITLE_CHARS: usize = 200;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the text of an event is called message everywhere")]
pub struct Message {
    /// Key of the event; absent in a test.
    pub event_id: Option<i64>,
    /// A stable word.
    pub event: String,
    /// How grave.
    pub level: EventLevel,
    /// When it happened, UTC.
    pub time: String,
    /// In words.
    pub message: String,
    /// Name of the machine it is about.
    pub host: Option<String>,
    /// The run it is about.
    pub run: Option<RunFacts>,
    /// First line, as the receiver's template makes it.
    pub title: String,
    /// The rest, likewise.
    pub text: String,
}

/// A run as it stood when the message was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFacts {
    /// Key.
    pub id: RunId,
    /// Its profile.
    pub profile: ProfileName,
    /// The state that the event led to, or else where it stood.
    pub state: RunState,
    /// Its verdict, once it has one.
    pub result: Option<RunResult>,
    /// The verdict's reasons, in sentences.
    pub reasons: Vec<String>,
}

impl Message {
    /// The value of a placeholder; empty where there is none.
    pub fn value(&self, placeholder: &str) -> String {
        let run = self.run.as_ref();
        match placeholder {
            "event" => self.event.clone(),
            "headline" => self.headline(),
            "host" => self.host.clone().unwrap_or_default(),
            "level" => self.level.to_string(),
            "message" => self.message.clone(),
            "profile" => run.map(|run| run.profile.to_string()).unwrap_or_default(),
            "reasons" => run.map(|run| run.reasons.join("\n")).unwrap_or_default(),
            "result" => run.and_then(|run| run.result).map(|result| result.to_string()).unwrap_or_default(),
            "run" => run.map(|run| run.id.to_string()).unwrap_or_default(),
            "state" => run.map(|run| run.state.to_string()).unwrap_or_default(),
            "subject" => self.subject(),
            "time" => format!("{} UTC", self.time),
            _ => String::new(),
        }
    }

    /// The verdict where the event is one, else the kind of event.
    fn headline(&self) -> String {
        let run = self.run.as_ref().filter(|_| self.event == "run_state");
        match run.map(|run| (run.state, run.result)) {
            Some((RunState::FailedHolding, _)) => "FAIL, held".to_owned(),
            Some((RunState::Aborted, _)) => "aborted".to_owned(),
            Some((RunState::Completed, Some(RunResult::Pass))) => "PASS".to_owned(),
            Some((RunState::Completed, Some(RunResult::Fail))) => "FAIL".to_owned(),
            Some((state, _)) => state.to_string(),
            None => self.event.replace('_', " "),
        }
    }

    fn subject(&self) -> String {
        match (&self.host, &self.run) {
            (Some(host), Some(run)) => format!("{host}, run {}", run.id),
            (Some(host), None) => host.clone(),
            (None, Some(run)) => format!("run {}", run.id),
            (None, None) => "coordinator".to_owned(),
        }
    }

    /// Takes the texts over, on as many lines and as long as receivers can show.
    pub fn with_texts(self, title: &str, text: &str) -> Self {
        let one_line: String =
            title.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        let plain: String = text.chars().filter(|letter| *letter == '\n' || !letter.is_control()).collect();
        Self { title: shortened(&one_line, MOST_TITLE_CHARS), text: shortened(&plain, MOST_CHARS), ..self }
    }

    /// One that has everything.
    #[cfg(test)]
    pub fn example() -> Self {
        Self {
            event_id: Some(7),
            event: "run_state".to_owned(),
            level: EventLevel::Warning,
            time: "2026-11-25 20:00:00".to_owned(),
            message: "Reporting → FailedHolding: fail".to_owned(),
            host: Some("node1".to_owned()),
            run: Some(RunFacts {
                id: RunId(3),
                profile: ProfileName::Quick,
                state: RunState::FailedHolding,
                result: Some(RunResult::Fail),
                reasons: vec!["SMART failed.".to_owned(), "A DIMM is missing.".to_owned()],
            }),
            title: "FAIL, held: node1, run 3".to_owned(),
            text: "SMART failed.\nA DIMM is missing.".to_owned(),
        }
    }
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit_and_cannot_forge_another_header() {
        let long = "x".repeat(5_000);
        let message =
            Message::example().with_texts("a\r\nBcc: all@example.org", &format!("one\n\u{1b}[2Jtwo{long}"));
        assert_eq!(message.title, "a  Bcc: all@example.org");
        assert!(message.text.starts_with("one\n[2Jtwox") && message.text.ends_with('…'));
        assert_eq!(message.text.chars().count(), MOST_CHARS);
    }
}
