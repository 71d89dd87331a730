//! The reports of three runs as a person and a program get them, and that no text can break out.

use std::sync::LazyLock;

use proptest::prelude::*;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::RunResult;

use super::Report;
use crate::facts::{Ending, RunFacts};
use crate::fixtures;

fn check(name: &str, facts: RunFacts, expected: RunResult) {
    let report = Report::new(facts);
    assert_eq!(report.verdict.result, expected, "{:#?}", report.verdict);
    let json = report.to_json().unwrap();
    let read_back: Report = serde_json::from_str(&json).unwrap();
    assert!(read_back == report);
    insta::assert_snapshot!(
        format!("{name}.verdict"),
        serde_json::to_string_pretty(&report.verdict).unwrap()
    );
    insta::assert_snapshot!(format!("{name}.json"), json);
    insta::assert_snapshot!(format!("{name}.html"), in_lines(&report.to_html()));
}

/// The same page with a line for each larger element, so that a change can be read.
fn in_lines(html: &str) -> String {
    ["<body", "<section", "<dl", "<li", "<tr", "<figure", "<g ", "<footer"]
        .iter()
        .fold(html.to_owned(), |html, element| html.replace(element, &format!("\n{element}")))
}

#[test]
fn a_good_machine() {
    check("pass", fixtures::passing(), RunResult::Pass);
}

#[test]
fn a_machine_with_bad_sectors() {
    check("fail_storage", fixtures::failing_in_storage(), RunResult::Fail);
}

#[test]
fn a_machine_that_is_not_as_ordered() {
    check("fail_spec", fixtures::not_as_ordered(), RunResult::Fail);
}

#[test]
fn a_machine_of_which_nothing_is_known() {
    let mut facts = fixtures::passing();
    facts.ending =
        Ending::NeverAppeared { waited_ms: 600_000, last_seen: "the boot script was never asked for".into() };
    facts.inventory = None;
    facts.firmware = None;
    facts.diffs = None;
    facts.stages.clear();
    facts.evaluations.clear();
    facts.series.clear();
    facts.events.clear();
    let html = Report::new(facts).to_html();
    for text in ["FAIL", "never claimed", "No inventory was taken", "was not compared with its spec"] {
        assert!(html.contains(text), "{text}");
    }
}

/// Puts `text` wherever the machine or an operator can put a text.
fn poisoned(text: &str) -> RunFacts {
    let mut facts = fixtures::failing_in_storage();
    let own = || text.to_owned();
    facts.host.name = own();
    facts.host.notes = own();
    facts.run.profile_description = own();
    facts.run.judged_by = own();
    facts.ending = Ending::AgentCrashed { how: own() };
    for stage in &mut facts.stages {
        stage.outcome = Some(Outcome::fail(text));
        stage.details = serde_json::json!({ text: text });
        for step in &mut stage.sub_steps {
            step.name = own();
            step.details = text.into();
        }
    }
    if let Some(stage) = facts.stages.first_mut() {
        stage.name = own();
    }
    for evaluation in &mut facts.evaluations {
        evaluation.key = own();
        evaluation.rule_text = own();
        evaluation.wrong_unit = Some(own());
        evaluation.rule.kind = own();
        evaluation.rule.unit = own();
    }
    for series in &mut facts.series {
        series.key = own();
        series.unit = own();
    }
    for event in &mut facts.events {
        event.kind = own();
        event.message = own();
    }
    for artifact in &mut facts.artifacts {
        artifact.path = own();
        artifact.kind = own();
    }
    for outlier in &mut facts.outliers {
        (outlier.stage, outlier.kind, outlier.key, outlier.unit) = (own(), own(), own(), own());
    }
    for part in &mut facts.parts_before {
        (part.kind, part.serial, part.place, part.host) = (own(), own(), own(), own());
        part.failed_stage = part.failed_stage.as_ref().map(|_| own());
    }
    // every text of the inventory and the firmware report
    let fill = |value: serde_json::Value| replace_texts(value, text);
    let inventory = serde_json::to_value(&facts.inventory).map(fill).unwrap();
    facts.inventory = serde_json::from_value(inventory).unwrap();
    let firmware = serde_json::to_value(&facts.firmware).map(fill).unwrap();
    facts.firmware = serde_json::from_value(firmware).unwrap();
    facts
}

fn replace_texts(value: serde_json::Value, text: &str) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, value)| {
                    let is_enum = matches!(key.as_str(), "mac" | "kind" | "bus" | "component");
                    let value = if is_enum { value } else { replace_texts(value, text) };
                    (key, value)
                })
                .collect(),
        ),
        Value::Array(values) => values.into_iter().map(|value| replace_texts(value, text)).collect(),
        Value::String(_) => Value::String(text.to_owned()),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Names of the elements in a page, in order.
fn elements(html: &str) -> Vec<String> {
    html.split('<')
        .skip(1)
        .map(|rest| {
            rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '/' || *c == '!').collect()
        })
        .collect()
}

#[test]
fn a_script_in_any_text_stays_text() {
    let attack = r#""><script>alert(1)</script><img src=x onerror='alert(1)'>"#;
    let html = Report::new(poisoned(attack)).to_html();
    assert!(html.contains("&lt;script&gt;"));
    assert!(!html.contains("<script") && !html.contains("<img"));
    assert_eq!(elements(&html), elements(&Report::new(poisoned("harmless")).to_html()));
}

static HARMLESS: LazyLock<Vec<String>> =
    LazyLock::new(|| elements(&Report::new(poisoned("harmless")).to_html()));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_text_changes_the_elements(text in r#"[<>&"'a-z/= -]{1,24}|</?(script|style|svg) *>?.{0,10}"#) {
        prop_assume!(!text.trim().is_empty());
        let html = Report::new(poisoned(&text)).to_html();
        prop_assert_eq!(&elements(&html), &*HARMLESS);
    }
}
