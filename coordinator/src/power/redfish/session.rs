//! Requests to a Redfish service (DSP0266): basic authentication, ETags, tasks, and errors in the service's own words.

use std::time::Duration;

use reqwest::header::{ETAG, HeaderMap, IF_MATCH, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::Value;
use vetting_protocol::power::Trust;
use vetting_protocol::secret::Secret;

use crate::error_chain;
use crate::power::{ControlError, plain_words, trust};

/// How long a task may take, all of it.
const TASK_PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks at a task that does not say when to look again.
const TASK_INTERVAL: Duration = Duration::from_secs(1);
/// Longest answer that is read, bytes; a system of a large server has about 50 kB.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// A service, and who we are to it.
pub(super) struct Session {
    http: Client,
    base: Url,
    host: String,
    user: String,
    password: Secret,
}

/// A good answer.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// JSON; null where there was none.
    pub(super) body: Value,
}

impl Answer {
    fn header(&self, name: reqwest::header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Session {
    pub(super) fn new(
        (host, port): (String, u16),
        (user, password): (String, Secret),
        trust: &Trust,
    ) -> Result<Self, ControlError> {
        let failed = |problem: String| ControlError::Bmc { host: host.clone(), problem };
        let http = trust::client(trust).map_err(|error| failed(error_chain(&error)))?;
        let base = format!("https://{}", crate::config::with_port(&host, port));
        let base = Url::parse(&base).map_err(|error| failed(error.to_string()))?;
        Ok(Self { http, base, host, user, password })
    }

    /// That it did not do what it was told.
    pub(super) fn failed(&self, problem: String) -> ControlError {
        ControlError::Bmc { host: self.host.clone(), problem }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, ControlError> {
        self.good(self.send(Method::GET, path, None, None).await?)
    }

    /// Posts, and follows the task if it becomes one.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<(), ControlError> {
        let answer = self.good(self.send(Method::POST, path, Some(body), None).await?)?;
        self.finish(answer).await
    }

    /// Changes a resource as it is now: its ETag goes along where it has one (DSP0266, 7.11).
    pub(super) async fn patch(&self, path: &str, body: &Value) -> Result<(), ControlError> {
        let mut answer = self.patch_once(path, body, str::to_owned).await?;
        if answer.status == StatusCode::PRECONDITION_FAILED {
            // it changed meanwhile, or it is a service that gives a weak tag and takes a strong one
            answer = self.patch_once(path, body, |tag| tag.trim_start_matches("W/").to_owned()).await?;
        }
        let answer = self.good(answer)?;
        self.finish(answer).await
    }

    async fn patch_once(
        &self,
        path: &str,
        body: &Value,
        form: fn(&str) -> String,
    ) -> Result<Answer, ControlError> {
        let now = self.get(path).await?;
        let tag = now.header(ETAG).or_else(|| now.body["@odata.etag"].as_str()).map(form);
        self.send(Method::PATCH, path, Some(body), tag.as_deref()).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Answer, ControlError> {
        let mut request = self
            .http
            .request(method, self.url(path)?)
            .basic_auth(&self.user, Some(self.password.expose()))
            .header("OData-Version", "4.0");
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(tag) = if_match {
            request = request.header(IF_MATCH, tag);
        }
        let lost = |error: reqwest::Error| self.failed(error_chain(&error.without_url()));
        let mut response = request.send().await.map_err(lost)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(lost)? {
            if bytes.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err(self.failed(format!("its answer is longer than {MAX_ANSWER_BYTES} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
        // an error may come as a page, and a 204 without anything
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Answer { status, headers, body })
    }

    /// An address that the service gave, which must be on this service: the password goes nowhere else.
    fn url(&self, path: &str) -> Result<Url, ControlError> {
        let url = self.base.join(path).ok().filter(|url| url.origin() == self.base.origin());
        url.ok_or_else(|| {
            self.failed(format!("it names an address that is not its own: {}", plain_words(path)))
        })
    }

    fn good(&self, answer: Answer) -> Result<Answer, ControlError> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let said = messages(&answer.body["error"]);
        let problem = match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "it does not accept the user or the password".to_owned()
            }
            status if said.is_empty() => format!("it answers HTTP {status}"),
            status => format!("{said} (HTTP {})", status.as_u16()),
        };
        Err(self.failed(problem))
    }

    /// Waits for the task that an answer tells of; nothing to do for one that tells of none.
    async fn finish(&self, answer: Answer) -> Result<(), ControlError> {
        if answer.status != StatusCode::ACCEPTED {
            return Ok(());
        }
        let at = answer.header(LOCATION).or_else(|| answer.body["@odata.id"].as_str()).map(str::to_owned);
        let at = at.ok_or_else(|| self.failed("it began a task and does not say where it is".to_owned()))?;
        let watched = tokio::time::timeout(TASK_PATIENCE, self.watch_task(&at, pause(&answer))).await;
        let late = || self.failed(format!("its task did not end within {} s", TASK_PATIENCE.as_secs()));
        watched.map_err(|_| late())?
    }

    async fn watch_task(&self, at: &str, mut wait: Duration) -> Result<(), ControlError> {
        loop {
            tokio::time::sleep(wait).await;
            let answer = self.get(at).await?;
            match task_state(&answer) {
                Task::Goes => wait = pause(&answer),
                Task::Done => return Ok(()),
                Task::Failed(why) => return Err(self.failed(why)),
            }
        }
    }
}

/// When to look again: as the service says, within reason.
fn pause(answer: &Answer) -> Duration {
    let said = answer.header(RETRY_AFTER).and_then(|text| text.trim().parse().ok());
    said.map_or(TASK_INTERVAL, |seconds: u64| {
        Duration::from_secs(seconds.min(30)).max(Duration::from_millis(100))
    })
}

/// How a task stands.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Goes,
    Done,
    Failed(String),
}

/// Reads a task, or its monitor, which answers with the result itself once that is there (DSP0266, 12.2).
fn task_state(answer: &Answer) -> Task {
    let Some(state) = answer.body["TaskState"].as_str() else {
        return if answer.status == StatusCode::ACCEPTED { Task::Goes } else { Task::Done };
    };
    match state {
        "Completed" => match answer.body["TaskStatus"].as_str() {
            None | Some("OK" | "Warning") => Task::Done,
            Some(_) => failed_task(&answer.body, state),
        },
        "New" | "Pending" | "Running" | "Service" | "Starting" | "Stopping" | "Suspended" | "Interrupted"
        | "Cancelling" => Task::Goes,
        _ => failed_task(&answer.body, state),
    }
}

fn failed_task(task: &Value, state: &str) -> Task {
    let said = of_list(&task["Messages"]);
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    Task::Failed(format!("its task ended as {}{said}", plain_words(state)))
}

/// What an error object says: its extended messages, or else its own.
fn messages(error: &Value) -> String {
    let extended = of_list(&error["@Message.ExtendedInfo"]);
    if extended.is_empty() { plain_words(error["message"].as_str().unwrap_or_default()) } else { extended }
}

fn of_list(list: &Value) -> String {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let words: Vec<&str> = list
        .iter()
        .flat_map(|entry| [entry["Message"].as_str(), entry["Resolution"].as_str()])
        .flatten()
        .filter(|text| !matches!(text.trim(), "" | "None" | "None."))
        .collect();
    plain_words(&words.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, body: Value) -> Answer {
        Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body }
    }

    #[test]
    fn a_task_is_done_only_when_it_says_so() {
        for (status, body, expected) in [
            (202, json!({"TaskState": "Running"}), Task::Goes),
            (202, Value::Null, Task::Goes),
            (204, Value::Null, Task::Done),
            (200, json!({"TaskState": "Completed", "TaskStatus": "OK"}), Task::Done),
            (200, json!({"TaskState": "Completed"}), Task::Done),
        ] {
            assert_eq!(task_state(&answer(status, body.clone())), expected, "{status} {body}");
        }
        for body in [
            json!({"TaskState": "Exception", "Messages": [{"Message": "No power supply."}]}),
            json!({"TaskState": "Completed", "TaskStatus": "Critical", "Messages": [{"Message": "No power supply."}]}),
        ] {
            let Task::Failed(why) = task_state(&answer(200, body)) else { panic!("it failed") };
            assert!(why.contains("No power supply."), "{why}");
        }
        assert!(matches!(task_state(&answer(200, json!({"TaskState": "Danced"}))), Task::Failed(_)));
    }

    #[test]
    fn extended_messages_are_told_before_the_general_one() {
        let error = json!({"message": "See ExtendedInfo.", "@Message.ExtendedInfo": [
            {"Message": "The reset type is not\u{7} supported.", "Resolution": "Use another."},
            {"MessageId": "Base.1.0.GeneralError"},
        ]});
        assert_eq!(messages(&error), "The reset type is not supported. Use another.");
        assert_eq!(messages(&json!({"message": "No."})), "No.");
        assert_eq!(messages(&Value::Null), "");
    }
}
