//! The operator API: hosts, runs, events, tokens. The token is checked before a handler is called.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::Path;

use bytes::Buf;
use futures_util::Stream;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use vetting_judge::spec::HostSpec;
use vetting_protocol::ids::{MacAddress, ParseIdError, RunId};
use vetting_protocol::operator_api::{
    EventView, HostCreate, HostEdit, HostView, RunCreate, RunRelease, RunRetry, RunSummary, TokenCreate,
    TokenCreated, WaiverCreate, WaiverWithdraw,
};
use warp::reply::{Reply, Response};

use super::paging::{self, page};
use super::problem::{ApiError, ProblemKind};
use super::version::{self, tagged};
use super::{App, body, files};
use crate::clock::seconds_text;
use crate::run::error::RunError;
use crate::run::turns::turn_views;
use crate::run::upload::HOLD_KEY;
use crate::run::{secrets, specs, views};
use crate::serial_console::{ParseConsoleError, SerialConsole};
use crate::store::artifacts::ArtifactRow;
use crate::store::events::{self, EventValues, Of};
use crate::store::hosts::{self, HostValues};
use crate::store::tokens::{self, TokenValues};
use crate::store::{Connection, StoreError, artifacts, removals, runs, serial_consoles, turns};

/// UDP port of Wake-on-LAN, unless told otherwise.
pub(crate) const WOL_PORT: u16 = 9;
/// Largest request body, bytes: a spec is the longest thing in there.
pub(super) const MAX_BODY_BYTES: u64 = 1024 * 1024;

/// Query of `GET hosts`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostsQuery {
    /// Only those whose names come after this one.
    after: Option<String>,
    /// So many; all, if absent.
    limit: Option<u32>,
}

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

/// Query of `DELETE hosts/{name}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveQuery {
    /// Also every run of it, with its results and files.
    #[serde(default)]
    with_runs: bool,
}

/// Query of `GET events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Only those with a greater key.
    after: Option<i64>,
    /// Only those of this run.
    run: Option<RunId>,
    /// Only those of this host, its runs' among them.
    host: Option<String>,
    /// Only those whose kind is like this: `*` stands for anything, `?` for one letter.
    kind: Option<String>,
    /// So many.
    limit: Option<u32>,
}

pub(super) fn ok<T: serde::Serialize>(value: &T) -> Response {
    warp::reply::json(value).into_response()
}

pub(super) fn created<T: serde::Serialize>(value: &T) -> Response {
    warp::reply::with_status(warp::reply::json(value), StatusCode::CREATED).into_response()
}

pub(super) fn check_spec(yaml: &str) -> Result<(), ApiError> {
    HostSpec::parse(yaml)
        .map(drop)
        .map_err(|error| ApiError::new(ProblemKind::SpecInvalid, error.to_string()))
}

/// What is wrong with the name of a host; absent if nothing is.
pub(crate) fn name_mistake(name: &str) -> Option<String> {
    let plain = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    (!plain).then(|| format!("`{name}` is no host name; use letters, digits, `.`, `_`, `-`, at most 63"))
}

pub(crate) fn check_name(name: &str) -> Result<(), ApiError> {
    name_mistake(name).map_or(Ok(()), |what| Err(ApiError::new(ProblemKind::Invalid, what)))
}

pub(super) fn check_mac(mac: &str) -> Result<MacAddress, ApiError> {
    mac.parse().map_err(|error: ParseIdError| ApiError::new(ProblemKind::Invalid, error.to_string()))
}

/// The field that nothing can be sent to, and what is wrong with it: an order to wake the machine would only fail later.
pub(crate) fn wake_target_mistake(
    broadcast_ip: Option<Ipv4Addr>,
    port: Option<u16>,
) -> Option<(&'static str, &'static str)> {
    if broadcast_ip.is_some_and(|address| address.is_unspecified()) {
        return Some((
            "wol_broadcast_ip",
            "must be an address packets can be sent to, such as 255.255.255.255",
        ));
    }
    (port == Some(0)).then_some(("wol_port", "must be 1 to 65535"))
}

fn check_wake_target(broadcast_ip: Option<Ipv4Addr>, port: Option<u16>) -> Result<(), ApiError> {
    wake_target_mistake(broadcast_ip, port)
        .map_or(Ok(()), |(field, what)| Err(ApiError::new(ProblemKind::Invalid, format!("`{field}` {what}"))))
}

