//! Machines of one model side by side: the figures of the newest run of each, and what is far from the others.

use std::collections::BTreeMap;

use maud::{Markup, html};
use vetting_judge::quantity;
use vetting_judge::siblings::{self, Metric};
use warp::reply::Response;

use super::layout::{Place, Tone, badge, page as whole_page, scroll};
use super::run::query;
use super::visitor::Visitor;
use crate::http::problem::ApiError;
use crate::store::overview::{self, SiblingFigure};

/// `GET /models`.
pub(super) async fn page(visitor: &Visitor) -> Result<Response, ApiError> {
    let lines = visitor.app.driver.store.read(overview::hosts).await?;
    let mut models: BTreeMap<String, usize> = BTreeMap::new();
    for model in lines.into_iter().filter_map(|line| line.model) {
        *models.entry(model).or_default() += 1;
    }
    let body = html! {
        h1 { "Models" }
        p.note { "Machines by the model that their newest run was ordered with, or by what they call themselves." }
        @if models.is_empty() { p.empty { "No machine told yet what it is." } } @else {
            section { table {
                thead { tr { th { "Model" } th.num { "Machines" } } }
                tbody { @for (model, count) in &models { tr {
                    th scope="row" { a href=(format!("/models/compare?{}", query(&[("model", model)]))) { (model) } }
                    td.num { (count) }
                } } }
            } }
        }
    };
    Ok(whole_page(visitor, Place::Models, "Models", None, &body))
}

/// A machine with its figures.
struct Machine {
    host: String,
    run: vetting_protocol::ids::RunId,
    metrics: Vec<Metric>,
}

fn machines(figures: Vec<SiblingFigure>) -> Vec<Machine> {
    let mut machines: Vec<Machine> = Vec::new();
    for figure in figures {
        let SiblingFigure { host, run, stage, kind, key, value, unit, result: _ } = figure;
        let metric = Metric { stage, kind, key, value, unit };
        match machines.last_mut() {
            Some(machine) if machine.run == run => machine.metrics.push(metric),
            _ => machines.push(Machine { host, run, metrics: vec![metric] }),
        }
    }
    machines
}

/// `GET /models/compare?model=…`.
pub(super) async fn comparison(visitor: &Visitor, model: &str) -> Result<Response, ApiError> {
    let wanted = model.to_owned();
    let figures = visitor
        .app
        .driver
        .store
        .read(move |connection| overview::figures_of_model(connection, &wanted))
        .await?;
    let machines = machines(figures);
    let body = html! {
        p.note { a href="/models" { "Models" } }
        h1 { (model) }
        @if machines.is_empty() { p.empty { "No machine of this model has a run with a result yet." } } @else {
            p.note { "The largest value of each quantity in each stage, of the newest run with a result of each machine. "
                "Marked is what is far from the others (more than 3.5 median absolute deviations, at least "
                (siblings::FEWEST) " others)." }
            (table(&machines))
        }
    };
    Ok(whole_page(visitor, Place::Models, model, None, &body))
}

fn table(machines: &[Machine]) -> Markup {
    let mut rows: BTreeMap<(String, String, String, String), Vec<Option<f64>>> = BTreeMap::new();
    for (position, machine) in machines.iter().enumerate() {
        for metric in &machine.metrics {
            let name = (metric.stage.clone(), metric.kind.clone(), metric.key.clone(), metric.unit.clone());
            rows.entry(name).or_insert_with(|| vec![None; machines.len()])[position] = Some(metric.value);
        }
    }
    let far: Vec<Vec<siblings::Outlier>> = machines
        .iter()
        .map(|machine| {
            let others: Vec<Vec<Metric>> = machines
                .iter()
                .filter(|other| other.run != machine.run)
                .map(|other| other.metrics.clone())
                .collect();
            siblings::outliers(&machine.metrics, &others)
        })
        .collect();
    html! {
        (scroll("Comparison", &html! { table.compare {
            thead { tr { th { "Stage" } th { "What" }
                @for machine in machines { th.num { a href=(format!("/runs/{}", machine.run)) { (machine.host) } } } } }
            tbody { @for ((stage, kind, key, unit), values) in &rows { tr {
                td { @if stage == "*" { "between" } @else { (stage) } }
                th scope="row" { (kind) " " code { (key) } }
                @for (position, value) in values.iter().enumerate() {
                    td.num {
                        @if let Some(value) = value { (quantity::in_words(*value, unit)) }
                        @if far[position].iter().any(|one| (&one.stage, &one.kind, &one.key) == (stage, kind, key)) { " " (badge(Tone::Warn, "far")) }
                    }
                }
            } } }
        } }))
    }
}
