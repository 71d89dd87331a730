//! The only place that names warp: agent API, operator API, boot endpoints, and what they answer when something is wrong.
//! Refuses to decide: requests are read here, `run` and `store` act on them.

#![expect(clippy::disallowed_types, reason = "the door: warp is spoken here and nowhere else")]

pub mod agent;
pub mod body;
pub mod boot;
pub mod enrolment;
mod exchange;
pub mod files;
mod host_agent;
mod housekeeping;
pub mod listener;
mod models;
pub mod operator;
mod power;
pub mod problem;
mod routes;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, header};
use serde_json::json;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::{HostId, RunId, Sha256Hex};
use vetting_protocol::secret::Secret;

pub use self::routes::{http_routes, https_routes};
use crate::config;
use crate::error_chain;
use crate::netboot::rate_limit::RateLimit;
use crate::netboot::server::NetbootStatus;
use crate::network_test::NetworkTest;
use crate::notify::Notifier;
use crate::run::claim::Session;
use crate::run::driver::Driver;
use crate::store::StoreError;
use crate::store::events::{self, EventValues};
use problem::{ApiError, ProblemKind};

/// What every handler can reach. Cheap to clone.
#[derive(Clone)]
pub struct App {
    parts: Arc<AppParts>,
    /// The name of the operator's token, where a request came with one.
    operator: Option<Arc<str>>,
}

/// The parts of an [`App`].
pub struct AppParts {
    /// Runs.
    pub driver: Driver,
    /// The authority agents are told to trust.
    pub ca_fingerprint: Sha256Hex,
    /// Folder with kernel and initramfs.
    pub image_dir: PathBuf,
    /// After our own kernel parameters.
    pub extra_kernel_args: String,
    /// `HOST` or `HOST:PORT` that agents are told to call, where the config names one.
    pub public_host: Option<String>,
    /// Port of the agent API.
    pub https_port: u16,
    /// Our own netboot server.
    pub netboot: NetbootStatus,
    /// Servers that machines under test exchange data with.
    pub network_test: Arc<NetworkTest>,
    /// Who is told what happened.
    pub notifier: Notifier,
    /// How often an address may ask to be taken in: see [`enrolment_limit`].
    pub enrolment_limit: Mutex<RateLimit<IpAddr>>,
}

/// Questions of one address in a minute: twenty machines behind one address translation ask twelve times each.
const ENROLMENTS_PER_MINUTE: u32 = 240;

/// The limit that every coordinator begins with.
pub fn enrolment_limit() -> Mutex<RateLimit<IpAddr>> {
    Mutex::new(RateLimit::new(ENROLMENTS_PER_MINUTE, 60_000))
}

impl std::ops::Deref for App {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.parts
    }
}

impl App {
    /// Of its parts.
    pub fn new(parts: AppParts) -> Self {
        Self { parts: Arc::new(parts), operator: None }
    }

    /// `HOST:PORT` of the agent API for a machine that reached the boot endpoints as `host`.
    pub fn public_endpoint(&self, host: &str) -> String {
        config::with_port(self.public_host.as_deref().unwrap_or(host), self.https_port)
    }

    /// Whether a machine at this address may ask to be taken in now.
    pub fn may_enrol_now(&self, address: IpAddr) -> bool {
        let now_ms = self.driver.clock.now_ms();
        self.enrolment_limit.lock().unwrap_or_else(PoisonError::into_inner).allows(address, now_ms)
    }

    /// The session that the request's token opens, if it is one of `run`.
    pub async fn agent_session(&self, run: RunId, headers: &HeaderMap) -> Result<Session, ApiError> {
        Ok(self.driver.session(run, bearer(headers)?.sha256()).await?)
    }

    /// Lets a valid operator token pass: what follows is done in its name.
    pub async fn operator(self, headers: &HeaderMap) -> Result<Self, ApiError> {
        match self.driver.operator_of(bearer(headers)?.sha256()).await? {
            Some(name) => Ok(Self { operator: Some(name.into()), ..self }),
            None => Err(ApiError::new(
                ProblemKind::TokenUnknown,
                "the operator token is unknown or revoked; `token create` on the coordinator's box makes one",
            )),
        }
    }

    /// A line of the event log about what the operator did, for the transaction that does it: `ansible made host node1`.
    pub(crate) fn did(&self, host: Option<HostId>, kind: &str, what: &str) -> EventValues {
        let by = self.operator.as_deref().unwrap_or("nobody");
        let line = events::of_box(EventLevel::Info, kind, format!("{by} {what}"), self.driver.clock.now_ms());
        EventValues { host_id: host, data: Some(json!({ "by": by })), ..line }
    }

    /// Notes an order to a run or to the coordinator that was carried out; what it did to the run is an event of its
    /// own. Not to be noted does not undo it.
    pub(crate) async fn note_order(&self, run: Option<RunId>, what: &str) {
        let line = EventValues { run_id: run, ..self.did(None, "operator_order", what) };
        let noted: Result<_, StoreError> =
            self.driver.store.write(move |connection| events::insert(connection, &line)).await;
        if let Err(error) = noted {
            tracing::error!(error = %error_chain(&error), "an operator's order is not in the event log");
        }
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750).
fn bearer(headers: &HeaderMap) -> Result<Secret, ApiError> {
    let missing = || ApiError::new(ProblemKind::TokenMissing, "send `Authorization: Bearer` and a token");
    let value = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(missing());
    }
    Ok(Secret::new(token.trim().to_owned()))
}
