//! Pages that follow what happens (server-sent events): after each change of the database the parts of the page are made
//! anew, and those that differ are sent. A page that cannot be followed is as readable as one that can.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher as _};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use warp::reply::{Reply, Response};

use super::layout::Region;
use super::visitor::Visitor;
use super::{Form, charts, dashboard, no_page, run, run_id};
use crate::http::problem::{ApiError, ProblemKind};

/// Least time between two looks at the database for one page.
const PAUSE: Duration = Duration::from_secs(1);
/// A sign of life, so that proxies keep the connection and a browser that is gone is noticed.
const QUIET: Duration = Duration::from_secs(15);

/// The path that the live parts of a page come from.
pub(super) fn path(segments: &[&str]) -> String {
    format!("/live/{}", segments.join("/"))
}

#[derive(Debug, Clone, Copy)]
enum Subject {
    Dashboard(Option<dashboard::Group>),
    Run(vetting_protocol::ids::RunId),
}

impl Subject {
    /// Elements whose items come and go: the page is told of them even when they are empty.
    fn lists(self) -> &'static [&'static str] {
        match self {
            Self::Dashboard(_) => &[dashboard::TILES],
            Self::Run(_) => &[],
        }
    }
}

struct Following {
    visitor: Visitor,
    subject: Subject,
    commits: watch::Receiver<u64>,
    stopped: watch::Receiver<bool>,
    sent: HashMap<String, u64>,
    first: bool,
    _permit: OwnedSemaphorePermit,
}

/// `GET /live/…`.
pub(super) fn stream(visitor: Visitor, segments: &[&str], query: &Form) -> Result<Response, ApiError> {
    let subject = match segments {
        ["dashboard"] => Subject::Dashboard(dashboard::Group::named(query.get("show"))),
        ["runs", run] => Subject::Run(run_id(run)?),
        _ => return Err(no_page()),
    };
    let permit = std::sync::Arc::clone(&visitor.app.web.streams).try_acquire_owned().map_err(|_| {
        ApiError::new(ProblemKind::TooMany, "too many pages are followed; this one can be loaded anew")
    })?;
    let mut following = Following {
        commits: visitor.app.driver.store.commits(),
        stopped: visitor.app.stopped.clone(),
        visitor,
        subject,
        sent: HashMap::new(),
        first: true,
        _permit: permit,
    };
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = following.next() => next,
                () = sender.closed() => None,
            };
            let Some(text) = next else { break };
            if sender.send(text).await.is_err() {
                break;
            }
        }
    });
    let events = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let text: String = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), receiver))
    });
    let mut response = warp::reply::stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // nginx would keep the events back
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

impl Following {
    /// What to send next; nothing more once the session or the coordinator ends.
    async fn next(&mut self) -> Option<String> {
        loop {
            if !std::mem::take(&mut self.first) {
                let changed = tokio::select! {
                    changed = self.commits.changed() => changed.is_ok(),
                    () = tokio::time::sleep(QUIET) => false,
                    _ = self.stopped.wait_for(|stopped| *stopped) => return None,
                };
                if !self.visitor.is_still_in().await {
                    return None;
                }
                if !changed {
                    return Some(": still here\n\n".to_owned());
                }
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    _ = self.stopped.wait_for(|stopped| *stopped) => return None,
                }
            }
            self.commits.mark_unchanged();
            let regions = self.regions().await.ok()?;
            let text = self.changed(&regions);
            if !text.is_empty() {
                return Some(text);
            }
        }
    }

    async fn regions(&self) -> Result<Vec<Region>, ApiError> {
        match self.subject {
            Subject::Dashboard(group) => dashboard::regions(&self.visitor, group).await,
            Subject::Run(run) => run::regions(&self.visitor, run, charts::LIVE_PATIENCE).await,
        }
    }

    fn changed(&mut self, regions: &[Region]) -> String {
        let mut text = String::new();
        for list in self.subject.lists() {
            let items = regions.iter().filter(|region| region.list == Some(*list));
            let ids: Vec<&str> = items.map(|region| region.id.as_str()).collect();
            self.send(&mut text, list, &ids, || json!({"list": list, "ids": ids}));
        }
        // what went and comes again is new to the page
        let there: HashSet<&str> = regions.iter().map(|region| region.id.as_str()).collect();
        let lists = self.subject.lists();
        self.sent.retain(|id, _| there.contains(id.as_str()) || lists.contains(&id.as_str()));
        for Region { id, html, .. } in regions {
            self.send(&mut text, id, html, || json!({"id": id, "html": html}));
        }
        text
    }

    /// Adds a message, if what it tells of `id` was not told last.
    fn send(
        &mut self,
        text: &mut String,
        id: &str,
        what: &(impl Hash + ?Sized),
        message: impl FnOnce() -> serde_json::Value,
    ) {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let hash = hasher.finish();
        if self.sent.insert(id.to_owned(), hash) != Some(hash) {
            // JSON has no line breaks of its own
            text.push_str("data: ");
            text.push_str(&message().to_string());
            text.push_str("\n\n");
        }
    }
}
