//! The operator API's part about power: how a machine's BMC is reached, and what is done with its power.

use bytes::Buf;
use futures_util::Stream;
use http::StatusCode;
use vetting_protocol::power::{BmcSettings, PowerAction};
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
    app.driver.set_bmc(name.clone(), Some(settings)).await?;
    app.note_order(None, &format!("told how the BMC of host {name} is reached")).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `DELETE hosts/{name}/bmc`.
pub async fn remove_bmc(app: App, name: String) -> Result<Response, ApiError> {
    app.driver.set_bmc(name.clone(), None).await?;
    app.note_order(None, &format!("took the BMC of host {name} away")).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST hosts/{name}/power/{action}`.
pub async fn switch(app: App, name: String, action: String) -> Result<Response, ApiError> {
    let action: PowerAction = action.parse().map_err(|error| {
        ApiError::new(ProblemKind::Invalid, format!("{error}; say on, off, cycle or soft"))
    })?;
    app.driver.switch_power(name.clone(), action).await?;
    app.note_order(None, &format!("switched the power of host {name}: {action}")).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}