/// `none` takes the serial line away.
fn check_serial_console(text: &str) -> Result<Option<SerialConsole>, ApiError> {
    if text == "none" {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|error: ParseConsoleError| ApiError::new(ProblemKind::Invalid, error.to_string()))
}

/// `GET hosts`.
pub async fn hosts(app: App, query: HostsQuery) -> Result<Response, ApiError> {
    let limit = query.limit.map(|limit| paging::limit(Some(limit)));
    let views: Vec<_> = app
        .driver
        .store
        .read(move |connection| {
            let rows = hosts::page(connection, query.after.as_deref(), limit.map(|limit| limit + 1))?;
            rows.into_iter().map(views::host).collect::<Result<_, StoreError>>()
        })
        .await?;
    let Some(limit) = limit else { return Ok(ok(&views)) };
    Ok(page("hosts", views, limit, |last: &HostView| vec![("after", last.name.clone())]))
}

pub(super) fn host_view(connection: &Connection, name: &str) -> Result<HostView, StoreError> {
    let host = hosts::require_by_name(connection, name)?;
    views::host(hosts::with_run(connection, host)?)
}

/// `GET hosts/{name}`.
pub async fn host(app: App, name: String) -> Result<Response, ApiError> {
    let view = app.driver.store.read(move |connection| host_view(connection, &name)).await?;
    Ok(tagged(ok(&view), &view))
}

/// `POST hosts`.
pub async fn add_host<S, B>(app: App, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let view = create_host(&app, body::json(body, MAX_BODY_BYTES).await?).await?;
    Ok(tagged(created(&view), &view))
}

/// Checks a new machine and registers it.
pub(super) async fn create_host(app: &App, new: HostCreate) -> Result<HostView, ApiError> {
    check_name(&new.name)?;
    check_spec(&new.expected_spec_yaml)?;
    check_wake_target(new.wol_broadcast_ip, new.wol_port)?;
    let values = HostValues {
        mac: check_mac(&new.mac)?,
        name: new.name,
        wol_broadcast_ip: new.wol_broadcast_ip.unwrap_or(Ipv4Addr::BROADCAST),
        wol_port: new.wol_port.unwrap_or(WOL_PORT),
        expected_spec_yaml: new.expected_spec_yaml,
        notes: new.notes,
    };
    let console = new.serial_console.as_deref().map(check_serial_console).transpose()?.flatten();
    let now_ms = app.driver.clock.now_ms();
    let line = app.did(None, "host_added", &format!("added host {}", values.name));
    let view = app
        .driver
        .store
        .write(move |connection| {
            // a model that does not exist is refused now, not when the first run is ordered
            specs::resolve(connection, &values.expected_spec_yaml)?;
            let id = hosts::insert(connection, &values, now_ms)?;
            serial_consoles::set(connection, id, console.as_ref())?;
            events::insert(connection, &EventValues { host_id: Some(id), ..line })?;
            host_view(connection, &values.name)
        })
        .await?;
    Ok(view)
}

/// What an edit changes, in words.
fn edited(edit: &HostEdit) -> Vec<&'static str> {
    let changed = [
        (edit.name.is_some(), "name"),
        (edit.mac.is_some(), "MAC address"),
        (edit.wol_broadcast_ip.is_some() || edit.wol_port.is_some(), "Wake-on-LAN address"),
        (edit.expected_spec_yaml.is_some(), "spec"),
        (edit.notes.is_some(), "notes"),
        (edit.serial_console.is_some(), "serial line"),
        (edit.burn_watts.is_some(), "power under load"),
    ];
    changed.into_iter().filter(|(changed, _)| *changed).map(|(_, word)| word).collect()
}

/// `PATCH hosts/{name}`.
pub async fn edit_host<S, B>(app: App, name: String, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let edit: HostEdit = body::json(body, MAX_BODY_BYTES).await?;
    let view = change_host(&app, name, edit).await?;
    Ok(tagged(ok(&view), &view))
}

