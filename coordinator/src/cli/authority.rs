//! `--ca`: by which certificate authority a coordinator is known, as a file or as a fingerprint.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use vetting_protocol::endpoint::{CaPin, CaPinError};
use vetting_protocol::ids::Sha256Hex;

use super::client::ClientError;

/// What a fingerprint begins with.
const FINGERPRINT: &str = "sha256:";

/// The authority of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// By its certificate, a PEM file.
    Certificate(PathBuf),
    /// By the SHA-256 of its certificate.
    Fingerprint(CaPin),
}

impl FromStr for Authority {
    type Err = CaPinError;

    fn from_str(text: &str) -> Result<Self, CaPinError> {
        if text.starts_with(FINGERPRINT) {
            return text.parse().map(Self::Fingerprint);
        }
        Ok(Self::Certificate(PathBuf::from(text)))
    }
}

impl Authority {
    /// With a relative path taken as relative to `folder`.
    pub fn below(self, folder: &Path) -> Self {
        match self {
            Self::Certificate(path) => Self::Certificate(folder.join(path)),
            Self::Fingerprint(pin) => Self::Fingerprint(pin),
        }
    }

    /// The fingerprint.
    ///
    /// # Errors
    /// The file holds no certificate.
    pub fn pin(&self) -> Result<CaPin, ClientError> {
        match self {
            Self::Fingerprint(pin) => Ok(*pin),
            Self::Certificate(path) => {
                let certificate = CertificateDer::from_pem_file(path)
                    .map_err(|source| ClientError::File { path: path.clone(), source: source.into() })?;
                Ok(CaPin(Sha256Hex::of(&certificate)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_never_taken_for_a_file() {
        let hex = "ab".repeat(32);
        let pin = format!("sha256:{hex}").parse::<Authority>().unwrap();
        assert_eq!(pin, Authority::Fingerprint(format!("sha256:{hex}").parse().unwrap()));
        assert_eq!(pin.clone().below(Path::new("/etc")), pin);
        assert!("sha256:abcd".parse::<Authority>().is_err());
        let file = "ca.pem".parse::<Authority>().unwrap();
        assert_eq!(file.below(Path::new("/etc")), Authority::Certificate(PathBuf::from("/etc/ca.pem")));
    }

    #[test]
    fn a_file_without_a_certificate_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let authority = Authority::Certificate(file.path().to_owned());
        assert!(matches!(authority.pin(), Err(ClientError::File { .. })));
    }
}
