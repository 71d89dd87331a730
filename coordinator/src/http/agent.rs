//! The agent API: reads requests, checks the token, hands them to `run`.

use bytes::Buf;
use futures_util::Stream;
use http::HeaderMap;
use serde::de::DeserializeOwned;
use vetting_protocol::agent_api::{
    Acknowledgement, AgentCrash, ArtifactReceipt, Batch, ClaimRequest, ClaimResponse, Heartbeat, HoldReport,
    MAX_ARTIFACT_BYTES, MAX_BODY_BYTES, PlanAnswer,
};
use vetting_protocol::ids::{RunId, Sha256Hex};
use vetting_protocol::network_test::{NetworkTestAnswer, NetworkTestRequest};
use warp::reply::Json;

use super::listener::Connection;
use super::problem::{ApiError, ProblemKind};
use super::{App, body};

/// The digest that an artifact is announced with.
const DIGEST_HEADER: &str = "x-content-sha256";

/// What a handler of this module is given.
#[derive(Debug)]
pub struct AgentRequest<S> {
    /// The rest of the request's head.
    pub headers: HeaderMap,
    /// Whence.
    pub connection: Connection,
    /// The body, unread.
    pub body: S,
}

async fn json<S, B, T>(body: S) -> Result<T, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
    T: DeserializeOwned,
{
    body::json(body, MAX_BODY_BYTES).await
}

/// `POST /agent/v1/claim`.
pub async fn claim<S, B>(app: App, request: AgentRequest<S>) -> Result<Json, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let claim: ClaimRequest = json(request.body).await?;
    let response: ClaimResponse = app.driver.claim(claim, request.connection.remote).await?;
    Ok(warp::reply::json(&response))
}

/// `POST /agent/v1/runs/{run}/batches`.
pub async fn batch<S, B>(app: App, run: RunId, request: AgentRequest<S>) -> Result<Json, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let arrived_us = app.driver.clock.steady_us();
    let session = app.agent_session(run, &request.headers).await?;
    let batch: Batch = json(request.body).await?;
    let acknowledgement: Acknowledgement =
        app.driver.ingest(session, batch, request.connection.remote).await?;
    app.driver.metrics.acknowledged(app.driver.clock.steady_us() - arrived_us);
    Ok(warp::reply::json(&acknowledgement))
}

/// `POST /agent/v1/runs/{run}/heartbeat`.
pub async fn heartbeat<S, B>(app: App, run: RunId, request: AgentRequest<S>) -> Result<Json, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let session = app.agent_session(run, &request.headers).await?;
    let heartbeat: Heartbeat = json(request.body).await?;
    let acknowledgement = app.driver.heartbeat(session, heartbeat, request.connection.remote).await?;
    Ok(warp::reply::json(&acknowledgement))
}

/// `POST /agent/v1/runs/{run}/crash`.
pub async fn crash<S, B>(app: App, run: RunId, request: AgentRequest<S>) -> Result<Json, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let session = app.agent_session(run, &request.headers).await?;
    let crash: AgentCrash = json(request.body).await?;
    Ok(warp::reply::json(&app.driver.crash(session, crash).await?))
}

/// `POST /agent/v1/runs/{run}/hold`.
pub async fn hold<S, B>(app: App, run: RunId, request: AgentRequest<S>) -> Result<Json, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let session = app.agent_session(run, &request.headers).await?;
    let report: HoldReport = json(request.body).await?;
    Ok(warp::reply::json(&app.driver.hold_report(session, report, request.connection.remote).await?))
}

/// `POST /agent/v1/runs/{run}/plan`.
pub async fn plan<S>(app: App, run: RunId, request: AgentRequest<S>) -> Result<Json, ApiError> {
    let session = app.agent_session(run, &request.headers).await?;
    let answer: PlanAnswer = app.driver.plan_of(session).await?;
    Ok(warp::reply::json(&answer))
}

/// `POST /agent/v1/runs/{run}/network-test`.
pub async fn network_test<S, B>(app: App, run: RunId, request: AgentRequest<S>) -> Result<Json, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let session = app.agent_session(run, &request.headers).await?;
    let asked: NetworkTestRequest = json(request.body).await?;
    app.driver.require_running(session.run).await?;
    let answer: NetworkTestAnswer = app.network_test.open(request.connection, &asked).await;
    Ok(warp::reply::json(&answer))
}

/// `PUT /agent/v1/runs/{run}/artifacts/{kind}/{name}`.
pub async fn artifact<S, B>(
    app: App,
    run: RunId,
    kind: String,
    name: String,
    request: AgentRequest<S>,
) -> Result<Json, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let session = app.agent_session(run, &request.headers).await?;
    let announced: Sha256Hex = request
        .headers
        .get(DIGEST_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            ApiError::new(
                ProblemKind::Malformed,
                "an artifact needs a header X-Content-SHA256 with 64 hex digits",
            )
        })?;
    body::check_announced_length(&request.headers, MAX_ARTIFACT_BYTES)?;
    let mut upload = app.driver.begin_upload(session, &kind, &name).await?;
    body::for_each_chunk(request.body, MAX_ARTIFACT_BYTES, &mut upload).await?;
    let receipt: ArtifactReceipt = app.driver.finish_upload(upload, announced).await?;
    Ok(warp::reply::json(&receipt))
}
