//! The key that reports are signed with, and their signatures, in the form of minisign: whoever has the public key can
//! check a report on any box, by `report verify` or by `minisign -Vm`.
//!
//! Owns `<state_dir>/signing/`: `report.key` (PKCS #8, mode 0600), made at the first start, and `report.pub`.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b512, Digest as _};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use vetting_protocol::ids::Sha256Hex;

use crate::durable_file;

/// Ed25519 over the file's BLAKE2b-512.
const ALGORITHM: &[u8; 2] = b"ED";
/// Ed25519, of keys.
const KEY_ALGORITHM: &[u8; 2] = b"Ed";
const KEY_ID_BYTES: usize = 8;

/// What can go wrong with the key.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// Its folder or file.
    #[error("cannot read or make {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be stored.
    #[error("cannot store the key that reports are signed with")]
    Write(#[from] durable_file::WriteError),
    /// The file is no key.
    #[error(
        "{} holds no Ed25519 key ({why}); restore it from a backup, or remove it for a new one (readers must then \
         learn the new public key)",
        path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
        /// Why.
        why: ring::error::KeyRejected,
    },
    /// No random bytes.
    #[error("the operating system gives no random bytes")]
    Random,
}

/// A key that signs.
#[derive(Debug)]
pub struct SigningKey {
    pair: Ed25519KeyPair,
    id: [u8; KEY_ID_BYTES],
}

impl SigningKey {
    /// The key of this folder; made if there is none. Blocks.
    ///
    /// # Errors
    /// See [`SigningError`].
    pub fn load_or_make(folder: &Path) -> Result<Self, SigningError> {
        let path = folder.join("report.key");
        let failed = |source| SigningError::File { path: path.clone(), source };
        let document = match std::fs::read(&path) {
            Ok(document) => document,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder).map_err(failed)?;
                let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
                let document = made.map_err(|_| SigningError::Random)?.as_ref().to_vec();
                durable_file::write(&path, 0o600, &document)?;
                document
            }
            Err(error) => return Err(failed(error)),
        };
        let pair = Ed25519KeyPair::from_pkcs8(&document)
            .map_err(|why| SigningError::NoKey { path: path.clone(), why })?;
        let digest = Sha256Hex::of(pair.public_key().as_ref()).to_string();
        let mut id = [0; KEY_ID_BYTES];
        for (byte, letter) in id.iter_mut().zip(digest.bytes()) {
            *byte = letter;
        }
        let key = Self { pair, id };
        let (public, text) = (folder.join("report.pub"), key.public_text());
        // each report loads the key: what is there already is not written again
        if !std::fs::read(&public).is_ok_and(|there| there == text.as_bytes()) {
            durable_file::write(&public, 0o644, text.as_bytes())?;
        }
        Ok(key)
    }

    /// The public key, two lines, as `minisign.pub`.
    pub fn public_text(&self) -> String {
        let key = [&KEY_ALGORITHM[..], &self.id, self.pair.public_key().as_ref()].concat();
        format!("untrusted comment: vetting signs its reports with this key\n{}\n", STANDARD.encode(key))
    }

    /// The signature of a file, four lines, as `minisign -S` writes it. `comment` is signed with it; line breaks in it
    /// become blanks.
    pub fn sign(&self, file: &[u8], comment: &str) -> String {
        let comment = comment.replace(['\n', '\r'], " ");
        let signature = self.pair.sign(&Blake2b512::digest(file));
        let line = [&ALGORITHM[..], &self.id, signature.as_ref()].concat();
        let whole = self.pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        format!(
            "untrusted comment: signature of a vetting coordinator\n{}\ntrusted comment: {comment}\n{}\n",
            STANDARD.encode(line),
            STANDARD.encode(whole.as_ref())
        )
    }
}

#[cfg(test)]
mod tests {
    use minisign_verify::{PublicKey, Signature};

    use super::*;

    #[test]
    fn minisign_accepts_the_signature_and_refuses_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_make(folder.path()).unwrap();
        let text = key.sign(b"report", "run 42 of node1:\npass");
        let public = PublicKey::decode(&key.public_text()).unwrap();
        let signature = Signature::decode(&text).unwrap();
        assert_eq!(signature.trusted_comment(), "run 42 of node1: pass");
        public.verify(b"report", &signature, false).unwrap();
        assert!(public.verify(b"Report", &signature, false).is_err());
        let forged = text.replace("node1: pass", "node2: pass");
        assert!(public.verify(b"report", &Signature::decode(&forged).unwrap(), false).is_err());
    }

    #[test]
    fn the_key_stays_the_same_and_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let first = SigningKey::load_or_make(folder.path()).unwrap().public_text();
        assert_eq!(SigningKey::load_or_make(folder.path()).unwrap().public_text(), first);
        assert_eq!(std::fs::read_to_string(folder.path().join("report.pub")).unwrap(), first);
        let mode = std::fs::metadata(folder.path().join("report.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(folder.path().join("report.key"), b"garbage").unwrap();
        assert!(matches!(SigningKey::load_or_make(folder.path()), Err(SigningError::NoKey { .. })));
    }
}
