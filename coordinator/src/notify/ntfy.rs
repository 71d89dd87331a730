//! ntfy: a message as JSON (docs.ntfy.sh/publish, "Publish as JSON"), so that any letter may stand in it.

use serde_json::json;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::run::RunResult;

use super::delivery::{DeliveryError, Means};
use super::message::Message;
use super::receiver::Ntfy;

/// The body of the request.
fn body(ntfy: &Ntfy, message: &Message) -> serde_json::Value {
    let usual = match message.level {
        EventLevel::Info => 3,
        EventLevel::Warning => 4,
        EventLevel::Error => 5,
    };
    let mut tags = ntfy.tags.clone();
    match message.run.as_ref().and_then(|run| run.result) {
        Some(RunResult::Pass) => tags.push("white_check_mark".to_owned()),
        Some(RunResult::Fail) => tags.push("x".to_owned()),
        None => {}
    }
    json!({
        "topic": ntfy.topic,
        "title": message.title,
        "message": message.text,
        "priority": ntfy.priority.unwrap_or(usual),
        "tags": tags,
    })
}

pub(super) async fn send(means: &Means, ntfy: &Ntfy, message: &Message) -> Result<(), DeliveryError> {
    let mut request = means.http.post(ntfy.server.clone()).json(&body(ntfy, message));
    if let Some(name) = &ntfy.token {
        request = request.bearer_auth(means.secrets.get(name)?.expose());
    }
    means.send(request).await
}
