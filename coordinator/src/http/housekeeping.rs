//! The operator API's part about the janitor and notifications.

use bytes::Buf;
use futures_util::Stream;
use http::StatusCode;
use serde::Deserialize;
use vetting_protocol::housekeeping::{NotificationState, RetriedView, SweepOrder};
use warp::reply::{Reply, Response};

use super::operator::{MAX_BODY_BYTES, ok};
use super::paging;
use super::problem::{ApiError, ProblemKind};
use super::{App, body};
use crate::error_chain;
use crate::store::outbox::Place;

/// Body of `POST notifications/retry`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retry {
    /// Only those of this receiver.
    receiver: Option<String>,
}

/// `POST janitor`.
pub async fn sweep<S, B>(app: App, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let order: SweepOrder = body::json(body, MAX_BODY_BYTES).await?;
    let what = if order.orphans {
        "had the janitor sweep, and remove files that no row knows"
    } else {
        "had the janitor sweep"
    };
    let line = app.order(None, what);
    Ok(ok(&app.driver.sweep(order, Some(line).filter(|_| !order.dry_run)).await?))
}

/// Query of `GET notifications`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotificationsQuery {
    /// Only those that were delivered.
    #[serde(default)]
    delivered: bool,
    /// Only older ones than this.
    before: Option<i64>,
    /// So many.
    limit: Option<u32>,
}

/// `GET notifications`.
pub async fn notifications(app: App, query: NotificationsQuery) -> Result<Response, ApiError> {
    let limit = paging::limit(query.limit);
    let from = Place { delivered: query.delivered, before: query.before.unwrap_or(i64::MAX) };
    let mut view = app.notifier.view(from, limit + 1).await?;
    let next = paging::cut(&mut view.notifications, limit, |last| {
        let delivered = last.state == NotificationState::Delivered;
        vec![("delivered", delivered.to_string()), ("before", last.id.to_string())]
    });
    Ok(paging::linked("notifications", &view, limit, next))
}

/// `POST notifications/retry`.
pub async fn retry<S, B>(app: App, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let Retry { receiver } = body::json(body, MAX_BODY_BYTES).await?;
    let what = match &receiver {
        Some(name) => format!("had messages to {name} sent again"),
        None => "had messages to all receivers sent again".to_owned(),
    };
    Ok(ok(&RetriedView { retried: app.notifier.retry(receiver, app.order(None, &what)).await? }))
}

/// `POST notifications/{receiver}/test`: answers once the receiver took it or did not.
pub async fn test(app: App, receiver: String) -> Result<Response, ApiError> {
    let line = app.order(None, &format!("had a test message sent to {receiver}"));
    match app.notifier.test(&receiver, line).await? {
        Some(Ok(())) => Ok(StatusCode::NO_CONTENT.into_response()),
        Some(Err(error)) => Err(ApiError::new(ProblemKind::Receiver, error_chain(&error))),
        None => {
            let names = app.notifier.names();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(ApiError::not_found(format!(
                "the configuration has no receiver {receiver}; `notifications.receivers` has {known}"
            )))
        }
    }
}
