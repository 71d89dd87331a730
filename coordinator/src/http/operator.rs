//! The operator API: hosts, runs, events, tokens. The token is checked before a handler is called.

use bytes::Buf;
use futures_util::Stream;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use vetting_judge::spec::Spec;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::{MacAddress, RunId};
use vetting_protocol::operator_api::{HostCreate, HostEdit, RunCreate, TokenCreate, TokenCreated};
use warp::reply::{Reply, Response};

use super::problem::{ApiError, ProblemKind};
use super::{App, body, files};
use crate::run::error::RunError;
use crate::run::secrets;
use crate::store;

/// Largest request body, bytes: a spec is the longest thing in there.
const MAX_BODY_BYTES: u64 = 1024 * 1024;
/// Rows of a list, unless told otherwise.
const DEFAULT_LIMIT: u32 = 200;
/// Rows of a list at most.
const MAX_LIMIT: u32 = 1_000;

/// Query of `GET runs`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunsQuery {
    /// Only those of this host.
    host: Option<String>,
    /// Newest so many.
    limit: Option<u32>,
}

/// Query of `GET events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Only those with a greater key.
    after: Option<i64>,
    /// Only those of this run.
    run: Option<RunId>,
    /// So many.
    limit: Option<u32>,
}

fn ok<T: serde::Serialize>(value: &T) -> Result<Response, ApiError> {
    Ok(warp::reply::json(value).into_response())
}

fn created<T: serde::Serialize>(value: &T) -> Result<Response, ApiError> {
    Ok(warp::reply::with_status(warp::reply::json(value), StatusCode::CREATED).into_response())
}

fn no_host(name: &str) -> ApiError {
    ApiError::not_found(format!("there is no host named `{name}`; `host list` shows those there are"))
}

fn check_spec(yaml: &str) -> Result<(), ApiError> {
    Spec::parse(yaml)
        .map(drop)
        .map_err(|error| ApiError::new(ProblemKind::SpecInvalid, error.to_string()))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let plain = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if plain {
        return Ok(());
    }
    let detail = format!("`{name}` is no host name; use letters, digits, `.`, `_`, `-`, at most 63");
    Err(ApiError::new(ProblemKind::Invalid, detail))
}

fn check_mac(mac: &str) -> Result<MacAddress, ApiError> {
    mac.parse().map_err(|error: vetting_protocol::ids::ParseIdError| {
        ApiError::new(ProblemKind::Invalid, error.to_string())
    })
}
