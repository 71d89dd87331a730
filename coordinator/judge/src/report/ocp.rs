//! The report as the OCP Test and Validation output (OCP diagnostics specification 2.0, JSON lines): what tools made
//! for that format read.
//!
//! A stage is a test step, and so is each sub-step. What the rules said are measurements with validators: one a rule and
//! key, with the worst value seen. A stage's result is a diagnosis; what could not be judged is an error.

use jiff::Timestamp;
use serde_json::{Value, json};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::{Outcome, Status};
use vetting_protocol::run::RunResult;

use super::Report;
use crate::facts::{RunFacts, StageFacts};
use crate::tally::Evaluation;
use crate::threshold::Op;

/// The lines, each with its line break.
pub(super) fn lines(report: &Report) -> String {
    let facts = &report.facts;
    let mut output = Output { sequence: 0, text: String::new() };
    output.line(facts.run.started_ms, json!({ "schemaVersion": {"major": 2, "minor": 0} }));
    output.line(facts.run.started_ms, json!({ "testRunArtifact": {"testRunStart": start(facts)} }));
    for (number, stage) in facts.stages.iter().enumerate() {
        stage_lines(&mut output, facts, number, stage);
    }
    let end = facts.run.ended_ms;
    for reason in &report.verdict.reasons {
        let severity = if report.verdict.result == RunResult::Pass { "INFO" } else { "ERROR" };
        let log = json!({"severity": severity, "message": reason.to_string()});
        output.line(end, json!({ "testRunArtifact": {"log": log} }));
    }
    let result = match report.verdict.result {
        RunResult::Pass => "PASS",
        RunResult::Fail => "FAIL",
    };
    let run_end = json!({"status": "COMPLETE", "result": result});
    output.line(end, json!({ "testRunArtifact": {"testRunEnd": run_end} }));
    output.text
}

struct Output {
    sequence: u32,
    text: String,
}

impl Output {
    fn line(&mut self, ms: i64, mut artifact: Value) {
        let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
        if let Value::Object(members) = &mut artifact {
            members.insert("sequenceNumber".to_owned(), self.sequence.into());
            members.insert("timestamp".to_owned(), time.to_string().into());
        }
        self.sequence = self.sequence.saturating_add(1);
        self.text.push_str(&artifact.to_string());
        self.text.push('\n');
    }

    fn step(&mut self, ms: i64, id: &str, name: &str, content: &Value) {
        self.line(ms, json!({ "testStepArtifact": {"testStepId": id, name: content} }));
    }
}

fn start(facts: &RunFacts) -> Value {
    let id = facts.host.id.map_or_else(|| facts.host.name.clone(), |id| id.to_string());
    let mut dut = json!({"dutInfoId": id, "name": facts.host.name});
    if let Value::Object(members) = &mut dut {
        if let Some(inventory) = &facts.inventory {
            members.insert("hardwareInfos".to_owned(), hardware(inventory).into());
        }
        let versions = facts.firmware.iter().flat_map(|firmware| &firmware.versions).enumerate();
        let software: Vec<Value> = versions
            .map(|(number, found)| {
                json!({
                    "softwareInfoId": format!("firmware-{number}"),
                    "name": format!("{} {}", found.component, found.identifier),
                    "version": found.version,
                    "softwareType": "FIRMWARE",
                })
            })
            .collect();
        members.insert("softwareInfos".to_owned(), software.into());
    }
    json!({
        "name": "vetting",
        "version": facts.run.judged_by,
        "commandLine": format!("vetting-coordinator run start {} --profile {}", facts.host.name, facts.run.profile),
        "parameters": {"profile": facts.run.profile, "consent": facts.run.consent},
        "dutInfo": dut,
    })
}

