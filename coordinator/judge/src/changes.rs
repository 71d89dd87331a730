//! What changed between two inventories of one machine, in words.

use std::collections::BTreeMap;

use serde_json::Value;
use vetting_protocol::inventory::Inventory;

/// Changes that are named; more are counted.
const MOST_NAMED: usize = 20;

/// One line a change: `memory.dimms[3].serial: A1 → B2`; a field of one inventory only has `absent` on the other side.
pub fn words(before: &Inventory, after: &Inventory) -> Vec<String> {
    let (before, after) = (fields(before), fields(after));
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    let shown = |value: Option<&String>| value.map_or_else(|| "absent".to_owned(), Clone::clone);
    let mut lines: Vec<String> = keys
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| format!("{key}: {} → {}", shown(before.get(key)), shown(after.get(key))))
        .collect();
    let more = lines.len().saturating_sub(MOST_NAMED);
    lines.truncate(MOST_NAMED);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn fields(inventory: &Inventory) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    // an inventory always has a JSON form; without one there would be nothing to compare
    if let Ok(value) = serde_json::to_value(inventory) {
        flatten("", &value, &mut fields);
    }
    fields
}

fn flatten(path: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(&format!("{path}{dot}{name}"), member, fields);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), item, fields);
            }
        }
        Value::Null => {}
        Value::String(text) => {
            fields.insert(path.to_owned(), text.clone());
        }
        Value::Bool(_) | Value::Number(_) => {
            fields.insert(path.to_owned(), value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_swapped_part_is_named_and_the_same_machine_is_not() {
        let before = fixtures::passing().inventory.unwrap();
        assert_eq!(words(&before, &before), Vec::<String>::new());
        let mut after = before.clone();
        after.disks[0].serial = Some("OTHER".to_owned());
        after.memory.dimms.pop();
        let lines = words(&before, &after);
        let told = format!("disks[0].serial: {} → OTHER", before.disks[0].serial.as_deref().unwrap());
        assert!(lines.contains(&told), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("memory.dimms[") && line.ends_with("→ absent")));
        assert!(lines.len() <= MOST_NAMED + 1);
    }
}
