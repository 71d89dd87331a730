//! What those ask who watch the coordinator itself: `/readyz` and `/metrics`.

use http::{HeaderMap, HeaderValue, header};
use warp::reply::{Reply, Response};

use super::App;
use super::listener::Connection;
use super::problem::{ApiError, ProblemKind};
use crate::metrics::gauges::Gauges;
use crate::metrics::{CONTENT_TYPE, Listener};

/// `GET /readyz`.
pub async fn ready(app: App) -> Result<Response, ApiError> {
    let obstacles = app.readiness.obstacles().await;
    if obstacles.is_empty() {
        Ok("ready\n".into_response())
    } else {
        Err(ApiError::new(ProblemKind::NotReady, obstacles.join("; ")))
    }
}

/// `GET /metrics`: for the networks of `metrics.allow`, and over TLS for an operator's token.
pub async fn metrics(
    app: App,
    listener: Listener,
    connection: Connection,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let allowed = app.metrics_allow.iter().any(|network| network.contains(connection.remote.ip()));
    let app = match listener {
        _ if allowed => app,
        Listener::Https => app.viewer(&headers).await?,
        // a token that came this way would be known to all who listen
        Listener::Http => {
            let detail =
                "only the networks of `metrics.allow` are told over plain HTTP; ask over HTTPS with a token";
            return Err(ApiError::new(ProblemKind::AddressRefused, detail));
        }
    };
    let gauges = Gauges::look(&app.driver).await?;
    let text = app.driver.metrics.text(&gauges).map_err(|error| ApiError::internal(&error))?;
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    Ok(response)
}
