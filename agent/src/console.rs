//! What a person at the machine or at a terminal reads: one line at a time, short, without control characters.
//!
//! Owns how things are put into words for a person. Refuses to block: a console that cannot take a line loses it.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use vetting_protocol::agent_api::{EventLevel, Record};
use vetting_protocol::ids::StageName;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::RunResult;

use crate::clock;
use crate::reporter::Reporter;

/// Shortest time between two progress lines of one stage.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Width of the verdict's frame, columns.
const FRAME_WIDTH: usize = 72;

/// Shows lines to a person.
pub trait Console: Send + Sync {
    /// Shows one line; line breaks in it are shown as spaces.
    fn line(&self, text: &str);
}

/// Where a command writes what a person reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// Standard output.
    Stdout,
    /// Standard error, where standard output carries the result.
    Stderr,
}

impl Console for Terminal {
    fn line(&self, text: &str) {
        let line = format!("{}\n", printable(text));
        // a terminal that is gone takes nothing; the run goes on without it
        let _ = match self {
            Self::Stdout => std::io::stdout().lock().write_all(line.as_bytes()),
            Self::Stderr => std::io::stderr().lock().write_all(line.as_bytes()),
        };
    }
}

/// The text on one line, each control character as a space, so that no name or message can steer a terminal.
pub fn printable(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An error with its causes, from the outermost inwards, joined by colons.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// A duration as a person says it: `0.4 s`, `42 s`, `3 min 20 s`, `2 h 5 min`.
pub fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// An outcome as the console says it: `passed`, `FAILED: sda has bad blocks`.
pub fn outcome_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Pass => "passed".to_owned(),
        Outcome::Fail { reason } => format!("FAILED: {reason}"),
        Outcome::Error { reason } => format!("ERROR: {reason}"),
        Outcome::Skip { reason } => format!("skipped: {reason}"),
    }
}

/// The same beside the name of a sub-step: a reason that begins with the part in that name (`sda: …` of `sda read`)
/// does not name it again.
fn words_beside(name: &str, outcome: &Outcome) -> String {
    let words = outcome_words(outcome);
    let part = name.split(' ').next().unwrap_or_default();
    match words.split_once(": ") {
        Some((word, reason)) => {
            let rest = reason.strip_prefix(part).and_then(|rest| rest.strip_prefix(": "));
            format!("{word}: {}", rest.unwrap_or(reason))
        }
        None => words,
    }
}

/// The verdict in a frame that is seen from across the room.
pub fn verdict_lines(subject: &str, result: RunResult, reasons: &[String]) -> Vec<String> {
    let frame = "=".repeat(FRAME_WIDTH);
    let word = match result {
        RunResult::Pass => "PASS",
        RunResult::Fail => "FAIL",
    };
    let mut lines = vec![frame.clone(), format!("  VERDICT: {word}   {subject}")];
    lines.extend(reasons.iter().map(|reason| format!("    - {reason}")));
    lines.push(frame);
    lines
}

/// Shows the records of a run as lines: stages and sub-steps as they begin and end, progress every few seconds,
/// events. Measurements are not shown.
pub struct ConsoleReporter<C> {
    console: C,
    order: Vec<StageName>,
    state: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    started: HashMap<StageName, Instant>,
    last_progress: HashMap<StageName, Instant>,
    sub_steps: HashMap<(StageName, u32), String>,
    /// Reasons of sub-steps, each told in a line of its own.
    told: HashMap<StageName, Vec<String>>,
}

impl Shown {
    /// A stage's outcome. What its sub-steps have said of it is not said again.
    fn stage_words(&self, stage: StageName, outcome: &Outcome) -> String {
        let told = self.told.get(&stage).map(Vec::as_slice).unwrap_or_default();
        let is_news = outcome.reason().is_some_and(|reason| {
            let mut rest = reason.to_owned();
            for told in told {
                rest = rest.replacen(told.as_str(), "", 1);
            }
            rest.chars().any(char::is_alphanumeric)
        });
        let words = outcome_words(outcome);
        match words.split_once(": ") {
            Some((word, _reason)) if !is_news => word.to_owned(),
            Some(_) | None => words,
        }
    }

