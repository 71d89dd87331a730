//! What PID 1 needs to speak for an agent that died: written by `run` after its claim, read by PID 1.
//!
//! Holds the run's token, so only root may read it. It lies in the memory of the live image, never on a disk.

#![expect(clippy::disallowed_methods, reason = "the file that `run` leaves for PID 1's child")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vetting_protocol::ids::RunId;
use vetting_protocol::secret::Secret;
use vetting_protocol::stick::Proxy;

use crate::boot_parameters::{CaPin, Endpoint};
use crate::uplink::Session;

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionFile {
    coordinator: String,
    ca: String,
    proxy: Option<Proxy>,
    run: RunId,
    token: Secret,
    boot_id: String,
}

/// A session file that is not one.
#[derive(Debug, thiserror::Error)]
pub enum SessionFileError {
    /// There is none, or it cannot be read.
    #[error("no session was left")]
    Read(#[source] std::io::Error),
    /// It was not written by `run`.
    #[error("the session left is damaged: {what}")]
    Damaged {
        /// Which part.
        what: &'static str,
    },
}

impl SessionFile {
    /// What `run` leaves after its claim.
    pub fn new(coordinator: &Endpoint, ca: CaPin, proxy: Option<Proxy>, session: &Session) -> Self {
        Self {
            coordinator: coordinator.to_string(),
            ca: ca.to_string(),
            proxy,
            run: session.run,
            token: session.token.clone(),
            boot_id: session.boot_id.clone(),
        }
    }

    /// Writes it, readable by its owner alone.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec(self).map_err(std::io::Error::other)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(&text)
    }

    /// Reads it: whom to tell, whom to believe, through which proxy, and in whose name.
    pub fn read(path: &Path) -> Result<(Endpoint, CaPin, Option<Proxy>, Session), SessionFileError> {
        let text = std::fs::read(path).map_err(SessionFileError::Read)?;
        let damaged = |what| SessionFileError::Damaged { what };
        let file: Self = serde_json::from_slice(&text).map_err(|_| damaged("JSON"))?;
        let coordinator = file.coordinator.parse().map_err(|_| damaged("coordinator"))?;
        let ca = file.ca.parse().map_err(|_| damaged("ca"))?;
        // it beats the heart, and sends no batches
        let session = Session { run: file.run, token: file.token, boot_id: file.boot_id, sequence: 0 };
        Ok((coordinator, ca, file.proxy, session))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_only_root_may() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.json");
        let ca: CaPin = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let session = Session {
            run: RunId(7),
            token: Secret::new("t0ken".to_owned()),
            boot_id: "b".to_owned(),
            sequence: 0,
        };
        let coordinator = "[fd00::1]:8443".parse().unwrap();
        let proxy: Proxy = "http://ann:s3cr3t@proxy.example:3128".parse().unwrap();
        SessionFile::new(&coordinator, ca, Some(proxy.clone()), &session).write(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let (endpoint, pin, through, read) = SessionFile::read(&path).unwrap();
        assert_eq!(through, Some(proxy));
        assert_eq!((endpoint.to_string().as_str(), pin), ("[fd00::1]:8443", ca));
        assert_eq!((read.run, read.token.expose()), (RunId(7), "t0ken"));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(SessionFile::read(&path), Err(SessionFileError::Damaged { .. })));
    }
}