/// Checks changes to a machine and carries them out.
pub(super) async fn change_host(app: &App, name: String, edit: HostEdit) -> Result<HostView, ApiError> {
    edit.name.as_deref().map(check_name).transpose()?;
    edit.expected_spec_yaml.as_deref().map(check_spec).transpose()?;
    check_wake_target(edit.wol_broadcast_ip, edit.wol_port)?;
    let mac = edit.mac.as_deref().map(check_mac).transpose()?;
    let console = edit.serial_console.as_deref().map(check_serial_console).transpose()?;
    let (now_ms, if_match) = (app.driver.clock.now_ms(), app.if_match.clone());
    let line = app.did(None, "host_edited", &format!("edited {} of host {name}", edited(&edit).join(", ")));
    let view = app
        .driver
        .store
        .write(move |connection| {
            version::check(if_match.as_deref(), &host_view(connection, &name)?)?;
            let host = hosts::require_by_name(connection, &name)?;
            let id = host.id;
            let mut values = HostValues::from(host);
            values.name = edit.name.unwrap_or(values.name);
            values.mac = mac.unwrap_or(values.mac);
            values.wol_broadcast_ip = edit.wol_broadcast_ip.unwrap_or(values.wol_broadcast_ip);
            values.wol_port = edit.wol_port.unwrap_or(values.wol_port);
            if let Some(yaml) = edit.expected_spec_yaml {
                specs::resolve(connection, &yaml)?;
                values.expected_spec_yaml = yaml;
            }
            values.notes = edit.notes.unwrap_or(values.notes);
            hosts::update(connection, id, &values, now_ms)?;
            if let Some(console) = &console {
                serial_consoles::set(connection, id, console.as_ref())?;
            }
            if let Some(watts) = edit.burn_watts {
                turns::set_told_watts(connection, id, Some(watts).filter(|watts| *watts > 0))?;
            }
            events::insert(connection, &EventValues { host_id: Some(id), ..line })?;
            Ok::<_, ApiError>(host_view(connection, &values.name)?)
        })
        .await?;
    Ok(view)
}

/// `DELETE hosts/{name}`; a history goes only where the query says so.
pub async fn remove_host(app: App, name: String, query: RemoveQuery) -> Result<Response, ApiError> {
    let (with_runs, if_match) = (query.with_runs, app.if_match.clone());
    // a line of the host's own would go with it
    let mut line = app.did(None, "host_removed", "");
    let runs = app
        .driver
        .store
        .write(move |connection| {
            version::check(if_match.as_deref(), &host_view(connection, &name)?)?;
            let host = hosts::require_by_name(connection, &name)?;
            let runs = runs::ids_of_host(connection, host.id)?;
            if !runs.is_empty() && !with_runs {
                return Err(ApiError::from(StoreError::conflict(format!(
                    "{name} has runs ({}), and their results would go with it; `host remove {name} --with-runs` \
                     (`?with_runs=true`) removes both",
                    runs.len()
                ))));
            }
            hosts::delete(connection, host.id)?;
            let what = format!("removed host {name} ({}) and its {} runs", host.mac, runs.len());
            line.message += &what;
            events::insert(connection, &line)?;
            Ok::<_, ApiError>(runs)
        })
        .await?;
    app.driver.remove_files(runs).await;
    Ok(StatusCode::NO_CONTENT.into_response())
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
    let run = app.driver.start_run(order).await?;
    app.note_order(Some(run), "ordered the run").await;
    Ok(created(&summary(&app, run).await?))
}

/// `GET runs/{id}`.
pub async fn run(app: App, run: RunId) -> Result<Response, ApiError> {
    Ok(ok(&app.driver.detail(run).await?))
}

/// `POST runs/{id}/abort`.
pub async fn abort_run(app: App, run: RunId) -> Result<Response, ApiError> {
    app.driver.abort(run).await?;
    app.note_order(Some(run), "aborted the run").await;
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
    app.driver.release(run, order).await?;
    app.note_order(Some(run), "released the machine").await;
    Ok(ok(&summary(&app, run).await?))
}

/// `POST runs/{id}/retry`.
pub async fn retry_stage<S, B>(app: App, run: RunId, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let RunRetry { stage } = body::json(body, MAX_BODY_BYTES).await?;
    app.driver.retry(run, stage).await?;
    app.note_order(Some(run), &format!("had stage {stage} run again")).await;
    Ok(ok(&summary(&app, run).await?))
}