fn hardware(inventory: &Inventory) -> Vec<Value> {
    let part = |id: String, name: &str, serial: Option<&String>, maker: Option<&String>| {
        let mut info = json!({"hardwareInfoId": id, "name": name});
        if let Value::Object(members) = &mut info {
            for (key, value) in [("serialNumber", serial), ("manufacturer", maker)] {
                if let Some(value) = value {
                    members.insert(key.to_owned(), value.as_str().into());
                }
            }
        }
        info
    };
    let system = &inventory.system;
    let product = system.product.as_deref().unwrap_or("system");
    let mut parts =
        vec![part("system".to_owned(), product, system.serial.as_ref(), system.manufacturer.as_ref())];
    for (number, dimm) in inventory.memory.dimms.iter().enumerate() {
        let name = dimm.part_number.as_deref().unwrap_or("DIMM");
        parts.push(part(format!("dimm-{number}"), name, dimm.serial.as_ref(), dimm.manufacturer.as_ref()));
    }
    for disk in &inventory.disks {
        let name = disk.model.as_deref().unwrap_or("disk");
        parts.push(part(disk.name.clone(), name, disk.serial.as_ref(), disk.vendor.as_ref()));
    }
    parts
}

fn stage_lines(output: &mut Output, facts: &RunFacts, number: usize, stage: &StageFacts) {
    let id = number.to_string();
    let begin = stage.started_ms.unwrap_or(facts.run.started_ms);
    let end = stage.ended_ms.unwrap_or(facts.run.ended_ms);
    output.step(begin, &id, "testStepStart", &json!({ "name": stage.name }));
    for (number, step) in stage.sub_steps.iter().enumerate() {
        let id = format!("{id}.{number}");
        let (from, to) = (step.started_ms.unwrap_or(begin), step.ended_ms.unwrap_or(end));
        output.step(from, &id, "testStepStart", &json!({ "name": format!("{}: {}", stage.name, step.name) }));
        outcome_lines(output, to, &id, step.outcome.as_ref());
    }
    let of_stage =
        |evaluation: &&Evaluation| evaluation.stage.is_some_and(|found| found.as_str() == stage.name);
    for evaluation in facts.evaluations.iter().filter(of_stage) {
        if let Some(measurement) = measurement(evaluation) {
            output.step(end, &id, "measurement", &measurement);
        }
    }
    outcome_lines(output, end, &id, stage.outcome.as_ref());
}

/// The diagnosis or the error of a step, and its end. What never ended is an error.
fn outcome_lines(output: &mut Output, ms: i64, id: &str, outcome: Option<&Outcome>) {
    let told = |verdict: &str, kind: &str, reason: &str| {
        let mut diagnosis = json!({"verdict": verdict, "type": kind});
        if let (Value::Object(members), false) = (&mut diagnosis, reason.is_empty()) {
            members.insert("message".to_owned(), reason.into());
        }
        diagnosis
    };
    let status = match outcome {
        Some(Outcome::Pass) => {
            output.step(ms, id, "diagnosis", &told("passed", "PASS", ""));
            Status::Complete
        }
        Some(Outcome::Fail { reason }) => {
            output.step(ms, id, "diagnosis", &told("hardware-fault", "FAIL", reason));
            Status::Complete
        }
        Some(Outcome::Error { reason }) => {
            output.step(ms, id, "error", &json!({"symptom": "could-not-be-judged", "message": reason}));
            Status::Error
        }
        Some(Outcome::Skip { reason }) => {
            output.step(ms, id, "diagnosis", &told("skipped", "UNKNOWN", reason));
            Status::Skip
        }
        None => {
            output.step(ms, id, "error", &json!({"symptom": "did-not-end"}));
            Status::Error
        }
    };
    let status = match status {
        Status::Complete => "COMPLETE",
        Status::Error => "ERROR",
        Status::Skip => "SKIP",
    };
    output.step(ms, id, "testStepEnd", &json!({ "status": status }));
}

