//! The operator API as a client sees it: one connection, one authority, one token.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vetting_protocol::agent_api::TLS_SERVER_NAME;
use vetting_protocol::problem::Problem;
use vetting_protocol::secret::Secret;

use super::authority::Authority;
use crate::config::Config;
use crate::pinned::{self, Pin};

/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// Longest time for a file on its way there, and its answer.
const UPLOAD_LIMIT: Duration = Duration::from_hours(1);

/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

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
    /// The name in it.
    #[error("the host of {url} is not known here")]
    Name {
        /// As given.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing to know the coordinator by.
    #[error(
        "nothing tells the coordinator at {url} from another: copy its `<state_dir>/tls/ca.pem` here and name it with \
         --ca, VETTING_CA, or `ca` in ~/.config/vetting/client.yaml; its fingerprint (sha256:…) will do, too"
    )]
    NoAuthority {
        /// As given.
        url: String,
    },
    /// Nothing to be let in by.
    #[error(
        "no token for the coordinator at {url}: `token create NAME` on its box makes one; put it in a file, and name that \
         with --token-file or `token_file` in ~/.config/vetting/client.yaml, or in VETTING_TOKEN"
    )]
    NoToken {
        /// As given.
        url: String,
    },
    /// Something else than a token.
    #[error("{place} holds no token: it should be one word")]
    Token {
        /// File or variable.
        place: String,
    },
    /// TLS itself.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// HTTP itself.
    #[error("HTTP cannot be set up")]
    Http {
        /// Why.
        source: reqwest::Error,
    },
    /// Another one answers.
    #[error("what answers at {address} is not the coordinator that was named; nothing was told to it")]
    Untrusted {
        /// Where.
        address: String,
        /// Why.
        source: reqwest::Error,
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
            | Self::Name { .. }
            | Self::NoAuthority { .. }
            | Self::NoToken { .. }
            | Self::Token { .. }
            | Self::Tls(_)
            | Self::Http { .. }
            | Self::Untrusted { .. }
            | Self::NotUnderstood { .. } => false,
        }
    }
}

/// `coordinator.json`, as far as a client needs it.
#[derive(Debug, Deserialize)]
struct Announcement {
    https: SocketAddr,
}

