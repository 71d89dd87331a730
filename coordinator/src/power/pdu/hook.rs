//! Outlets by what the coordinator's own configuration describes: a program, or requests to a device. Hosts only name a
//! hook and an outlet; nothing of what is run or called comes from the database or the network.

#![expect(clippy::disallowed_methods, reason = "the door to the operator's own programs")]

use std::process::Stdio;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Client, Method, Url};
use tokio::process::Command;
use vetting_protocol::power::PowerState;
use vetting_protocol::secret::Secret;

use super::Outlet;
use crate::config::{CommandHookConfig, HookRequest, HttpHookConfig};
use crate::error_chain;
use crate::power::secrets::PowerSecrets;
use crate::power::{ControlError, plain_words, trust};

const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer of a device that is looked at, bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

fn failed(name: &str, problem: String) -> ControlError {
    ControlError::Hook { name: name.to_owned(), problem }
}

/// A program that is given `on`, `off` or `status`.
pub(super) struct CommandHook {
    name: String,
    command: CommandHookConfig,
    outlet: String,
    secret: Option<Secret>,
}

impl CommandHook {
    pub(super) fn new(
        name: String,
        command: CommandHookConfig,
        outlet: String,
        secrets: &PowerSecrets,
    ) -> Result<Self, ControlError> {
        let secret = command.secret.as_deref().map(|secret| secrets.get(secret)).transpose()?;
        Ok(Self { name, command, outlet, secret })
    }

    async fn run(&self, action: &str) -> Result<String, ControlError> {
        let words: Vec<String> = self
            .command
            .command
            .iter()
            .map(|word| word.replace("{action}", action).replace("{outlet}", &self.outlet))
            .collect();
        let (program, rest) =
            words.split_first().ok_or_else(|| failed(&self.name, "it names no program".to_owned()))?;
        let mut command = Command::new(program);
        // the coordinator's environment may hold the passwords of others
        command
            .args(rest)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        if let Some(secret) = &self.secret {
            command.env("VETTING_SECRET", secret.expose());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let ended = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = ended
            .map_err(|_| {
                failed(&self.name, format!("`{program}` did not end within {} s", PATIENCE.as_secs()))
            })?
            .map_err(|source| failed(&self.name, format!("`{program}` cannot be started: {source}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = plain_words(String::from_utf8_lossy(&output.stderr).trim());
        Err(failed(&self.name, format!("`{program}` ended with {}: {said}", output.status)))
    }
}

impl Outlet for CommandHook {
    fn set(&self, state: PowerState) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async move { self.run(state.as_str()).await.map(drop) })
    }

    fn get(&self) -> BoxFuture<'_, Result<PowerState, ControlError>> {
        Box::pin(async move {
            let text = self.run("status").await?;
            text.trim().parse().map_err(|_| {
                failed(
                    &self.name,
                    format!("it prints `{}` for status, neither on nor off", plain_words(text.trim())),
                )
            })
        })
    }
}

/// A device that is sent requests.
pub(super) struct HttpHook {
    name: String,
    hook: HttpHookConfig,
    outlet: String,
    http: Client,
    secret: Option<Secret>,
}

impl HttpHook {
    pub(super) fn new(
        name: String,
        hook: &HttpHookConfig,
        outlet: String,
        secrets: &PowerSecrets,
    ) -> Result<Self, ControlError> {
        let secret = hook.secret.as_deref().map(|secret| secrets.get(secret)).transpose()?;
        let http = trust::client(&hook.trust()).map_err(|error| failed(&name, error_chain(&error)))?;
        Ok(Self { name, hook: hook.clone(), outlet, http, secret })
    }

    async fn send(&self, what: &HookRequest) -> Result<String, ControlError> {
        let lost = |error: reqwest::Error| failed(&self.name, error_chain(&error.without_url()));
        let url = Url::parse(&what.url.replace("{outlet}", &self.outlet))
            .map_err(|error| failed(&self.name, format!("its address cannot be used: {error}")))?;
        let method = Method::from_bytes(what.method.as_str().as_bytes()).unwrap_or(Method::GET);
        let mut request = self.http.request(method, url);
        request = match (&self.hook.user, &self.secret) {
            (Some(user), Some(secret)) => request.basic_auth(user, Some(secret.expose())),
            (None, Some(secret)) => request.bearer_auth(secret.expose()),
            (_, None) => request,
        };
        if let Some(body) = &what.body {
            request = request
                .header("content-type", "application/json")
                .body(body.replace("{outlet}", &self.outlet));
        }
        let mut answer = request.send().await.map_err(lost)?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(lost)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MAX_ANSWER_BYTES {
                return Err(failed(
                    &self.name,
                    format!("the answer is longer than {MAX_ANSWER_BYTES} bytes"),
                ));
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        Err(failed(&self.name, format!("the device answers HTTP {status}: {}", plain_words(text.trim()))))
    }
}

impl Outlet for HttpHook {
    fn set(&self, state: PowerState) -> BoxFuture<'_, Result<(), ControlError>> {
        let what = match state {
            PowerState::On => &self.hook.on,
            PowerState::Off => &self.hook.off,
        };
        Box::pin(async move { self.send(what).await.map(drop) })
    }

    fn get(&self) -> BoxFuture<'_, Result<PowerState, ControlError>> {
        Box::pin(async move {
            let asked = &self.hook.status;
            let text = self.send(&asked.request()).await?;
            match (text.contains(&asked.on), text.contains(&asked.off)) {
                (true, false) => Ok(PowerState::On),
                (false, true) => Ok(PowerState::Off),
                (true, true) | (false, false) => Err(failed(
                    &self.name,
                    format!(
                        "the answer has not one of `{}` and `{}` in it: {}",
                        asked.on,
                        asked.off,
                        plain_words(text.trim())
                    ),
                )),
            }
        })
    }
}
