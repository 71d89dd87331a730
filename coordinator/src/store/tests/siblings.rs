//! Siblings of a run, and where its parts were before.

use vetting_protocol::run::{RunResult, RunState};

use super::{NOW_MS, host_values, on_a_database, run_values};
use crate::store::components::{self, ComponentRow, MetricRow};
use crate::store::models::{self, RunSpec};
use crate::store::runs::{self, RunChange};
use crate::store::{Connection, StoreError, hosts};
use vetting_protocol::ids::RunId;

/// A run that is over, of a host of its own.
fn run_of(
    connection: &Connection,
    number: u8,
    model: Option<&str>,
    result: RunResult,
) -> Result<RunId, StoreError> {
    let values = host_values(&format!("h{number}"), &format!("52:54:00:00:01:{number:02x}"));
    let host = hosts::insert(connection, &values, NOW_MS)?;
    let run = runs::create(connection, &run_values(host), NOW_MS)?;
    let spec = RunSpec { model: model.map(str::to_owned), expected_spec_yaml: String::new() };
    models::insert_run(connection, run, &spec)?;
    models::set_product(connection, run, "Dell R640")?;
    let change = RunChange { result: Some(result), ..RunChange::to(RunState::Completed, NOW_MS) };
    runs::set_state(connection, run, &change)?;
    let metric = MetricRow {
        stage_name: "CPUStress".to_owned(),
        kind: "temp".to_owned(),
        key: "cpu/0".to_owned(),
        value: f64::from(number),
        unit: "celsius".to_owned(),
    };
    components::keep_metrics(connection, run, &[metric])?;
    let part = ComponentRow {
        run,
        kind: "disk".to_owned(),
        serial: "S3Z8NX0K".to_owned(),
        model: None,
        place: "sda".to_owned(),
    };
    components::replace(connection, run, &[part])?;
    Ok(run)
}

#[test]
fn siblings_are_other_machines_of_the_same_model_that_passed() {
    on_a_database(|db| {
        let own = run_of(db, 1, Some("a"), RunResult::Fail)?;
        run_of(db, 2, Some("a"), RunResult::Pass)?;
        run_of(db, 3, Some("a"), RunResult::Fail)?;
        run_of(db, 4, Some("b"), RunResult::Pass)?;
        run_of(db, 5, None, RunResult::Pass)?;
        let values: Vec<f64> =
            components::of_siblings(db, own)?.into_iter().flatten().map(|metric| metric.value).collect();
        assert_eq!(values, [2.0]);
        // without a model, what the machine calls itself counts
        let unnamed = run_of(db, 6, None, RunResult::Pass)?;
        let values: Vec<f64> =
            components::of_siblings(db, unnamed)?.into_iter().flatten().map(|metric| metric.value).collect();
        assert_eq!(values, [5.0]);
        Ok(())
    });
}

#[test]
fn a_part_was_before_in_other_machines_only() {
    on_a_database(|db| {
        let first = run_of(db, 1, None, RunResult::Fail)?;
        let second = run_of(db, 2, None, RunResult::Pass)?;
        let earlier: Vec<_> = components::earlier(db, second, 10)?.into_iter().map(|part| part.run).collect();
        assert_eq!(earlier, [first]);
        assert!(components::earlier(db, first, 10)?.is_empty());
        let all: Vec<_> =
            components::by_serial(db, "S3Z8NX0K", None, 10)?.into_iter().map(|part| part.run).collect();
        assert_eq!(all, [second, first]);
        Ok(())
    });
}
