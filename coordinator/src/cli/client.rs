//! The operator API as a client sees it: one connection, one authority, one token.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Method, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vetting_protocol::agent_api::TLS_SERVER_NAME;
use vetting_protocol::problem::Problem;
use vetting_protocol::secret::Secret;

use crate::config::Config;

/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// Environment variable that may hold the token.
const TOKEN_VARIABLE: &str = "VETTING_TOKEN";

/// A request that got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No coordinator has said where it listens.
    #[error("no coordinator runs with this configuration ({} is not there); start one with `vetting-coordinator serve`", path.display())]
    NotRunning {
        /// Where it would have said so.
        path: PathBuf,
    },
    /// A file that is needed for the connection.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The URL.
    #[error("`{url}` is not the URL of a coordinator; it should be like https://192.0.2.10:8443")]
    Url {
        /// As given.
        url: String,
    },
    /// Nothing to know the coordinator by.
    #[error(
        "nothing tells the coordinator at {url} from another: copy its `<state_dir>/tls/ca.pem` here and name it with \
         --ca, VETTING_CA, or `ca` in ~/.config/vetting/client.yaml"
    )]
    NoAuthority {
        /// As given.
        url: String,
    },
    /// No answer.
    #[error("the coordinator at {address} does not answer; is `vetting-coordinator serve` running?")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// Why.
        source: reqwest::Error,
    },
    /// An answer that says no.
    #[error("{}: {}", problem.title, problem.detail)]
    Refused {
        /// What it says.
        problem: Box<Problem>,
    },
    /// An answer that is none of ours.
    #[error("the answer of {address} cannot be understood (HTTP {status})")]
    NotUnderstood {
        /// Where it came from.
        address: String,
        /// Its status.
        status: u16,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ClientError {
    /// Whether the coordinator is only away or short of something for a while.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { problem } => problem.status == StatusCode::SERVICE_UNAVAILABLE.as_u16(),
            Self::NotRunning { .. }
            | Self::File { .. }
            | Self::Url { .. }
            | Self::NoAuthority { .. }
            | Self::NotUnderstood { .. } => false,
        }
    }
}

/// `coordinator.json`, as far as a client needs it.
#[derive(Debug, Deserialize)]
struct Announcement {
    https: SocketAddr,
}

/// A connection to a coordinator.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    address: String,
    token: Secret,
}

impl Client {
    /// The coordinator of this box's configuration.
    pub fn on_this_box(config: &Config, token_file: Option<&Path>) -> Result<Self, ClientError> {
        let announced = config.announcement_path();
        let said =
            std::fs::read(&announced).map_err(|_| ClientError::NotRunning { path: announced.clone() })?;
        let Announcement { https } =
            serde_json::from_slice(&said).map_err(|source| unusable(&announced, source))?;
        let token_file = token_file.map_or_else(|| config.operator_token_path(), Path::to_owned);
        Self::new(reachable(https), &config.tls_dir().join("ca.pem"), &token_file)
    }

    /// A coordinator on another box.
    pub fn elsewhere(url: &str, ca: &Path, token_file: Option<&Path>) -> Result<Self, ClientError> {
        let refused = || ClientError::Url { url: url.to_owned() };
        let parsed = Url::parse(url).map_err(|_| refused())?;
        let host = parsed.host_str().filter(|_| parsed.scheme() == "https").ok_or_else(refused)?;
        let port = parsed.port_or_known_default().ok_or_else(refused)?;
        let bare = host.trim_matches(['[', ']']);
        let address =
            (bare, port).to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(refused)?;
        Self::new(address, ca, token_file.unwrap_or(Path::new("operator.token")))
    }

    fn new(address: SocketAddr, ca: &Path, token_file: &Path) -> Result<Self, ClientError> {
        let pem = std::fs::read(ca).map_err(|source| unusable(ca, source))?;
        let authority = Certificate::from_pem(&pem).map_err(|source| unusable(ca, source))?;
        let http = reqwest::Client::builder()
            .tls_certs_only([authority])
            .https_only(true)
            .no_proxy()
            .resolve(TLS_SERVER_NAME, address)
            .timeout(ANSWER_LIMIT)
            .build()
            .map_err(|source| unusable(ca, source))?;
        let base = format!("https://{TLS_SERVER_NAME}:{}/api/v1/", address.port());
        let base = Url::parse(&base).map_err(|_| ClientError::Url { url: base })?;
        Ok(Self { http, base, address: address.to_string(), token: token(token_file)? })
    }

    /// `GET path?query`.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        self.answer(self.send(Method::GET, path, query, None::<&()>).await?).await
    }

    /// `GET path`, as it is.
    pub async fn bytes(&self, path: &[&str]) -> Result<Vec<u8>, ClientError> {
        let response = self.send(Method::GET, path, &[], None::<&()>).await?;
        let unreachable = |source| ClientError::Unreachable { address: self.address.clone(), source };
        Ok(response.bytes().await.map_err(unreachable)?.to_vec())
    }

    /// `method path` with a JSON body.
    pub async fn put_in<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.answer(self.send(method, path, &[], Some(body)).await?).await
    }

    /// `method path` with a JSON body, where the answer has none.
    pub async fn order(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<(), ClientError> {
        self.send(method, path, &[], Some(body)).await.map(drop)
    }

    /// `DELETE path?query`.
    pub async fn delete(&self, path: &[&str], query: &[(&str, String)]) -> Result<(), ClientError> {
        self.send(Method::DELETE, path, query, None::<&()>).await.map(drop)
    }

    /// The answer, if it is a good one. Each segment of `path` is escaped.
    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&impl Serialize>,
    ) -> Result<Response, ClientError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url).bearer_auth(self.token.expose());
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = |source| ClientError::Unreachable { address: self.address.clone(), source };
        let response = request.send().await.map_err(unreachable)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let bytes = response.bytes().await.map_err(unreachable)?;
        Err(match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => ClientError::Refused { problem: Box::new(problem) },
            Err(source) => self.not_understood(status, source),
        })
    }

    async fn answer<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let status = response.status().as_u16();
        let bytes = response
            .bytes()
            .await
            .map_err(|source| ClientError::Unreachable { address: self.address.clone(), source })?;
        serde_json::from_slice(&bytes).map_err(|source| self.not_understood(status, source))
    }

    fn not_understood(&self, status: u16, source: serde_json::Error) -> ClientError {
        ClientError::NotUnderstood { address: self.address.clone(), status, source: source.into() }
    }
}

fn token(file: &Path) -> Result<Secret, ClientError> {
    let text = match std::env::var(TOKEN_VARIABLE) {
        Ok(text) => text,
        Err(_) => std::fs::read_to_string(file).map_err(|source| unusable(file, source))?,
    };
    Ok(Secret::new(text.trim().to_owned()))
}

/// A coordinator that listens on every address is reached on the loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    ClientError::File { path: path.to_owned(), source: source.into() }
}
