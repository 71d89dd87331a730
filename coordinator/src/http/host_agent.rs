//! The API of agents on installed systems, and of operators about them.

use bytes::Buf;
use futures_util::Stream;
use http::HeaderMap;
use serde::Serialize;
use serde_json::json;
use vetting_protocol::agent_api::MAX_BODY_BYTES;
use vetting_protocol::host_mode::{HostHeartbeat, HostInventory};
use vetting_protocol::ids::HostId;
use vetting_protocol::operator_api::HostAgentToken;
use warp::reply::Json;

use super::agent::AgentRequest;
use super::problem::{ApiError, ProblemKind};
use super::{App, bearer, body};

async fn host(app: &App, headers: &HeaderMap) -> Result<HostId, ApiError> {
    app.driver.host_of_agent(bearer(headers)?.sha256()).await?.ok_or_else(|| {
        ApiError::new(
            ProblemKind::TokenUnknown,
            "the host agent's token is unknown or was replaced; `host agent-token NAME` on the coordinator's box \
             makes one",
        )
    })
}

/// `POST /agent/v1/host/heartbeat`.
pub async fn heartbeat<S, B>(app: App, request: AgentRequest<S>) -> Result<Json, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let host = host(&app, &request.headers).await?;
    let heartbeat: HostHeartbeat = body::json(request.body, MAX_BODY_BYTES).await?;
    Ok(reply(&app.driver.host_heartbeat(host, heartbeat).await?))
}

/// `PUT /agent/v1/host/inventory`.
pub async fn inventory<S, B>(app: App, request: AgentRequest<S>) -> Result<Json, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let host = host(&app, &request.headers).await?;
    let told: HostInventory = body::json(request.body, MAX_BODY_BYTES).await?;
    app.driver.host_inventory(host, told).await?;
    Ok(reply(&json!({})))
}

/// `POST /api/v1/hosts/{name}/agent-token`.
pub async fn make_token(app: App, name: String) -> Result<Json, ApiError> {
    let line = app.did(None, "host_agent_token", &format!("made the token of the agent on host {name}"));
    let token = app.driver.make_host_agent(name.clone(), line).await?;
    Ok(reply(&HostAgentToken { host: name, token }))
}

/// `DELETE /api/v1/hosts/{name}/agent-token`.
pub async fn revoke_token(app: App, name: String) -> Result<Json, ApiError> {
    let what = format!("revoked the token of the agent on host {name}");
    let line = app.did(None, "host_agent_revoked", &what);
    let was = app.driver.revoke_host_agent(name.clone(), line).await?;
    Ok(reply(&json!({ "host": name, "revoked": was })))
}

fn reply(value: &impl Serialize) -> Json {
    warp::reply::json(value)
}
