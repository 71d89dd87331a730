//! Enrolment: what a machine without a run asks, and what operators decide of it; cards and identity of hosts.

use std::net::IpAddr;

use bytes::Buf;
use futures_util::Stream;
use http::StatusCode;
use vetting_protocol::enrolment::{
    Adopt, EnrolRequest, EnrolmentTokenCreate, EnrolmentTokenCreated, MAX_ENROL_BYTES, MacAdd, PendingView,
};
use vetting_protocol::ids::MacAddress;
use warp::reply::{Json, Reply, Response};

use super::agent::AgentRequest;
use super::hosts::{check_mac, check_name, check_spec, host_view};
use super::operator::{MAX_BODY_BYTES, created, ok};
use super::problem::{ApiError, ProblemKind};
use super::{App, body};
use crate::enrolment::words;
use crate::run::error::RunError;
use crate::run::{secrets, views};
use crate::store::enrolment::{self, TokenValues};
use crate::store::events::EventValues;
use crate::store::{StoreError, events, hosts, identities};

/// Most machines that one token may register.
const MAX_USES: u32 = 100_000;
/// Longest life of a token, ms: ten years.
const MAX_VALID_MS: u64 = 10 * 365 * 24 * 3_600_000;

fn invalid(detail: impl Into<String>) -> ApiError {
    ApiError::new(ProblemKind::Invalid, detail)
}

/// `POST /agent/v1/enrol`.
pub async fn enrol<S, B>(app: App, request: AgentRequest<S>) -> Result<Json, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let address = match request.connection.remote.ip() {
        IpAddr::V6(ip) => ip.to_canonical(),
        ip @ IpAddr::V4(_) => ip,
    };
    if !app.may_enrol_now(address) {
        let detail = "this address asks too often; ask again in a minute";
        return Err(ApiError::new(ProblemKind::TooMany, detail));
    }
    let asked: EnrolRequest = body::json(request.body, MAX_ENROL_BYTES).await?;
    Ok(warp::reply::json(&app.driver.enrol(asked, address).await?))
}

/// `GET enrolment/tokens`.
pub async fn tokens(app: App) -> Result<Response, ApiError> {
    let list: Vec<_> = app
        .driver
        .store
        .read(|connection| {
            enrolment::tokens(connection)?
                .into_iter()
                .map(views::enrolment_token)
                .collect::<Result<_, StoreError>>()
        })
        .await?;
    Ok(ok(&list))
}

/// `POST enrolment/tokens`.
pub async fn create_token<S, B>(app: App, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let new: EnrolmentTokenCreate = body::json(body, MAX_BODY_BYTES).await?;
    new.expected_spec_yaml.as_deref().map(|yaml| check_spec(&app, yaml)).transpose()?;
    if new.uses == 0 || new.uses > MAX_USES {
        return Err(invalid(format!("`uses` must be 1 to {MAX_USES}")));
    }
    if new.valid_ms == 0 || new.valid_ms > MAX_VALID_MS {
        return Err(invalid("`valid_ms` must be more than 0 and at most ten years"));
    }
    if new.start_run.is_some() && new.expected_spec_yaml.is_none() {
        return Err(invalid(
            "`start_run` needs an expected spec (`--spec FILE`): a machine that nobody described cannot pass",
        ));
    }
    let name_pattern = new.name_pattern.unwrap_or_else(|| words::DEFAULT_PATTERN.to_owned());
    words::check_pattern(&name_pattern).map_err(invalid)?;
    let token = secrets::fresh().map_err(RunError::from)?;
    let (hash, now_ms) = (token.sha256(), app.driver.clock.now_ms());
    let values = TokenValues {
        uses_allowed: new.uses,
        name_pattern,
        expected_spec_yaml: new.expected_spec_yaml.unwrap_or_default(),
        start_profile: new.start_run,
        expires_at_ms: now_ms.saturating_add(i64::try_from(new.valid_ms).unwrap_or(i64::MAX)),
    };
    let mut line = app.did(None, "enrolment_token_created", "");
    let driver = app.driver.clone();
    let view = driver
        .store
        .write(move |connection| {
            let row = enrolment::create_token(connection, hash, &values, now_ms)?;
            let what = format!("made enrolment token {}, for {} machines", row.id, values.uses_allowed);
            line.message += &what;
            events::insert(connection, &line)?;
            views::enrolment_token(row)
        })
        .await?;
    Ok(created(&EnrolmentTokenCreated { view, token }))
}

