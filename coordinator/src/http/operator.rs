//! The operator API: what every part of it answers with, and events, tokens, queue and netboot server. The token is
//! checked before a handler is called.

use bytes::Buf;
use futures_util::Stream;
use http::StatusCode;
use serde::Deserialize;
use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{EventView, TokenCreate, TokenCreated};
use warp::reply::{Reply, Response};

use super::hosts::check_name;
use super::paging::{self, page};
use super::problem::{ApiError, ProblemKind};
use super::{App, body};
use crate::run::error::RunError;
use crate::run::{secrets, views};
use crate::store::events::{self, Of};
use crate::store::tokens::{self, TokenValues};
use crate::store::{Connection, StoreError, hosts};

/// Largest request body, bytes: a spec is the longest thing in there.
pub(super) const MAX_BODY_BYTES: u64 = 1024 * 1024;

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
    Ok(created(&make_token(&app, body::json(body, MAX_BODY_BYTES).await?).await?))
}

/// Makes a token, and tells its text.
pub(super) async fn make_token(app: &App, new: TokenCreate) -> Result<TokenCreated, ApiError> {
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
    let job = move |connection: &Connection| {
        events::insert(connection, &line)?;
        views::token(tokens::create(connection, &values, now_ms)?)
    };
    let view = app.driver.store.write(job).await?;
    Ok(TokenCreated { view, token })
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
    ok(&app.netboot.view(app.public_host.clone()))
}