/// `POST runs/{id}/resume`.
pub async fn resume_run(app: App, run: RunId) -> Result<Response, ApiError> {
    app.driver.resume_run(run).await?;
    app.note_order(Some(run), "had the run go on").await;
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
    app.driver.waive(run, order).await?;
    Ok(created(&app.driver.verdict(run).await?))
}

/// `POST runs/{id}/waivers/{number}/withdraw`.
pub async fn withdraw_waiver<S, B>(app: App, run: RunId, number: i64, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let order: WaiverWithdraw = body::json(body, MAX_BODY_BYTES).await?;
    app.driver.withdraw_waiver(run, number, order).await?;
    Ok(ok(&app.driver.verdict(run).await?))
}

/// `GET runs/{id}/artifacts/{kind}`: the newest of its kind.
pub async fn artifact(app: App, run: RunId, kind: String, headers: HeaderMap) -> Result<Response, ApiError> {
    artifact_file(&stored_artifact(&app, run, kind, None).await?, &headers).await
}

/// The newest file of a kind, or the one of that kind and name, that is still there.
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

/// `GET events`.
pub async fn events(app: App, query: EventsQuery) -> Result<Response, ApiError> {
    if query.run.is_some() && query.host.is_some() {
        return Err(ApiError::new(
            ProblemKind::Invalid,
            "ask for the events of a run or of a host, not of both",
        ));
    }
    let limit = paging::limit(query.limit);
    let after = query.after.unwrap_or(0);
    let filters = [
        query.run.map(|run| ("run", run.to_string())),
        query.host.clone().map(|host| ("host", host)),
        query.kind.clone().map(|kind| ("kind", kind)),
    ];
    let lines: Vec<_> = app
        .driver
        .store
        .read(move |connection| {
            let of = match (query.run, query.host) {
                (Some(run), _) => Of::Run(run),
                (None, Some(name)) => Of::Host(hosts::require_by_name(connection, &name)?.id),
                (None, None) => Of::All,
            };
            let kind = query.kind.unwrap_or_else(|| "*".to_owned());
            let rows = events::select(connection, of, &kind, after, limit + 1)?;
            rows.into_iter().map(views::event).collect::<Result<_, StoreError>>()
        })
        .await?;
    Ok(page("events", lines, limit, |last: &EventView| {
        filters.into_iter().flatten().chain([("after", last.id.to_string())]).collect()
    }))
}

/// `GET tokens`.
pub async fn tokens(app: App) -> Result<Response, ApiError> {
    let list: Vec<_> = app
        .driver
        .store
        .read(|connection| {
            tokens::list(connection)?.into_iter().map(views::token).collect::<Result<_, StoreError>>()
        })
        .await?;
    Ok(ok(&list))
}

/// `POST tokens`.
pub async fn create_token<S, B>(app: App, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let new: TokenCreate = body::json(body, MAX_BODY_BYTES).await?;
    check_name(&new.name)?;
    let token = secrets::fresh().map_err(RunError::from)?;
    let now_ms = app.driver.clock.now_ms();
    let valid_ms = new.valid_ms.map(|valid_ms| i64::try_from(valid_ms).unwrap_or(i64::MAX));
    let values = TokenValues {
        name: new.name,
        token_hash: token.sha256(),
        role: new.role,
        expires_at_ms: valid_ms.map(|valid_ms| now_ms.saturating_add(valid_ms)),
    };
    let line = app.did(None, "token_created", &format!("made the {} token {}", values.role, values.name));
    let row = app
        .driver
        .store
        .write(move |connection| {
            events::insert(connection, &line)?;
            views::token(tokens::create(connection, &values, now_ms)?)
        })
        .await?;
    Ok(created(&TokenCreated { view: row, token }))
}

/// `DELETE tokens/{id}`.
pub async fn revoke_token(app: App, id: i64) -> Result<Response, ApiError> {
    let now_ms = app.driver.clock.now_ms();
    let mut line = app.did(None, "token_revoked", "");
    app.driver
        .store
        .write(move |connection| {
            let token = tokens::revoke(connection, id, now_ms)?;
            line.message += "revoked the operator token ";
            line.message += &token.name;
            events::insert(connection, &line)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET queue`.
pub async fn queue(app: App) -> Result<Response, ApiError> {
    Ok(ok(&app.driver.queue().await?))
}

/// `GET netboot`.
pub fn netboot(app: &App) -> Response {
    ok(&app.netboot.view())
}
