//! The operator API's part about runs: orders, waivers, verdicts and files.

use std::ffi::OsStr;
use std::path::Path;

use bytes::Buf;
use futures_util::Stream;
use http::{HeaderMap, Method};
use serde::Deserialize;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{
    RunCreate, RunRelease, RunRetry, RunSummary, WaiverCreate, WaiverWithdraw,
};
use warp::reply::Response;

use super::operator::{MAX_BODY_BYTES, created, ok};
use super::paging::{self, page};
use super::problem::{ApiError, ProblemKind};
use super::{App, body, files};
use crate::clock::seconds_text;
use crate::run::turns::turn_views;
use crate::run::upload::HOLD_KEY;
use crate::run::views;
use crate::store::artifacts::ArtifactRow;
use crate::store::{StoreError, artifacts, events, hosts, removals, runs};

/// Query of `GET runs`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunsQuery {
    /// Only those of this host.
    host: Option<String>,
    /// Only older ones than this.
    before: Option<RunId>,
    /// Newest so many.
    limit: Option<u32>,
}

/// `GET runs`.
pub async fn runs(app: App, query: RunsQuery) -> Result<Response, ApiError> {
    let limit = paging::limit(query.limit);
    let host = query.host.clone();
    let (budget, now_ms) = (app.driver.settings.budget.clone(), app.driver.clock.now_ms());
    let summaries: Vec<_> = app
        .driver
        .store
        .read(move |connection| {
            let host = query.host.map(|name| hosts::require_by_name(connection, &name)).transpose()?;
            let rows = runs::list_before(connection, host.map(|host| host.id), query.before, limit + 1)?;
            let mut turns = turn_views(connection, budget.as_ref(), now_ms)?;
            let summary = |row| {
                let mut summary = views::summary(row)?;
                summary.turn = turns.remove(&summary.id);
                Ok(summary)
            };
            rows.iter().map(summary).collect::<Result<_, StoreError>>()
        })
        .await?;
    Ok(page("runs", summaries, limit, |last: &RunSummary| {
        let host = host.map(|host| ("host", host));
        host.into_iter().chain([("before", last.id.to_string())]).collect()
    }))
}

async fn summary(app: &App, run: RunId) -> Result<RunSummary, ApiError> {
    Ok(app.driver.store.read(move |connection| views::summary(&runs::get(connection, run)?)).await?)
}

/// `POST runs`.
pub async fn start_run<S, B>(app: App, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let order: RunCreate = body::json(body, MAX_BODY_BYTES).await?;
    let run = app.driver.start_run(order, app.order(None, "ordered the run")).await?;
    Ok(created(&summary(&app, run).await?))
}

/// `GET runs/{id}`.
pub async fn run(app: App, run: RunId) -> Result<Response, ApiError> {
    Ok(ok(&app.driver.detail(run).await?))
}

/// `POST runs/{id}/abort`.
pub async fn abort_run(app: App, run: RunId) -> Result<Response, ApiError> {
    app.driver.abort(run, app.order(Some(run), "aborted the run")).await?;
    Ok(ok(&summary(&app, run).await?))
}

/// `POST runs/{id}/release`.
pub async fn release_run<S, B>(app: App, run: RunId, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    // clients from before there was anything to say send nothing
    let text = body::read(body, MAX_BODY_BYTES).await?;
    let order = if text.is_empty() {
        RunRelease { then: None }
    } else {
        serde_json::from_slice(&text)
            .map_err(|error| ApiError::new(ProblemKind::Malformed, format!("the body: {error}")))?
    };
    app.driver.release(run, order, app.order(Some(run), "released the machine")).await?;
    Ok(ok(&summary(&app, run).await?))
}

/// `POST runs/{id}/retry`.
pub async fn retry_stage<S, B>(app: App, run: RunId, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let RunRetry { stage } = body::json(body, MAX_BODY_BYTES).await?;
    let line = app.order(Some(run), &format!("had stage {stage} run again"));
    app.driver.retry(run, stage, line).await?;
    Ok(ok(&summary(&app, run).await?))
}

/// `POST runs/{id}/resume`.
pub async fn resume_run(app: App, run: RunId) -> Result<Response, ApiError> {
    app.driver.resume_run(run, app.order(Some(run), "had the run go on")).await?;
    Ok(ok(&summary(&app, run).await?))
}

/// `GET runs/{id}/verdict`.
pub async fn verdict(app: App, run: RunId) -> Result<Response, ApiError> {
    Ok(ok(&app.driver.verdict(run).await?))
}

/// `POST runs/{id}/waivers`.
pub async fn waive<S, B>(app: App, run: RunId, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let order: WaiverCreate = body::json(body, MAX_BODY_BYTES).await?;
    app.driver.waive(run, order, app.caller_name()).await?;
    Ok(created(&app.driver.verdict(run).await?))
}

/// `POST runs/{id}/waivers/{number}/withdraw`.
pub async fn withdraw_waiver<S, B>(app: App, run: RunId, number: i64, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let order: WaiverWithdraw = body::json(body, MAX_BODY_BYTES).await?;
    app.driver.withdraw_waiver(run, number, order, app.caller_name()).await?;
    Ok(ok(&app.driver.verdict(run).await?))
}

/// `GET runs/{id}/artifacts/{kind}`: the newest of its kind.
pub async fn artifact(app: App, run: RunId, kind: String, headers: HeaderMap) -> Result<Response, ApiError> {
    artifact_file(&stored_artifact(&app, run, kind, None).await?, &headers).await
}

/// The newest file of a kind, or the one of that kind and name, that is still there. That somebody has the key of a held
/// machine is noted before it is given away.
pub(super) async fn stored_artifact(
    app: &App,
    run: RunId,
    kind: String,
    name: Option<String>,
) -> Result<ArtifactRow, ApiError> {
    if kind == HOLD_KEY {
        // who has it is root on the machine
        app.require_operator()?;
    }
    let missing = format!("run {run} has no artifact of the kind `{kind}`");
    let found: Result<_, StoreError> = app
        .driver
        .store
        .read(move |connection| {
            runs::get(connection, run)?;
            let row = match name {
                None => artifacts::latest(connection, run, &kind)?,
                Some(name) => artifacts::list(connection, run)?.into_iter().rfind(|row| {
                    row.values.kind == kind
                        && Path::new(&row.values.path).file_name() == Some(OsStr::new(&name))
                }),
            };
            let Some(row) = row else { return Ok(None) };
            let removed_ms = removals::removed_at(connection, row.id)?;
            Ok(Some((row, removed_ms.map(seconds_text).transpose()?)))
        })
        .await;
    let (row, removed_at) = found?.ok_or_else(|| ApiError::not_found(missing))?;
    if let Some(removed_at) = removed_at {
        let kind = &row.values.kind;
        let detail =
            format!("the {kind} of run {run} was removed by its age on {removed_at} UTC; its row stays");
        return Err(ApiError::new(ProblemKind::Gone, detail));
    }
    if row.values.kind == HOLD_KEY {
        let line = app.order(Some(run), "fetched the key of the held machine");
        app.driver.store.write(move |connection| events::insert(connection, &line)).await?;
    }
    Ok(row)
}

/// The file behind a row.
pub(super) async fn artifact_file(row: &ArtifactRow, headers: &HeaderMap) -> Result<Response, ApiError> {
    let path = Path::new(&row.values.path);
    let content_type = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => "application/json",
        Some("html") => "text/html; charset=utf-8",
        Some(_) | None => "application/octet-stream",
    };
    files::serve(path, content_type, &Method::GET, headers, None).await
}
