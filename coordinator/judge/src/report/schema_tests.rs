//! The published JSON Schema against the types: what it allows they read, every key they have it knows, and every report
//! is valid by it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::*;
use crate::facts::RunFacts;
use crate::fixtures;

static ROOT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(SCHEMA).unwrap());
static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| jsonschema::validator_for(&ROOT).unwrap());

/// Keys that tell forms of one thing apart.
const TAGS: [&str; 2] = ["ending", "outcome"];

/// No schema has more forms of one thing.
const MOST_FORMS: usize = 8;

fn golden() -> [RunFacts; 4] {
    let silent = RunFacts { stages: Vec::new(), inventory: None, ..fixtures::passing() };
    [fixtures::passing(), fixtures::failing_in_storage(), fixtures::not_as_ordered(), silent]
}

fn resolved(schema: &'static Value) -> &'static Value {
    match schema["$ref"].as_str() {
        Some(reference) => ROOT.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// A value with everything that the schema allows there; `form` picks among forms.
fn example(schema: &'static Value, form: usize) -> Value {
    let schema = resolved(schema);
    if let Some(forms) = schema["oneOf"].as_array() {
        return example(&forms[form % forms.len()], form);
    }
    if let Some(forms) = schema["anyOf"].as_array() {
        return example(&forms[0], form);
    }
    if let Some(constant) = schema.get("const") {
        return constant.clone();
    }
    if let Some(words) = schema["enum"].as_array() {
        return words[form % words.len()].clone();
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind {
        Some("object") => {
            let mut fields = Map::new();
            for (key, below) in schema["properties"].as_object().into_iter().flatten() {
                fields.insert(key.clone(), example(below, form));
            }
            Value::Object(fields)
        }
        Some("array") => json!([example(&schema["items"], form)]),
        Some("string") => match schema["pattern"].as_str() {
            Some(pattern) if pattern.contains("(:") => json!("52:54:00:ab:cd:01"),
            Some(pattern) if pattern.contains("{64}") => json!("0".repeat(64)),
            Some(_) => json!("0".repeat(12)),
            None => json!("x"),
        },
        Some("integer") => json!(1),
        Some("number") => json!(1.5),
        Some("boolean") => json!(true),
        _ => json!({"any": "thing"}),
    }
}

/// Every place of an object whose keys the schema fixes: where it is, and what keys it may have.
fn places(schema: &'static Value, value: &Value, at: &str, found: &mut Vec<(String, BTreeSet<String>)>) {
    let schema = resolved(schema);
    let forms = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    if let Some(forms) = forms {
        for form in forms.iter().map(resolved) {
            let tagged =
                |(key, below): (&String, &Value)| below.get("const").is_some_and(|tag| value[key] == *tag);
            let mut fields = form["properties"].as_object().into_iter().flatten();
            // those of other forms have another tag; those without one are told by their only key
            if schema.get("anyOf").is_some() || fields.any(tagged) {
                places(form, value, at, found);
            }
        }
        return;
    }
    match value {
        Value::Object(fields) => {
            let Some(known) = schema["properties"].as_object() else { return };
            found.push((at.to_owned(), known.keys().cloned().collect()));
            for (key, below) in fields {
                places(&known[key], below, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(values) => {
            for (index, below) in values.iter().enumerate() {
                places(&schema["items"], below, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_report_is_valid() {
    for facts in golden() {
        let report = serde_json::from_str(&Report::new(facts).to_json().unwrap()).unwrap();
        let mistakes: Vec<String> = VALIDATOR
            .iter_errors(&report)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(mistakes.is_empty(), "{mistakes:#?}");
    }
}

#[test]
fn the_schema_has_every_stage_in_the_default_order() {
    let stages: Vec<Value> =
        vetting_protocol::ids::StageName::ALL.iter().map(|stage| Value::from(stage.as_str())).collect();
    assert_eq!(ROOT.pointer("/$defs/StageName/enum"), Some(&Value::from(stages)));
}

#[test]
fn what_is_no_report_is_refused() {
    let good = serde_json::to_value(Report::new(fixtures::passing())).unwrap();
    assert!(VALIDATOR.is_valid(&good));
    let spoiled = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        bad
    };
    for bad in [
        spoiled("/schema_version", json!(2)),
        spoiled("/verdict/result", json!("maybe")),
        spoiled("/verdict/reasons", Value::Null),
        spoiled("/facts/host/mac", json!("52-54-00-AB-CD-01")),
        spoiled("/facts/stages/0/outcome", json!({"outcome": "fail"})),
        spoiled("/facts/run", json!({})),
    ] {
        assert!(!VALIDATOR.is_valid(&bad));
    }
    let mut more = good;
    more["facts"]["more"] = json!(1);
    assert!(!VALIDATOR.is_valid(&more));
}

#[test]
fn the_types_read_what_the_schema_allows_and_have_no_key_that_it_does_not_know() {
    let mut seen = BTreeSet::new();
    for form in 0..MOST_FORMS {
        let whole = example(&ROOT, form);
        assert!(VALIDATOR.is_valid(&whole), "{form}");
        let text = serde_json::to_string(&whole).unwrap();
        serde_json::from_str::<Report>(&text).unwrap_or_else(|error| panic!("form {form}: {error}: {text}"));
        let mut found = Vec::new();
        places(&ROOT, &whole, "", &mut found);
        for (at, known) in found {
            let tag: BTreeSet<String> =
                known.iter().filter(|key| TAGS.contains(&key.as_str())).cloned().collect();
            if known == tag {
                // serde looks at no field of a variant that has none
                continue;
            }
            let mut strange = whole.clone();
            let object = if at.is_empty() { &mut strange } else { strange.pointer_mut(&at).unwrap() };
            object["strange"] = json!(1);
            let told = match serde_json::from_str::<Report>(&strange.to_string()) {
                Ok(_) => panic!("{at}: the type takes any key"),
                Err(error) => error.to_string(),
            };
            let (_, expected) =
                told.split_once("unknown field `strange`, ").unwrap_or_else(|| panic!("{at}: {told}"));
            let fields: BTreeSet<String> =
                expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            // the tag of an enum is not among its fields
            let without_tag: BTreeSet<String> = known.difference(&tag).cloned().collect();
            assert!(
                fields == known || fields == without_tag,
                "{at}: the type has {fields:?}, the schema {known:?}"
            );
            seen.insert(at);
        }
    }
    // otherwise nothing was compared
    assert!(seen.len() > 50, "{}", seen.len());
}
