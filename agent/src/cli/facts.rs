//! `inventory`, `firmware`, `stages` and `capture`: print what is so.

use std::io::Write as _;
use std::path::Path;

use serde::Serialize;
use serde_json::json;
use vetting_judge::spec::Spec;

use super::machine::Machine;
use super::{CliError, Exit};
use crate::console::{Console as _, Terminal};
use crate::inventory;
use crate::stages::{self, Effect};

/// Prints a value as JSON a person can read.
pub(super) fn print_json<T: Serialize>(value: &T) -> Result<(), CliError> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

fn print(text: &str) -> Result<(), CliError> {
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(CliError::Print)
}

pub(super) fn inventory(machine: &Machine, spec: bool) -> Result<Exit, CliError> {
    let found = inventory::collect(&machine.host, &*machine.tools);
    if spec {
        let firmware = inventory::firmware::collect(&machine.host, &*machine.tools, &found);
        print(&Spec::from_inventory(&found, &firmware).to_yaml().map_err(CliError::Yaml)?)?;
    } else {
        print_json(&found)?;
    }
    Ok(Exit::Pass)
}

pub(super) fn firmware(machine: &Machine) -> Result<Exit, CliError> {
    let found = inventory::collect(&machine.host, &*machine.tools);
    print_json(&inventory::firmware::collect(&machine.host, &*machine.tools, &found))?;
    Ok(Exit::Pass)
}

fn effect_words(effect: Effect) -> &'static str {
    match effect {
        Effect::ReadOnly => "read-only",
        Effect::Load => "load",
        Effect::Destructive => "destructive",
    }
}

pub(super) fn stages(json: bool) -> Result<Exit, CliError> {
    let descriptions = stages::ALL.iter().map(|stage| stage.description());
    if json {
        let list: Vec<_> = descriptions
            .map(|stage| {
                json!({
                    "name": stage.name,
                    "effect": effect_words(stage.effect),
                    "applies_to": stage.applies_to,
                    "finds": stage.finds,
                })
            })
            .collect();
        print_json(&list)?;
        return Ok(Exit::Pass);
    }
    let header = ["STAGE", "EFFECT", "APPLIES TO", "FINDS"].map(str::to_owned);
    let rows = descriptions.map(|stage| {
        [
            stage.name.to_string(),
            effect_words(stage.effect).to_owned(),
            stage.applies_to.to_owned(),
            stage.finds.to_owned(),
        ]
    });
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    print(&table(&rows))?;
    Ok(Exit::Pass)
}

/// Columns as wide as their widest cell; the last is left as it is.
fn table(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [name, effect, applies_to, finds] in rows {
        let [first, second, third] = widths;
        let line = format!("{name:first$}  {effect:second$}  {applies_to:third$}  {finds}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn capture(machine: &Machine, directory: &Path) -> Result<Exit, CliError> {
    let summary = crate::capture::capture(&machine.host, &*machine.tools, directory)?;
    Terminal::Stderr.line(&format!(
        "{}: {} files and {} tool outputs recorded, {} identifiers replaced",
        directory.display(),
        summary.files,
        summary.tool_outputs,
        summary.scrubbed
    ));
    Ok(Exit::Pass)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_ends_without_blanks() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned);
        assert_eq!(table(&[row(["A", "B", "C", "D"]), row(["aaa", "b", "", ""])]), "A    B  C  D\naaa  b\n");
    }
}
