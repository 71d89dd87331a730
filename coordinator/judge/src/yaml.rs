//! Reads YAML that people write, and says where a mistake is: line, column and dotted path.
//!
//! Refuses an empty document, unknown and repeated keys, keys without a value, and more than one document.

use std::fmt;

use serde::de::DeserializeOwned;

/// A mistake in a document, with the place a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistake {
    /// 1-based; 1 when the document as a whole is at fault.
    pub line: usize,
    /// 1-based.
    pub column: usize,
    /// Dotted: `disks[0].model`; empty for the document as a whole.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)
    }
}

/// Reads one document. `purpose` says what it should hold, for the message about an empty one.
pub fn parse<T: DeserializeOwned>(text: &str, purpose: &str) -> Result<T, Mistake> {
    let whole = serde_yaml::from_str::<serde_yaml::Value>(text);
    if whole.as_ref().is_ok_and(serde_yaml::Value::is_null) {
        let what = format!("the document is empty; {purpose}");
        return Err(Mistake { line: 1, column: 1, path: String::new(), what });
    }
    let document = serde_yaml::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(document).map_err(|error| {
        let path = match error.path().to_string() {
            root if root == "." => String::new(),
            path => path,
        };
        mistake(text, error.inner(), path)
    })?;
    // what only the untyped reading refuses, such as a key that stands twice where any key may stand
    let whole = whole.map_err(|error| mistake(text, &error, String::new()))?;
    match path_of_null(&whole) {
        None => Ok(read),
        Some(path) => Err(Mistake {
            line: line_of_key(text, &path),
            column: 1,
            path,
            what: "has no value; write one, or remove the key".to_owned(),
        }),
    }
}

/// The dotted path of the first key without a value. Read as "absent" it would quietly ask for nothing.
fn path_of_null(value: &serde_yaml::Value) -> Option<String> {
    let below = |step: String, value: &serde_yaml::Value| {
        let rest = if value.is_null() { Some(String::new()) } else { path_of_null(value) }?;
        let dot = if rest.is_empty() || rest.starts_with('[') { "" } else { "." };
        Some(format!("{step}{dot}{rest}"))
    };
    match value {
        serde_yaml::Value::Mapping(fields) => {
            fields.iter().find_map(|(key, value)| below(key.as_str().unwrap_or("?").to_owned(), value))
        }
        serde_yaml::Value::Sequence(values) => {
            values.iter().enumerate().find_map(|(position, value)| below(format!("[{position}]"), value))
        }
        serde_yaml::Value::Null
        | serde_yaml::Value::Bool(_)
        | serde_yaml::Value::Number(_)
        | serde_yaml::Value::String(_)
        | serde_yaml::Value::Tagged(_) => None,
    }
}

/// The line of the key that a dotted path ends with; 1 if it cannot be told.
pub fn line_of_key(text: &str, path: &str) -> usize {
    let Some(key) = path.rsplit('.').next().filter(|key| !key.is_empty()) else { return 1 };
    text.lines()
        .position(|line| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))
        .map_or(1, |position| position + 1)
}

/// Line and column of an item of the top-level list under `key`, the first having position 0; of the key where the list is
/// not one item a line. The list ends where the next key of the document begins.
pub fn place_of_item(text: &str, key: &str, position: usize) -> (usize, usize) {
    let begin = line_of_key(text, key);
    let is_below =
        |line: &str| line.is_empty() || line.starts_with([' ', '\t', '#']) || line.starts_with("- ");
    let lines = (begin + 1..).zip(text.lines().skip(begin)).take_while(|(_, text)| is_below(text));
    let mut items = lines.filter_map(|(line, text)| {
        let from_dash = text.trim_start_matches(' ');
        from_dash.starts_with("- ").then(|| (line, text.len() - from_dash.len()))
    });
    let Some(first) = items.next() else { return (begin, 1) };
    // lists in the items are further to the right
    let same = std::iter::once(first).chain(items.filter(|(_, indent)| *indent == first.1));
    same.map(|(line, indent)| (line, indent + 3)).nth(position).unwrap_or((begin, 1))
}

/// The line of a key in the block mapping that begins at `line` and `column`, both 1-based.
fn line_in_mapping(text: &str, line: usize, column: usize, key: &str) -> Option<usize> {
    let indent_of = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let is_blank = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
    (line..)
        .zip(text.lines().skip(line))
        .take_while(|(_, text)| is_blank(text) || indent_of(text) + 1 >= column)
        .find(|(_, text)| {
            let begins = |rest: &str| rest.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
            indent_of(text) + 1 == column && begins(text.trim_start())
        })
        .map(|(before, _)| before + 1)
}

fn mistake(text: &str, error: &serde_yaml::Error, path: String) -> Mistake {
    let (line, column) = error.location().map_or((1, 1), |place| (place.line(), place.column()));
    let full = error.to_string();
    let without_place = full.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&full);
    // serde_yaml writes its own path first; ours reaches deeper
    let what = without_place.split_once(": ").map_or(without_place, |(first, rest)| {
        if !first.is_empty() && !first.contains(' ') && path.starts_with(first) {
            rest
        } else {
            without_place
        }
    });
    // a check of ours on a value is placed at the begin of the mapping it stands in; the key is where to look
    let key = path.rsplit('.').next().filter(|key| !key.is_empty() && !key.ends_with(']'));
    let is_top_level = !path.contains(['.', '[']);
    let line = match key {
        Some(_) if is_top_level && line == 1 => line_of_key(text, &path),
        Some(key) => line_in_mapping(text, line, column, key).unwrap_or(line),
        None => line,
    };
    Mistake { line, column, path, what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_another_list_are_none_of_this_one() {
        let flow = "stages: [{stage: PSU}]\ndisks:\n  - {count: 1}\n";
        assert_eq!(place_of_item(flow, "stages", 0), (1, 1));
        let over_lines = "stages:\n  [\n    {stage: PSU},\n  ]\ndisks:\n- {count: 1}\n";
        assert_eq!(place_of_item(over_lines, "stages", 0), (1, 1));
        let short = "cpu: {sockets: 2}\nstages:\n  - {stage: PSU}\ndisks:\n  - {count: 1}\n";
        assert_eq!(place_of_item(short, "stages", 0), (3, 5));
        assert_eq!(place_of_item(short, "stages", 1), (2, 1));
    }

    #[test]
    fn blank_lines_comments_and_lists_within_items_end_no_list() {
        for indent in ["", "  "] {
            let text = format!(
                "stages:\n{indent}- stage: PSU\n{indent}  profiles:\n{indent}  - quick\n\n# and\n   \n{indent}- stage: Burn\n"
            );
            assert_eq!(place_of_item(&text, "stages", 0), (2, indent.len() + 3));
            assert_eq!(place_of_item(&text, "stages", 1), (8, indent.len() + 3), "{indent:?}");
        }
    }
}
