//! HTTP clients for devices of the lab, and whose certificates they believe: BMCs sign their own.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::power::Trust;

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
    Tls(#[from] Error),
}

/// A client that follows no redirection, goes through no proxy, and believes only `trust`.
pub(super) fn client(trust: &Trust) -> Result<reqwest::Client, TrustError> {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT);
    let builder = match trust {
        Trust::Fingerprint(pin) => builder.tls_backend_preconfigured(pinned(*pin)?),
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

fn pinned(pin: Sha256Hex) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Pinned { pin, provider: Arc::clone(&provider) };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Believes one certificate. That the server has its key is still proven.
#[derive(Debug)]
struct Pinned {
    pin: Sha256Hex,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _called: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Sha256Hex::of(end_entity);
        if shown == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General(format!(
            "it shows a certificate with the SHA-256 {shown}, and {} was expected; if it got a new one, tell its fingerprint",
            self.pin
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
