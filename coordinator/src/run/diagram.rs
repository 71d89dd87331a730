//! The transition diagram of `docs/architecture.md`, produced from `step()` so that it cannot lie.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use vetting_protocol::run::{RunResult, RunState};

use super::state::{EndedBy, RunEvent, Step, step};

/// Every event with the word the diagram has for it; of `Judged` each combination that differs.
pub fn every_event() -> Vec<(String, RunEvent)> {
    let mut events: Vec<(String, RunEvent)> = [
        ("wake sent", RunEvent::WakeSent),
        ("boot script served", RunEvent::BootScriptServed),
        ("claimed", RunEvent::Claimed),
        ("imported", RunEvent::Imported),
        ("reboot planned", RunEvent::RebootPlanned),
        ("returned from reboot", RunEvent::ReturnedFromReboot),
        ("pipeline finished", RunEvent::PipelineFinished),
        ("never appeared", RunEvent::NeverAppeared),
        ("went silent", RunEvent::WentSilent),
        ("unplanned reboot", RunEvent::UnplannedReboot),
        ("agent crashed", RunEvent::AgentCrashed),
        ("abort requested", RunEvent::AbortRequested),
        ("hold expired", RunEvent::HoldExpired),
        ("release requested", RunEvent::ReleaseRequested),
        ("retry requested", RunEvent::RetryRequested),
        ("resume requested", RunEvent::ResumeRequested),
    ]
    .into_iter()
    .map(|(word, event)| (word.to_owned(), event))
    .collect();
    for ended_by in EndedBy::ALL {
        for result in RunResult::ALL.iter().copied() {
            for hold in [false, true] {
                events
                    .push((judged_word(ended_by, result, hold), RunEvent::Judged { ended_by, result, hold }));
            }
        }
    }
    events
}

fn judged_word(ended_by: EndedBy, result: RunResult, hold: bool) -> String {
    match (ended_by, result) {
        (EndedBy::Aborted, RunResult::Pass | RunResult::Fail) => "report of an abort".to_owned(),
        (EndedBy::PipelineFinished, RunResult::Pass) => "judged pass".to_owned(),
        (
            EndedBy::PipelineFinished
            | EndedBy::NeverAppeared
            | EndedBy::WentSilent
            | EndedBy::UnplannedReboot
            | EndedBy::AgentCrashed,
            RunResult::Pass | RunResult::Fail,
        ) => {
            if hold && ended_by.leaves_agent_alive() {
                "judged fail, hold".to_owned()
            } else {
                "judged fail".to_owned()
            }
        }
    }
}

/// The diagram in Mermaid's state notation: one arrow a pair of states, the events on it in their order.
pub fn mermaid() -> String {
    let mut arrows: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    let position =
        |state: RunState| RunState::ALL.iter().position(|other| *other == state).unwrap_or_default();
    for from in RunState::ALL.iter().copied() {
        for (word, event) in every_event() {
            if let Step::Move { to, .. } = step(from, event) {
                let words = arrows.entry((position(from), position(to))).or_default();
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
    }
    let mut text = String::from("```mermaid\nstateDiagram-v2\n    [*] --> Queued\n");
    for ((from, to), words) in arrows {
        // writing to a String cannot fail
        let _ =
            writeln!(text, "    {} --> {}: {}", RunState::ALL[from], RunState::ALL[to], words.join(" / "));
    }
    for state in
        RunState::ALL.iter().filter(|state| state.is_terminal() && **state != RunState::FailedHolding)
    {
        let _ = writeln!(text, "    {state} --> [*]");
    }
    text.push_str("```\n");
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::mermaid;

    const BEGIN: &str = "<!-- run-states:begin -->\n";
    const END: &str = "<!-- run-states:end -->";

    /// `UPDATE_DOCS=1` writes the block instead of comparing it.
    #[test]
    fn the_documented_diagram_is_the_one_of_step() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/architecture.md");
        let text = std::fs::read_to_string(&path).expect("docs/architecture.md is there");
        let begin = text.find(BEGIN).expect("the begin marker is there") + BEGIN.len();
        let end = text.find(END).expect("the end marker is there");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let updated = format!("{}{}{}", &text[..begin], mermaid(), &text[end..]);
            std::fs::write(&path, updated).expect("docs/architecture.md can be written");
        } else {
            assert_eq!(&text[begin..end], mermaid(), "run this test with UPDATE_DOCS=1");
        }
    }
}