/// `DELETE enrolment/tokens/{id}`.
pub async fn revoke_token(app: App, id: i64) -> Result<Response, ApiError> {
    let line = app.did(None, "enrolment_token_revoked", &format!("revoked enrolment token {id}"));
    let now_ms = app.driver.clock.now_ms();
    app.driver
        .store
        .write(move |connection| {
            enrolment::revoke_token(connection, id, now_ms)?;
            events::insert(connection, &line)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET enrolment/pending`.
pub async fn pending(app: App) -> Result<Response, ApiError> {
    let now_ms = app.driver.clock.now_ms();
    let rows = app.driver.pending().await?;
    let views: Vec<PendingView> =
        rows.into_iter().map(|row| views::pending(row, now_ms)).collect::<Result<_, _>>()?;
    Ok(ok(&views))
}

/// `POST enrolment/pending/{code}/adopt`.
pub async fn adopt<S, B>(app: App, code: String, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let adopt: Adopt = body::json(body, MAX_BODY_BYTES).await?;
    adopt.name.as_deref().map(check_name).transpose()?;
    adopt.expected_spec_yaml.as_deref().map(|yaml| check_spec(&app, yaml)).transpose()?;
    Ok(created(&app.driver.adopt(code, adopt, app.did(None, "host_adopted", "")).await?))
}

/// `POST enrolment/pending/{code}/reject`.
pub async fn reject(app: App, code: String) -> Result<Response, ApiError> {
    let code = words::typed_code(&code);
    let line = app.did(None, "host_rejected", &format!("turned the machine with code {code} away"));
    app.driver.reject(code.clone(), line).await?;
    Ok(ok(&serde_json::json!({"rejected": code})))
}

/// `POST hosts/{name}/macs`.
pub async fn add_mac<S, B>(app: App, name: String, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let add: MacAdd = body::json(body, MAX_BODY_BYTES).await?;
    let mac = check_mac(&add.mac)?;
    let line = app.did(None, "mac_added", &format!("added the card {mac} to host {name}"));
    let now_ms = app.driver.clock.now_ms();
    let view = app
        .driver
        .store
        .write(move |connection| {
            let host = hosts::require_by_name(connection, &name)?;
            identities::add_mac(connection, host.id, mac, now_ms)?;
            events::insert(connection, &EventValues { host_id: Some(host.id), ..line })?;
            host_view(connection, &name)
        })
        .await?;
    Ok(created(&view))
}

/// `DELETE hosts/{name}/macs/{mac}`.
pub async fn remove_mac(app: App, name: String, mac: MacAddress) -> Result<Response, ApiError> {
    let line = app.did(None, "mac_removed", &format!("took the card {mac} from host {name}"));
    app.driver
        .store
        .write(move |connection| {
            let host = hosts::require_by_name(connection, &name)?;
            identities::remove_mac(connection, host.id, mac)?;
            events::insert(connection, &EventValues { host_id: Some(host.id), ..line })
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `DELETE hosts/{name}/identity`.
pub async fn forget_identity(app: App, name: String) -> Result<Response, ApiError> {
    let what = format!("had the recorded identity of {name} forgotten");
    let line = app.did(None, "identity_forgotten", &what);
    app.driver
        .store
        .write(move |connection| {
            let host = hosts::require_by_name(connection, &name)?;
            identities::forget(connection, host.id)?;
            events::insert(connection, &EventValues { host_id: Some(host.id), ..line })
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
