//! HTTP clients for devices of the lab, and whose certificates they believe: BMCs sign their own.

use std::time::Duration;

use reqwest::Certificate;
use vetting_protocol::power::Trust;

use crate::pinned::{self, Pin};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// BMCs take their time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    /// No certificate in what was given as authorities.
    #[error("there is no certificate in it: PEM begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// The certificates, or TLS itself.
    #[error("TLS cannot be set up")]
    Http(#[from] reqwest::Error),
    /// TLS itself.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// A client that follows no redirection, goes through no proxy, and believes only `trust`.
pub(super) fn client(trust: &Trust) -> Result<reqwest::Client, TrustError> {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT);
    let builder = match trust {
        Trust::Fingerprint(pin) => {
            builder.tls_backend_preconfigured(pinned::client_config(Pin::Server(*pin))?)
        }
        Trust::Ca(pem) => {
            let authorities = Certificate::from_pem_bundle(pem.as_bytes())?;
            if authorities.is_empty() {
                return Err(TrustError::NoCertificate);
            }
            builder.tls_certs_only(authorities)
        }
        Trust::System => builder,
        Trust::Insecure => builder.tls_danger_accept_invalid_certs(true),
    };
    Ok(builder.build()?)
}
