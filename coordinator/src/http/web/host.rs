//! The page of a machine: its runs, what it is made of, and what it should be.

use maud::{Markup, html};
use vetting_protocol::operator_api::{EventView, HostView, RunSummary};
use vetting_protocol::run::RunState;
use warp::reply::Response;

use super::layout::{Place, or_dash, page as whole_page, run_badge, scroll};
use super::run::query;
use super::visitor::Visitor;
use crate::http::hosts::host_view;
use crate::http::problem::ApiError;
use crate::run::views;
use crate::store::StoreError;
use crate::store::events::{self, Of};
use crate::store::overview::{self, PartLine};
use crate::store::runs::{self, RunRow};

/// Newest runs that are shown.
const MOST_RUNS: u32 = 100;
/// Newest lines of the log that are shown.
const MOST_EVENTS: u32 = 30;

struct Shown {
    host: HostView,
    runs: Vec<RunRow>,
    parts: Vec<PartLine>,
    events: Vec<EventView>,
}

async fn look(visitor: &Visitor, name: &str) -> Result<Shown, ApiError> {
    let name = name.to_owned();
    let read = visitor.app.driver.store.read(move |connection| {
        let host = host_view(connection, &name)?;
        let id = host.id;
        let lines = events::newest(connection, Of::Host(id), "*", None, MOST_EVENTS)?;
        Ok::<_, StoreError>(Shown {
            host,
            runs: runs::list(connection, Some(id), MOST_RUNS)?,
            parts: overview::parts(connection, id)?,
            events: lines.into_iter().map(views::event).collect::<Result<_, _>>()?,
        })
    });
    Ok(read.await?)
}

/// `GET /hosts/{name}`.
pub(super) async fn page(visitor: &Visitor, name: &str) -> Result<Response, ApiError> {
    let Shown { host, runs, parts, events } = look(visitor, name).await?;
    let body = html! {
        (head(visitor, &host))
        section {
            h2 { "Runs" }
            @if runs.is_empty() { p.empty { "It was never vetted." } } @else { (super::runs::table(&runs, false)) }
            @if runs.len() == MOST_RUNS as usize { p.links { a href=(format!("/runs?{}", query(&[("host", &host.name)]))) { "All runs" } } }
        }
        section { h2 { "Parts" } (part_table(&parts)) }
        section {
            h2 { "Expected spec" }
            @if host.expected_spec_yaml.is_empty() {
                p.empty { "There is none yet: no run can be started." }
            } @else { pre { (host.expected_spec_yaml) } }
            @if visitor.is_operator() { p.buttons { a.button href=(format!("/hosts/{}/spec", host.name)) { "Edit the spec" } } }
        }
        section { h2 { "Log" }
            @if events.is_empty() { p.empty { "Nothing was logged." } } @else { (super::events::table(&events)) }
            @if events.len() == MOST_EVENTS as usize { p.links { a href=(format!("/events?{}", query(&[("host", &host.name)]))) { "The whole log" } } }
        }
    };
    Ok(whole_page(visitor, Place::Hosts, &host.name, None, &body))
}

fn head(visitor: &Visitor, host: &HostView) -> Markup {
    let is_taken = |run: &RunSummary| !run.state.is_terminal() || run.state == RunState::FailedHolding;
    let is_free = !host.latest_run.as_ref().is_some_and(is_taken);
    let facts = [
        ("MAC", Some(host.mac.to_string())),
        (
            "Further cards",
            (!host.further_macs.is_empty())
                .then(|| host.further_macs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        ),
        ("System UUID", host.identity.as_ref().map(|identity| identity.system_uuid.clone())),
        ("Wake-on-LAN", Some(format!("{} port {}", host.wol_broadcast_ip, host.wol_port))),
        ("Serial line", host.serial_console.clone()),
        ("Registered", Some(format!("{} UTC", host.created_at))),
        ("Agent on its system", host.last_seen_at.as_ref().map(|at| format!("heard {at} UTC"))),
    ];
    html! {
        header.title {
            h1 { (host.name) }
            @if let Some(run) = &host.latest_run {
                p.verdict { a.bare href=(format!("/runs/{}", run.id)) { (run_badge(run.state, run.result)) } }
            }
        }
        @if !host.notes.is_empty() { p.notes { (host.notes) } }
        dl.facts {
            @for (name, value) in &facts { @if let Some(value) = value { div { dt { (name) } dd { (value) } } } }
        }
        @if visitor.is_operator() && is_free {
            p.buttons { a.button href=(format!("/hosts/{}/start", host.name)) { "Start a run…" } }
        }
    }
}

fn part_table(parts: &[PartLine]) -> Markup {
    html! {
        @if parts.is_empty() { p.empty { "No inventory told of parts with serial numbers yet." } } @else {
            (scroll("Parts", &html! { table {
                thead { tr { th { "Part" } th { "Place" } th { "Model" } th { "Serial number" } th { "Here since" } th { "Before in" } } }
                tbody { @for part in parts { tr {
                    td { (part.kind) }
                    td { (part.place) }
                    td { (or_dash(part.model.as_deref())) }
                    td { code { (part.serial) } }
                    td { a href=(format!("/runs/{}", part.since)) { "run " (part.since) } }
                    td { @match &part.before_in {
                        Some(host) => { a href=(format!("/hosts/{host}")) { (host) } }
                        None => { (or_dash(None)) }
                    } }
                } } }
            } }))
        }
    }
}