/// A coordinator on another box, and how to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// `https://HOST:PORT`.
    pub url: String,
    /// What it is known by.
    pub authority: Authority,
    /// The file with the token that the command line names; comes before the environment.
    pub said_token_file: Option<PathBuf>,
    /// The one that the client's configuration names; comes after it.
    pub token_file: Option<PathBuf>,
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
    pub fn on_this_box(config: &Config, said_token_file: Option<&Path>) -> Result<Self, ClientError> {
        let announced = config.announcement_path();
        let told =
            std::fs::read(&announced).map_err(|_| ClientError::NotRunning { path: announced.clone() })?;
        let Announcement { https } =
            serde_json::from_slice(&told).map_err(|source| unusable(&announced, source))?;
        let token = match token(said_token_file)? {
            Some(token) => token,
            None => token_in(&config.operator_token_path())?,
        };
        let authority = Authority::Certificate(config.tls_dir().join("ca.pem"));
        Self::new(&[reachable(https)], https.port(), &authority, token)
    }

    /// The one that is named.
    pub fn elsewhere(elsewhere: &Elsewhere) -> Result<Self, ClientError> {
        let Elsewhere { url, authority, said_token_file, token_file } = elsewhere;
        let refused = || ClientError::Url { url: url.clone() };
        let parsed = Url::parse(url).map_err(|_| refused())?;
        let bare = parsed.path() == "/" && parsed.query().is_none() && parsed.fragment().is_none();
        let anonymous = parsed.username().is_empty() && parsed.password().is_none();
        let host = parsed.host_str().filter(|_| parsed.scheme() == "https" && bare && anonymous);
        let host = host.ok_or_else(refused)?.trim_matches(['[', ']']);
        let port = parsed.port_or_known_default().ok_or_else(refused)?;
        let found = (host, port).to_socket_addrs();
        let addresses: Vec<_> =
            found.map_err(|source| ClientError::Name { url: url.clone(), source })?.collect();
        let token = match (token(said_token_file.as_deref())?, token_file) {
            (Some(token), _) => token,
            (None, Some(file)) => token_in(file)?,
            (None, None) => return Err(ClientError::NoToken { url: url.clone() }),
        };
        Self::new(&addresses, port, authority, token)
    }

    fn new(
        addresses: &[SocketAddr],
        port: u16,
        authority: &Authority,
        token: Secret,
    ) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(pinned::client_config(Pin::Authority(authority.pin()?.0))?)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .resolve_to_addrs(TLS_SERVER_NAME, addresses)
            .connect_timeout(CONNECT_LIMIT)
            .timeout(ANSWER_LIMIT)
            .build()
            .map_err(|source| ClientError::Http { source })?;
        let base = format!("https://{TLS_SERVER_NAME}:{port}/api/v1/");
        let base = Url::parse(&base).map_err(|_| ClientError::Url { url: base })?;
        let address = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Ok(Self { http, base, address, token })
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
        Ok(response.bytes().await.map_err(|source| self.unreachable(source))?.to_vec())
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

    /// `POST path?query` with a file.
    pub async fn post_file<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        file: std::fs::File,
        length: u64,
    ) -> Result<T, ClientError> {
        let request = self
            .request(Method::POST, path, query)
            .timeout(UPLOAD_LIMIT)
            .header(reqwest::header::CONTENT_TYPE, "application/octet-stream")
            .header(reqwest::header::CONTENT_LENGTH, length)
            .body(tokio::fs::File::from_std(file));
        self.answer(self.checked(request).await?).await
    }

    /// Each segment of `path` is escaped.
    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.http.request(method, url).bearer_auth(self.token.expose())
    }

    /// The answer, if it is a good one.
    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&impl Serialize>,
    ) -> Result<Response, ClientError> {
        let mut request = self.request(method, path, query);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.checked(request).await
    }

    async fn checked(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let unreachable = |source| self.unreachable(source);
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
        let bytes = response.bytes().await.map_err(|source| self.unreachable(source))?;
        serde_json::from_slice(&bytes).map_err(|source| self.not_understood(status, source))
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        let address = self.address.clone();
        if speaks_of_tls(&source) {
            ClientError::Untrusted { address, source }
        } else {
            ClientError::Unreachable { address, source }
        }
    }

    fn not_understood(&self, status: u16, source: serde_json::Error) -> ClientError {
        ClientError::NotUnderstood { address: self.address.clone(), status, source: source.into() }
    }
}

/// Whether TLS refused, rather than that nobody was there.
fn speaks_of_tls(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return true;
        }
        // what an I/O error wraps is not its source
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause =
            wrapped.map(|wrapped| wrapped as &(dyn std::error::Error + 'static)).or_else(|| error.source());
    }
    false
}

/// The token that was said: in a file named on the command line, or in the environment.
fn token(said_file: Option<&Path>) -> Result<Option<Secret>, ClientError> {
    match (said_file, std::env::var(TOKEN_VARIABLE)) {
        (Some(file), _) => token_in(file).map(Some),
        (None, Ok(text)) if !text.trim().is_empty() => {
            one_word(&text, || TOKEN_VARIABLE.to_owned()).map(Some)
        }
        (None, _) => Ok(None),
    }
}

fn token_in(file: &Path) -> Result<Secret, ClientError> {
    let text = std::fs::read_to_string(file).map_err(|source| unusable(file, source))?;
    one_word(&text, || file.display().to_string())
}

fn one_word(text: &str, place: impl Fn() -> String) -> Result<Secret, ClientError> {
    let word = text.trim();
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ClientError::Token { place: place() });
    }
    Ok(Secret::new(word.to_owned()))
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
