//! The event log, the newest first.

use maud::{Markup, html};
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::EventView;
use warp::reply::Response;

use super::Form;
use super::layout::{Place, level_badge, page as whole_page, scroll};
use super::run::query;
use super::visitor::Visitor;
use crate::http::problem::ApiError;
use crate::run::views;
use crate::store::events::{self, Of};
use crate::store::{StoreError, hosts};

/// Lines of a page.
const MOST_LINES: u32 = 200;

/// `GET /events?kind=…&host=…&run=…&before=…`.
pub(super) async fn page(visitor: &Visitor, form: &Form) -> Result<Response, ApiError> {
    let kind = form.get("kind").unwrap_or_default().trim().to_owned();
    let host = form.get("host").unwrap_or_default().trim().to_owned();
    let of_run: Option<RunId> =
        form.get("run").filter(|text| !text.is_empty()).map(super::run_id).transpose()?;
    let before = form.get("before").and_then(|text| text.parse::<i64>().ok());
    let (glob, of_host) = (if kind.is_empty() { "*".to_owned() } else { kind.clone() }, host.clone());
    let read = visitor.app.driver.store.read(move |connection| {
        let of = match of_run {
            Some(run) => Of::Run(run),
            None if of_host.is_empty() => Of::All,
            None => Of::Host(hosts::require_by_name(connection, &of_host)?.id),
        };
        let rows = events::newest(connection, of, &glob, before, MOST_LINES)?;
        rows.into_iter().map(views::event).collect::<Result<Vec<_>, StoreError>>()
    });
    let lines = read.await?;
    let oldest = lines.last().filter(|_| lines.len() == MOST_LINES as usize).map(|line| line.id.to_string());
    let run_text = of_run.map(|run| run.to_string()).unwrap_or_default();
    let body = html! {
        h1 { "Events" }
        @if let Some(run) = of_run { p.note { "Of " a href=(format!("/runs/{run}")) { "run " (run) } ", the newest first. " a href="/events" { "All events" } } }
        form.filters method="get" action="/events" role="search" {
            @if let Some(run) = of_run { input type="hidden" name="run" value=(run); }
            label { span.off-screen { "Kind" } input type="search" name="kind" value=(kind) placeholder="kind, such as hold_*"; }
            @if of_run.is_none() { label { span.off-screen { "Host" } input type="search" name="host" value=(host) placeholder="host"; } }
            button type="submit" { "Show" }
        }
        @if lines.is_empty() { p.empty { "There is no such line." } } @else { (table(&lines)) }
        @if let Some(oldest) = oldest {
            p { a href=(format!("/events?{}", query(&[("kind", &kind), ("host", &host), ("run", &run_text), ("before", &oldest)]))) { "Older ones" } }
        }
    };
    Ok(whole_page(visitor, Place::Events, "Events", None, &body))
}

/// Lines of the log.
pub(super) fn table(lines: &[EventView]) -> Markup {
    html! {
        (scroll("Events", &html! { table.events {
            thead { tr { th { "When (UTC)" } th { "Level" } th { "Kind" } th { "What" } th { "Run" } } }
            tbody { @for line in lines { tr {
                td.nowrap { (line.ts.split('.').next().unwrap_or(&line.ts)) }
                td { (level_badge(line.level)) }
                td { code { (line.kind) } }
                td { (line.message) }
                td { @if let Some(run) = line.run_id { a href=(format!("/runs/{run}")) { (run) } } }
            } } }
        } }))
    }
}
