//! The only place that names warp: agent API, operator API, boot endpoints, and what they answer when something is wrong.
//! Refuses to decide: requests are read here, `run` and `store` act on them.

#![expect(clippy::disallowed_types, reason = "the door: warp is spoken here and nowhere else")]

mod admission;
pub mod agent;
pub mod body;
pub mod boot;
pub mod enrolment;
mod exchange;
pub mod files;
mod host_agent;
pub mod hosts;
mod housekeeping;
pub mod listener;
mod metrics;
mod models;
mod openapi;
pub mod operator;
mod operator_routes;
mod paging;
mod power;
pub mod problem;
mod profiles;
mod routes;
mod run_imports;
pub mod runs;
#[cfg(test)]
mod tests;
mod unread;
mod users;
mod version;
pub mod web;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, header};
use serde_json::json;
use tokio::sync::watch;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::{HostId, RunId, Sha256Hex};
use vetting_protocol::secret::Secret;
use vetting_protocol::users::Role;

pub use self::routes::{http_routes, https_routes};
use crate::accounts::Accounts;
use crate::config::{self, Network};
use crate::netboot::rate_limit::RateLimit;
use crate::netboot::server::NetbootStatus;
use crate::network_test::NetworkTest;
use crate::notify::Notifier;
use crate::readiness::Readiness;
use crate::run::claim::Session;
use crate::run::driver::Driver;
use crate::store::events::{self, EventValues};
use problem::{ApiError, ProblemKind};

/// What every handler can reach. Cheap to clone.
#[derive(Clone)]
pub struct App {
    parts: Arc<AppParts>,
    /// Who sent the request, where that is known.
    caller: Option<Caller>,
    /// The versions that the request is good for; absent: any.
    if_match: Option<Arc<str>>,
}

/// A token or a person that sent a request.
#[derive(Debug, Clone)]
struct Caller {
    name: Arc<str>,
    role: Role,
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
    /// Who may see the metrics without a token.
    pub metrics_allow: Vec<Network>,
    /// Whether the coordinator can do its work.
    pub readiness: Readiness,
    /// How often an address may ask to be taken in: see [`enrolment_limit`].
    pub enrolment_limit: Mutex<RateLimit<IpAddr>>,
    /// People.
    pub accounts: Accounts,
    /// The web page.
    pub web: web::Parts,
    /// Turns true when the coordinator is told to stop.
    pub stopped: watch::Receiver<bool>,
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
        Self { parts: Arc::new(parts), caller: None, if_match: None }
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

    /// Lets a valid token of any role pass: what follows is done in its name.
    pub async fn viewer(self, headers: &HeaderMap) -> Result<Self, ApiError> {
        match self.driver.token_of(bearer(headers)?.sha256()).await? {
            Some(token) => {
                let caller = Caller { name: token.name.into(), role: token.role };
                Ok(Self { caller: Some(caller), ..self })
            }
            None => Err(ApiError::new(
                ProblemKind::TokenUnknown,
                "the operator token is unknown, over or revoked; `token create` on the coordinator's box makes one",
            )),
        }
    }

    /// Lets a valid token pass that may change things, if the request does not ask for a version of what has none.
    pub async fn operator(self, headers: &HeaderMap) -> Result<Self, ApiError> {
        let app = self.viewer(headers).await?;
        app.require_operator()?;
        version::check_unnamed(headers)?;
        Ok(app)
    }

    /// Lets a valid token pass that may change things. What is changed has versions: `If-Match` is to be held against it.
    pub async fn editor(self, headers: &HeaderMap) -> Result<Self, ApiError> {
        let app = self.viewer(headers).await?;
        app.require_operator()?;
        Ok(Self { if_match: version::wanted(headers), ..app })
    }

    /// The same, for an edit that was made on the version with this tag.
    pub(crate) fn on_version(&self, tag: &str) -> Self {
        Self { if_match: Some(tag.into()), ..self.clone() }
    }

    /// Refuses everybody who may not change things.
    pub(crate) fn require_operator(&self) -> Result<(), ApiError> {
        match &self.caller {
            Some(Caller { role: Role::Operator, .. }) => Ok(()),
            Some(Caller { name, role: Role::Viewer }) => Err(ApiError::new(
                ProblemKind::RoleMissing,
                format!("{name} is a viewer: that takes the role operator"),
            )),
            None => Err(ApiError::new(ProblemKind::TokenMissing, "that takes the role operator")),
        }
    }

    /// The name that events give to who sent the request.
    pub(crate) fn caller_name(&self) -> &str {
        self.caller.as_ref().map_or("nobody", |caller| &caller.name)
    }

    /// A line of the event log about what the operator did, for the transaction that does it: `ansible made host node1`.
    pub(crate) fn did(&self, host: Option<HostId>, kind: &str, what: &str) -> EventValues {
        let by = self.caller_name();
        let line = events::of_box(EventLevel::Info, kind, format!("{by} {what}"), self.driver.clock.now_ms());
        EventValues { host_id: host, data: Some(json!({ "by": by })), ..line }
    }

    /// The same of an order to a run or to the coordinator; what it does to the run is an event of its own.
    pub(crate) fn order(&self, run: Option<RunId>, what: &str) -> EventValues {
        EventValues { run_id: run, ..self.did(None, "operator_order", what) }
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
