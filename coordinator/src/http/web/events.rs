//! The event log, the newest first.

use maud::{Markup, html};
use vetting_protocol::operator_api::EventView;
use warp::reply::Response;

use super::Form;
use super::layout::{Place, level_badge, page as whole_page};
use super::run::query;
use super::visitor::Visitor;
use crate::http::problem::ApiError;
use crate::run::views;
use crate::store::events::{self, Of};
use crate::store::{StoreError, hosts};

/// Lines of a page.
const MOST_LINES: u32 = 200;

/// `GET /events?kind=…&host=…&before=…`.
pub(super) async fn page(visitor: &Visitor, form: &Form) -> Result<Response, ApiError> {
    let kind = form.get("kind").unwrap_or_default().trim().to_owned();
    let host = form.get("host").unwrap_or_default().trim().to_owned();
    let before = form.get("before").and_then(|text| text.parse::<i64>().ok());
    let (glob, of_host) = (if kind.is_empty() { "*".to_owned() } else { kind.clone() }, host.clone());
    let read = visitor.app.driver.store.read(move |connection| {
        let of = if of_host.is_empty() {
            Of::All
        } else {
            Of::Host(hosts::require_by_name(connection, &of_host)?.id)
        };
        let rows = events::newest(connection, of, &glob, before, MOST_LINES)?;
        rows.into_iter().map(views::event).collect::<Result<Vec<_>, StoreError>>()
    });
    let lines = read.await?;
    let oldest = lines.last().filter(|_| lines.len() == MOST_LINES as usize).map(|line| line.id.to_string());
    let body = html! {
        h1 { "Events" }
        form.filters method="get" action="/events" role="search" {
            label { span.off-screen { "Kind" } input type="search" name="kind" value=(kind) placeholder="kind, such as hold_*"; }
            label { span.off-screen { "Host" } input type="search" name="host" value=(host) placeholder="host"; }
            button type="submit" { "Show" }
        }
        @if lines.is_empty() { p.empty { "There is no such line." } } @else { (table(&lines)) }
        @if let Some(oldest) = oldest {
            p { a href=(format!("/events?{}", query(&[("kind", &kind), ("host", &host), ("before", &oldest)]))) { "Older ones" } }
        }
    };
    Ok(whole_page(visitor, Place::Events, "Events", None, &body))
}

/// Lines of the log.
pub(super) fn table(lines: &[EventView]) -> Markup {
    html! {
        div.scroll { table.events {
            thead { tr { th { "When (UTC)" } th { "Level" } th { "Kind" } th { "What" } th { "Run" } } }
            tbody { @for line in lines { tr {
                td.nowrap { (line.ts.split('.').next().unwrap_or(&line.ts)) }
                td { (level_badge(line.level)) }
                td { code { (line.kind) } }
                td { (line.message) }
                td { @if let Some(run) = line.run_id { a href=(format!("/runs/{run}")) { (run) } } }
            } } }
        } }
    }
}
