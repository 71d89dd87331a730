//! The list of runs, and the files of one.

use http::{HeaderMap, HeaderValue, header};
use maud::{Markup, html};
use vetting_judge::report::format;
use vetting_protocol::ids::RunId;
use warp::reply::Response;

use super::Form;
use super::layout::{Place, or_dash, page as whole_page, run_badge, scroll};
use super::run::query;
use super::visitor::Visitor;
use crate::http::hosts::check_name;
use crate::http::problem::ApiError;
use crate::http::runs::{artifact, artifact_file, stored_artifact};
use crate::store::hosts;
use crate::store::runs::{self, RunRow};

/// Rows of a page.
const MOST_ROWS: u32 = 300;
/// A report has its style sheet inside, and bars whose widths are styles. It runs no script and loads nothing.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox";
/// Files of machines under test: whatever they hold, it is not shown as ours.
const FILE_POLICY: &str = "default-src 'none'; sandbox";

/// `GET /runs?host=…&before=…`.
pub(super) async fn page(visitor: &Visitor, form: &Form) -> Result<Response, ApiError> {
    let host = form.get("host").unwrap_or_default().trim().to_owned();
    let before: Option<RunId> =
        form.get("before").filter(|text| !text.is_empty()).map(super::run_id).transpose()?;
    let of_host = host.clone();
    let read = visitor.app.driver.store.read(move |connection| {
        let of = (!of_host.is_empty()).then(|| hosts::require_by_name(connection, &of_host)).transpose()?;
        runs::list_before(connection, of.map(|host| host.id), before, MOST_ROWS + 1)
    });
    let mut rows: Vec<RunRow> = read.await?;
    let more = rows.len() > MOST_ROWS as usize;
    rows.truncate(MOST_ROWS as usize);
    let oldest = rows.last().filter(|_| more).map(|run| run.id.to_string());
    let body = html! {
        h1 { "Runs" }
        form.filters method="get" action="/runs" role="search" {
            label { span.off-screen { "Host" } input type="search" name="host" value=(host) placeholder="host"; }
            button type="submit" { "Show" }
        }
        @if rows.is_empty() { p.empty { "There are none." } } @else { section { (table(&rows, true)) } }
        @if before.is_some() { p { a href=(format!("/runs?{}", query(&[("host", &host)]))) { "The newest" } } }
        @if let Some(oldest) = oldest {
            p { a href=(format!("/runs?{}", query(&[("host", &host), ("before", &oldest)]))) { "Older ones" } }
        }
    };
    Ok(whole_page(visitor, Place::Runs, "Runs", None, &body))
}

/// Runs, with the names of their hosts where they are of several.
pub(super) fn table(rows: &[RunRow], with_hosts: bool) -> Markup {
    html! {
        (scroll("Runs", &html! { table {
            thead { tr { th { "Run" } @if with_hosts { th { "Host" } } th { "State" } th { "Profile" } th { "Halted in" } th { "Started" } th.num { "Took" } } }
            tbody { @for run in rows { tr {
                th scope="row" { a href=(format!("/runs/{}", run.id)) { (run.id) } }
                @if with_hosts { td { a href=(format!("/hosts/{}", run.host_name)) { (run.host_name) } } }
                td { (run_badge(run.state, run.result)) }
                td { (run.profile) }
                td { (or_dash(run.failed_stage.as_deref())) }
                td.nowrap { (format::time(run.started_at_ms)) }
                td.num { (or_dash(format::span(Some(run.started_at_ms), run.completed_at_ms).as_deref())) }
            } } }
        } }))
    }
}

/// `GET /runs/{id}/report`: the signed file, as it is.
pub(super) async fn report(visitor: &Visitor, run: RunId, headers: &HeaderMap) -> Result<Response, ApiError> {
    let kind = "report_html".to_owned();
    let response = artifact(visitor.app.clone(), run, kind, headers.clone()).await?;
    Ok(with_policy(response, REPORT_POLICY))
}

/// `GET /runs/{id}/files/{kind}` and `GET /runs/{id}/files/{kind}/{name}`, to be saved.
pub(super) async fn file(
    visitor: &Visitor,
    run: RunId,
    kind: &str,
    name: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    check_name(kind)?;
    let app = &visitor.app;
    let row = stored_artifact(app, run, kind.to_owned(), name.map(str::to_owned)).await?;
    let response = artifact_file(&row, headers).await?;
    let mut response = with_policy(response, FILE_POLICY);
    // a name that was found is one that was checked when the file was stored
    let name = name.unwrap_or(kind);
    let name = format!("attachment; filename=\"run-{run}-{name}\"");
    let name = HeaderValue::from_str(&name).map_err(|error| ApiError::internal(&error))?;
    response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    Ok(response)
}

fn with_policy(mut response: Response, policy: &'static str) -> Response {
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}
