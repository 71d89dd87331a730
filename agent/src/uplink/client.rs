//! One request at a time to the coordinator, and what its answer means: done, try again, or never.

use std::io::ErrorKind;
use std::time::Duration;

use reqwest::{Method, StatusCode, header};
use serde::de::DeserializeOwned;
use vetting_protocol::agent_api::{
    Acknowledgement, AgentCrash, ArtifactReceipt, ClaimRequest, ClaimResponse, Heartbeat, HoldReport,
    PlanAnswer,
};
use vetting_protocol::enrolment::{EnrolAnswer, EnrolRequest};
use vetting_protocol::host_mode::{HostDirective, HostHeartbeat, HostInventory};
use vetting_protocol::ids::{RunId, Sha256Hex};
use vetting_protocol::network_test::{NetworkTestAnswer, NetworkTestRequest};
use vetting_protocol::problem::Problem;
use vetting_protocol::secret::Secret;
use vetting_protocol::stick::Proxy;

use super::tls;
use crate::boot_parameters::{CaPin, Endpoint};

/// Largest answer that is read, bytes; the largest there is carries a plan with its spec.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// An artifact may be large and the line slow.
const ARTIFACT_TIMEOUT: Duration = Duration::from_mins(10);

/// A request that was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// No answer: not listening, no route, cut off, too slow. Worth another try.
    #[error("coordinator {endpoint} does not answer ({why})")]
    Unreachable {
        /// Who.
        endpoint: Endpoint,
        /// The innermost cause.
        why: String,
    },
    /// It answered that it cannot now (5xx, 408, 429). Worth another try.
    #[error("coordinator {endpoint} cannot take it now ({status}: {detail})")]
    Unavailable {
        /// Who.
        endpoint: Endpoint,
        /// HTTP status.
        status: u16,
        /// In its words.
        detail: String,
    },
    /// Its certificate is not the one the boot script vouches for.
    #[error("coordinator {endpoint} is not trusted: its certificate does not fit {pin} ({why})")]
    Untrusted {
        /// Who.
        endpoint: Endpoint,
        /// The CA that was asked for.
        pin: CaPin,
        /// What TLS found.
        why: String,
    },
    /// It refuses for good (4xx).
    #[error("coordinator {endpoint} refuses ({status}): {detail}")]
    Refused {
        /// Who.
        endpoint: Endpoint,
        /// HTTP status.
        status: u16,
        /// In its words.
        detail: String,
    },
    /// Its answer is not what the protocol says.
    #[error("coordinator {endpoint} gave an answer that cannot be understood: {what}")]
    NotUnderstood {
        /// Who.
        endpoint: Endpoint,
        /// What was wrong.
        what: String,
    },
}

impl RequestError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unavailable { .. } => true,
            Self::Untrusted { .. } | Self::Refused { .. } | Self::NotUnderstood { .. } => false,
        }
    }
}

/// A client that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Http(#[from] reqwest::Error),
    /// Not possible.
    #[error(
        "the proxy {proxy} is to be spoken to over TLS, which is not possible: name it with http://; what goes through it is encrypted all the same"
    )]
    ProxyTls {
        /// Without its password.
        proxy: String,
    },
}

/// Talks to one coordinator about one run. Belongs to the runtime that first uses it.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
    pin: CaPin,
    base: String,
}