    /// Progress and time left of a stage, if it is time to tell it again.
    fn progress_words(
        &mut self,
        stage: StageName,
        sub_step: Option<u32>,
        percent: f64,
        eta_ms: Option<u64>,
    ) -> Option<String> {
        let now = clock::monotonic();
        let due = self.last_progress.get(&stage).is_none_or(|last| now - *last >= PROGRESS_INTERVAL);
        // its end has a line of its own
        if !due || percent >= 100.0 {
            return None;
        }
        self.last_progress.insert(stage, now);
        let part = sub_step
            .and_then(|ordinal| self.sub_steps.get(&(stage, ordinal)))
            .map_or_else(String::new, |name| format!("{name} "));
        let left = eta_ms.map_or_else(String::new, |eta_ms| {
            let seconds = eta_ms.div_ceil(1000);
            let left =
                if seconds < 10 { format!("{seconds} s") } else { spoken(Duration::from_secs(seconds)) };
            format!(", about {left} left")
        });
        Some(format!("{part}{percent:.0} %{left}"))
    }
}

impl<C: Console> ConsoleReporter<C> {
    /// Shows on `console`; stages are numbered by their place in `order`.
    pub fn new(console: C, order: Vec<StageName>) -> Self {
        Self { console, order, state: Mutex::default() }
    }

    fn label(&self, stage: StageName) -> String {
        match self.order.iter().position(|planned| *planned == stage) {
            Some(position) => format!("[{}/{}] {stage}", position + 1, self.order.len()),
            None => stage.to_string(),
        }
    }

    fn words(&self, record: &Record) -> Option<String> {
        let mut shown = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::monotonic();
        match record {
            Record::StageStarted { stage, .. } => {
                shown.started.insert(*stage, now);
                shown.last_progress.insert(*stage, now);
                Some(format!("{} begins", self.label(*stage)))
            }
            Record::StageFinished { stage, outcome, .. } => {
                let took = shown.started.get(stage).map_or(Duration::ZERO, |start| now - *start);
                let words = shown.stage_words(*stage, outcome);
                Some(format!("{} {words} ({})", self.label(*stage), spoken(took)))
            }
            Record::SubStepStarted { stage, ordinal, name, .. } => {
                shown.sub_steps.insert((*stage, *ordinal), name.clone());
                None
            }
            Record::SubStepFinished { stage, ordinal, outcome, .. } => {
                let name = shown.sub_steps.remove(&(*stage, *ordinal));
                let name = name.unwrap_or_else(|| format!("step {ordinal}"));
                if let Some(reason) = outcome.reason() {
                    shown.told.entry(*stage).or_default().push(reason.to_owned());
                }
                Some(format!("{}   {name}: {}", self.label(*stage), words_beside(&name, outcome)))
            }
            Record::Progress { stage, sub_step, percent, eta_ms, .. } => {
                let words = shown.progress_words(*stage, *sub_step, *percent, *eta_ms)?;
                Some(format!("{}   {words}", self.label(*stage)))
            }
            Record::Event { level, message, .. } => match level {
                EventLevel::Info => None,
                EventLevel::Warning => Some(format!("warning: {message}")),
                EventLevel::Error => Some(format!("error: {message}")),
            },
            Record::RebootPlanned { reason, .. } => Some(format!("reboots on purpose: {reason}")),
            Record::Measurement(_)
            | Record::HardwareLimits { .. }
            | Record::Inventory(_)
            | Record::Firmware(_)
            | Record::SpecDiffs { .. }
            | Record::TurnAwaited { .. }
            | Record::PipelineFinished { .. } => None,
        }
    }
}

impl<C: Console> Reporter for ConsoleReporter<C> {
    fn record(&self, record: Record) {
        if let Some(words) = self.words(&record) {
            self.console.line(&words);
        }
    }
}

