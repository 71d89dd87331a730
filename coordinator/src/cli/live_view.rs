//! What `run watch` shows on a terminal: a line for each stage, drawn anew over the last ones.
//!
//! Owns the terminal's control sequences. What machines told is stripped of them: nobody under test moves the cursor.

use std::io::{self, IsTerminal as _, Write as _};

use jiff::civil::DateTime;
use unicode_width::UnicodeWidthChar as _;
use vetting_judge::duration::HumanDuration;
use vetting_protocol::operator_api::{RunDetail, StageView, SubStepView};
use vetting_protocol::outcome::StepState;

/// Characters of a bar.
const BAR_WIDTH: usize = 24;

/// Moves nothing, shows no sequences: what such terminals call themselves.
const DUMB: &str = "dumb";

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy)]
struct Size {
    columns: usize,
    rows: usize,
}

/// What is on the terminal, and was drawn by this.
#[derive(Debug)]
pub(super) struct LiveView {
    drawn_lines: usize,
}

impl LiveView {
    /// Where standard output is a terminal that can be drawn on.
    pub fn on_terminal() -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|name| name.is_empty() || name == DUMB);
        (io::stdout().is_terminal() && !dumb).then_some(Self { drawn_lines: 0 })
    }

    /// Draws a run; `note` is what else is to be said now.
    pub fn draw(&mut self, run: &RunDetail, position: &str, note: Option<&str>) -> io::Result<()> {
        // a terminal that does not tell its size has that of the VT100
        let told = crossterm::terminal::size().ok().filter(|(columns, rows)| *columns > 0 && *rows > 0);
        let (columns, rows) = told.unwrap_or((80, 24));
        let size = Size { columns: columns.max(20).into(), rows: rows.max(4).into() };
        let lines = frame(run, position, note, size);
        let mut text = match self.drawn_lines {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        };
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn_lines = lines.len();
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }
}

/// The lines, none wider than the terminal, and one less than it has rows: the cursor stands below.
fn frame(run: &RunDetail, position: &str, note: Option<&str>, size: Size) -> Vec<String> {
    let width = run.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for stage in &run.stages {
        lines.push(stage_line(stage, width));
        if stage.state == StepState::Running {
            lines.extend(stage.sub_steps.iter().map(sub_step_line));
        }
    }
    // what is over goes first when there is no room
    let room = size.rows - 2 - usize::from(note.is_some());
    let over = lines.len().saturating_sub(room);
    lines.drain(..over);
    lines.insert(0, position.to_owned());
    lines.extend(note.map(str::to_owned));
    lines.iter().map(|line| clipped(line, size.columns - 1)).collect()
}

fn stage_line(stage: &StageView, width: usize) -> String {
    let head = format!("  {:<8} {:<width$}", stage.state, stage.name);
    let took = took(stage.started_at.as_deref(), stage.completed_at.as_deref());
    let reason = stage.reason.as_ref().map(|reason| format!("  {reason}")).unwrap_or_default();
    match stage.state {
        StepState::Pending => head,
        StepState::Running => {
            let bar = stage.percent.map(bar).unwrap_or_default();
            let left = stage.eta_ms.map(|eta| format!("  {} left", whole_seconds(eta))).unwrap_or_default();
            format!("{head}{bar}{left}")
        }
        StepState::Passed | StepState::Failed | StepState::Skipped => format!("{head}  {took}{reason}"),
    }
}

fn sub_step_line(sub_step: &SubStepView) -> String {
    let took = took(sub_step.started_at.as_deref(), sub_step.completed_at.as_deref());
    let reason = sub_step.reason.as_ref().map(|reason| format!("  {reason}")).unwrap_or_default();
    format!("    {:<8} {}  {took}{reason}", sub_step.state, sub_step.name)
}

/// `  [############............]  50 %`. What is beyond the ends is drawn as the end.
fn bar(percent: f64) -> String {
    let percent = if percent.is_finite() { percent.clamp(0.0, 100.0) } else { 0.0 };
    let full = (1..=BAR_WIDTH).filter(|step| percent * BAR_WIDTH as f64 >= *step as f64 * 100.0).count();
    format!("  [{}{}] {percent:>3.0} %", "#".repeat(full), ".".repeat(BAR_WIDTH - full))
}