impl Client {
    /// Connects to nothing yet. Through `proxy`, if there is one, by CONNECT (RFC 9110): it sees where to, and nothing
    /// of what is said.
    pub fn new(endpoint: Endpoint, pin: CaPin, proxy: Option<&Proxy>) -> Result<Self, ClientError> {
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(pin.0)?)
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("vetting-agent/", env!("CARGO_PKG_VERSION")));
        let builder = match proxy {
            None => builder,
            // its certificate would have to fit the coordinator's pin
            Some(proxy) if proxy.tls => return Err(ClientError::ProxyTls { proxy: proxy.to_string() }),
            Some(proxy) => builder.proxy(reqwest::Proxy::https(proxy.url().expose())?),
        };
        let base = format!("https://{endpoint}/agent/v1");
        Ok(Self { http: builder.build()?, endpoint, pin, base })
    }

    /// Whom it talks to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `POST /agent/v1/claim`.
    pub async fn claim(&self, request: &ClaimRequest) -> Result<ClaimResponse, RequestError> {
        self.send(self.http.post(format!("{}/claim", self.base)).json(request)).await
    }

    /// `POST /agent/v1/enrol`.
    pub async fn enrol(&self, request: &EnrolRequest) -> Result<EnrolAnswer, RequestError> {
        self.send(self.http.post(format!("{}/enrol", self.base)).json(request)).await
    }

    /// `POST /agent/v1/host/heartbeat`.
    pub async fn host_heartbeat(
        &self,
        token: &Secret,
        heartbeat: &HostHeartbeat,
    ) -> Result<HostDirective, RequestError> {
        let url = format!("{}/host/heartbeat", self.base);
        self.send(self.http.post(url).bearer_auth(token.expose()).json(heartbeat)).await
    }

    /// `PUT /agent/v1/host/inventory`.
    pub async fn host_inventory(
        &self,
        token: &Secret,
        inventory: &HostInventory,
    ) -> Result<serde_json::Value, RequestError> {
        let url = format!("{}/host/inventory", self.base);
        self.send(self.http.put(url).bearer_auth(token.expose()).json(inventory)).await
    }

    /// `POST /agent/v1/runs/{run}/batches` with a body that is made already.
    pub async fn batch(
        &self,
        run: RunId,
        token: &Secret,
        body: bytes::Bytes,
    ) -> Result<Acknowledgement, RequestError> {
        let request = self.of_run(Method::POST, run, token, "batches");
        self.send(request.header(header::CONTENT_TYPE, "application/json").body(body)).await
    }

    /// `POST /agent/v1/runs/{run}/heartbeat`.
    pub async fn heartbeat(
        &self,
        run: RunId,
        token: &Secret,
        heartbeat: &Heartbeat,
    ) -> Result<Acknowledgement, RequestError> {
        self.send(self.of_run(Method::POST, run, token, "heartbeat").json(heartbeat)).await
    }

    /// `POST /agent/v1/runs/{run}/network-test`.
    pub async fn network_test(
        &self,
        run: RunId,
        token: &Secret,
        request: &NetworkTestRequest,
    ) -> Result<NetworkTestAnswer, RequestError> {
        self.send(self.of_run(Method::POST, run, token, "network-test").json(request)).await
    }

    /// `POST /agent/v1/runs/{run}/crash`.
    pub async fn crash(
        &self,
        run: RunId,
        token: &Secret,
        crash: &AgentCrash,
    ) -> Result<Acknowledgement, RequestError> {
        self.send(self.of_run(Method::POST, run, token, "crash").json(crash)).await
    }

    /// `POST /agent/v1/runs/{run}/hold`.
    pub async fn hold(
        &self,
        run: RunId,
        token: &Secret,
        report: &HoldReport,
    ) -> Result<Acknowledgement, RequestError> {
        self.send(self.of_run(Method::POST, run, token, "hold").json(report)).await
    }

    /// `POST /agent/v1/runs/{run}/plan`.
    pub async fn plan(&self, run: RunId, token: &Secret) -> Result<PlanAnswer, RequestError> {
        self.send(self.of_run(Method::POST, run, token, "plan")).await
    }

    /// `PUT /agent/v1/runs/{run}/artifacts/{kind}/{name}`. `kind` and `name` are words of this program.
    pub async fn artifact(
        &self,
        run: RunId,
        token: &Secret,
        path: &str,
        digest: Sha256Hex,
        body: bytes::Bytes,
    ) -> Result<ArtifactReceipt, RequestError> {
        let request = self
            .of_run(Method::PUT, run, token, &format!("artifacts/{path}"))
            .timeout(ARTIFACT_TIMEOUT)
            .header("X-Content-SHA256", digest.to_string());
        self.send(request.body(body)).await
    }

    fn of_run(&self, method: Method, run: RunId, token: &Secret, what: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}/runs/{run}/{what}", self.base)).bearer_auth(token.expose())
    }

    async fn send<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, RequestError> {
        let mut response = request.send().await.map_err(|error| self.no_answer(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.no_answer(&error))? {
            if body.len() + part.len() > MAX_ANSWER_BYTES {
                return Err(self.not_understood("it is too long".to_owned()));
            }
            body.extend_from_slice(&part);
        }
        if status.is_success() {
            // serde's message may quote the answer, which may hold the token: tell only the place
            return serde_json::from_slice(&body).map_err(|error| {
                let what = format!(
                    "{:?} error at line {}, column {}",
                    error.classify(),
                    error.line(),
                    error.column()
                );
                self.not_understood(what)
            });
        }
        Err(self.refusal(status, &body))
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> RequestError {
        let detail = serde_json::from_slice::<Problem>(body).map_or_else(
            |_| status.canonical_reason().unwrap_or("no reason given").to_owned(),
            |problem| problem.detail,
        );
        let endpoint = self.endpoint.clone();
        let later = status.is_server_error()
            || status == StatusCode::REQUEST_TIMEOUT
            || status == StatusCode::TOO_MANY_REQUESTS;
        if later {
            RequestError::Unavailable { endpoint, status: status.as_u16(), detail }
        } else {
            RequestError::Refused { endpoint, status: status.as_u16(), detail }
        }
    }

    fn not_understood(&self, what: String) -> RequestError {
        RequestError::NotUnderstood { endpoint: self.endpoint.clone(), what }
    }

    fn no_answer(&self, error: &reqwest::Error) -> RequestError {
        let endpoint = self.endpoint.clone();
        let mut cause: &(dyn std::error::Error + 'static) = error;
        loop {
            if let Some(rustls::Error::InvalidCertificate(why)) = tls_error(cause) {
                return RequestError::Untrusted { endpoint, pin: self.pin, why: why.to_string() };
            }
            match cause.source() {
                Some(inner) => cause = inner,
                None => break,
            }
        }
        let why = if error.is_timeout() { "no answer in time".to_owned() } else { words(cause) };
        RequestError::Unreachable { endpoint, why }
    }
}

/// The TLS error that this is, or that hides in an I/O error, whose own `source` would skip it.
fn tls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    error.downcast_ref::<rustls::Error>().or_else(|| {
        let hidden = error.downcast_ref::<std::io::Error>()?.get_ref()?;
        tls_error(hidden)
    })
}

/// An innermost cause as a person says it.
fn words(cause: &(dyn std::error::Error + 'static)) -> String {
    let known = cause.downcast_ref::<std::io::Error>().and_then(|error| match error.kind() {
        ErrorKind::ConnectionRefused => Some("connection refused"),
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => {
            Some("it cut the connection")
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Some("no route to it"),
        ErrorKind::TimedOut => Some("no answer in time"),
        _ => None,
    });
    known.map_or_else(|| cause.to_string(), str::to_owned)
}
