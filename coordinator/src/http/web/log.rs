//! The log of a run as one reads it beside the machine: what it and the coordinator told, the sub-steps among it, and the
//! last words of a kernel or an agent that died. The newest lines are last. Everything is bounded before it is sent.

use maud::{Markup, html};
use serde_json::Value;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{ArtifactView, EventView, RunDetail, StageView};
use vetting_protocol::outcome::StepState;

use super::output;

/// Newest lines that are shown.
pub(super) const MOST_LINES: u32 = 200;
/// Letters of a line.
const MOST_LETTERS: usize = 500;
/// Last lines that are shown of what a kernel or an agent wrote before it died.
const MOST_LAST_WORDS: usize = 60;

struct Line {
    /// As the API says it: sorts as text.
    at: String,
    level: EventLevel,
    kind: String,
    text: String,
    last_words: Vec<String>,
}

impl Line {
    fn day(&self) -> &str {
        self.at.split(' ').next().unwrap_or_default()
    }
}

/// A text from elsewhere on one line: no control characters, and no longer than is read at a glance.
pub(super) fn one_line(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    let mut line: String = text.chars().take(MOST_LETTERS).map(plain).collect();
    if text.chars().nth(MOST_LETTERS).is_some() {
        line.push('…');
    }
    line
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(one_line).collect()
}

/// What a dying kernel or agent wrote, as the event that tells of it kept it.
fn last_words(data: &Value) -> Vec<String> {
    let dumps = data["dumps"].as_array().into_iter().flatten();
    let mut lines: Vec<String> = dumps.flat_map(|dump| strings(&dump["lines"])).collect();
    for key in ["hardware_errors", "last_lines"] {
        lines.extend(strings(&data[key]));
    }
    lines.split_off(lines.len().saturating_sub(MOST_LAST_WORDS))
}

fn of_event(event: &EventView) -> Line {
    Line {
        at: event.ts.clone(),
        level: event.level,
        kind: event.kind.clone(),
        text: one_line(&event.message),
        last_words: event.data.as_ref().map(last_words).unwrap_or_default(),
    }
}

/// The sub-steps of a stage as they began and ended: the event log has only the stages.
fn of_sub_steps(stage: &StageView) -> impl Iterator<Item = Line> {
    let line = |at: &Option<String>, level, text: String| {
        let line = |at| Line {
            at,
            level,
            kind: "sub_step".to_owned(),
            text: one_line(&text),
            last_words: Vec::new(),
        };
        at.clone().map(line)
    };
    stage.sub_steps.iter().flat_map(move |step| {
        let what = format!("{}: {}", stage.name, step.name);
        let began = line(&step.started_at, EventLevel::Info, format!("{what} begins"));
        let level = match step.state {
            StepState::Passed | StepState::Running | StepState::Pending => EventLevel::Info,
            StepState::Skipped | StepState::Failed => EventLevel::Warning,
        };
        let why = step.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let ended = line(&step.completed_at, level, format!("{what} {}{why}", step.state));
        [began, ended].into_iter().flatten()
    })
}

/// The newest lines, oldest first.
fn lines(run: &RunDetail, events: &[EventView]) -> Vec<Line> {
    let mut lines: Vec<Line> = events.iter().rev().map(of_event).collect();
    // older events were not read: sub-steps from before would seem to have nothing between them
    let since =
        if events.len() == MOST_LINES as usize { lines.first().map(|line| line.at.clone()) } else { None };
    let sub_steps = run.stages.iter().flat_map(of_sub_steps);
    lines.extend(sub_steps.filter(|line| since.as_ref().is_none_or(|since| line.at >= *since)));
    lines.sort_by(|a, b| a.at.cmp(&b.at));
    lines.split_off(lines.len().saturating_sub(MOST_LINES as usize))
}

/// The log's end, with the way to all of it and to what the tools wrote. `events` are the newest, the newest first.
pub(super) fn tail(run: &RunDetail, events: &[EventView]) -> Markup {
    let lines = lines(run, events);
    let id = run.summary.id;
    html! {
        section {
            h2 { "Log" }
            @if lines.is_empty() { p.empty { "Nothing was logged." } } @else {
                div.tail role="region" aria-label="The end of the log" tabindex="0" {
                    ol.log {
                        @for (position, one) in lines.iter().enumerate() {
                            @if position == 0 || lines[position - 1].day() != one.day() { li.day { (one.day()) " UTC" } }
                            (line(one))
                        }
                    }
                }
            }
            p.links { a href=(format!("/events?run={id}")) { "The whole log" } (tools(id, &run.artifacts)) }
        }
    }
}

fn line(line: &Line) -> Markup {
    let (tone, sign) = match line.level {
        EventLevel::Info => ("info", ""),
        EventLevel::Warning => ("warn", "warning: "),
        EventLevel::Error => ("bad", "error: "),
    };
    let clock = line.at.split(' ').nth(1).and_then(|clock| clock.get(..8)).unwrap_or(&line.at);
    html! {
        li.(tone) {
            time datetime=(line.at.replacen(' ', "T", 1) + "Z") title=(format!("{} UTC", line.at)) { (clock) }
            " " span.kind { (line.kind) } " "
            span.said { strong { (sign) } (line.text) }
            @if !line.last_words.is_empty() { pre.words { @for word in &line.last_words { (word) "\n" } } }
        }
    }
}

/// What the tools of each stage wrote comes when the stage ends.
fn tools(run: RunId, artifacts: &[ArtifactView]) -> Markup {
    let names: Vec<&str> = artifacts
        .iter()
        .filter(|file| file.kind == output::KIND)
        .filter_map(|file| output::name_of(&file.path))
        .collect();
    html! {
        @if !names.is_empty() {
            br; "What the tools wrote: "
            @for (position, name) in names.iter().enumerate() {
                @if position > 0 { " · " }
                a href=(format!("/runs/{run}/output/{name}")) { (name.trim_end_matches(".jsonl")) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_bounded() {
        assert_eq!(one_line("a\nb\u{1b}[31m\u{9b}c"), "a b [31m c");
        let long = "é".repeat(MOST_LETTERS);
        assert_eq!(one_line(&long), long);
        assert_eq!(one_line(&format!("{long}x")).chars().count(), MOST_LETTERS + 1);
    }

    #[test]
    fn the_last_words_of_a_kernel_and_of_an_agent_are_found_and_bounded() {
        let data = serde_json::json!({
            "dumps": [{"lines": ["Oops", "RIP: 0010:x"]}, {"lines": "none"}, 3],
            "hardware_errors": ["[Hardware Error]: Bank 4", 7],
            "last_lines": ["thread 'main' panicked"],
        });
        let all = ["Oops", "RIP: 0010:x", "[Hardware Error]: Bank 4", "thread 'main' panicked"];
        assert_eq!(last_words(&data), all);
        assert!(last_words(&Value::Null).is_empty());
        let many: Vec<String> = (0..MOST_LAST_WORDS + 5).map(|number| number.to_string()).collect();
        let kept = last_words(&serde_json::json!({"last_lines": many}));
        assert_eq!((kept.len(), kept[0].as_str()), (MOST_LAST_WORDS, "5"));
    }
}
