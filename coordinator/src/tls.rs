//! The coordinator's own certificate authority, made at first start, and the server certificate it issues at every start.
//!
//! Agents and tools trust nothing but the authority's fingerprint, so no public name and no expiry matter: validity is
//! as wide as X.509 allows, since a machine under test may come up with a clock that is years off.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use vetting_protocol::agent_api::TLS_SERVER_NAME;
use vetting_protocol::ids::Sha256Hex;

use crate::durable_file;

/// What can go wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A folder or file of `<state_dir>/tls`.
    #[error("cannot read or make {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot store the certificate authority")]
    Write {
        /// Which and why.
        source: durable_file::WriteError,
    },
    /// One of the two files is there without the other.
    #[error(
        "{missing} is missing beside its other half; restore it, or remove both for a new authority (every image and tool must then learn its fingerprint)"
    )]
    HalfAuthority {
        /// The missing one.
        missing: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{path} holds no usable PEM")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Generate {
        /// Why.
        source: rcgen::Error,
    },
    /// The key does not fit the certificate, or the like.
    #[error("cannot set up TLS")]
    Configure {
        /// Why.
        source: rustls::Error,
    },
}

impl From<rcgen::Error> for TlsError {
    fn from(source: rcgen::Error) -> Self {
        Self::Generate { source }
    }
}

/// What the listener needs.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// For the acceptor.
    pub config: Arc<rustls::ServerConfig>,
    /// SHA-256 of the authority's certificate in DER: what agents and tools are told.
    pub fingerprint: Sha256Hex,
    /// The authority's certificate, PEM, for tools on this box.
    pub ca_pem_path: PathBuf,
}

/// Loads the authority of `state_dir`, or makes it at first start, and issues a fresh server certificate.
///
/// # Errors
/// A half or broken authority is refused rather than replaced: images already carry its fingerprint.
pub fn prepare(state_dir: &Path) -> Result<ServerTls, TlsError> {
    let folder = state_dir.join("tls");
    std::fs::create_dir_all(&folder).map_err(|source| TlsError::File { path: folder.clone(), source })?;
    let (certificate_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
    match (certificate_path.exists(), key_path.exists()) {
        (true, true) => {}
        (false, false) => make_authority(&certificate_path, &key_path)?,
        (true, false) => return Err(TlsError::HalfAuthority { missing: key_path }),
        (false, true) => return Err(TlsError::HalfAuthority { missing: certificate_path }),
    }
    let authority = CertificateDer::from_pem_file(&certificate_path)
        .map_err(|source| TlsError::Pem { path: certificate_path.clone(), source })?;
    let key_pem =
        std::fs::read_to_string(&key_path).map_err(|source| TlsError::File { path: key_path, source })?;
    let issuer = Issuer::new(authority_params()?, KeyPair::from_pem(&key_pem)?);
    let leaf_key = KeyPair::generate()?;
    let leaf = leaf_params()?.signed_by(&leaf_key, &issuer)?;
    let fingerprint = Sha256Hex::of(&authority);
    let config = server_config(vec![leaf.der().clone(), authority], &leaf_key)?;
    Ok(ServerTls { config: Arc::new(config), fingerprint, ca_pem_path: certificate_path })
}

fn make_authority(certificate_path: &Path, key_path: &Path) -> Result<(), TlsError> {
    let key = KeyPair::generate()?;
    let certificate = authority_params()?.self_signed(&key)?;
    let store = |path: &Path, mode, text: String| {
        durable_file::write(path, mode, text.as_bytes()).map_err(|source| TlsError::Write { source })
    };
    store(key_path, 0o600, key.serialize_pem())?;
    store(certificate_path, 0o644, certificate.pem())
}

fn authority_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "vetting coordinator CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf_params() -> Result<CertificateParams, rcgen::Error> {
    let names = [TLS_SERVER_NAME, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, TLS_SERVER_NAME);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
) -> Result<rustls::ServerConfig, TlsError> {
    let configure = |source| TlsError::Configure { source };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(configure)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(configure)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let state = tempfile::tempdir().unwrap();
        let first = prepare(state.path()).unwrap();
        let second = prepare(state.path()).unwrap();
        assert_eq!(first.fingerprint, second.fingerprint);
        let mode = |name: &str| {
            std::fs::metadata(state.path().join("tls").join(name)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("ca.key"), mode("ca.pem")), (0o600, 0o644));
    }

    #[test]
    fn half_an_authority_is_refused_not_replaced() {
        let state = tempfile::tempdir().unwrap();
        prepare(state.path()).unwrap();
        std::fs::remove_file(state.path().join("tls/ca.key")).unwrap();
        assert!(matches!(prepare(state.path()), Err(TlsError::HalfAuthority { .. })));
        assert!(!state.path().join("tls/ca.key").exists());
    }

    #[test]
    fn garbage_is_refused() {
        let state = tempfile::tempdir().unwrap();
        prepare(state.path()).unwrap();
        std::fs::write(state.path().join("tls/ca.pem"), "hello").unwrap();
        assert!(matches!(prepare(state.path()), Err(TlsError::Pem { .. })));
    }
}
