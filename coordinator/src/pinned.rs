//! TLS clients that believe one certificate, known by its SHA-256: a server's own, or that of its authority.
//!
//! Trusts no authority of the system. That the server has the key of what it shows is proven as ever.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use vetting_protocol::ids::Sha256Hex;

/// Which certificate is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// The server shows this very one, whatever name stands in it.
    Server(Sha256Hex),
    /// The server sends this one along, and it has signed the server's for the name that was called.
    Authority(Sha256Hex),
}

/// A TLS client that believes only `pin`.
///
/// # Errors
/// The cryptography has no common protocol version: never, as it is built in.
pub fn client_config(pin: Pin) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Pinned { pin, provider: Arc::clone(&provider) };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        called: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.pin {
            Pin::Server(pin) => {
                let shown = Sha256Hex::of(end_entity);
                if shown == pin {
                    return Ok(ServerCertVerified::assertion());
                }
                Err(Error::General(format!(
                    "it shows a certificate with the SHA-256 {shown}, and {pin} was expected; if it got a new one, tell its fingerprint"
                )))
            }
            Pin::Authority(pin) => {
                let authority = intermediates
                    .iter()
                    .find(|certificate| Sha256Hex::of(certificate) == pin)
                    .ok_or_else(|| {
                        Error::General(format!(
                            "no certificate that it shows is the authority with the SHA-256 {pin}"
                        ))
                    })?;
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone().into_owned())?;
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                        .build()
                        .map_err(|error| Error::General(error.to_string()))?;
                verifier.verify_server_cert(end_entity, intermediates, called, ocsp_response, now)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
