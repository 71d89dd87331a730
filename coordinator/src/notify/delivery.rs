//! One attempt to tell one receiver, bounded in time, and why it did not succeed: without addresses that are secrets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, RequestBuilder, StatusCode};

use super::message::Message;
use super::receiver::By;
use super::{mail, ntfy, webhook};
use crate::clock::Clock;
use crate::power::secrets::{PowerSecrets, SecretError};

/// Longest attempt: a receiver that hangs is tried again later.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A receiver was not told.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// A secret.
    #[error("a secret cannot be had")]
    Secret(#[from] SecretError),
    /// `notifications.ca`.
    #[error("the certificates of `notifications.ca` cannot be used: {}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No good answer over HTTP.
    #[error("the receiver cannot be reached")]
    Http(#[source] reqwest::Error),
    /// An answer that says no.
    #[error("the receiver answered {status}")]
    Refused {
        /// Its status.
        status: StatusCode,
    },
    /// A secret that should be a URL is none.
    #[error("the secret `{name}` is not the URL of a webhook: {why}")]
    NoUrl {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The message has no form that can be sent.
    #[error("the message cannot be written")]
    Write(#[from] serde_json::Error),
    /// A mail that cannot be made.
    #[error("the mail cannot be made")]
    Mail(#[from] lettre::error::Error),
    /// The mail server.
    #[error("the mail server did not take it")]
    Smtp(#[from] lettre::transport::smtp::Error),
    /// Nothing came.
    #[error("the receiver did not answer in {} s", LIMIT.as_secs())]
    Hangs,
}

/// What senders need.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub http: reqwest::Client,
    pub secrets: PowerSecrets,
    pub clock: Clock,
    pub ca: Option<PathBuf>,
}

/// The text of the certificates besides those of this box.
pub(super) fn read_ca(path: &Path) -> Result<Vec<u8>, DeliveryError> {
    std::fs::read(path)
        .map_err(|source| DeliveryError::Certificates { path: path.to_owned(), source: source.into() })
}

impl Means {
    pub(super) fn new(
        secrets: PowerSecrets,
        clock: Clock,
        ca: Option<PathBuf>,
    ) -> Result<Self, DeliveryError> {
        let mut client = reqwest::Client::builder()
            .timeout(LIMIT)
            .connect_timeout(CONNECT_LIMIT)
            // a signed message goes where the configuration says, and nowhere else
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("vetting-coordinator/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &ca {
            let broken = |source: reqwest::Error| DeliveryError::Certificates {
                path: path.clone(),
                source: source.into(),
            };
            let certificates = Certificate::from_pem_bundle(&read_ca(path)?).map_err(broken)?;
            client = client.tls_certs_merge(certificates);
        }
        let http = client.build().map_err(|error| DeliveryError::Http(error.without_url()))?;
        Ok(Self { http, secrets, clock, ca })
    }

    /// Sends a request; a good status is all that is read of the answer.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<(), DeliveryError> {
        // the URL may be a secret
        let answer = request.send().await.map_err(|error| DeliveryError::Http(error.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(DeliveryError::Refused { status }),
        }
    }

    /// Tells a receiver; `id` is the same in each attempt.
    pub(super) async fn deliver(&self, by: &By, id: i64, message: &Message) -> Result<(), DeliveryError> {
        let attempt = async {
            match by {
                By::Webhook(webhook) => webhook::send(self, webhook, id, message).await,
                By::Ntfy(ntfy) => ntfy::send(self, ntfy, message).await,
                By::Smtp(smtp) => mail::send(self, smtp, id, message).await,
            }
        };
        tokio::time::timeout(LIMIT, attempt).await.unwrap_or(Err(DeliveryError::Hangs))
    }
}