impl<C: Console + ?Sized> Console for std::sync::Arc<C> {
    fn line(&self, text: &str) {
        (**self).line(text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Console for Lines {
        fn line(&self, text: &str) {
            self.0.lock().unwrap().push(printable(text));
        }
    }

    #[test]
    fn nothing_in_a_line_can_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\r"), "a [2Jb c");
    }

    #[test]
    fn durations_read_well() {
        let said = |ms| spoken(Duration::from_millis(ms));
        assert_eq!(said(420), "0.4 s");
        assert_eq!(said(42_000), "42 s");
        assert_eq!(said(200_000), "3 min 20 s");
        assert_eq!(said(7_500_000), "2 h 5 min");
    }

    #[test]
    fn a_stage_is_told_by_its_number_and_progress_is_not_told_too_often() {
        let lines = Arc::new(Lines::default());
        let reporter =
            ConsoleReporter::new(Arc::clone(&lines), vec![StageName::Inventory, StageName::Storage]);
        let stage = StageName::Storage;
        reporter.record(Record::StageStarted { stage, ts_ms: 0 });
        for percent in [10.0, 20.0] {
            reporter.record(Record::Progress {
                stage,
                sub_step: None,
                percent,
                eta_ms: Some(3_000),
                ts_ms: 0,
            });
        }
        reporter.record(Record::SubStepStarted { stage, ordinal: 0, name: "sda read".to_owned(), ts_ms: 0 });
        reporter.record(Record::SubStepFinished {
            stage,
            ordinal: 0,
            outcome: Outcome::fail("sector 7"),
            details: serde_json::Value::Null,
            ts_ms: 0,
        });
        let lines = lines.0.lock().unwrap();
        assert_eq!(*lines, ["[2/2] Storage begins", "[2/2] Storage   sda read: FAILED: sector 7"]);
    }

    #[test]
    fn a_stage_does_not_say_again_what_its_sub_steps_said() {
        let mut shown = Shown::default();
        let (stage, reasons) = (StageName::Storage, ["sda: sector 7", "sdb: gone; away"]);
        shown.told.insert(stage, reasons.map(ToOwned::to_owned).into());
        let both = Outcome::fail("sda: sector 7; sdb: gone; away");
        assert_eq!(shown.stage_words(stage, &both), "FAILED");
        let more = Outcome::fail("sda: sector 7; the stage crashed");
        assert_eq!(shown.stage_words(stage, &more), "FAILED: sda: sector 7; the stage crashed");
        assert_eq!(shown.stage_words(StageName::Smart, &Outcome::error("x: y")), "ERROR: x: y");
        assert_eq!(shown.stage_words(stage, &Outcome::Pass), "passed");
    }

    #[test]
    fn a_part_is_named_once_in_a_line() {
        let failed = Outcome::fail("sda: sector 7: bad");
        assert_eq!(words_beside("sda read", &failed), "FAILED: sector 7: bad");
        assert_eq!(words_beside("sd read", &failed), "FAILED: sda: sector 7: bad");
        assert_eq!(words_beside("", &failed), "FAILED: sda: sector 7: bad");
        assert_eq!(words_beside("CPU pass", &Outcome::Pass), "passed");
    }

    #[test]
    fn progress_is_short_and_its_end_is_not_progress() {
        let mut shown = Shown::default();
        let stage = StageName::CpuStress;
        shown.sub_steps.insert((stage, 0), "CPU pass".to_owned());
        let mut words = |percent, eta| {
            shown.last_progress.clear();
            shown.progress_words(stage, Some(0), percent, eta)
        };
        assert_eq!(words(84.4, Some(900)).unwrap(), "CPU pass 84 %, about 1 s left");
        assert_eq!(words(1.0, Some(200_000)).unwrap(), "CPU pass 1 %, about 3 min 20 s left");
        assert_eq!(words(100.0, None), None);
    }

    #[test]
    fn the_verdict_stands_in_a_frame_with_its_reasons() {
        let lines = verdict_lines("host rack1-03, run 7", RunResult::Fail, &["sda: sector 7".to_owned()]);
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1], "  VERDICT: FAIL   host rack1-03, run 7");
        assert_eq!(lines[2], "    - sda: sector 7");
    }
}