/// The worst value that a rule met; none where it met nothing that could be compared.
fn measurement(evaluation: &Evaluation) -> Option<Value> {
    let worst = evaluation.worst.filter(|value| value.is_finite())?;
    let rule = &evaluation.rule;
    let validator =
        |kind: &str, value: f64| json!({"type": kind, "value": value, "name": evaluation.rule_text});
    let validators = match rule.op {
        Op::Lt => vec![validator("LESS_THAN", rule.threshold)],
        Op::Lte => vec![validator("LESS_THAN_OR_EQUAL", rule.threshold)],
        Op::Gt => vec![validator("GREATER_THAN", rule.threshold)],
        Op::Gte => vec![validator("GREATER_THAN_OR_EQUAL", rule.threshold)],
        Op::WithinPct => {
            let room = rule.nominal.abs() * rule.threshold / 100.0;
            vec![
                validator("GREATER_THAN_OR_EQUAL", rule.nominal - room),
                validator("LESS_THAN_OR_EQUAL", rule.nominal + room),
            ]
        }
    };
    Some(json!({
        "name": format!("{}/{}", rule.kind, evaluation.key),
        "value": worst,
        "unit": rule.unit,
        "validators": validators,
        "metadata": {"samples": evaluation.samples, "breaches": evaluation.breaches},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn parsed(facts: RunFacts) -> Vec<Value> {
        lines(&Report::new(facts)).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_failed_run_as_lines() {
        insta::assert_snapshot!(
            "ocp_failing_in_storage",
            lines(&Report::new(fixtures::failing_in_storage()))
        );
    }

    #[test]
    fn every_line_is_valid_by_the_schema() {
        let schema = serde_json::from_str(include_str!("ocp.schema.json")).unwrap();
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        for facts in [fixtures::passing(), fixtures::failing_in_storage(), fixtures::not_as_ordered()] {
            for line in parsed(facts) {
                let faults: Vec<String> =
                    validator.iter_errors(&line).map(|fault| fault.to_string()).collect();
                assert!(faults.is_empty(), "{line}: {faults:?}");
            }
        }
        let mut unknown = parsed(fixtures::passing()).swap_remove(1);
        unknown["testRunArtifact"]["testRunStart"]["hostname"] = json!("a member that was there in a draft");
        assert!(!validator.is_valid(&unknown));
        let skipped = json!({"sequenceNumber": 1, "timestamp": "2026-01-01T00:00:00Z",
            "testStepArtifact": {"testStepId": "1", "testStepEnd": {"status": "SKIPPED"}}});
        assert!(!validator.is_valid(&skipped));
    }

    #[test]
    fn steps_open_and_close_and_lines_are_numbered() {
        for facts in [fixtures::passing(), fixtures::failing_in_storage(), fixtures::not_as_ordered()] {
            let lines = parsed(facts);
            assert_eq!(lines[0]["schemaVersion"], json!({"major": 2, "minor": 0}));
            assert!(lines[1]["testRunArtifact"]["testRunStart"]["dutInfo"]["dutInfoId"].is_string());
            assert!(lines.last().unwrap()["testRunArtifact"]["testRunEnd"]["result"].is_string());
            let (mut open, mut closed) = (Vec::new(), Vec::new());
            for (number, line) in lines.iter().enumerate() {
                assert_eq!(line["sequenceNumber"], number);
                assert_eq!(line.as_object().unwrap().len(), 3, "{line}");
                let step = &line["testStepArtifact"];
                if step.is_null() {
                    continue;
                }
                assert_eq!(step.as_object().unwrap().len(), 2, "{line}");
                let id = step["testStepId"].as_str().unwrap().to_owned();
                if step["testStepStart"].is_object() {
                    open.push(id.clone());
                } else {
                    assert!(open.contains(&id) && !closed.contains(&id), "{line}");
                }
                if step["testStepEnd"].is_object() {
                    closed.push(id);
                }
            }
            open.sort();
            closed.sort();
            assert_eq!(open, closed);
        }
    }
}
