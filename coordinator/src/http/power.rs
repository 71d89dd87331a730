//! The operator API's part about power: how a machine's BMC is reached, and what is done with its power.

use bytes::Buf;
use futures_util::Stream;
use http::StatusCode;
use vetting_protocol::power::{BmcSettings, MediaOrder, PduSettings, PowerAction};
use warp::reply::{Reply, Response};

use super::operator::{MAX_BODY_BYTES, ok};
use super::problem::{ApiError, ProblemKind};
use super::{App, body};

/// `GET hosts/{name}/power`.
pub async fn show(app: App, name: String) -> Result<Response, ApiError> {
    Ok(ok(&app.driver.power_of(name).await?))
}

/// `PUT hosts/{name}/bmc`.
pub async fn set_bmc<S, B>(app: App, name: String, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let settings: BmcSettings = body::json(body, MAX_BODY_BYTES).await?;
    let line = app.order(None, &format!("told how the BMC of host {name} is reached"));
    app.driver.set_bmc(name, Some(settings), line).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `DELETE hosts/{name}/bmc`.
pub async fn remove_bmc(app: App, name: String) -> Result<Response, ApiError> {
    let line = app.order(None, &format!("took the BMC of host {name} away"));
    app.driver.set_bmc(name, None, line).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST hosts/{name}/power/{action}`.
pub async fn switch(app: App, name: String, action: String) -> Result<Response, ApiError> {
    let known = known(&action)?;
    let line = app.did(None, "power", &format!("switched the power of host {name}: {known}"));
    app.driver.switch_power(name, known, line).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn known(action: &str) -> Result<PowerAction, ApiError> {
    action
        .parse()
        .map_err(|error| ApiError::new(ProblemKind::Invalid, format!("{error}; say on, off, cycle or soft")))
}

/// `GET hosts/{name}/pdu`.
pub async fn show_pdu(app: App, name: String) -> Result<Response, ApiError> {
    Ok(ok(&app.driver.pdu_of(name).await?))
}

/// `PUT hosts/{name}/pdu`.
pub async fn set_pdu<S, B>(app: App, name: String, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let settings: PduSettings = body::json(body, MAX_BODY_BYTES).await?;
    let line = app.order(None, &format!("set the PDU outlet of host {name}"));
    app.driver.set_pdu(name, Some(settings), line).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `DELETE hosts/{name}/pdu`.
pub async fn remove_pdu(app: App, name: String) -> Result<Response, ApiError> {
    let line = app.order(None, &format!("removed the PDU outlet of host {name}"));
    app.driver.set_pdu(name, None, line).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST hosts/{name}/pdu/{action}`.
pub async fn switch_outlet(app: App, name: String, action: String) -> Result<Response, ApiError> {
    let known = known(&action)?;
    let line = app.did(None, "power", &format!("switched the PDU outlet of host {name}: {known}"));
    app.driver.switch_outlet(name, known, line).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `PUT hosts/{name}/media`.
pub async fn insert_media<S, B>(app: App, name: String, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let order: MediaOrder = body::json(body, MAX_BODY_BYTES).await?;
    let what = format!("put {} into the virtual drive of host {name}", order.url);
    let line = app.did(None, "media", &what);
    app.driver.set_media(name, Some(order), line).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `DELETE hosts/{name}/media`.
pub async fn eject_media(app: App, name: String) -> Result<Response, ApiError> {
    let line = app.did(None, "media", &format!("emptied the virtual drive of host {name}"));
    app.driver.set_media(name, None, line).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