/// How long something took by the coordinator's clock; empty while that is not known.
fn took(started: Option<&str>, completed: Option<&str>) -> String {
    let at = |text: Option<&str>| text?.parse::<DateTime>().ok();
    let (Some(started), Some(completed)) = (at(started), at(completed)) else { return String::new() };
    let ms = completed.duration_since(started).as_millis();
    u64::try_from(ms).map(|ms| whole_seconds(ms).to_string()).unwrap_or_default()
}

fn whole_seconds(ms: u64) -> HumanDuration {
    HumanDuration::from_ms(ms.div_ceil(1_000) * 1_000)
}

/// As much of a text as fits, without control characters.
fn clipped(text: &str, columns: usize) -> String {
    let mut used = 0;
    let printable = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let fits = printable.take_while(|letter| {
        used += letter.width().unwrap_or(0);
        used <= columns
    });
    fits.collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn run(stages: &serde_json::Value) -> RunDetail {
        serde_json::from_value(json!({
            "summary": {"id": 3, "host": "r1", "state": "Running", "result": null, "profile": "quick",
                        "failed_stage": null, "started_at": "", "completed_at": null},
            "reasons": [], "hold_ip": null, "non_destructive": false, "wipe": false, "erase": false,
            "place": "live_image", "stages": stages, "diffs": [], "breaches": [], "measurement_count": 0,
            "artifacts": [], "waivers": [],
            "boot": {"woken_ms": null, "script_served_ms": null, "image_served_ms": null, "claimed_ms": null,
                     "kernel_to_init_ms": null, "kernel_to_claim_ms": null},
        }))
        .unwrap()
    }

    fn stage(name: &str, state: &str) -> serde_json::Value {
        json!({"name": name, "state": state, "started_at": null, "completed_at": null, "percent": null,
               "eta_ms": null, "reason": null, "summary": null, "sub_steps": []})
    }

    fn pipeline() -> RunDetail {
        let mut inventory = stage("Inventory", "passed");
        inventory["started_at"] = "2026-11-25 10:00:00.500".into();
        inventory["completed_at"] = "2026-11-25 10:01:12.000".into();
        let mut storage = stage("Storage", "running");
        storage["percent"] = 50.0.into();
        storage["eta_ms"] = 61_500.into();
        storage["sub_steps"] = json!([
            {"name": "sda fio", "state": "failed", "started_at": null, "completed_at": null,
             "reason": "slow\u{1b}[2J", "summary": null},
            {"name": "sdb fio", "state": "running", "started_at": null, "completed_at": null,
             "reason": null, "summary": null},
        ]);
        run(&json!([inventory, storage, stage("GPU", "pending")]))
    }

    const WIDE: Size = Size { columns: 80, rows: 24 };

    #[test]
    fn each_stage_has_its_line() {
        assert_eq!(
            frame(&pipeline(), "run 3 of r1", Some("away"), WIDE),
            [
                "run 3 of r1",
                "  passed   Inventory  1m12s",
                "  running  Storage    [############............]  50 %  1m2s left",
                "    failed   sda fio    slow [2J",
                "    running  sdb fio",
                "  pending  GPU",
                "away",
            ]
        );
    }

    #[test]
    fn a_small_terminal_keeps_head_and_end() {
        let lines = frame(&pipeline(), "run 3 of r1", None, Size { columns: 20, rows: 4 });
        assert_eq!(lines, ["run 3 of r1", "    running  sdb fi", "  pending  GPU"]);
    }

    #[test]
    fn a_bar_never_says_more_than_is_done() {
        assert_eq!(bar(0.0), format!("  [{}]   0 %", ".".repeat(BAR_WIDTH)));
        assert_eq!(bar(99.4), format!("  [{}.]  99 %", "#".repeat(BAR_WIDTH - 1)));
        assert_eq!(bar(200.0), format!("  [{}] 100 %", "#".repeat(BAR_WIDTH)));
        assert_eq!(bar(f64::NAN), bar(0.0));
    }

    proptest! {
        #[test]
        fn nothing_moves_the_cursor_or_wraps(text in "\\PC{0,40}[\u{0}-\u{1f}\u{80}-\u{9f}漢]{0,9}\\PC{0,40}", columns in 4_usize..60) {
            let line = clipped(&text, columns);
            prop_assert!(line.chars().all(|letter| !letter.is_control()));
            prop_assert!(line.chars().map(|letter| letter.width().unwrap_or(0)).sum::<usize>() <= columns);
        }
    }
}
